"""A policy in the real simulator: all tables at once through the network, each stepped by itself."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from immref_trainers import samplers, streams
from immref_trainers.config import Run
from immref_trainers.data.settings import PushT
from immref_trainers.errors import TrainingError
from immref_trainers.objectives.regression import Predictor
from immref_trainers.pusht import simulator
from immref_trainers.pusht.chunks import Demonstrated, observed
from immref_trainers.pusht.simulator import LIMIT, SIDE, SUCCESS, Simulator

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Rolled:
    """E episodes.

    Attributes
    ----------
    coverage : (E,), the largest share of the goal that was covered at a time
    states : by episode (T, 5), every state from the start on
    """

    coverage: Array
    states: list[Array]

    @property
    def scores(self) -> Array:
        """The environment's largest reward: coverage over 0.95, at most 1."""
        return np.minimum(self.coverage / SUCCESS, 1.0)


def roll_out(
    run: Run, predict: Predictor, source: Demonstrated, seeds: list[int], steps: int, device: torch.device, limit: int = LIMIT
) -> Rolled:
    """Let the policy act from the starts of `seeds`, until the T lies in place or for `limit` steps.

    Parameters
    ----------
    predict : (x_t, t_B, observations) → prediction
    source : whose limits the network was trained with
    steps : of the sampler
    """
    settings = source.settings
    tables = [Simulator(simulator.start(seed, settings.starts == "near")) for seed in seeds]
    histories = [[table.state] for table in tables]
    coverage = np.asarray([table.coverage for table in tables])
    for decision in range(-(-limit // settings.executed)):
        acting = np.flatnonzero(coverage <= SUCCESS)
        if not len(acting):
            break
        told = source.told(np.stack([latest(histories[place], settings) for place in acting]))
        generator = streams.generator(streams.ROLLOUT, run.seed, decision)
        noise = generator.standard_normal((len(tables), *source.shape), dtype=np.float32)[acting]
        made = samplers.sample(
            run, predict, torch.from_numpy(noise).to(device), steps, 1.0, torch.from_numpy(told).to(device), generator
        ).numpy()
        actions = source.actions.restored(made.transpose(0, 2, 1))[:, settings.seen - 1 :][:, : settings.executed].clip(0, SIDE)
        if not np.isfinite(actions).all():
            raise TrainingError("the policy's actions are not finite")
        for place, chunk in zip(acting, actions, strict=True):
            left = limit - (len(histories[place]) - 1)
            coverage[place] = max(coverage[place], acted(tables[place], chunk[:left], histories[place], seeds[place]))
    return Rolled(coverage, [np.stack(history) for history in histories])


def acted(table: Simulator, actions: Array, history: list[Array], seed: int) -> float:
    """The largest coverage while one table executes actions, whose states `history` takes; it stops where the T lies in place."""
    best = 0.0
    for action in actions:
        try:
            best = max(best, table.step(action))
        except Exception as error:
            raise TrainingError(f"the environment failed in the roll-out of seed {seed} at step {len(history)}: {error}") from error
        history.append(table.state)
        if best > SUCCESS:
            break
    return best


def latest(history: list[Array], settings: PushT) -> Array:
    """The last observations (S, D), the first repeated where there are fewer."""
    states = [history[max(0, len(history) - settings.seen + place)] for place in range(settings.seen)]
    return observed(np.stack(states), settings)

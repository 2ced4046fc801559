"""Demonstrations as training sees them: chunks of actions, and the observations that each is drawn for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from immref_trainers.data.settings import PushT
from immref_trainers.data.training import SPLIT_SEED, Images
from immref_trainers.pusht import demonstrations, replay
from immref_trainers.pusht.replay import Episodes
from immref_trainers.pusht.simulator import keypoints

Array = np.ndarray[Any, Any]

LEAST_RANGE = 1e-4  # a number that varies by less is shifted and not stretched


@dataclass(frozen=True)
class Limits:
    """The smallest and the largest of each number, which become -1 and 1."""

    low: Array
    high: Array

    @classmethod
    def of(cls, values: Array) -> "Limits":
        """Those of values (N, D)."""
        return cls(values.min(axis=0).astype(float), values.max(axis=0).astype(float))

    def normalised(self, values: Array) -> Array:
        """Values (…, D) as float32."""
        return ((values - self._middle) / self._half).astype(np.float32)

    def restored(self, values: Array) -> Array:
        """The values again."""
        return values * self._half + self._middle

    @property
    def _middle(self) -> Array:
        return (self.low + self.high) / 2

    @property
    def _half(self) -> Array:
        half = (self.high - self.low) / 2
        return np.where(2 * half < LEAST_RANGE, 1.0, half)


@dataclass(frozen=True)
class Demonstrated:
    """W windows of demonstrations: a source whose images are action chunks (2, L), and whose labels are observations (O,)."""

    episodes: Episodes
    rows: Array
    settings: PushT
    actions: Limits
    observations: Limits
    augmented = False

    @property
    def shape(self) -> tuple[int, ...]:
        """(2, L)."""
        return 2, self.settings.horizon

    @property
    def largest(self) -> float:
        """Normalised actions reach 1."""
        return 1.0

    def __len__(self) -> int:
        return len(self.rows)

    def images(self, index_B: Array, epoch_B: Array | None = None) -> Array:  # noqa: ARG002
        """Normalised action chunks (B, 2, L); every epoch sees the same."""
        chunk: Array = self.actions.normalised(self.episodes.actions[self.rows[index_B]]).transpose(0, 2, 1)
        return np.ascontiguousarray(chunk)

    def labels(self, index_B: Array, epoch_B: Array | None = None) -> Array:  # noqa: ARG002
        """Normalised observations (B, O), the earlier first."""
        states = self.episodes.states[self.rows[index_B, : self.settings.seen]]
        return self.told(observed(states, self.settings))

    def told(self, observations: Array) -> Array:
        """What a network is told of observations (B, S, D)."""
        return self.observations.normalised(observations).reshape(len(observations), -1)

    def captions(self, index_B: Array) -> None:
        """There are none."""


def observed(states: Array, settings: PushT) -> Array:
    """Observations (…, D) of states (…, 5): the T, then the agent."""
    agent, pose = states[..., :2], states[..., 2:]
    if settings.observations == "keypoints":
        corners = keypoints(pose)
        return np.concatenate([corners.reshape(*corners.shape[:-2], -1), agent], axis=-1)
    return np.concatenate([pose[..., :2], np.cos(pose[..., 2:]), np.sin(pose[..., 2:]), agent], axis=-1)


def windows(episodes: Episodes, which: Array, settings: PushT) -> Array:
    """Steps (W, L) of every window of some episodes: the first and the last step repeat where a window reaches beyond."""
    before, after = settings.seen - 1, settings.executed - 1
    spans, found = list(episodes.spans()), []
    for number in which.tolist():
        first, end = spans[number]
        starts = np.arange(first - before, end - settings.horizon + after + 1)
        found.append(np.clip(starts[:, None] + np.arange(settings.horizon), first, end - 1))
    return np.concatenate(found)


def load(settings: PushT) -> Images:
    """Windows of the demonstrations in `settings.train_data_dir`, or of planned ones; a few episodes are kept from training."""
    if settings.train_data_dir is None:
        near = settings.starts == "near"
        folder = demonstrations.demonstrations(settings.episodes, near, settings.action_noise, settings.horizon)
    elif not settings.train_data_dir:
        raise ValueError("data.train_data_dir must be given, the original zarr replay buffer or LeRobot's parquet files")
    else:
        folder = Path(settings.train_data_dir)
    episodes = replay.load(folder)
    lengths = np.diff(episodes.ends, prepend=0)
    if lengths.min() < settings.horizon:
        short = int(lengths.argmin())
        raise ValueError(
            f"{folder}: episodes must have data.horizon={settings.horizon} steps or more, episode {short} has {lengths[short]}"
        )
    if settings.held_out >= len(episodes):
        raise ValueError(f"data.held_out must leave an episode to train on, at most {len(episodes) - 1}, got {settings.held_out}")
    order = np.random.default_rng(SPLIT_SEED).permutation(len(episodes))
    held, kept = np.sort(order[: settings.held_out]), np.sort(order[settings.held_out :])
    rows = windows(episodes, kept, settings)
    used = np.unique(rows)
    limits = Limits.of(episodes.actions[used]), Limits.of(observed(episodes.states[used], settings))
    train, held_out = (Demonstrated(episodes, steps, settings, *limits) for steps in (rows, windows(episodes, held, settings)))
    return Images(train, held_out, classes=0, low=-1.0, high=1.0)

"""A planner that solves PushT in the simulator: short pushes, each the best of many that were tried in a copy of the world."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import qmc

from immref_trainers.pusht.simulator import GOAL, LIMIT, SIDE, SUCCESS, TEE, Simulator, keypoints, start

Array = np.ndarray[Any, Any]

CANDIDATES = 96  # pushes that are tried: the same ones at every decision
RECHECKED = 6  # of them are tried again with the way to where they start
LONGEST = 10  # steps of a push
PROGRESS = 0.5  # pixels by which a push should bring the corners nearer
RADIUS = 15.0  # of the agent
ASLANT = 0.5  # radians by which a push's direction may differ from the inward normal
SLOW, FAST = 3.0, 24.0  # pixels a step that the target moves in a push
STRIDE = 45.0  # pixels a step that the target moves on the way
CLEAR = 22.0  # pixels between the agent's centre and the T where a push starts
ROUND = 104.0  # radius of the circle about the T on which the agent goes to the other side
MIDDLE = np.asarray([0.0, 45.0])  # of the T, in its own frame
OUTLINE = TEE[[0, 1, 2, 5, 6, 7, 4, 3]]  # the T's corners in order
PERIMETER = np.linalg.norm(np.roll(OUTLINE, -1, axis=0) - OUTLINE, axis=1)


@dataclass(frozen=True)
class Push:
    """From `start` (2,) the target moves by `step` (2,) at a time."""

    start: Array
    step: Array

    def targets(self, count: int) -> Array:
        """Where the target is in `count` steps (count, 2)."""
        return self.start + self.step * np.arange(1, count + 1)[:, None]


def episode(seed: int, near: bool, noise: float) -> tuple[Array, Array, float]:
    """`plan` from the start that `seed` decides."""
    return plan(start(seed, near), LIMIT, noise, np.random.default_rng(seed))


def plan(state: Array, steps: int, noise: float, generator: np.random.Generator) -> tuple[Array, Array, float]:
    """States (T, 5), actions (T, 2) and the largest coverage of an episode of at most `steps` steps.

    Actions are those that were planned; those executed differ by `noise` pixels (standard deviation), so that what is
    recorded comes back from where a policy may stray.
    """
    world, model = Simulator(state), Simulator(state)
    states: list[Array] = []
    actions: list[Array] = []
    best = world.coverage
    attempt = 0  # 0 while pushes bring the T nearer; else other candidates are drawn
    while len(actions) < steps and best <= SUCCESS:
        before = error(world.pose)
        for target in decide(world.world, model, attempt)[: steps - len(actions)]:
            states.append(world.state)
            actions.append(target)
            best = max(best, world.step(inside(target + noise * generator.standard_normal(2))))
            if best > SUCCESS:
                break
        attempt = 0 if error(world.pose) < before - PROGRESS else attempt + 1
    return np.asarray(states), np.asarray(actions), best


def decide(world: Array, model: Simulator, attempt: int = 0) -> Array:
    """Targets (T, 2) of the way and the push after which the T's corners are nearest to the goal's."""
    pushes = candidates(world[4:], attempt)
    tried = []
    for push in pushes:
        model.restore(np.concatenate([push.start, np.zeros(2), world[4:]]))
        tried.append(best_length(model, push, LONGEST))
    found = []
    for number in np.argsort([left for left, _ in tried], kind="stable")[:RECHECKED]:
        way = approach(world[:2], pushes[number].start, world[4:6] + turning(world[6]) @ MIDDLE)
        model.restore(world)
        for target in way:
            model.push(target)
        left, length = best_length(model, pushes[number], LONGEST)
        found.append((left, inside(np.concatenate([way, pushes[number].targets(length)]))))
    return min(found, key=lambda one: one[0])[1]


def best_length(model: Simulator, push: Push, longest: int) -> tuple[float, int]:
    """The least distance of corners that a push comes to, and after how many steps."""
    errors = []
    for target in push.targets(longest):
        model.push(inside(target))
        errors.append(error(model.pose))
    length = int(np.argmin(errors))
    return errors[length], length + 1


def error(pose: Array) -> float:
    """Mean distance of the T's corners to the goal's, in pixels."""
    return float(np.linalg.norm(keypoints(pose) - keypoints(GOAL), axis=-1).mean())


def candidates(pose: Array, attempt: int) -> list[Push]:
    """Pushes from all along the T's outline that start on the table and beside the T: the same at every first attempt."""
    drawn = qmc.Halton(3, scramble=attempt > 0, rng=attempt).random(CANDIDATES)
    turn = turning(pose[2])
    ends = np.cumsum(PERIMETER)
    pushes = []
    for along, aslant, speed in drawn:
        side = int(np.searchsorted(ends, along * ends[-1], side="right"))
        edge = (OUTLINE[(side + 1) % len(OUTLINE)] - OUTLINE[side]) / PERIMETER[side]
        point = OUTLINE[side] + edge * (along * ends[-1] - ends[side] + PERIMETER[side])
        inward = np.asarray([-edge[1], edge[0]])
        direction = turning(ASLANT * (2 * aslant - 1)) @ inward
        beside = point - CLEAR * direction
        start = turn @ beside + pose[:2]
        if np.array_equal(start, inside(start)) and from_tee(beside) > RADIUS:
            pushes.append(Push(start, turn @ direction * (SLOW + (FAST - SLOW) * speed)))
    return pushes


def turning(angle: float) -> Array:
    """The rotation by an angle."""
    return np.asarray([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def from_tee(point: Array) -> float:
    """Distance of a point (2,) outside to the outline of the T, both in its own frame."""
    edges = np.roll(OUTLINE, -1, axis=0) - OUTLINE
    share = np.clip(((point - OUTLINE) * edges).sum(axis=1) / PERIMETER**2, 0, 1)
    return float(np.linalg.norm(OUTLINE + share[:, None] * edges - point, axis=1).min())


def approach(here: Array, there: Array, centre: Array) -> Array:
    """Targets (T, 2) from `here` to `there`, around the T where it lies between."""
    corners = [here]
    if crosses(here, there, centre):
        first, last = (np.arctan2(*(point - centre)[::-1]) for point in (here, there))
        sweep = (last - first + np.pi) % (2 * np.pi) - np.pi
        arc = first + sweep * np.linspace(0, 1, max(2, int(np.ceil(abs(sweep) * ROUND / STRIDE))))
        corners += list(centre + ROUND * np.stack([np.cos(arc), np.sin(arc)], axis=1))
    corners.append(there)
    legs = [
        np.linspace(a, b, max(1, int(np.ceil(np.linalg.norm(b - a) / STRIDE))) + 1)[1:] for a, b in zip(corners, corners[1:], strict=False)
    ]
    return inside(np.concatenate([*legs, there[None]]))


def crosses(here: Array, there: Array, centre: Array) -> bool:
    """Whether the straight way comes nearer to the T's middle than both of its ends."""
    way = there - here
    share = np.clip((centre - here) @ way / max(way @ way, 1e-9), 0, 1)
    return 0 < share < 1 and float(np.linalg.norm(here + share * way - centre)) < ROUND


def inside(points: Array) -> Array:
    """Points on the table, where the agent can be told to go."""
    return np.clip(points, 0, SIDE)

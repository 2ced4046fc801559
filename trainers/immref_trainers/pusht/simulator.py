"""gym-pusht's simulator, set to any state and stepped without its bookkeeping; nothing here needs a display."""

import os
from typing import Any

import numpy as np

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

from gym_pusht.envs.pusht import PushTEnv, pymunk_to_shapely

Array = np.ndarray[Any, Any]

SIDE = 512.0  # of the table, in pixels: positions and actions lie in [0, SIDE]²
GOAL = np.asarray([256.0, 256.0, np.pi / 4])  # x, y and angle of the T
LIMIT = 300  # steps of an episode, gym-pusht's own
DIGITS = 12  # of a coverage: GEOS adds areas up in an order that is not always the same, which shows in the last bits
SUCCESS = 0.95  # of the goal covered: what counts as solved
NEAR, TURNED = 70.0, 0.7  # how far from the goal the T starts at most where starts are near, in pixels and radians
TEE = np.asarray([[-60, 0], [60, 0], [60, 30], [-60, 30], [-15, 30], [15, 30], [15, 120], [-15, 120]], dtype=float)


def start(seed: int, near: bool) -> Array:
    """A state (5,) to begin with: gym-pusht's own of that seed, or one with the agent anywhere and the T near the goal."""
    if not near:
        state, _ = PushTEnv(obs_type="state").reset(seed=seed)
        return np.asarray(state)
    generator = np.random.default_rng([seed, 1])
    return np.concatenate([generator.integers(50, 450, size=2), GOAL + generator.uniform(-1, 1, size=3) * [NEAR, NEAR, TURNED]])


def keypoints(pose: Array) -> Array:
    """Corners (…, 8, 2) of the T at poses (…, 3), as gym-pusht counts them."""
    pose = np.asarray(pose, dtype=float)
    cos, sin = np.cos(pose[..., 2]), np.sin(pose[..., 2])
    x, y = TEE.T
    turned = np.stack([cos[..., None] * x - sin[..., None] * y, sin[..., None] * x + cos[..., None] * y], axis=-1)
    corners: Array = turned + pose[..., None, :2]
    return corners


class Simulator:
    """One table. Its world has no momentum but the agent's: agent, its velocity and the T's pose are all of the state."""

    def __init__(self, state: Array) -> None:
        self.environment = PushTEnv(obs_type="state", render_mode="rgb_array")
        self.environment.reset(seed=0)
        self.goal = pymunk_to_shapely(self.environment.get_goal_pose_body(GOAL), self.environment.block.shapes)
        self._measured: tuple[Array, float] = np.full(3, np.nan), 0.0
        self.begin(state)

    def begin(self, state: Array) -> None:
        """Agent (x, y) and T (x, y, angle), all at rest."""
        self.restore(np.concatenate([state[:2], np.zeros(2), state[2:]]))

    @property
    def world(self) -> Array:
        """All of the state (7,): agent's position and velocity, the T's position and angle."""
        agent, block = self.environment.agent, self.environment.block
        return np.asarray([*agent.position, *agent.velocity, *block.position, block.angle])

    @property
    def state(self) -> Array:
        """What an observer sees (5,): agent (x, y), T (x, y, angle in [0, 2π))."""
        agent, block = self.environment.agent, self.environment.block
        return np.asarray([*agent.position, *block.position, block.angle % (2 * np.pi)])

    def restore(self, world: Array) -> None:
        """Become what `world` was; the angle first, since turning moves the T about its centre of gravity."""
        agent, block = self.environment.agent, self.environment.block
        agent.position, agent.velocity = (world[0], world[1]), (world[2], world[3])
        block.angle = world[6]
        block.position = (world[4], world[5])
        block.velocity, block.angular_velocity = (0.0, 0.0), 0.0
        self.environment.space.reindex_shapes_for_body(agent)
        self.environment.space.reindex_shapes_for_body(block)

    def push(self, action: Array) -> None:
        """A tenth of a second towards `action` (2,), as the environment's own step goes, unjudged."""
        environment = self.environment
        agent, space, pause = environment.agent, environment.space, environment.dt
        for _ in range(int(1 / (pause * environment.control_hz))):
            (x, y), (vx, vy) = agent.position, agent.velocity
            gain, drag = environment.k_p, environment.k_v
            agent.velocity = (
                vx + (gain * (action[0] - x) - drag * vx) * pause,
                vy + (gain * (action[1] - y) - drag * vy) * pause,
            )
            space.step(pause)

    def step(self, action: Array) -> float:
        """`push`, and the share of the goal that the T then covers."""
        self.push(action)
        return self.coverage

    @property
    def pose(self) -> Array:
        """The T's (x, y, angle)."""
        block = self.environment.block
        return np.asarray([*block.position, block.angle])

    @property
    def coverage(self) -> float:
        """The share of the goal that the T covers, as the environment has it; where the T has not moved it is known."""
        pose, block = self.pose, self.environment.block
        if not np.array_equal(pose, self._measured[0]):
            covered = self.goal.intersection(pymunk_to_shapely(block, block.shapes)).area
            self._measured = pose, round(float(covered / self.goal.area), DIGITS)
        return self._measured[1]

    def picture(self, side: int) -> Array:
        """The table (side, side, 3) as bytes, seen from above."""
        self.environment.visualization_width = self.environment.visualization_height = side
        return np.asarray(self.environment.render())

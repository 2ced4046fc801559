"""Hypothesis strategies: small batches, a printable case each; the same examples in every run.

Shape suffixes: B images, K candidates, D numbers per image.
"""

import math
import os
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

Values = np.ndarray[Any, Any]

SHAPES = ((1, 1), (1, 3), (2, 5), (3, 64), (2, 65), (4, 3, 5, 7), (7, 2, 3), (5, 1, 8, 8))
WIDE = ((1, 64), (3, 64), (2, 65), (4, 3, 5, 7), (2, 200))  # D ≥ 64: the collapsed form
POOLS = ((1, 1), (2, 1), (3, 2), (5, 3), (6, 5), (4, 70), (6, 64), (40, 3), (33, 64))
KINDS = ("normal", "lattice", "duplicates", "equal", "zero rows", "large")


@dataclass(frozen=True)
class Case:
    """A batch of images and the noises that go with it, made anew from `seed` in whatever dtype."""

    shape: tuple[int, ...]
    k: int
    kind: str
    seed: int

    @property
    def dimension(self) -> int:
        """D, the numbers per image."""
        return math.prod(self.shape[1:])

    def images(self, dtype: str) -> Values:
        """The images (B, ...)."""
        rng = np.random.default_rng([self.seed, 1])
        x = rng.integers(-1, 2, self.shape) if self.kind == "lattice" else 0.5 * rng.standard_normal(self.shape)
        rows = np.arange(self.shape[0])
        if self.kind in ("duplicates", "equal"):
            x = x[rows // 2 if self.kind == "duplicates" else rows * 0]
        if self.kind == "near duplicates":
            x = np.asarray(x[rows * 0] + 0.02 * x)
        if self.kind == "zero rows":
            x[::2] = 0
        return np.asarray(x * (100 if self.kind == "large" else 1), dtype=dtype)

    def candidates(self, dtype: str) -> Values:
        """The candidates (B, K, ...); on a lattice, where equal distances are exactly equal, there are ties."""
        rng = np.random.default_rng([self.seed, 2])
        shape = (self.shape[0], self.k, *self.shape[1:])
        noise = rng.integers(-1, 2, shape) if self.kind == "lattice" else rng.standard_normal(shape)
        return np.asarray(noise, dtype=dtype)

    def noises(self, dtype: str) -> Values:
        """One noise for each image."""
        return self.candidates(dtype)[:, 0]

    def scalars(self, dtype: str) -> tuple[Values, Values]:
        """a_BK, s_BK of the candidates besides candidate 0."""
        rng = np.random.default_rng([self.seed, 3])
        shape = (self.shape[0], self.k - 1)
        return rng.standard_normal(shape).astype(dtype), rng.chisquare(self.dimension - 1, shape).astype(dtype)

    def rows(self, values: Values) -> Values:
        """`values` as float64 rows (B, D)."""
        return values.reshape(self.shape[0], -1).astype(np.float64)


def cases(shapes: tuple[tuple[int, ...], ...] = SHAPES, kinds: tuple[str, ...] = KINDS, least_k: int = 1) -> st.SearchStrategy[Case]:
    """Cases of the given shapes and kinds, with k from `least_k` to 6.

    Kind and k are read off the seed: drawn by themselves, Hypothesis would dwell on the first of each.
    """

    def case(shape: tuple[int, ...], seed: int) -> Case:
        turn, place = divmod(seed, len(kinds))
        return Case(shape, least_k + turn % (7 - least_k), kinds[place], seed)

    return st.builds(case, st.sampled_from(shapes), st.integers(0, 9999))


SHARE = float(os.environ.get("IMMREF_SPEC_EXAMPLES", "1"))  # of the examples; JAX compiles anew for every shape


def examples(count: int) -> settings:
    """`count` examples, the same in every run, so that the suite's false-fail budget holds."""
    return settings(
        max_examples=max(2, round(SHARE * count)),
        derandomize=True,
        database=None,
        deadline=None,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=[HealthCheck.too_slow],
    )

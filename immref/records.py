"""The two records that travel: how a batch is to be paired, and the batch as it was paired."""

from dataclasses import dataclass
from typing import Literal

from immref import _checks
from immref._checks import Array

METHODS = ("vanilla", "knn", "linear_assignment")
SCORES = ("l2", "dot")
COSTS = ("l2", "sqeuclidean")
SOLVERS = ("auto", "scipy", "auction")
SCOPES = ("batch", "label")
OWNERS = {"k": "knn", "score": "knn", "cost": "linear_assignment", "solver": "linear_assignment", "within": "linear_assignment"}


@dataclass(frozen=True)
class Pairing:
    """How a training batch gets its noise: one record from the command line to the kernel.

    Parameters
    ----------
    method : 'vanilla', 'knn' (Section 3.3.2) or 'linear_assignment' (Section 3.3.1)
    k : int ≥ 1
        Candidates per image; only 'knn' takes k > 1.
    score : 'l2' (the paper) or 'dot'
        What 'knn' calls near: the least |n - x|, or the largest <n, x>, which leaves |n| alone.
    scale : float > 0
        Image scaling (Section 3.3.3); combines with every method.
    cost : 'l2' (the paper) or 'sqeuclidean' (OT-CFM)
        What 'linear_assignment' minimises.
    solver : 'auto' (exact), 'scipy' (exact, the oracle) or 'auction' (near-exact, with a certified gap)
    within : 'batch' (the paper) or 'label'
        Among which images 'linear_assignment' exchanges noises; 'label' needs the labels.
    """

    method: Literal["vanilla", "knn", "linear_assignment"] = "vanilla"
    k: int = 1
    score: Literal["l2", "dot"] = "l2"
    scale: float = 1.0
    cost: Literal["l2", "sqeuclidean"] = "l2"
    solver: Literal["auto", "scipy", "auction"] = "auto"
    within: Literal["batch", "label"] = "batch"

    def __post_init__(self) -> None:
        for name, known in (("method", METHODS), ("score", SCORES), ("cost", COSTS), ("solver", SOLVERS), ("within", SCOPES)):
            _checks.check_choice(getattr(self, name), name, known)
        object.__setattr__(self, "k", _checks.check_int(self.k, "k", 1, _checks.MOST_CANDIDATES))
        object.__setattr__(self, "scale", _checks.check_scale(self.scale))
        for name, method in OWNERS.items():
            value = getattr(self, name)
            if method != self.method and value != type(self).__dataclass_fields__[name].default:
                raise ValueError(f"{name}={value!r} needs method {method!r}, got {self.method!r}")

    def __str__(self) -> str:
        words = [f"KNN k={self.k}" if self.method == "knn" else self.method.replace("_", " ")]
        if self.score != "l2" or self.cost != "l2":
            words[0] += f" ({self.score if self.method == 'knn' else self.cost})"
        if self.within == "label":
            words[0] += " within labels"
        if self.solver != "auto":
            words[0] += f" by {self.solver}"
        if self.scale != 1:
            words.append(f"image ×{repr(self.scale).removesuffix('.0')}")
        return ", ".join(words[1:] if self.method == "vanilla" and len(words) > 1 else words)


def Vanilla() -> Pairing:
    """Independent noise, as in ordinary diffusion training."""
    return Pairing()


def KNN(k: int, score: Literal["l2", "dot"] = "l2", scale: float = 1.0) -> Pairing:
    """The nearest of k noises for each image (Section 3.3.2)."""
    return Pairing("knn", k=k, score=score, scale=scale)


def LinearAssignment(
    cost: Literal["l2", "sqeuclidean"] = "l2",
    solver: Literal["auto", "scipy", "auction"] = "auto",
    within: Literal["batch", "label"] = "batch",
    scale: float = 1.0,
) -> Pairing:
    """The batch's noises permuted towards its images (Section 3.3.1)."""
    return Pairing("linear_assignment", cost=cost, solver=solver, within=within, scale=scale)


def ImageScaling(scale: float) -> Pairing:
    """Vanilla noise, scaled images (Section 3.3.3)."""
    return Pairing(scale=scale)


@dataclass(frozen=True)
class Paired:
    """A batch and the noise it goes with; hand it on whole, so that one noise corrupts and is the target.

    Attributes
    ----------
    x : array (B, ...), the images after scaling
    noise : array like `x`
    index : int64 array (B,) (int32 where the library has no wider)
        KNN: which candidate was chosen; assignment: which noise image i took; vanilla: 0 … B-1.
    before, after : 0-d arrays on the device of `x`
        Mean L2 distance of the images to the noise that vanilla would have used, and to `noise`.
    gap : float in [0, 1]
        Linear assignment: at most this share of the possible gain was left, certified; 0 where the solve is exact.
    """

    x: Array
    noise: Array
    index: Array
    before: Array
    after: Array
    gap: float = 0.0

"""The contestants for linear assignment: the official formulation, SciPy, ours exact and near-exact; the product X Nᵀ as a floor.

Shape suffixes: B images and as many noises, D numbers per image.
"""

from functools import partial
from importlib import import_module
from typing import Any, Literal
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor

import immref
from immref import assignment
from immref_trainers.bench.measure import Measured, Way
from immref_trainers.bench.results import EXACT, LAP, NEAR, OFFICIAL, PLAIN, PRODUCT, SCIPY

Cost = Literal["l2", "sqeuclidean"]


def call_ways(x_BD: Tensor, noise_BD: Tensor, cost: Cost, most_scipy: int, backend: str) -> dict[str, Way]:
    """Whole calls, images and noises in, permuted noises out; and the two floors."""
    ours = partial(immref.linear_assignment, x_BD, noise_BD, cost=cost, backend=backend)
    found: dict[str, Way] = {PLAIN: lambda: torch.randn_like(x_BD), PRODUCT: lambda: x_BD @ noise_BD.T}
    if len(x_BD) <= most_scipy:
        found[OFFICIAL] = lambda: noise_BD[torch.from_numpy(by_official(official_costs(x_BD, noise_BD))).to(x_BD.device)]
        found[SCIPY] = partial(ours, solver="scipy")
    return found | _ours(partial(ours, solver="auto"), partial(ours, solver="auction"))


def solve_ways(x_BD: Tensor, noise_BD: Tensor, cost: Cost, most_scipy: int, backend: str) -> dict[str, Way]:
    """The solvers alone, their B × B matrix given where the product left it; each returns (permutation, gap)."""
    gain_BB = assignment.gains(x_BD, noise_BD, cost)
    solver = partial(solve, gain_BB if x_BD.device.type != "cpu" else assignment.to_host(gain_BB), backend)
    found: dict[str, Way] = {}
    if len(x_BD) <= most_scipy:
        costs_BB = official_costs(x_BD, noise_BD)
        found[OFFICIAL] = lambda: (by_official(costs_BB), 0.0)
        found[SCIPY] = partial(solver, "scipy")
    return found | _ours(partial(solver, "auto"), partial(solver, "auction"))


def _ours(exact: Way, near: Way) -> dict[str, Way]:
    """Exact with `lap` where it imports, exact as where it does not, and near-exact."""
    found: dict[str, Way] = {LAP: exact} if assignment.lap_module() else {}
    return found | {EXACT: partial(without_lap, exact), NEAR: near}


def without_lap(way: Way) -> Any:
    """Call `way` as on a machine where `lap` is not installed."""
    with patch.object(assignment, "lap_module", return_value=None):
        return way()


def solve(gain_BB: Any, backend: str, solver: str) -> tuple[Any, float]:
    """The solver that `immref.linear_assignment` uses for this matrix: on an accelerator the backend's auction stays there."""
    if isinstance(gain_BB, np.ndarray):
        return assignment.solve(gain_BB, solver)
    if solver == "scipy" or len(gain_BB) <= assignment.SMALL:
        return assignment.solve(assignment.to_host(gain_BB), solver)
    run: assignment.Auction = import_module(f"immref_{backend}.auction").run
    return assignment.finish(gain_BB, *run(gain_BB), solver)


def official_costs(x_BD: Tensor, noise_BD: Tensor) -> Tensor:
    """The official cost: plain distances times .1 in float16.

    Rounded to float16 before and after, but computed in float32 by a product, which is kinder than float16 differences.
    """
    return torch.cdist(x_BD.half().float(), noise_BD.half().float()).half() * 0.1


def by_official(costs_BB: Tensor) -> Any:
    """SciPy on the host, as the official formulation calls it."""
    from scipy.optimize import linear_sum_assignment

    return linear_sum_assignment(costs_BB.cpu().numpy())[1]


def drops_kept(x_BD: Tensor, noise_BD: Tensor, found: dict[str, Measured], cost: Cost) -> dict[str, float]:
    """For each way that permuted the noises its share of the optimal drop of the mean cost; empty where all images are one.

    Costs are computed in float64; the optimum is the exact solver's.
    """
    if bool((x_BD == x_BD[0]).all()):
        return {}

    def mean_cost(other_BD: Tensor) -> float:
        distance_B = torch.linalg.vector_norm(other_BD.double() - x_BD.double(), dim=1)
        return float((distance_B if cost == "l2" else distance_B.square()).mean())

    before = mean_cost(noise_BD)
    drops = {way: before - mean_cost(measured.result) for way, measured in found.items() if way not in (PLAIN, PRODUCT)}
    return {way: drop / drops[EXACT] for way, drop in drops.items()}

"""`immref doctor`: versions, backends and why one cannot run, and a self-test of two seconds."""

import itertools
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

import immref
from immref import BackendError, dispatch
from immref.assignment import lap_module
from immref.diffusion import PREDICTIONS, corrupt, recover, target

PACKAGES = (
    "immref",
    "numpy",
    "scipy",
    "array-api-compat",
    "lapx",
    "torch",
    "jax",
    "cupy-cuda13x",
    "diffusers",
    "accelerate",
    "scikit-learn",
)


def examine() -> int:
    """Print the findings; 1 if the self-test fails or the backend asked for cannot run, else 0."""
    print(f"python          {platform.python_version()} on {platform.platform(terse=True)}, {os.cpu_count()} cores")
    print(f"packages        {', '.join(f'{name} {_version(name)}' for name in PACKAGES)}")
    for name in (dispatch.VARIABLE, dispatch.DEVICE_VARIABLE):
        print(f"{name:16}{os.environ.get(name, '(not set)')}")
    failed = 0
    solver = "lap (lapx)" if lap_module() else "SciPy; pip install 'immref[fast]' for a faster one"
    print(f"exact solver    {solver}")
    for name in dispatch.installed():
        print(f"backend         {name}: {_state(name)}")
    try:
        print(f"NumPy runs      {dispatch.choose(np.zeros((1, 1)))}")
    except BackendError as error:
        print(f"NumPy runs      nowhere: {error}")
        return 1
    for label, passed in self_test():
        print(f"self-test       {'ok    ' if passed else 'FAILED'} {label}")
        failed += not passed
    return 1 if failed else 0


def self_test() -> list[tuple[str, bool]]:
    """Facts that need no data, on whichever backend NumPy arrays run."""
    rng = np.random.default_rng(0)
    x, noise = rng.standard_normal((6, 100)), rng.standard_normal((6, 100))
    paired = immref.pair(x, immref.KNN(k=8), rng=1)
    assigned = immref.linear_assignment(x, noise)
    best = min(np.linalg.norm(x - noise[list(order)], axis=1).sum() for order in itertools.permutations(range(6)))
    many, noises = rng.standard_normal((400, 100)), rng.standard_normal((400, 100))
    fast, oracle = (np.linalg.norm(many - immref.linear_assignment(many, noises, solver=name), axis=1).sum() for name in ("auto", "scipy"))
    return [
        ("knn with k = 1 is vanilla, bit for bit", bool(np.array_equal(immref.knn(x, 1, rng=3), immref.vanilla(x, rng=3)))),
        ("knn with k = 8 lies nearer than vanilla", bool(paired.after < paired.before)),
        ("assignment costs no more than the best of all 720 permutations", bool(np.linalg.norm(x - assigned, axis=1).sum() <= best + 1e-9)),
        ("assignment of 400 images costs what SciPy's optimum costs", bool(abs(fast - oracle) <= 1e-9 * oracle)),
        ("the perfect predictor has no loss: x and n come back from x_t", perfect(x, paired.noise)),
        ("the same seed draws the same noise", bool(np.array_equal(immref.knn(x, 8, rng=5), immref.knn(x, 8, rng=5)))),
    ]


def perfect(x: np.ndarray[Any, Any], noise: np.ndarray[Any, Any]) -> bool:
    """Whether every prediction's target, at x_t, stands for the image and the noise that made it."""
    x_t = corrupt(x, noise, 0.6, 0.8)
    found = [recover(kind, target(kind, x, noise, 0.6, 0.8), x_t, 0.6, 0.8) for kind in PREDICTIONS]
    return all(np.allclose(pair, (x, noise), rtol=0, atol=1e-12) for pair in found)


def _state(name: str) -> str:
    """'usable' or the reason why not."""
    try:
        reason = dispatch.load(name).unavailable(dispatch.asked_device())
    except BackendError as error:
        reason = str(error)
    return f"cannot run: {reason}" if reason else "usable"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"

"""`immref bench`: what pairing costs, as ratios measured side by side in one run."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

import immref

B, D, K = 256, 3072, 8
ROUNDS = 15


def bench() -> None:
    """Print KNN's cost in multiples of one plain normal draw, and against drawing all candidates."""
    print(
        f"batch {B}, {D} numbers an image, k = {K}; {torch.get_num_threads()} torch threads; the fastest of {ROUNDS} interleaved rounds\n"
    )
    print(f"{'':34}{'ms':>8}{'× plain':>9}")
    for title, table in (("NumPy", numpy_ways()), ("torch, CPU", torch_ways())):
        milliseconds = interleaved(table)
        plain, ours, broadcast = milliseconds.values()
        for name, value in milliseconds.items():
            print(f"{title + ', ' + name:34}{value:8.2f}{value / plain:9.2f}")
        print(f"{'':34}immref.knn is {broadcast / ours:.1f} × faster than the float16 broadcast\n")


def numpy_ways() -> dict[str, Callable[[], Any]]:
    """Plain noise, ours, and the candidates drawn and compared by broadcasting in half precision."""
    rng = np.random.default_rng(0)
    x = 0.5 * rng.standard_normal((B, D), dtype=np.float32)

    def broadcast() -> Any:
        noise = rng.standard_normal((B, K, D), dtype=np.float32).astype(np.float16)
        nearest = np.linalg.norm((noise - x.astype(np.float16)[:, None]).astype(np.float16), axis=2).argmin(axis=1)
        return noise[np.arange(B), nearest]

    return {
        "plain standard_normal": lambda: rng.standard_normal((B, D), dtype=np.float32),
        "immref.knn": lambda: immref.knn(x, K, rng=rng, backend="reference"),
        "float16 broadcast": broadcast,
    }


def torch_ways() -> dict[str, Callable[[], Any]]:
    """The same on torch."""
    x = 0.5 * torch.randn(B, D)

    def broadcast() -> Any:
        noise = torch.randn(B, K, D).half()
        nearest = (noise - x.half()[:, None]).norm(dim=2).argmin(dim=1)
        return noise[torch.arange(B), nearest]

    return {
        "plain randn": lambda: torch.randn(B, D),
        "immref.knn": lambda: immref.knn(x, K, backend="torch"),
        "float16 broadcast": broadcast,
    }


def interleaved(ways: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Least milliseconds of each way, one call of each per round, so that a busy moment meets them all."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for name in ways:
        ways[name]()
    for _ in range(ROUNDS):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            seconds[name].append(time.perf_counter() - began)
    return {name: 1e3 * min(times) for name, times in seconds.items()}

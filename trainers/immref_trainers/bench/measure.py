"""Timing side by side, and the memory that a call takes at its peak."""

import ctypes
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROUNDS, ENOUGH = 40, 3  # calls of a way at most, and at least unless it is slow
SLOW = 1.0  # seconds after which a way is not called again, even once
WATCHED = 2  # calls whose memory is looked at; the least counts, for freed pieces may lie so that a call cannot use them
CLEAR = Path("/proc/self/clear_refs")  # Linux: "5" sets the peak of the resident memory back to what is resident now
STATUS = Path("/proc/self/status")

Way = Callable[[], Any]


@dataclass(frozen=True)
class Measured:
    """One way's cost.

    Attributes
    ----------
    ms : the least of its times
    calls : how often it was called
    peak_bytes : memory beyond what was held before a call, the result included; None where it cannot be measured
    result : what the first call returned
    """

    ms: float
    calls: int
    peak_bytes: int | None
    result: Any


def side_by_side(ways: dict[str, Way], seconds: float, device: str = "cpu") -> dict[str, Measured]:
    """Measure every way in interleaved rounds, one call of each a round, so that a busy moment meets them all.

    Parameters
    ----------
    ways : calls by name
    seconds : float ≥ 0
        A way that has taken as long in three calls or more sits out further rounds; after a second it does so at once.
    device : 'cpu', or a CUDA device, which is timed by its own events
    """
    times: dict[str, list[float]] = {name: [] for name in ways}
    results: dict[str, Any] = {}
    peaks: dict[str, list[int]] = {name: [] for name in ways}
    for number in range(ROUNDS):
        for name, way in ways.items():
            if number and sum(times[name]) >= (seconds if number >= ENOUGH else SLOW):
                continue
            watch = _watch(device) if number < WATCHED else None
            result, took = timed(way, device)
            times[name].append(took)
            results.setdefault(name, result)
            if watch is not None:
                peaks[name].append(watch())
            del result
    return {name: Measured(1e3 * min(times[name]), len(times[name]), min(peaks[name], default=None), results[name]) for name in ways}


def timed(way: Way, device: str) -> tuple[Any, float]:
    """The result of one call and its seconds; on CUDA from event to event, host work between them included."""
    if device == "cpu":
        began = time.perf_counter()
        result = way()
        return result, time.perf_counter() - began
    with torch.cuda.device(device):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        result = way()
        end.record()
        end.synchronize()
    return result, start.elapsed_time(end) / 1e3


def _watch(device: str) -> Callable[[], int] | None:
    """Start a new peak of the memory; what is returned tells by how many bytes it rose. None where that cannot be known."""
    if device != "cpu":
        torch.cuda.reset_peak_memory_stats(device)
        held = torch.cuda.memory_allocated(device)
        return lambda: torch.cuda.max_memory_allocated(device) - held
    if not new_peak():
        return None
    held = resident("VmRSS")
    return lambda: max(resident("VmHWM") - held, 0)


def new_peak() -> bool:
    """Give freed memory back to the system and start a new peak; False where the system has no such switch.

    Without the first, a call would reuse what an earlier one freed and seem to need nothing.
    """
    if sys.platform != "linux":
        return False
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        return False
    trim(0)
    try:
        CLEAR.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def resident(key: str) -> int:
    """Bytes of this process in memory: now (VmRSS) or at the peak (VmHWM)."""
    lines = STATUS.read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])

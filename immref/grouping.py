"""Linear assignment within labels: noises change places only among the images of one label.

Across labels an assignment skews p(noise | label), which a conditional sampler that starts from N(0, I) does not know;
within labels the noise given the label stays N(0, I).

Shape suffixes: B images, G images of one label, D numbers per image.
"""

from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj

from immref._checks import Array, check_plain, describe, widest
from immref.assignment import to_host
from immref.dispatch import Backend


def labels_of(group: Any, count: int) -> np.ndarray[Any, Any]:
    """The labels (B,) on the host: an integer array of any library, on any device."""
    if not is_array_api_obj(group):
        raise TypeError(f"group must be an integer array of {count} labels, got {type(group).__name__}")
    check_plain(group, "group")
    if not array_namespace(group).isdtype(group.dtype, "integral"):
        raise TypeError(f"group must be an array of integers, got {describe(group)}")
    if tuple(group.shape) != (count,):
        raise ValueError(f"group must have shape ({count},), a label for each image, got {describe(group)}")
    return to_host(group)


def assign_within(
    chosen: Backend, x_BD: Array, noise_BD: Array, cost: str, solver: str, labels_B: np.ndarray[Any, Any]
) -> tuple[Array, Array, Array, float]:
    """`assign_batch` for the images of each label by themselves; the gap is the largest of theirs."""
    xp = array_namespace(x_BD)
    order = np.argsort(labels_B, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(labels_B[order])) + 1)
    results = []
    for rows_G in groups:
        rows = xp.asarray(rows_G, dtype=widest(x_BD, "signed integer"), device=device(x_BD))
        index_G, *rest = chosen.assign_batch(xp.take(x_BD, rows, axis=0), xp.take(noise_BD, rows, axis=0), cost, solver)
        results.append((xp.take(rows, index_G, axis=0), *rest))
    back = xp.asarray(np.argsort(order), dtype=widest(x_BD, "signed integer"), device=device(x_BD))
    index_B, before_B, after_B = (xp.take(xp.concat([result[i] for result in results]), back, axis=0) for i in range(3))
    return index_B, before_B, after_B, float(np.max([result[3] for result in results]))  # NaN wins

"""NumPy arrays in safetensors files."""

from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file


def save(arrays: dict[str, np.ndarray[Any, Any]], path: Path, facts: dict[str, str] | None = None) -> None:
    """Write `arrays`, and `facts` about them.

    Whatever their layout: safetensors alone writes memory as it lies, and a transposed array comes back scrambled.
    """
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path, facts)

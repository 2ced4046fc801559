"""What is made on the spot and kept in the user's cache: a folder appears whole, or not at all."""

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path


def made_once(name: str, made_of: str, make: Callable[[Path], None]) -> Path:
    """The folder `name`-KEY in the user's cache, by `make` where it is not there; its key says what it is made of."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "immref"
    folder = home / f"{name}-{hashlib.sha256(made_of.encode()).hexdigest()[:16]}"
    if not folder.exists():
        unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
        make(unfinished)
        try:
            unfinished.rename(folder)
        except OSError:  # another process was faster
            shutil.rmtree(unfinished)
    return folder

"""Training loops for every model and task of the paper, with the noise paired by whichever backend is chosen."""

from importlib.util import find_spec

NEEDED = ("accelerate", "diffusers", "matplotlib", "rich", "safetensors", "sklearn", "torch", "tyro")

if missing := [name for name in NEEDED if find_spec(name) is None]:
    raise ImportError(f"immref_trainers needs {', '.join(missing)}; pip install 'immref[train]'")

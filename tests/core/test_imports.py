"""What importing immref loads, told by a fresh interpreter."""

import ast
import subprocess
import sys
from pathlib import Path

import immref

ALLOWED = {"numpy", "scipy", "array_api_compat", "immref"}


def run(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_immref_loads_no_array_library_but_numpy():
    loaded = set(run("import immref, sys; print(*{name.partition('.')[0] for name in sys.modules})").split())
    assert {"immref", "numpy"} <= loaded
    assert not loaded & {"torch", "cupy", "jax", "immref_torch", "immref_cupy", "immref_spec", "immref_trainers", "hypothesis", "scipy"}


def test_numpy_arrays_never_load_an_accelerated_backend():
    used = run("import immref, numpy, sys; immref.knn(numpy.ones((2, 99)), 4); print('torch' in sys.modules, 'cupy' in sys.modules)")
    assert used.split() == ["False", "False"]


def test_the_reference_imports_only_its_three_libraries_at_the_top():
    folder = Path(immref.__file__).parent
    found = set()
    for file in folder.glob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found.add((node.module or "").partition(".")[0])
    assert {"numpy", "immref"} <= found
    assert found <= ALLOWED | set(sys.stdlib_module_names)


def test_the_version_is_the_package_s_own():
    from importlib.metadata import version

    assert version("immref") == immref.__version__

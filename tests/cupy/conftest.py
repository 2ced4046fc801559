"""These tests run where the double takes CuPy's place: ``pytest -p cupy_double tests/cupy``, as the tox environment cupy-double does."""

import sys

collect_ignore_glob = [] if "cupy_double" in sys.modules else ["test_*.py"]

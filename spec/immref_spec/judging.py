"""The laws as plain functions: list them, run one on a subject, learn why it is rejected. No pytest run is needed."""

import ast
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

from immref_spec import LAWS
from immref_spec.compare import BrokenLawError
from immref_spec.subjects import Subject


def laws() -> list[str]:
    """Every law as 'laws_module.test_name', in reading order."""
    found = []
    for module in LAWS:
        text = (Path(__file__).parent / f"{module}.py").read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                found.append(f"{module}.{node.name}")
    return found


def function_of(law: str) -> Callable[..., Any]:
    """The function that the name of a law stands for."""
    module, _, name = law.partition(".")
    function: Callable[..., Any] = getattr(import_module(f"immref_spec.{module}"), name)
    return function


def runs(law: str, subject: Subject) -> Iterator[Callable[[], Any]]:
    """The runs of a law on a subject: one for each combination of its pytest parameters."""
    function = function_of(law)
    tables = [mark.args for mark in getattr(function, "pytestmark", ()) if mark.name == "parametrize"]
    for values in product(*(rows for _, rows in tables)):
        yield partial(function, subject, **dict(zip((name for name, _ in tables), values, strict=True)))


def judge(law: str, subject: Subject) -> str | None:
    """The sentence with which a law rejects the subject, or None where it holds."""
    for run in runs(law, subject):
        try:
            run()
        except BrokenLawError as broken:
            return str(broken)
        except Exception as error:  # a backend that breaks inside a law has not kept it
            return f"raised {error!r}"
    return None

"""The rules of the house that a machine can check, read from the checkout that this file lies in."""

import ast
import os
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHIPPED = ("immref", "backends", "spec", "trainers")
LONGEST_FILE, LONGEST_FUNCTION = 400, 60
LONGER = {"steps": 100}  # the training loop, read from top to bottom
COMPARISONS = {"allclose", "array_equal", "array_equiv", "equal", "isclose"}


def files(*folders):
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name(path):
    return str(path.relative_to(ROOT))


@cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@cache
def readme():
    return (ROOT / "README.md").read_text(encoding="utf-8")


def called(node):
    """The last part of a call's name: 'allclose' of np.allclose(a, b)."""
    return getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""


def raises_by_itself(call):
    """The specification's own `compare.equal`, which is `equal` in its file."""
    return ast.unparse(call.func) in ("equal", "compare.equal")


def dropped(module):
    """Lines of comparisons whose result nobody looks at."""
    values = [node.value for node in ast.walk(module) if isinstance(node, ast.Expr)]
    return [
        value.lineno for value in values if isinstance(value, ast.Compare) or (called(value) in COMPARISONS and not raises_by_itself(value))
    ]


def test_the_check_for_dropped_comparisons_finds_them():
    text = "a == b\nnp.allclose(a, b)\nassert a == b\nsame = a == b\ntorch.equal(a, b)\nprint(a == b)\ncompare.equal(a, b)"
    assert dropped(ast.parse(text)) == [1, 2, 5]


@pytest.mark.parametrize("path", files(*SHIPPED, "tests"), ids=name)
def test_no_comparison_s_result_is_dropped(path):
    assert dropped(tree(path)) == []


@pytest.mark.parametrize("path", files(*SHIPPED), ids=name)
def test_nothing_on_disk_is_unpickled_or_evaluated(path):
    imported = {alias.name.partition(".")[0] for node in ast.walk(tree(path)) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {(node.module or "").partition(".")[0] for node in ast.walk(tree(path)) if isinstance(node, ast.ImportFrom)}
    assert not imported & {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    calls = [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]
    assert not [node.lineno for node in calls if isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec")]
    assert not [node.lineno for node in calls if ast.unparse(node.func) in ("torch.load", "torch.save")]
    assert not [node.lineno for node in calls if any(word.arg == "allow_pickle" for word in node.keywords)]
    assert not [node.lineno for node in calls if called(node) in ("save_state", "load_state")]


@pytest.mark.parametrize("path", files(*SHIPPED, "tests"), ids=name)
def test_files_and_functions_can_be_held_in_the_head(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE
    functions = [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef)]
    long = {node.name: lines(node) for node in functions if lines(node) > LONGER.get(node.name, LONGEST_FUNCTION)}
    assert long == {}


def lines(function):
    """Lines of a function without its docstring."""
    first = function.body[0]
    words = first.end_lineno - first.lineno + 1 if ast.get_docstring(function) else 0
    return function.end_lineno - function.lineno + 1 - words


@cache
def listed():
    """The paths of the README's tree."""
    block = re.search(r"^```\w*\n(immref/ .*?)^```", readme(), re.MULTILINE | re.DOTALL)
    assert block, "README.md needs a fenced tree whose first line begins with 'immref/'"
    return [line.split()[0] for line in block[1].splitlines() if line.strip()]


def test_the_readme_s_tree_is_on_the_disk_and_every_line_has_words():
    assert [path for path in listed() if not (ROOT / path).exists()] == []
    assert [path for path in listed() if path.endswith("/") != (ROOT / path).is_dir()] == []
    assert len(listed()) == len(set(listed()))
    assert all(re.search(rf"^{re.escape(path)} +\S", readme(), re.MULTILINE) for path in listed())


def test_every_file_of_the_package_has_its_line_in_the_readme():
    trainers = ROOT / "trainers" / "immref_trainers"
    wanted = [name(path) for path in files("immref", "backends/immref_torch")]
    wanted += [f"{name(path)}/" for path in sorted(trainers.iterdir()) if path.is_dir() and path.name != "__pycache__"]
    wanted += [name(path) for path in sorted(trainers.glob("*.py")) if path.name != "__init__.py"]
    assert [path for path in wanted if path not in listed()] == []


def test_files_that_the_readme_tells_to_read_exist():
    named = re.findall(r"`((?:immref|backends|spec|trainers|tests|docs)/[\w./-]+)`", readme())
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def command_lines():
    return [line.strip() for line in readme().splitlines() if re.match(r" +(?:python3 -m venv|\.venv/bin/)", line)]


def test_the_readme_holds_two_command_lines():
    assert len(command_lines()) == 2
    assert command_lines()[0].startswith("python3 -m venv")
    assert command_lines()[1].startswith(".venv/bin/pip install tox")


def test_continuous_integration_runs_the_readme_s_command():
    """The pattern by which `.ci/run` looks for the command finds the README's second line and no other."""
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    pattern = re.search(r"grep -E '([^']+)' README\.md", script.read_text(encoding="utf-8"))
    assert pattern, ".ci/run takes its command from README.md"
    assert [line.strip() for line in readme().splitlines() if re.search(pattern[1], line)] == command_lines()[1:]


def test_extras_that_sentences_name_can_be_installed():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    texts = {name(path): path.read_text(encoding="utf-8") for path in [*files(*SHIPPED), ROOT / "README.md"]}
    named = {(where, extra) for where, text in texts.items() for extra in re.findall(r"immref\[(\w+)\]", text)}
    assert named
    assert {(where, extra) for where, extra in named if extra not in extras} == set()


def test_every_environment_is_run_by_the_readme_s_command_or_needs_a_device():
    tox = (ROOT / "tox.ini").read_text(encoding="utf-8")
    names = re.search(r"^env_list = (.+)$", tox, re.MULTILINE)[1].split(", ")
    run = re.search(r"^ +cpu = (.+)$", tox, re.MULTILINE)[1].split(", ")
    assert set(names) - set(run) == {"torch-cuda", "cupy"}
    assert command_lines()[1].endswith("tox run -m cpu")


def test_the_readme_is_filled_in_and_its_links_lead_somewhere():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "@@" not in readme
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", readme) if "://" not in target]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []

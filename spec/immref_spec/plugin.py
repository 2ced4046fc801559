"""pytest plugin: ``pytest --pyargs immref_spec [--immref-backend NAME[,NAME]] [--immref-require]``.

It acts on the laws of this package alone, and imports nothing but pytest until one is collected.
"""

from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the two options."""
    group = parser.getgroup("immref", "the laws of immref")
    group.addoption("--immref-backend", metavar="NAME[,NAME]", help="judge these subjects only; one that cannot run fails")
    group.addoption("--immref-require", action="store_true", help="a subject that cannot run fails even where it was not asked for")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Module | None:
    """Collect laws_*.py of this package, whatever python_files says elsewhere."""
    ours = file_path.parent == HERE and file_path.name.startswith("laws_") and file_path.suffix == ".py"
    if not ours or parent.session.isinitpath(file_path):  # pytest itself collects a file that is named outright
        return None
    module: pytest.Module = pytest.Module.from_parent(parent, path=file_path)
    return module


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each law once for every subject."""
    if not _is_law(metafunc.module) or "subject" not in metafunc.fixturenames:
        return
    from immref_spec import subjects

    names = subjects.asked(metafunc.config.getoption("--immref-backend")) or subjects.known()
    metafunc.parametrize("subject", names, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Refuse an unknown name once, before any law runs; put the laws into their order, subject by subject."""
    places = [place for place, item in enumerate(items) if isinstance(item, pytest.Function) and _is_law(item.module)]
    if not places:
        return
    from immref_spec import LAWS, subjects

    ordered = sorted((items[place] for place in places), key=lambda law: LAWS.index(law.path.stem))
    for place, law in zip(places, ordered, strict=True):
        items[place] = law

    for name in subjects.asked(config.getoption("--immref-backend")):
        if name not in subjects.known():
            raise pytest.UsageError(f"--immref-backend or IMMREF_BACKEND: unknown backend {name!r}; known: {', '.join(subjects.known())}")


@pytest.fixture(scope="session")
def subject(request: pytest.FixtureRequest) -> Any:
    """The subject of a law; one that cannot run fails where it was asked for or required, else skips with its reason."""
    from immref import BackendError
    from immref_spec import subjects

    wanted = request.config.getoption("--immref-require") or subjects.asked(request.config.getoption("--immref-backend"))
    try:
        return subjects.load(request.param)
    except BackendError as error:
        reason = str(error)
    if wanted:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def _is_law(module: Any) -> bool:
    return Path(str(getattr(module, "__file__", ""))).parent == HERE

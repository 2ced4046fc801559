"""Which backend runs, and the sentence where none can."""

from importlib.metadata import EntryPoint
from types import SimpleNamespace

import numpy as np
import pytest

import immref
from immref import BackendError, dispatch, reference

X = np.zeros((2, 100), dtype=np.float32)


@pytest.fixture
def plugin(monkeypatch):
    """A third party's backend 'loopback', installed by entry point: the reference that marks its noise."""
    loopback = SimpleNamespace(**{name: getattr(reference, name) for name in reference.__all__})
    loopback.name = "loopback"
    loopback.normal = lambda rng, shape, like: reference.normal(rng, shape, like) + 100.0
    point = SimpleNamespace(load=lambda: loopback)
    monkeypatch.setattr(dispatch, "installed", lambda: {"reference": None, "loopback": point})
    dispatch.load.cache_clear()
    yield loopback
    dispatch.load.cache_clear()


def test_the_environment_variable_is_read_at_every_call(plugin, monkeypatch):
    monkeypatch.delenv("IMMREF_BACKEND", raising=False)
    assert immref.vanilla(X, rng=0).max() < 50
    monkeypatch.setenv("IMMREF_BACKEND", "loopback")
    assert immref.vanilla(X, rng=0).min() > 50
    assert immref.knn(X, 4, rng=0).min() < immref.vanilla(X, rng=0).max()


def test_the_argument_wins_over_the_variable(plugin, monkeypatch):
    monkeypatch.setenv("IMMREF_BACKEND", "loopback")
    assert immref.vanilla(X, rng=0, backend="reference").max() < 50
    assert immref.vanilla(X, rng=0, backend=plugin).min() > 50


def test_a_backend_that_cannot_run_says_why(plugin):
    plugin.unavailable = lambda device: "the moon is not full"
    with pytest.raises(BackendError, match=r"'loopback' \(asked for\) cannot run: the moon is not full"):
        immref.vanilla(X, backend="loopback")


def test_unknown_names_list_the_known_and_the_nearest(monkeypatch):
    with pytest.raises(BackendError, match=r"unknown backend 'referense'; known: auto, reference, .*did you mean 'reference'"):
        immref.vanilla(X, backend="referense")
    monkeypatch.setenv("IMMREF_BACKEND", "tensorflow")
    with pytest.raises(BackendError, match="unknown backend 'tensorflow'"):
        immref.vanilla(X)


def test_a_backend_whose_library_is_missing_gives_the_pip_line(monkeypatch):
    missing = EntryPoint("absent", "immref_absent_library", "immref.backends")
    monkeypatch.setattr(dispatch, "installed", lambda: {"absent": missing})
    with pytest.raises(BackendError, match=r"cannot be imported .*pip install 'immref\[absent\]'"):
        immref.vanilla(X, backend="absent")


def test_cupy_is_known_and_refuses_with_its_reason():  # whether the package is here or not; tests/cupy has the other reasons
    assert "cupy" in dispatch.installed()
    with pytest.raises(BackendError, match=r"backend 'cupy' (cannot be imported .*pip install 'immref\[cupy\]'|.*there is no CUDA driver)"):
        immref.knn(X, 4, backend="cupy")


def test_the_choice_tells_its_reason(monkeypatch):
    monkeypatch.delenv("IMMREF_BACKEND", raising=False)
    assert str(dispatch.choose(X)) == f"reference (numpy {np.__version__}): auto, for numpy arrays"
    monkeypatch.setenv("IMMREF_BACKEND", "reference")
    assert dispatch.choose(X).why == "IMMREF_BACKEND is set"

"""Somebody else's backend, one module announced by one entry point: all laws accept it, and reject it once a part is broken."""

import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import immref
from immref_spec import judging, subjects

pytest_plugins = ["pytester"]

FILE = Path(__file__).with_name("naive.py")


def load():
    spec = importlib.util.spec_from_file_location("naive", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


NAIVE = load()


@pytest.fixture
def installed(pytester, monkeypatch):
    """The module and its entry point in an empty folder, where a run of its own finds them."""
    for variable in ("IMMREF_BACKEND", "IMMREF_DEVICE"):
        monkeypatch.delenv(variable, raising=False)
    pytester.makepyfile(naive=FILE.read_text(encoding="utf-8"))
    announced = pytester.mkdir("naive-1.0.dist-info")
    announced.joinpath("METADATA").write_text("Metadata-Version: 2.1\nName: naive\nVersion: 1.0\n", encoding="utf-8")
    announced.joinpath("entry_points.txt").write_text("[immref.backends]\nnaive = naive\n", encoding="utf-8")
    return pytester


def test_one_module_and_one_entry_point_pass_every_law(installed):
    options = ("--pyargs", "immref_spec", "--immref-backend", "naive", "--immref-require", "-p", "no:cacheprovider", "-q")
    counts = installed.runpytest_subprocess(*options).parseoutcomes()
    assert counts["passed"] > 100
    assert set(counts) == {"passed", "skipped"}
    assert counts["skipped"] == len([law for law in judging.laws() if law.startswith("laws_torch.")]) + 1  # autocast: two dimensions


def first_always(x_BD, noise_BKD, score):
    return np.zeros(len(x_BD), dtype=np.int64), *NAIVE.nearest_candidate(x_BD, noise_BKD, score)[1:]


BROKEN = {
    "nearest_candidate": (first_always, "laws_nearest.test_the_winner_is_nearest"),
    "collapse": (lambda x, g, a, s: NAIVE.collapse(x, g, a, s + 1), "laws_collapse.test_it_agrees_with_the_formula"),
    "assign_batch": (lambda x, n, cost, solver: NAIVE.assign_batch(x, n, "l2", solver), "laws_assignment.test_its_cost_is_least"),
    "normal": (lambda rng, shape, like: NAIVE.normal(rng, shape, like) * 1.01, "laws_draws.test_normal_is_standard_normal"),
    "radial": (lambda rng, df, shape, like: NAIVE.radial(rng, df + 1, shape, like), "laws_draws.test_radial_follows_its_laws"),
    "generator": (lambda rng, like: NAIVE.generator(0, like), "laws_draws.test_another_seed_gives_other_noise"),
}


@pytest.mark.parametrize("part", BROKEN)
def test_it_fails_once_one_part_is_broken(part):
    broken, law = BROKEN[part]
    assert judging.judge(law, subjects.of(NAIVE)) is None
    assert judging.judge(law, subjects.of(SimpleNamespace(**vars(NAIVE) | {part: broken}))) is not None


def test_the_public_functions_take_the_module():
    x = np.ones((4, 70), dtype=np.float16)
    assert immref.knn(x, 4, rng=0, backend=NAIVE).dtype == np.float16
    assert immref.pair(x, immref.LinearAssignment(), rng=0, backend=NAIVE).noise.shape == (4, 70)

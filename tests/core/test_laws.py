"""The helpers of the laws: a comparison that should fail fails, and says why; the verdicts' budget; the laws' index."""

import ast
import inspect
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import immref_spec
from immref import reference
from immref_spec import LAWS, bands, compare, judging, oracles, subjects
from immref_spec.bands import Band
from immref_spec.compare import BrokenLawError

PACKAGE = Path(immref_spec.__file__).parent
ONES = np.ones((2, 3), dtype=np.float32)


def broken(call, *arguments):
    """The sentence with which a comparison fails."""
    with pytest.raises(BrokenLawError) as caught:
        call(*arguments)
    return str(caught.value)


def test_within_names_difference_band_source_place_and_replay():
    wrong = ONES.copy()
    wrong[1, 2] += 0.25
    sentence = broken(compare.within, wrong, ONES, Band(0.125, "an eighth, for the test"), "noise")
    for part in ("noise differs by 0.25", "(1, 2)", "allowed 0.125", "got 1.25 for 1", "band: an eighth, for the test"):
        assert part in sentence
    compare.within(wrong, ONES, Band(0.25, "a quarter"), "noise")


def test_within_reports_the_place_where_the_band_is_exceeded_most():
    wrong, widths = ONES + np.float32([[1, 2, 3], [0, 0, 0]]), np.asarray([[0.01, 1.0, 1.0], [1, 1, 1]])
    assert "(0, 0)" in broken(compare.within, wrong, ONES, Band(widths, "given"), "noise")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_outside_every_band(bad):
    wrong = ONES.copy()
    wrong[0, 1] = bad
    assert "(0, 1)" in broken(compare.within, wrong, ONES, Band(1e9, "wide"), "noise")
    if bad != -np.inf:
        assert "(0, 1)" in broken(compare.at_most, wrong, ONES, Band(1e9, "wide"), "cost")


def test_a_broken_law_says_how_to_replay_it():
    subject = replace(subjects.of(reference), name="mine", asnumpy=lambda array: np.asarray(array) * 2)
    line = "replay: pytest --pyargs immref_spec.laws_pair -k test_scale_multiplies --immref-backend mine"
    assert line in judging.judge("laws_pair.test_scale_multiplies", subject)


def test_at_most_is_one_sided():
    compare.at_most(ONES - 5, ONES, Band(0.0, "none"), "cost")
    assert "cost is too large by 0.5" in broken(compare.at_most, ONES + np.float32(0.5), ONES, Band(0.25, "a quarter"), "cost")


def test_shapes_must_agree():
    assert "shape of noise" in broken(compare.within, ONES, ONES[0], Band(1.0, "one"), "noise")


def test_same_bits_sees_one_bit_the_dtype_and_the_sign_of_zero():
    compare.same_bits(ONES, ONES.copy(), "noise")
    wrong = ONES.copy()
    wrong[1, 0] = np.nextafter(np.float32(1), np.float32(2))
    assert "(1, 0)" in broken(compare.same_bits, wrong, ONES, "noise")
    assert "dtype of noise" in broken(compare.same_bits, ONES.astype(np.float64), ONES, "noise")
    broken(compare.same_bits, -np.zeros(1), np.zeros(1), "noise")


def test_raises_wants_the_error_and_its_words():
    def refuse():
        raise ValueError("k must be positive")

    compare.raises(refuse, ValueError, ("k must be",), "a call")
    assert "lacks" in broken(compare.raises, refuse, ValueError, ("row",), "a call")
    assert "expected TypeError" in broken(compare.raises, refuse, TypeError, (), "a call")
    assert "raised nothing" in broken(compare.raises, lambda: None, ValueError, ("k",), "a call")


@pytest.mark.parametrize(
    ("verdict", "right", "wrong"),
    [
        (compare.uniform, lambda r: (r.random(20000),), lambda r: (r.random(20000) ** 1.1,)),
        (compare.same_law, lambda r: (r.random(20000), r.random(20000)), lambda r: (r.random(20000), r.random(20000) ** 1.2)),
        (compare.independent, lambda r: r.standard_normal((2, 20000)), lambda r: [r.standard_normal(20000)] * 2),
        (compare.chi_square, lambda r: (r.chisquare(1000), 1000), lambda r: (1500.0, 1000)),
        (compare.chi_square, lambda r: (r.chisquare(1000), 1000), lambda r: (600.0, 1000)),
    ],
    ids=["uniform", "same law", "independent", "chi2, large", "chi2, small"],
)
def test_a_verdict_rejects_a_wrong_law_and_only_that(verdict, right, wrong):
    for seed in range(20):
        verdict(*right(np.random.default_rng(seed)), "numbers")
    assert "false-fail" in broken(verdict, *wrong(np.random.default_rng(0)), "numbers")


def test_nan_is_no_verdict():
    assert "nan" in broken(compare.likely, float("nan"), "numbers", "none")
    assert "not all zero" in broken(compare.independent, np.zeros(4), np.zeros(4), "numbers")


def test_p_values_of_the_correlation_are_uniform():
    rng = np.random.default_rng(0)
    p = [2 * stats.norm.sf(abs(a @ b / np.sqrt(b @ b))) for a, b in (rng.standard_normal((2, 50)) for _ in range(5000))]
    assert stats.kstest(p, "uniform").pvalue > 1e-6


def test_one_run_keeps_to_its_budget_of_verdicts(monkeypatch):
    """The false-fail rate stated is that of at most VERDICTS verdicts; this counts them."""
    verdicts = []
    monkeypatch.setattr(compare, "likely", lambda p, what, evidence: verdicts.append(what))
    for law in judging.laws():
        if law.startswith(("laws_draws", "laws_knn", "laws_miscibility")):
            for run in judging.runs(law, subjects.of(reference)):
                run()
    assert 60 < len(verdicts) <= compare.VERDICTS
    assert compare.LEVEL * compare.VERDICTS <= 1e-6


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_distance_band_holds_for_the_worst_order_of_summation(dtype):
    """One term after the other in the working precision: the bound of gamma(D), and not absurdly wide."""
    rng = np.random.default_rng(0)
    x_D, n_D = rng.standard_normal((2, 3000)).astype(dtype)
    total = np.zeros((), dtype=dtype)
    for term in (n_D - x_D) ** 2:
        total += term
    exact = oracles.distance(x_D, n_D)
    band = bands.distance(np.asarray(exact), 3000, dtype)
    compare.within(np.sqrt(total), np.asarray(exact), band, "distance summed in order")
    assert band.width < 3100 * np.finfo(dtype).eps * exact


def test_the_oracles_do_not_import_what_they_judge():
    tree = ast.parse((PACKAGE / "oracles.py").read_text(encoding="utf-8"))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not {name for name in imported if name.startswith("immref")}


def test_brute_force_permutation_agrees_with_scipy():
    rng = np.random.default_rng(0)
    for count in range(1, 7):
        cost_BB = rng.random((count, count))
        order = oracles.best_permutation(cost_BB)
        rows, columns = oracles.linear_sum_assignment(cost_BB)
        assert cost_BB[np.arange(count), order].sum() == pytest.approx(cost_BB[rows, columns].sum(), rel=1e-12)


def test_the_specification_names_every_law_and_no_other():
    folder = Path(__file__).parents[2] / "spec"
    text = "".join((folder / name).read_text(encoding="utf-8") for name in ("pairing.md", "diffusion.md", "miscibility.md"))
    assert sorted(set(re.findall(r"laws_\w+\.test_\w+", text))) == sorted(judging.laws())


def test_the_order_of_the_laws_holds_every_module():
    assert sorted(LAWS) == sorted(file.stem for file in PACKAGE.glob("laws_*.py"))


def test_every_law_is_documented_and_asks_for_a_subject():
    for law in judging.laws():
        function = judging.function_of(law)
        assert function.__doc__, law
        assert "subject" in inspect.signature(function).parameters, law

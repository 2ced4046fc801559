"""The laws of odd inputs: every row is tried on somebody, and a wrong value, a write and a silent welcome are each noticed."""

from types import SimpleNamespace

import numpy as np
import pytest
from array_api_compat import array_namespace

import immref
from immref import _checks, reference
from immref_spec import inputs, judging, laws_inputs, subjects
from immref_spec.inputs import ABSENT, ARRAYS, COUNT, FUNCTIONS, SHAPES
from immref_spec.strategies import Case

LAW = "laws_inputs.test_an_odd_array_has_a_written_outcome"
TORCH_S = {"requires gradients", "within a graph", "parameter", "float8", "sparse", "without data", "labels without data"}
JAX_S = {"random keys"}
CASE = Case((4, 3), COUNT, "normal", 0)


def verdict(odd, **parts):
    """The sentence with which one row rejects the reference with parts replaced, or None."""
    subject = subjects.of(SimpleNamespace(**{name: getattr(reference, name) for name in reference.__all__} | parts))
    run = next(run for run in judging.runs(LAW, subject) if run.keywords["odd"] == odd)
    try:
        run()
    except laws_inputs.compare.BrokenLawError as broken:
        return str(broken)
    return None


def tried(odd, subject):
    row = ARRAYS[odd]
    at = row.home(subject)
    values = [inputs.good(at, CASE, dtype)[place] for dtype in row.drawn(subject) for place in row.places]
    return any(row.make(at, value) is not ABSENT for value in values)


@pytest.mark.parametrize("odd", sorted(ARRAYS.keys() - TORCH_S - JAX_S))
def test_every_row_is_tried_on_some_subject(odd):
    if odd == "long double" and np.finfo(np.longdouble).bits == 64:
        pytest.skip("long double is float64 here")
    assert tried(odd, subjects.of(reference)) or tried(odd, subjects.load("strict"))


def test_every_public_function_is_called_and_judged():
    assert laws_inputs.RIGHT.keys() == FUNCTIONS.keys()
    assert {call.function for call in FUNCTIONS.values()} == {getattr(immref, name) for name in immref.__all__ if name.islower()}


def test_one_image_one_number_and_both_forms_of_knn_are_among_the_shapes():
    assert (1, 1) in SHAPES
    assert {int(np.prod(shape[1:])) >= 64 for shape in SHAPES} == {True, False}


def farthest(x_BD, noise_BKD, score):
    return reference.nearest_candidate(-x_BD, noise_BKD, score)


def backwards(x_BD, noise_BD, cost, solver):
    index_B, *rest = reference.assign_batch(x_BD, noise_BD, cost, solver)
    return index_B[::-1].copy(), *rest


def repeating(x_BD, noise_BD, cost, solver):
    index_B, *rest = reference.assign_batch(x_BD, noise_BD, cost, solver)
    return 0 * index_B, *rest


def as_stored(x_BD):
    """What a kernel sees that reads memory in order, whatever the strides."""
    stored = x_BD.base if x_BD.base is not None and x_BD.base.shape == x_BD.shape[::-1] else x_BD
    return stored.reshape(x_BD.shape)


def blind_to_strides(x_BD, g_BD, a_BK, s_BK):
    return reference.collapse(as_stored(x_BD), g_BD, a_BK, s_BK)


@pytest.mark.parametrize(
    ("odd", "parts", "words"),
    [
        ("as they come", {"nearest_candidate": farthest}, "knn of candidates"),
        ("as they come", {"assign_batch": backwards}, "linear_assignment"),
        ("as they come", {"assign_batch": repeating}, "noises of linear_assignment"),
        ("transposed", {"collapse": blind_to_strides}, "mean distance of knn with transposed for x"),
    ],
)
def test_a_wrong_value_is_noticed(odd, parts, words):
    assert verdict(odd) is None
    assert words in verdict(odd, **parts)


def test_a_write_is_noticed_even_where_the_result_is_right():
    def in_place(x_BD, noise_BD, cost, solver):
        result = reference.assign_batch(x_BD, noise_BD, cost, solver)
        noise_BD.sort(axis=1)
        return result

    def scaled(x_BD, g_BD, a_BK, s_BK):
        result = reference.collapse(x_BD, g_BD, a_BK, s_BK)
        x_BD *= 2
        return result

    assert verdict("as they come", assign_batch=in_place)
    assert "fingerprints of the arguments after knn" in verdict("as they come", collapse=scaled)


def test_a_silent_welcome_and_a_foreign_sentence_are_noticed(monkeypatch):
    assert verdict("complex") is None
    monkeypatch.setattr(_checks, "check_images", lambda x, name="x": array_namespace(x))
    assert "vanilla with complex for x" in verdict("complex")
    assert "raised nothing, expected TypeError" in verdict("integers")

"""What every method promises whatever its numbers: the kind of its results, its inputs, its errors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from array_api_compat import array_namespace, device
from hypothesis import given

import immref
from immref import KNN, LinearAssignment, Seed
from immref_spec import compare
from immref_spec.strategies import WIDE, Case, cases, examples
from immref_spec.subjects import Subject

Calls = dict[str, Callable[[], Any]]


def public_calls(subject: Subject, x: Any, candidates: Any, noise: Any, k: int) -> Calls:
    """Every public way to get noise for the images `x`."""
    on: dict[str, Any] = {"backend": subject.backend}
    return {
        "vanilla": lambda: immref.vanilla(x, rng=1, **on),
        "knn, k = 1": lambda: immref.knn(x, 1, rng=1, **on),
        f"knn, k = {k}": lambda: immref.knn(x, k, rng=1, **on),
        f"knn, k = {k}, dot": lambda: immref.knn(x, k, score="dot", rng=1, **on),
        "knn of candidates": lambda: immref.knn(x, candidates=candidates, **on),
        "knn of candidates, dot": lambda: immref.knn(x, candidates=candidates, score="dot", **on),
        "linear_assignment": lambda: immref.linear_assignment(x, rng=1, **on),
        "linear_assignment of noise, l2": lambda: immref.linear_assignment(x, noise, **on),
        "linear_assignment of noise, sqeuclidean": lambda: immref.linear_assignment(x, noise, cost="sqeuclidean", **on),
        "linear_assignment of noise, auction": lambda: immref.linear_assignment(x, noise, solver="auction", **on),
        "linear_assignment of noise, group": lambda: immref.linear_assignment(x, noise, group=np.arange(x.shape[0]) % 2, **on),
        "pair, knn": lambda: immref.pair(x, KNN(k, scale=2.0), rng=1, **on).noise,
        "pair, assignment": lambda: immref.pair(x, LinearAssignment(), rng=1, **on).noise,
    }


@examples(30)
@given(case=cases())
def test_noise_is_like_the_image(subject: Subject, case: Case) -> None:
    """Shape, dtype, library and device of the noise are those of x, and it is finite."""
    for dtype in subject.dtypes:
        x, candidates, noise = (subject.asarray(v) for v in (case.images(dtype), case.candidates(dtype), case.noises(dtype)))
        for called, call in public_calls(subject, x, candidates, noise, case.k).items():
            result = call()
            what = f"noise of {called} for {case} in {dtype}"
            compare.same(type(result), type(x), f"type of {what}")
            compare.same((str(result.dtype), tuple(result.shape)), (str(x.dtype), tuple(x.shape)), f"dtype and shape of {what}")
            compare.same(device(result), device(x), f"device of {what}")
            compare.holds(np.isfinite(subject.asnumpy(result)).all(), f"{what} must be finite")


@examples(30)
@given(case=cases())
def test_inputs_are_left_alone(subject: Subject, case: Case) -> None:
    """No call writes into x, the candidates or the noise."""
    for dtype in subject.dtypes:
        values = {"x": case.images(dtype), "candidates": case.candidates(dtype), "noise": case.noises(dtype)}
        given_ = {name: subject.asarray(value.copy()) for name, value in values.items()}
        for called, call in public_calls(subject, given_["x"], given_["candidates"], given_["noise"], case.k).items():
            call()
            for name, value in values.items():
                compare.same_bits(subject.asnumpy(given_[name]), value, f"{name} after {called} for {case} in {dtype}")


@examples(15)
@given(case=cases(WIDE, least_k=2))
def test_primitives_return_what_the_protocol_says(subject: Subject, case: Case) -> None:
    """Indices and distances (B,), the former as wide as they come; noise and normals in the dtype of x, radial scalars the widest."""
    backend, count = subject.backend, case.shape[0]
    for dtype in [dtype for dtype in subject.dtypes if dtype != "float16"]:  # half precision is widened before
        x_BD = subject.asarray(case.rows(case.images(dtype)).astype(dtype))
        noise_BKD = subject.asarray(case.candidates(dtype).reshape(count, case.k, case.dimension))
        generator = backend.generator(Seed(1), x_BD)
        g_BD = backend.normal(generator, (count, case.dimension), x_BD)
        a_BK, s_BK = backend.radial(generator, case.dimension - 1, (count, case.k - 1), x_BD)
        n_BD, *collapsed = backend.collapse(x_BD, g_BD, a_BK, s_BK)
        for array, shape in ((g_BD, x_BD.shape), (n_BD, x_BD.shape), (a_BK, (count, case.k - 1)), (s_BK, (count, case.k - 1))):
            compare.same(tuple(array.shape), tuple(shape), f"shape of a primitive's result for {case}")
            compare.same(device(array), device(x_BD), "device of a primitive's result")
        wanted = (str(x_BD.dtype),) * 2 + (str(subject.asarray(np.zeros(1, dtype=subject.scalar_dtype)).dtype),) * 2
        compare.same(tuple(str(v.dtype) for v in (g_BD, n_BD, a_BK, s_BK)), wanted, f"dtypes of normal, collapse and radial for {dtype}")
        *assigned, gap = backend.assign_batch(x_BD, g_BD, "l2", "auto")
        compare.same((type(gap), gap), (float, 0.0), f"gap of an exact assignment for {case}")
        for index_B, *distances in (collapsed, backend.nearest_candidate(x_BD, noise_BKD, "l2"), assigned):
            compare.holds(str(index_B.dtype).endswith(subject.index_dtype), f"an index must be {subject.index_dtype}, got {index_B.dtype}")
            xp = array_namespace(x_BD)
            compare.holds(all(xp.isdtype(v.dtype, "real floating") for v in distances), "distances must be real floating")
            compare.same([tuple(v.shape) for v in (index_B, *distances)], [(count,)] * 3, f"shapes of index, before and after for {case}")


@examples(10)
@given(case=cases())
def test_numpy_in_numpy_out(subject: Subject, case: Case) -> None:
    """NumPy arrays are welcome on every backend and are answered with NumPy arrays of their dtype."""
    for dtype in subject.dtypes:
        x = case.images(dtype)
        for called, call in public_calls(subject, x, case.candidates(dtype), case.noises(dtype), case.k).items():
            result = call()
            compare.holds(isinstance(result, np.ndarray), f"{called} of NumPy arrays must be a NumPy array, got {type(result)}")
            compare.same((str(result.dtype), result.shape), (dtype, x.shape), f"dtype and shape of {called} for {case}")


@examples(20)
@given(case=cases(least_k=2))
def test_one_candidate_is_vanilla(subject: Subject, case: Case) -> None:
    """k = 1 draws vanilla's noise bit for bit; scaling the images does not touch the noise."""
    for dtype in subject.dtypes:
        x = subject.asarray(case.images(dtype))
        expected = subject.asnumpy(immref.vanilla(x, rng=Seed(2, step=3), backend=subject.backend))
        for k1 in (
            immref.knn(x, 1, rng=Seed(2, step=3), backend=subject.backend),
            immref.pair(x, immref.Vanilla(), rng=Seed(2, step=3), backend=subject.backend).noise,
            immref.pair(x, immref.ImageScaling(3.0), rng=Seed(2, step=3), backend=subject.backend).noise,
        ):
            compare.same_bits(subject.asnumpy(k1), expected, f"noise of one candidate for {case} in {dtype}")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("dimension", [5, 70])
def test_values_that_are_not_finite_are_loud(subject: Subject, dimension: int, bad: float) -> None:
    """On the CPU they raise and name argument and row; on an accelerator KNN's distance is NaN, and assignment raises."""
    fine_BD = np.ones((4, dimension), dtype=np.float32)
    bad_BD = fine_BD.copy()
    bad_BD[2, 3] = bad
    x, fine = subject.asarray(bad_BD), subject.asarray(fine_BD)
    many = subject.asarray(np.repeat(bad_BD[:, None], 2, axis=1))
    on: dict[str, Any] = {"backend": subject.backend}
    loud: list[tuple[Callable[[], Any], str, bool]] = [
        (lambda: immref.pair(x, immref.Vanilla(), rng=0, **on).after, "x", False),
        (lambda: immref.pair(x, KNN(3), rng=0, **on).after, "x", False),
        (lambda: immref.pair(x, KNN(3, "dot"), rng=0, **on).after, "x", False),
        (lambda: immref.knn(fine, candidates=many, **on)[2, ...], "candidates", False),
        (lambda: immref.linear_assignment(x, fine, **on), "x", True),
        (lambda: immref.linear_assignment(fine, x, **on), "noise", True),
        (lambda: immref.linear_assignment(fine, x, cost="sqeuclidean", solver="auction", **on), "noise", True),
    ]
    on_cpu = "cpu" in str(device(x)).lower()
    for call, name, always in loud:
        what = f"{bad} in {name}, D = {dimension}"
        with np.errstate(all="ignore"):
            if on_cpu or always:
                compare.raises(call, ValueError, (f"{name} must be finite", "row 2"), what)
            else:
                compare.holds(not np.isfinite(subject.asnumpy(call())).all(), f"{what} must show in the distance or the noise")


def test_misuse_is_refused(subject: Subject) -> None:
    """Wrong arguments raise TypeError or ValueError and name the argument."""
    x = subject.asarray(np.ones((3, 4), dtype=np.float32))
    three = subject.asarray(np.ones((3, 2, 4), dtype=np.float32))
    on: dict[str, Any] = {"backend": subject.backend}
    refused: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: immref.knn(x, 0, **on), ValueError, "k must be"),
        (lambda: immref.knn(x, 2.0, **on), TypeError, "k must be"),  # type: ignore[arg-type]
        (lambda: immref.knn(x, True, **on), TypeError, "k must be"),
        (lambda: immref.knn(x, **on), TypeError, "k"),
        (lambda: immref.knn(x, 3, candidates=three, **on), ValueError, "k must be 2"),
        (lambda: immref.knn(x, candidates=three, rng=0, **on), TypeError, "rng"),
        (lambda: immref.knn(x, candidates=three[:2, ...], **on), ValueError, "candidates"),
        (lambda: immref.linear_assignment(x, x[:2, ...], **on), ValueError, "noise"),
        (lambda: immref.linear_assignment(x, x, rng=0, **on), TypeError, "rng"),
        (lambda: immref.linear_assignment(x, cost="L2", **on), ValueError, "cost"),  # type: ignore[arg-type]
        (lambda: immref.linear_assignment(x, solver="sciipy", **on), ValueError, "solver"),  # type: ignore[arg-type]
        (lambda: immref.linear_assignment(x, group=np.zeros(2, dtype=np.int64), **on), ValueError, "group must have shape (3,)"),
        (lambda: immref.linear_assignment(x, group=[0, 0, 1], **on), TypeError, "group must be an integer array"),
        (lambda: immref.linear_assignment(x, group=x[:, 0], **on), TypeError, "group must be an array of integers"),
        (lambda: immref.pair(x, LinearAssignment(within="label"), **on), ValueError, "group must hold the labels"),
        (lambda: immref.knn(x, 2, score="cos", **on), ValueError, "score"),  # type: ignore[arg-type]
        (lambda: immref.knn(x, candidates=three, score="cos", **on), ValueError, "score"),  # type: ignore[arg-type]
        (lambda: immref.vanilla(x, rng="0", **on), TypeError, "rng"),
        (lambda: immref.vanilla(x, rng=True, **on), TypeError, "rng"),
        (lambda: immref.vanilla(x[:, 0], **on), ValueError, "x must have shape"),
        (lambda: immref.vanilla(x[:0, ...], **on), ValueError, "x must not be empty"),
        (lambda: immref.vanilla([[1.0]], **on), TypeError, "x must be an array"),
        (lambda: immref.knn([[1.0]], candidates=np.ones((1, 2, 1)), **on), TypeError, "x must be an array"),
        (lambda: immref.linear_assignment([[1.0]], np.ones((1, 1)), **on), TypeError, "x must be an array"),
        (lambda: immref.vanilla(subject.asarray(np.ones((2, 2), dtype=np.int64)), **on), TypeError, "x must be a real floating"),
        (lambda: immref.scale(x, 0.0), ValueError, "scale"),
        (lambda: immref.pair(x, "knn", **on), TypeError, "pairing"),  # type: ignore[arg-type]
    ]
    for number, (call, error, word) in enumerate(refused):
        compare.raises(call, error, (word,), f"misuse {number}")

"""Bad input gets a sentence that names the argument, what came and what is wanted."""

import numpy as np
import pytest

import immref

X = np.ones((4, 3, 8, 8), dtype=np.float32)


@pytest.mark.parametrize(
    ("call", "kind", "words"),
    [
        (lambda: immref.knn(X, 0), ValueError, "k must be an integer ≥ 1, got 0"),
        (lambda: immref.knn(X, -1), ValueError, "got -1"),
        (lambda: immref.knn(X, 10**30), ValueError, "k must be an integer ≥ 1 and < 2147483648, got 1000"),
        (lambda: immref.knn(X, "8"), TypeError, "k must be an integer ≥ 1, got '8'"),
        (lambda: immref.knn(X, 2.0), TypeError, "got 2.0"),
        (lambda: immref.knn(X, True), TypeError, "got True"),
        (lambda: immref.knn(X), TypeError, "knn needs k"),
        (lambda: immref.knn(X[:0], 2), ValueError, r"must not be empty, got numpy float32 \(0, 3, 8, 8\)"),
        (lambda: immref.knn(X[0, 0, 0], 2), ValueError, "must have shape"),
        (lambda: immref.knn(X.astype(np.int64), 2), TypeError, r"real floating array .* got numpy int64"),
        (lambda: immref.knn(X.astype(np.complex64), 2), TypeError, r"real floating array .* got numpy complex64"),
        (lambda: immref.knn(X.tolist(), 2), TypeError, "x must be an array .* got list"),
        (lambda: immref.knn(np.full_like(X, np.nan), 2), ValueError, "x must be finite, got NaN or infinity in row 0"),
        (lambda: immref.knn(np.full((2, 100), 1e30, dtype=np.float32), 2), ValueError, "overflows"),
        (lambda: immref.knn(X, candidates=X), ValueError, "candidates must have shape"),
        (lambda: immref.knn(X, 3, candidates=np.stack([X, X], axis=1)), ValueError, "k must be 2, the number of candidates given"),
        (lambda: immref.knn(X, candidates=np.stack([X, np.nan * X], axis=1)), ValueError, "candidates must be finite"),
        (lambda: immref.knn(X, candidates=np.stack([X, X], axis=1), rng=0), TypeError, "rng must be left out"),
        (lambda: immref.knn(X, 2, rng="seed"), TypeError, "rng must be None, an int"),
        (lambda: immref.knn(X, 2, rng=-1), ValueError, "Seed.seed must be an integer ≥ 0"),
        (lambda: immref.Seed(0, step=1.5), TypeError, "Seed.step must be an integer"),
        (lambda: immref.linear_assignment(X, X[1:]), ValueError, "noise must have shape"),
        (lambda: immref.linear_assignment(X, X.astype(np.float64)), TypeError, "noise must have the dtype of x"),
        (lambda: immref.linear_assignment(X, np.full_like(X, np.inf)), ValueError, "noise must be finite"),
        (lambda: immref.linear_assignment(X, cost="l1"), ValueError, "cost must be one of l2, sqeuclidean, got 'l1'"),
        (lambda: immref.scale(X, 0.0), ValueError, "scale must be finite and > 0"),
        (lambda: immref.scale(X, "2"), TypeError, "scale must be a number"),
        (lambda: immref.pair(X, "knn"), TypeError, r"for example immref.KNN\(k=8\)"),
        (lambda: immref.pair(np.full_like(X, np.nan), immref.Vanilla()), ValueError, "x must be finite"),
        (lambda: immref.Pairing("asignment"), ValueError, "method must be one of"),
        (lambda: immref.Pairing("linear_asignment"), ValueError, "did you mean 'linear_assignment'"),
        (lambda: immref.Pairing("linear_assignment", k=4), ValueError, "k=4 needs method 'knn'"),
    ],
)
def test_bad_input(call, kind, words):
    with pytest.raises(kind, match=words):
        call()


def test_the_row_that_is_not_finite_is_named():
    x = X.copy()
    x[2, 0, 0, 0] = np.inf
    with pytest.raises(ValueError, match="row 2"):
        immref.pair(x, immref.LinearAssignment())


def test_vanilla_does_not_look_at_values():
    assert np.isfinite(immref.vanilla(np.full_like(X, np.nan))).all()

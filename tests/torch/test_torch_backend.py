"""The torch backend as its users meet it: which arrays it takes, what it draws, what it says when it cannot run."""

import inspect
import warnings

import array_api_strict
import numpy as np
import pytest
import torch
from scipy import stats

import immref
import immref.assignment
import immref_torch
from immref import KNN, BackendError, LinearAssignment, Seed, Vanilla, api, dispatch, reference
from immref.diffusion import corrupt, velocity
from immref.pairing import distances
from immref.records import COSTS
from immref_spec import oracles, subjects
from immref_spec.judging import judge
from immref_spec.mutants_around import AROUND
from immref_spec.strategies import Case
from immref_torch import auction
from immref_torch.noise import accepted, chi2, chi2_without_waiting

B, D = 12, 80
PAIRINGS = (Vanilla(), KNN(k=4), LinearAssignment())


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch):
    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
    monkeypatch.delenv(dispatch.DEVICE_VARIABLE, raising=False)


@pytest.fixture
def x():
    return torch.from_numpy(np.random.default_rng(0).standard_normal((B, D)).astype(np.float32))


def test_tensors_run_on_torch_and_arrays_on_the_reference(x):
    assert str(dispatch.choose(x)) == f"torch (torch {torch.__version__}): auto, for torch arrays"
    assert dispatch.choose(x.numpy()).backend is reference


@pytest.mark.parametrize("pairing", PAIRINGS, ids=str)
def test_numpy_arrays_are_carried_in_and_back(x, pairing):
    carried = immref.pair(x.numpy(), pairing, rng=Seed(1), backend="torch")
    own = immref.pair(x, pairing, rng=Seed(1))
    assert all(isinstance(getattr(carried, name), np.ndarray) for name in ("noise", "index"))
    assert np.array_equal(carried.noise, own.noise.numpy())
    assert np.array_equal(carried.index, own.index.numpy())
    for name in ("before", "after"):  # B distances, averaged in another order
        mean = getattr(own, name)
        assert float(getattr(carried, name)) == pytest.approx(float(mean), rel=B * torch.finfo(mean.dtype).eps)


def test_another_library_s_arrays_are_refused(x):
    strict = array_api_strict.asarray(x.numpy())
    with pytest.raises(TypeError, match=r"'torch' takes its own arrays or NumPy's, got array_api_strict; set IMMREF_BACKEND=reference"):
        immref.knn(strict, 4, backend="torch")


@pytest.mark.parametrize("pairing", PAIRINGS, ids=str)
def test_on_the_reference_a_seed_means_the_same_noise_for_tensors_and_arrays(x, pairing, monkeypatch):
    monkeypatch.setenv("IMMREF_BACKEND", "reference")
    tensors, arrays = immref.pair(x, pairing, rng=Seed(2, step=3)), immref.pair(x.numpy(), pairing, rng=Seed(2, step=3))
    assert isinstance(tensors.noise, torch.Tensor)
    assert tensors.index.tolist() == arrays.index.tolist()
    largest = max(np.abs(x.numpy()).max(), np.abs(arrays.noise).max())
    band = D * np.finfo(np.float32).eps * largest  # sums of D float32 products, in two orders
    assert np.abs(tensors.noise.numpy() - arrays.noise).max() <= band


@pytest.mark.parametrize("backend", ["torch", "reference"])
def test_torch_manual_seed_governs_where_no_rng_is_given(x, backend):
    def drawn():
        return immref.knn(x, 4, backend=backend)

    with torch.random.fork_rng():
        torch.manual_seed(5)
        first, second = drawn(), drawn()
        torch.manual_seed(5)
        again = drawn()
    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_a_seed_leaves_torch_s_own_generator_alone(x):
    before = torch.random.get_rng_state()
    immref.knn(x, 4, rng=Seed(0))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_gradients_reach_the_image_through_corrupt_and_not_through_the_noise(x):
    x.requires_grad_()
    a_B = torch.linspace(0.1, 0.9, B)
    paired = immref.pair(x, KNN(k=4, scale=2.0), rng=Seed(0))
    corrupt(paired.x, paired.noise, a_B, 1 - a_B).sum().backward()
    assert torch.equal(x.grad, (2 * a_B)[:, None].expand(B, D))


def test_a_compiled_training_step_gives_what_the_plain_one_gives(x):
    torch.compiler.reset()
    layer = torch.nn.Linear(D, D)
    t_B = torch.linspace(0.0, 1.0, B)

    def step(x):
        noise = immref.knn(x, 4, rng=Seed(0))
        return torch.nn.functional.mse_loss(layer(corrupt(x, noise, t_B, 1 - t_B)), velocity(x, noise))

    plain = torch.autograd.grad(step(x), layer.weight)
    compiled = torch.autograd.grad(torch.compile(step, backend="eager")(x), layer.weight)
    assert torch.equal(compiled[0], plain[0])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there_is_an_error_with_its_reason(x, monkeypatch):
    monkeypatch.setenv("IMMREF_DEVICE", "cuda")
    with pytest.raises(BackendError, match=r"backend 'torch' \(asked for\) cannot run: device 'cuda' cannot be used \(.+\)"):
        immref.knn(x.numpy(), 4, backend="torch")


def test_a_generator_on_another_device_is_refused(x):
    with pytest.raises(ValueError, match=r"rng must be a generator on the device of x \(meta\), got one on cpu"):
        immref_torch.generator(torch.Generator(), like=x.to("meta"))


def test_the_backend_has_the_reference_s_names_and_signatures():
    assert immref_torch.__all__ == reference.__all__
    for name in reference.__all__:
        ours, theirs = getattr(immref_torch, name), getattr(reference, name)
        if callable(ours):
            assert list(inspect.signature(ours).parameters) == list(inspect.signature(theirs).parameters), name


@pytest.mark.parametrize("draw", [chi2, chi2_without_waiting])
@pytest.mark.parametrize("df", [63, 3071])
def test_chi2_has_its_law(df, draw):
    """What the CPU draws, and on the CPU what an accelerator draws; a right law fails with probability 1e-6."""
    drawn = draw(torch.Generator().manual_seed(df), df, (100_000,), torch.zeros(()))
    assert drawn.dtype == torch.float64
    assert stats.kstest(drawn.numpy(), stats.chi2(df).cdf).pvalue > 1e-6
    assert stats.kstest(drawn.numpy() * 1.01, stats.chi2(df).cdf).pvalue < 1e-6  # and the test would notice one per cent


@pytest.mark.parametrize("name", [name for name, mutant in AROUND.items() if mutant.subject == "torch"])
def test_the_law_named_rejects_what_is_wrong_around_the_backend(name):
    mutant, subject = AROUND[name], subjects.load("torch")
    with mutant.applied(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of the very gradients that the mutant lets through
        assert judge(mutant.law, subject) is not None
    assert judge(mutant.law, subject) is None


ON_THE_DEVICE = ("normal", "duplicates", "equal", "large")


@pytest.mark.parametrize("kind", ON_THE_DEVICE)
@pytest.mark.parametrize("shape", [(2, 3), (40, 5), (300, 40)])
@pytest.mark.parametrize("cost", COSTS)
def test_the_auction_of_accelerators_is_a_permutation_with_a_true_certificate(shape, kind, cost):
    """What runs on an accelerator, on the CPU: exact for 'auto', and never further from the optimum than it certifies."""
    case = Case(shape, 1, kind, seed=len(kind))
    x, noise = (torch.from_numpy(v) for v in (case.images("float64"), case.noises("float64")))
    gain = immref.assignment.gains(x, noise, cost).numpy()
    best = gain[np.arange(len(x)), oracles.best_permutation(-gain)].sum()
    rounding = len(x) * np.finfo(np.float64).eps * np.abs(gain).sum(axis=1).max()
    for solver in ("auto", "auction"):
        index_B, before_B, after_B, gap = immref.assignment.auctioned(x, noise, cost, solver, auction.run)
        assert sorted(index_B.tolist()) == list(range(len(x)))
        assert torch.equal(after_B, distances(x, noise[index_B]))
        assert torch.equal(before_B, distances(x, noise))
        found = gain[np.arange(len(x)), index_B.numpy()].sum()
        mean = gain.mean() * len(x)
        assert found - mean >= (1 - gap) * (best - mean) - rounding
        assert gap == 0 or solver == "auction"


def test_the_auction_of_accelerators_stays_near_the_optimum_and_off_the_host(monkeypatch):
    """On ordinary images at most 2 % is missing, and only the rows left over are solved on the host."""
    case, solved = Case((500, 64), 1, "normal", seed=0), []
    monkeypatch.setattr(immref.assignment, "by_scipy", lambda cost: solved.append(len(cost)) or oracles.best_permutation(cost))
    x, noise = torch.from_numpy(case.images("float32")), torch.from_numpy(case.noises("float32"))
    assert 0 < immref.assignment.auctioned(x, noise, "l2", "auction", auction.run)[3] <= 0.02
    assert solved
    assert max(solved) <= 0.01 * 500


def test_the_auction_of_accelerators_lets_values_that_are_not_finite_through_to_the_check():
    x = torch.ones(300, 8)
    noise = torch.full((300, 8), torch.nan)
    index_B, before_B, _, gap = immref.assignment.auctioned(x, noise, "l2", "auction", auction.run)
    assert index_B.tolist() == list(range(300))
    assert before_B.isnan().all()
    assert np.isnan(gap)


def test_the_cheap_test_of_chi2_never_settles_what_the_exact_one_refuses():
    """Marsaglia and Tsang's squeeze u < 1 - 0.0331 z⁴ lies inside the exact region, for every df that is drawn."""
    z = torch.linspace(-2.3, 2.3, 4001, dtype=torch.float64)  # beyond, the squeeze settles nothing
    u = 1 - 0.0331 * z**4
    for df in (63, 255, 3071, 100_000):
        d = df / 2 - 1 / 3
        inside = u > 0
        v = (1 + z / (9 * d) ** 0.5) ** 3
        assert accepted(z[inside], v[inside], -torch.log(u[inside]) + 1e-12, d).all()


@pytest.mark.parametrize("dimension", [8, 3072])
@pytest.mark.parametrize("pairing", [Vanilla(), KNN(8), KNN(8, "dot"), KNN(200)], ids=str)
def test_on_an_accelerator_knn_never_waits(pairing, dimension):
    """Meta tensors have no values: whatever reads one, as waiting for a device does, raises."""
    x_BD = torch.empty(4, dimension, device="meta")
    noise_BD, index_B, before_B, after_B = api._knn(immref_torch, x_BD, pairing=pairing, rng=None, wait=False)
    assert (noise_BD.shape, index_B.shape, before_B.shape, after_B.shape) == (x_BD.shape, (4,), (4,), (4,))
    with pytest.raises(RuntimeError):
        immref_torch.assign_batch(x_BD, noise_BD, "l2", "scipy")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int64, torch.bool])
def test_values_come_to_the_host_as_they_are(dtype):
    """bfloat16, which NumPy does not know, as float32; gradients, views and 0-d tensors do not matter."""
    x = torch.arange(12).reshape(3, 4).to(dtype)
    expected = np.arange(12).reshape(3, 4).astype(bool if dtype is torch.bool else float)
    for tensor, values in ((x, expected), (x.T[1:], expected.T[1:]), (x[2, 3], expected[2, 3])):
        host = immref.assignment.to_host(tensor)
        assert type(host) is np.ndarray
        np.testing.assert_array_equal(host, values)
    if dtype.is_floating_point:
        np.testing.assert_array_equal(immref.assignment.to_host(x.requires_grad_()), expected)

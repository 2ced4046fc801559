"""JAX arrays as their users meet them: keys, tracers, and the numbers of a Seed. The laws judge the rest, subject `jax`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import immref
from immref import KNN, LinearAssignment, Seed, dispatch
from immref.diffusion import corrupt, target

X = np.random.default_rng(0).standard_normal((12, 80)).astype(np.float32)


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch):
    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
    monkeypatch.delenv(dispatch.DEVICE_VARIABLE, raising=False)


def test_jax_arrays_run_on_the_reference():
    assert str(dispatch.choose(jnp.asarray(X))) == f"reference (numpy {np.__version__}): auto, for jax arrays"


@pytest.mark.parametrize("pairing", [KNN(k=4), KNN(k=4, score="dot"), LinearAssignment()], ids=str)
def test_a_seed_means_the_same_noise_for_jax_and_numpy(pairing):
    ours, theirs = (immref.pair(x, pairing, rng=Seed(2, step=3)) for x in (jnp.asarray(X), X))
    assert isinstance(ours.noise, jax.Array)
    assert ours.index.tolist() == theirs.index.tolist()
    largest = max(np.abs(X).max(), np.abs(theirs.noise).max())
    band = X.shape[1] * np.finfo(np.float32).eps * largest  # sums of D float32 products, in two orders
    assert np.abs(np.asarray(ours.noise) - theirs.noise).max() <= band


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey])
def test_a_key_names_one_noise(make):
    first, again, other = (immref.knn(jnp.asarray(X), 4, rng=key) for key in (make(0), make(0), make(1)))
    assert jnp.array_equal(first, again)
    assert not jnp.array_equal(first, other)


@pytest.mark.parametrize("wrong", [jax.random.split(jax.random.key(0)), jnp.zeros(3), jnp.zeros((2, 2), dtype="uint32")])
def test_what_is_not_one_key_is_refused(wrong):
    with pytest.raises(TypeError, match="rng must be one JAX key, got a JAX array"):
        immref.vanilla(jnp.asarray(X), rng=wrong)


def test_under_jit_the_sentence_says_what_to_do():
    with pytest.raises(TypeError, match="x is a JAX tracer: noise is drawn on the host, so call immref outside jit"):
        jax.jit(lambda x: immref.knn(x, 4, rng=0))(jnp.asarray(X))


def test_the_diffusion_arithmetic_runs_under_jit_and_carries_gradients():
    noise, a_B = immref.knn(jnp.asarray(X), 4, rng=0), jnp.linspace(0.1, 0.9, len(X))

    @jax.jit
    def loss(x):
        return jnp.sum(corrupt(x, noise, a_B, 1 - a_B)) + 0 * jnp.sum(target("v_prediction", x, noise, a_B, 1 - a_B))

    gradient = jax.grad(loss)(jnp.asarray(X))
    assert np.array_equal(gradient, np.broadcast_to(np.asarray(a_B)[:, None], X.shape))

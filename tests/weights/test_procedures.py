"""Procedures for uncertain weights: one network, one signature, the same expectation."""

import inspect
import warnings
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cgjax as cg
from cgjax import Belief, weights
from tests.helpers import filled
from tests.weights.networks import NETWORKS, dense, uncertain

SAMPLERS = {
    "weight_sample": weights.weight_sample,
    "weight_sample, by example": lambda f: weights.weight_sample(f, per="example"),
    "local_reparameterization": weights.local_reparameterization,
    "flipout": weights.flipout,
}
PROCEDURES = {**SAMPLERS, "deterministic": weights.deterministic}
pytestmark = pytest.mark.filterwarnings("ignore:Local reparameterisation draws")


@lru_cache
def by_key(procedure):
    """The means for many keys, compiled once for a procedure and shapes."""
    return jax.jit(jax.vmap(lambda *given: procedure(*given).mean, (0, None, None)))


def draws(procedure, number, posterior, x, seed=0):
    keys = jax.random.split(jax.random.key(seed), number)
    return np.asarray(by_key(procedure)(keys, posterior, x))


@pytest.mark.parametrize("name", PROCEDURES)
@pytest.mark.parametrize("network", NETWORKS)
def test_one_signature(network, name):
    f, params, x = NETWORKS[network]
    x = x.at[0, 0].set(0)  # so that a step of the recurrent network has variance 0
    posterior = uncertain(params)
    procedure = PROCEDURES[name](f)
    assert procedure == PROCEDURES[name](f) and hash(procedure) == hash(PROCEDURES[name](f))

    @jax.jit
    def all_at_once(posterior, params):
        def total(posterior):
            y = procedure(jax.random.key(0), posterior, x)
            return (y.mean + y.variance).sum(), y

        gradient, y = jax.grad(total, has_aux=True)(posterior)
        return gradient, y, procedure(jax.random.key(0), params, x), f(params, x)

    gradient, y, certain, plain = all_at_once(posterior, params)
    assert isinstance(y, Belief) and y.mean.shape == plain.shape
    assert bool((y.variance > 0).all() if name == "deterministic" else (y.variance == 0).all())
    if network == "dense":
        eager = procedure(jax.random.key(0), posterior, x)
        np.testing.assert_allclose(y.mean, eager.mean, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(y.variance, eager.variance, rtol=1e-5, atol=1e-6)
    # Without uncertain weights, all are the network itself.
    np.testing.assert_allclose(certain.mean, plain, rtol=1e-5, atol=1e-6)
    for leaf in jax.tree.leaves(gradient):
        assert jnp.isfinite(leaf).all() and (leaf != 0).any()


@pytest.mark.numerics
@pytest.mark.parametrize("network", NETWORKS)
def test_samplers_have_one_expectation_and_variance(network):
    f, params, x = NETWORKS[network]
    posterior = uncertain(params)
    number = 8000
    several = (draws(weights.weight_sample(f), number, posterior, x, seed) for seed in range(2, 6))
    exact = np.concatenate([*several])
    for name, sampler in SAMPLERS.items():
        got = draws(sampler(f), number, posterior, x, seed=1)
        # Noise that is fresh at every position or step averages out: only the mean is as it was,
        # to the order in which the network is linear.
        fresh = name == "local_reparameterization" and network != "dense"
        error = got.std(0) / number**0.5 + exact.std(0) / (4 * number) ** 0.5
        gap = np.abs(got.mean(0) - exact.mean(0))
        assert (gap < 5 * error + (0.05 * exact.std(0) if fresh else 0)).all(), name
        if not fresh:
            # The variance of a variance estimate is about 2 v^2 / n; tails make it a little more.
            np.testing.assert_allclose(got.var(0), exact.var(0), rtol=0.12, err_msg=name)
        elif network == "convolutional":
            assert (got.var(0) < exact.var(0)).all()


def test_examples_share_noise_or_not():
    f, params, _ = NETWORKS["dense"]
    x = jnp.ones((5, 3))  # five times the same example
    posterior = uncertain(params)
    for name, sampler in SAMPLERS.items():
        got = draws(sampler(f), 8000, posterior, x)[..., 0]
        correlation = np.corrcoef(got.T)[np.triu_indices(5, 1)]
        if name == "weight_sample":
            np.testing.assert_allclose(correlation, 1, atol=1e-5)
        else:  # 5 standard errors of a correlation of 0
            np.testing.assert_allclose(correlation, 0, atol=5 / 8000**0.5)


@pytest.mark.numerics
def test_gradient_variances_are_ordered():
    # Flipout and local reparameterisation average noise over the batch, weight sampling does not.
    f, params, _ = NETWORKS["dense"]
    posterior = uncertain(params)
    x = jax.random.normal(jax.random.key(5), (64, 3))
    y = jnp.sin(x[:, :1])

    def spread(sampler):
        def loss(posterior, key):
            return ((sampler(f)(key, posterior, x).mean - y) ** 2).mean()

        keys = jax.random.split(jax.random.key(1), 400)
        gradients = jax.jit(jax.vmap(jax.grad(loss), (None, 0)))(posterior, keys)
        return sum(leaf.var(0).sum() for leaf in jax.tree.leaves(gradients))

    found = {name: float(spread(sampler)) for name, sampler in SAMPLERS.items()}
    assert found["local_reparameterization"] < found["weight_sample, by example"]
    assert found["weight_sample, by example"] < 0.5 * found["weight_sample"]
    assert found["flipout"] < 0.5 * found["weight_sample"]


def test_flipout_is_one_weight_for_an_example():
    # The same weight in two places, and at all steps of a loop: signs and noise are the weight's.
    def twice(w, x):
        return x @ w - jnp.einsum("oi,bi->bo", w.T, x)

    posterior = uncertain(jnp.ones((3, 2)), 0.5)
    x = jax.random.normal(jax.random.key(0), (5, 3))
    y = weights.flipout(twice)(jax.random.key(1), posterior, x)
    np.testing.assert_allclose(y.mean, 0, atol=1e-5)

    def steps(w, x):
        _, ys = jax.lax.scan(lambda c, _: (c, x @ w), 0.0, None, length=3)
        return ys

    ys = weights.flipout(steps)(jax.random.key(1), posterior, x).mean
    np.testing.assert_array_equal(ys[0], ys[2])
    assert len(np.unique(np.asarray(ys[0][:, 0] - x @ jnp.ones(3)).round(4))) > 2
    with pytest.warns(UserWarning, match="more than once"):
        ys = weights.local_reparameterization(steps)(jax.random.key(1), posterior, x).mean
    assert (ys[0] != ys[2]).all()


def test_stacked_layers_and_remat():
    def stacked(params, x):
        layer = jax.checkpoint(lambda h, w: (jnp.tanh(h @ w), None))
        return jax.lax.scan(layer, x, params)[0]

    params = jax.random.normal(jax.random.key(0), (3, 4, 4)) / 2
    x = jax.random.normal(jax.random.key(1), (5, 4))
    posterior = uncertain(params)
    exact = draws(weights.weight_sample(stacked), 8000, posterior, x)
    for sampler in (weights.flipout, weights.local_reparameterization):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            got = draws(sampler(stacked), 8000, posterior, x, seed=1)
        assert (np.abs(got.mean(0) - exact.mean(0)) < 8 * exact.std(0) / 8000**0.5).all()
        np.testing.assert_allclose(got.var(0), exact.var(0), rtol=0.15)


def test_a_weight_used_once_does_not_warn():
    f, params, x = NETWORKS["dense"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weights.local_reparameterization(f)(jax.random.key(0), uncertain(params), x)


class Net(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(3, 8, rngs=rngs)
        self.norm = nnx.BatchNorm(8, rngs=rngs)
        self.second = nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x):
        h = cg.node(cg.nodes.ReLU(), self.norm(self.first(x)), name="hidden")
        return self.second(h)


@pytest.mark.parametrize("name", PROCEDURES)
def test_flax_modules(name):
    f, params, state = cg.functional(filled(lambda: Net(nnx.Rngs(0))))
    posterior = weights.mean_field(params, {"*kernel": 0.01})
    x = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
    procedure = PROCEDURES[name](f)
    given = jax.random.key(1), posterior, state, x
    has_nodes = name != "weight_sample, by example"

    @jax.jit
    def with_and_without_nodes(*given):
        return procedure(*given), cg.with_nodes(procedure)(*given) if has_nodes else None

    (y, new_state), noted = with_and_without_nodes(*given)
    assert y.mean.shape == (6, 2)
    assert jax.tree.structure(new_state) == jax.tree.structure(state)
    if has_nodes:
        (out, _), nodes = noted
        np.testing.assert_allclose(out.mean, y.mean, rtol=1e-5, atol=1e-6)
        assert list(nodes) == ["hidden"]


def test_ensembles():
    f, params, x = NETWORKS["dense"]
    generator = np.random.default_rng(0)
    members = jax.tree.map(
        lambda p: generator.normal(p, 0.2, (7, *p.shape)).astype(np.float32), params
    )
    y = jax.jit(partial(weights.ensemble(f), None))(members, x)
    one = jax.jit(f)
    each = np.stack([one(jax.tree.map(lambda p, i=i: p[i], members), x) for i in range(7)])
    np.testing.assert_allclose(y.mean, each.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(y.variance, each.var(0), rtol=1e-4, atol=1e-6)


@pytest.mark.numerics
def test_ensembles_of_posteriors():
    # A mixture of Gaussians: the law of total variance.
    f, params, x = NETWORKS["dense"]
    posteriors = [uncertain(params, v) for v in (0.01, 0.1, 0.05)]
    posteriors[1] = jax.tree.map(lambda a: a + 0.3, posteriors[1])
    moments = jax.jit(partial(weights.deterministic(f), None))
    stacked = jax.tree.map(lambda *a: np.stack(a), *posteriors)
    y = jax.jit(partial(weights.ensemble(moments), None))(stacked, x)
    each = [moments(q, x) for q in posteriors]
    means, variances = (np.stack([getattr(b, k) for b in each]) for k in ("mean", "variance"))
    np.testing.assert_allclose(y.mean, means.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(y.variance, variances.mean(0) + means.var(0), rtol=1e-4)


class TestErrors:
    def test_what_stands_first(self):
        f, params, x = NETWORKS["dense"]
        posterior = uncertain(params)
        with pytest.raises(TypeError, match=r"procedure\(None, \*args\)`; got a dict"):
            weights.deterministic(f)(posterior, x)
        with pytest.raises(TypeError, match="one key of `jax.random`, got a dict. Call"):
            weights.flipout(f)(posterior, x)

    @pytest.mark.parametrize("name", [*PROCEDURES, "ensemble"])
    def test_modules_are_split_first(self, name):
        procedure = {**PROCEDURES, "ensemble": weights.ensemble}[name]
        with pytest.raises(TypeError, match="cgjax.functional"):
            procedure(filled(lambda: Net(nnx.Rngs(0))))

    def test_options(self):
        with pytest.raises(ValueError, match='"batch" or "example"'):
            inspect.unwrap(weights.weight_sample)(dense, per="row")
        with pytest.raises(TypeError, match="key"):
            weights.flipout(dense)(0, {}, jnp.ones((2, 3)))

    def test_axes_of_examples(self):
        f, params, x = NETWORKS["dense"]
        with pytest.raises(ValueError, match="in_axes has 2 entries for 1"):
            weights.weight_sample(f, per="example", in_axes=(0, 0))(
                jax.random.key(0), uncertain(params), x
            )
        with pytest.raises(ValueError, match="one number is needed"):
            weights.weight_sample(f, per="example", in_axes=None)(
                jax.random.key(0), uncertain(params), x
            )

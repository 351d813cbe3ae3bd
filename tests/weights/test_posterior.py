"""Posteriors and their divergence from priors."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import cgjax as cg
from cgjax import Belief, weights
from cgjax.weights import Normal


def params():
    return {"layer": {"kernel": jnp.ones((2, 3)), "bias": jnp.zeros(3)}, "scale": jnp.ones(2)}


class TestMeanField:
    def test_patterns_choose_variances(self):
        posterior = weights.mean_field(params(), {"*kernel": 0.5, "layer/*": 0.1})
        np.testing.assert_allclose(posterior["layer"]["kernel"].variance, 0.5, rtol=1e-6)
        np.testing.assert_allclose(posterior["layer"]["bias"].variance, 0.1, rtol=1e-6)
        assert not isinstance(posterior["scale"], Normal)
        np.testing.assert_array_equal(weights.means(posterior)["scale"], 1)
        assert isinstance(weights.beliefs(posterior)["layer"]["bias"], Belief)

    def test_flax_names(self):
        _, flax_params, _ = cg.functional(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
        posterior = weights.mean_field(flax_params, {"kernel": 0.1})
        assert isinstance(posterior["kernel"].get_value(), Normal)

    def test_is_a_pytree_for_optax_and_vmap(self):
        def one(key):
            fresh = jax.tree.map(lambda p: p + jax.random.normal(key, p.shape), params())
            return weights.mean_field(fresh, 0.1)

        @jax.jit
        def update(keys):
            ensemble = jax.vmap(one)(keys)
            optimiser = optax.adam(0.1)
            gradient = jax.grad(lambda p: jax.vmap(weights.kl)(p).sum())(ensemble)
            updates, _ = optimiser.update(gradient, optimiser.init(ensemble))
            after = optax.apply_updates(ensemble, updates)
            return ensemble, after, [jax.vmap(weights.kl)(p) for p in (ensemble, after)]

        ensemble, after, (before, divergence) = update(jax.random.split(jax.random.key(0), 4))
        assert ensemble["scale"].mean.shape == (4, 2)
        assert jax.tree.structure(after) == jax.tree.structure(ensemble)
        assert (divergence < before).all()

    @pytest.mark.parametrize("log_variance", [-1e6, -200.0, 0.0, 200.0, 1e6])
    def test_every_log_variance_is_safe(self, log_variance):
        posterior = {"w": Normal(jnp.ones(3), jnp.full(3, log_variance))}
        assert (posterior["w"].variance > 0).all() and jnp.isfinite(posterior["w"].variance).all()
        value, gradient = jax.value_and_grad(weights.kl)(posterior)
        assert jnp.isfinite(value) and all(map(np.all, jax.tree.map(jnp.isfinite, gradient)))

    @pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
    @pytest.mark.parametrize("log_variance", [-1e4, -20.0, 20.0, 1e4])
    def test_every_log_variance_is_safe_in_16_bits(self, dtype, log_variance):
        variance = Normal(jnp.ones(3, dtype), jnp.full(3, log_variance, dtype)).variance
        assert variance.dtype == dtype
        assert (variance > 0).all() and jnp.isfinite(variance).all()
        # 1e-9 is no number of float16; its logarithm is.
        tiny = weights.mean_field({"w": jnp.ones(3, dtype)}, 1e-9)["w"]
        assert jnp.isfinite(tiny.log_variance).all() and (tiny.variance > 0).all()

    def test_sample(self):
        posterior = weights.mean_field({"a": jnp.zeros(20_000), "b": jnp.ones(20_000)}, 4.0)
        drawn = weights.sample(jax.random.key(0), posterior)
        # Five standard errors of a mean and of a correlation.
        assert abs(drawn["b"].mean() - 1) < 5 * 2 / 20_000**0.5
        np.testing.assert_allclose(drawn["a"].var(), 4, rtol=5 * (2 / 20_000) ** 0.5)
        assert abs(jnp.corrcoef(drawn["a"], drawn["b"])[0, 1]) < 5 / 20_000**0.5

    def test_errors(self):
        with pytest.raises(ValueError, match="matches no parameter.*layer/kernel"):
            weights.mean_field(params(), {"*kernels": 0.1})
        with pytest.raises(ValueError, match="must be positive"):
            weights.mean_field(params(), 0.0)
        for negative in (jnp.array(-1.0), jnp.array([1.0, -1.0])):
            with pytest.raises(ValueError, match="must be positive"):
                weights.mean_field({"w": jnp.ones(2)}, negative)
        with pytest.raises(TypeError, match="'scale' is a Normal already"):
            weights.mean_field(weights.mean_field(params(), {"scale": 0.1}), {"scale": 0.1})
        with pytest.raises(TypeError, match="'n' holds int32"):
            weights.mean_field({"n": jnp.zeros(2, jnp.int32)})


class TestDivergence:
    def test_against_monte_carlo(self):
        posterior = {"w": Normal(jnp.array([0.5, -2.0]), jnp.log(jnp.array([0.1, 3.0])))}
        prior = {"w": Belief(jnp.array([0.0, 1.0]), jnp.array([0.5, 2.0]))}
        q, p = posterior["w"], prior["w"]
        x = q.mean[None] + jnp.sqrt(q.variance)[None] * jax.random.normal(
            jax.random.key(0), (200_000, 2)
        )
        logs = jax.scipy.stats.norm.logpdf
        ratio = logs(x, q.mean[None], jnp.sqrt(q.variance)[None]) - logs(
            x, p.mean[None], jnp.sqrt(p.variance)[None]
        )
        ratio = np.asarray(ratio.sum(-1), np.float64)
        error = 5 * ratio.std() / 200_000**0.5
        assert abs(weights.kl(posterior, prior) - ratio.mean()) < error

    def test_is_zero_at_the_prior_without_cancellation(self):
        for deviation in (1e-4, 1.0, 1e4):
            posterior = weights.mean_field({"w": jnp.zeros(3)}, deviation**2)
            assert abs(weights.kl(posterior, deviation)) < 1e-9
            near = {"w": Normal(jnp.zeros(1), jnp.log(jnp.array([deviation**2])) + 1e-3)}
            np.testing.assert_allclose(weights.kl(near, deviation), 1e-6 / 4, rtol=2e-2)

    def test_groups_and_empirical_bayes(self):
        posterior = weights.mean_field(params(), {"layer/*": 0.5})
        by_group = weights.kl(posterior, {"*kernel": 2.0, "*": 0.5})
        layer = posterior["layer"]
        one, two = weights.kl(layer["kernel"], 2.0), weights.kl(layer["bias"], 0.5)
        np.testing.assert_allclose(by_group, one + two, rtol=1e-6)
        fitted = weights.empirical_bayes(posterior, ("*kernel", "*"))
        np.testing.assert_allclose(fitted["*kernel"], 1.5**0.5, rtol=1e-6)
        best = weights.kl(posterior, fitted)
        for factor in (0.9, 1.1):
            worse = {**fitted, "*kernel": factor * fitted["*kernel"]}
            assert weights.kl(posterior, worse) > best
        slope = jax.grad(lambda scale: weights.kl(posterior, {**fitted, "*kernel": scale}))
        assert abs(slope(fitted["*kernel"])) < 1e-4

    def test_errors(self):
        posterior = weights.mean_field(params(), 0.1)
        with pytest.raises(ValueError, match="matches the parameter 'layer/bias'"):
            weights.kl(posterior, {"*kernel": 1.0})
        with pytest.raises(ValueError, match="must be positive"):
            weights.kl(posterior, -1.0)
        with pytest.raises(ValueError, match="must be positive"):
            weights.kl(posterior, {"*kernel": np.float32(-1.0), "*": 1.0})
        with pytest.raises(ValueError, match="'layer/bias' has shape .4,., which does not"):
            weights.kl(posterior, {"*bias": jnp.ones(4), "*": 1.0})
        wrong = {**weights.mean_field(params(), 1.0), "scale": Belief(jnp.zeros(3), jnp.ones(3))}
        with pytest.raises(ValueError, match="'scale' has shape .3,., and the posterior .2,."):
            weights.kl(posterior, wrong)
        known = {**weights.mean_field(params(), 1.0), "scale": jnp.ones(2)}
        with pytest.raises(ValueError, match="'scale' is no distribution"):
            weights.kl(posterior, known)
        with pytest.raises(ValueError, match="posterior's structure"):
            weights.kl(posterior, {"w": Belief(jnp.zeros(1), jnp.ones(1))})
        with pytest.raises(ValueError, match="no parameter with a distribution"):
            weights.empirical_bayes(weights.mean_field(params(), {"scale": 1.0}), ("layer/*",))

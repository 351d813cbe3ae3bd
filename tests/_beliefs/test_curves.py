"""Element-wise functions of beliefs: however a function is written, its moments are the same."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import cgjax as cg
from cgjax import Belief

MEANS = jnp.array([-2.0, -0.4, 0.0, 0.3, 2.5])
VARIANCES = jnp.array([0.7, 0.0, 0.2, 1.5, 0.05])
OTHER = Belief(jnp.array([1.0, -0.5, 0.2, 0.3, 2.0]), jnp.array([0.3, 0.6, 0.2, 0.4, 0.5]))
X = Belief(MEANS, VARIANCES)
MASK = jnp.array([True, False, True, True, False])

# Functions of one variable, each in several writings.
WRITINGS = {
    "relu": [
        jax.nn.relu,
        lambda x: jnp.where(x > 0, x, 0),
        lambda x: x * (x > 0),
        lambda x: (x + jnp.abs(x)) / 2,
        lambda x: jnp.clip(x, 0, None),
        lambda x: lax.select(x <= 0, jnp.zeros_like(x), x),
        lambda x: -jnp.minimum(-x, 0),
        lambda x: x + jax.nn.relu(-x),
        lambda x: jax.checkpoint(jax.jit(jax.nn.relu))(lax.optimization_barrier(x)),
        lambda x: jax.nn.relu(jax.device_put(x).astype(jnp.float32)),
        lambda x: jnp.where(jnp.isnan(x), 0, jnp.maximum(lax.reduce_precision(x, 8, 23), 0)),
        lambda x: x - lax.stop_gradient(jnp.minimum(x, 0)),
        lambda x: jnp.real(jnp.maximum(x, 0) + 0j),
    ],
    "clip": [
        lambda x: jnp.clip(x, -0.5, 1.0),
        lambda x: lax.clamp(-0.5, x, 1.0),
        lambda x: jnp.where(x < -0.5, -0.5, jnp.where(x > 1, 1.0, x)),
        lambda x: jax.nn.relu(x + 0.5) - jax.nn.relu(x - 1) - 0.5,
        lambda x: jnp.minimum(jax.nn.relu(x + 0.5), 1.5) - 0.5,
        lambda x: jnp.maximum(jnp.minimum(x, jnp.ones_like(x)), jnp.full_like(x, -0.5)),
        lambda x: 1 - jax.nn.relu(1.5 - jax.nn.relu(x + 0.5)),
    ],
    "an interval": [
        lambda x: jnp.where((x > 0) & (x < 1), 1.0, 0.0),
        lambda x: 1.0 * (x > 0) * (x < 1),
        lambda x: jnp.logical_not((x <= 0) | (x >= 1)).astype(jnp.float32),
        lambda x: jnp.where(x > 0, jnp.where(x < 1, 1.0, 0.0), 0.0),
        lambda x: jnp.where(x >= 1, 0.0, jnp.where(x > 0, 1, 0)),
        lambda x: ((x > 0).astype(jnp.int32) * (x < 1)).astype(jnp.float32),
        lambda x: lax.stop_gradient((x > 0) ^ (x >= 1)) * 1.0,
    ],
    "square": [
        lambda x: (x - 1) ** 2,
        lambda x: (x - 1) * (x - 1),
        lambda x: jnp.square(x - 1),
        lambda x: x * x - 2 * x + 1,
        lambda x: jnp.abs(x - 1) ** 2.0,
        lambda x: 1 - (1 - jnp.square(1 - x)),
        lambda x: jnp.real((x - 1) * jnp.conj(x - 1 + 0j)),
        lambda x: jnp.imag(lax.complex(x - 1, jnp.ones_like(x)) ** 2) ** 2 / 4,
    ],
    "exponential": [
        lambda x: jnp.exp(x / 2),
        lambda x: jnp.exp2(x / 2 / jnp.log(2.0)),
        lambda x: jnp.float32(np.exp(0.5)) ** x,
        lambda x: jnp.exp(x) * jnp.exp(-x / 2),
        lambda x: jnp.sqrt(jnp.exp(x)),
        lambda x: 1 / jnp.exp(-x / 2),
        lambda x: jnp.expm1(x / 2) + 1,
        lambda x: jnp.where(MASK, jnp.exp(x / 2), 0) + jnp.where(MASK, 0, jnp.exp(x / 2)),
    ],
    "softplus": [
        jax.nn.softplus,
        lambda x: jnp.logaddexp(x, 0.0),
        lambda x: jnp.maximum(x, 0) + jnp.log1p(jnp.exp(-jnp.abs(x))),
        lambda x: jnp.log(1 + jnp.exp(x)),
    ],
}
# Of the variance of x: quadrature, in some writings on either side of a kink.
LOOSE = {"softplus": 5e-4, "relu": 3e-5, "clip": 2e-5, "square": 2e-4, "exponential": 2e-4}

# Functions of two independent variables, each in several writings.
OF_TWO = {
    "larger": [
        jnp.maximum,
        lambda x, y: jnp.where(x > y, x, y),
        lambda x, y: y + jax.nn.relu(x - y),
        lambda x, y: (x + y + jnp.abs(x - y)) / 2,
        lambda x, y: (x > y) * x + (x <= y) * y,
        lambda x, y: -jnp.minimum(-x, -y),
    ],
    "x": [
        lambda x, y: x,
        lambda x, y: x + y - y,
        lambda x, y: jnp.where(y > 0, x, x),
        lambda x, y: jnp.maximum(x, y) + jnp.minimum(x, y) - y,
    ],
    "logaddexp": [
        jnp.logaddexp,
        lambda x, y: jnp.maximum(x, y) + jnp.log1p(jnp.exp(-jnp.abs(x - y))),
        lambda x, y: y + jax.nn.softplus(x - y),
    ],
    "whether larger": [
        lambda x, y: (x > y).astype(jnp.float32),
        lambda x, y: jnp.where(y < x, 1.0, 0.0),
        lambda x, y: jnp.heaviside(x - y, 0.0),
    ],
    "both positive": [
        lambda x, y: jnp.where((x > 0) & (y > 0), 1.0, 0.0),
        lambda x, y: (x > 0) * 1.0 * (y > 0),
        lambda x, y: 1.0 - jnp.logical_or(x <= 0, y <= 0),
    ],
}


def of_all(functions, *args):
    """The moments of all functions, as one program: (functions, 2, elements)."""

    @jax.jit
    def run(*args):
        return jnp.stack([jnp.stack([*cg.moments(f)(*args)]) for f in functions])

    return run(*args)


def by_grid(function, mean, variance, number=4001):
    """Mean and variance of a function of one variable, on a fine grid of quantiles."""
    t = np.linspace(-8, 8, number)
    weight = np.exp(-(t**2) / 2)
    weight /= weight.sum()
    points = np.asarray(mean)[None] + np.sqrt(np.asarray(variance))[None] * t[:, None]
    values = np.asarray(jax.vmap(function)(jnp.asarray(points, jnp.float32)), np.float64)
    centre = weight @ values
    return centre, weight @ (values - centre) ** 2


@pytest.mark.numerics
class TestWritings:
    @pytest.mark.parametrize("name", WRITINGS)
    def test_of_one_variable(self, name):
        got = np.asarray(of_all(WRITINGS[name], X))
        tolerance = LOOSE.get(name, 1e-5)
        for other in got[1:]:
            np.testing.assert_allclose(other, got[0], rtol=tolerance, atol=tolerance)
        mean, variance = by_grid(WRITINGS[name][0], *X)
        # The grid has steps of 0.004 deviations, which a jump may lie anywhere in.
        np.testing.assert_allclose(got[0, 0], mean, rtol=2e-3, atol=2e-3)
        np.testing.assert_allclose(got[0, 1], variance, rtol=5e-3, atol=2e-3)
        assert got[0, 1, 1] == 0

    @pytest.mark.parametrize("name", OF_TWO)
    def test_of_two_variables(self, name):
        got = np.asarray(of_all(OF_TWO[name], X, OTHER))
        for other in got[1:]:
            np.testing.assert_allclose(other, got[0], rtol=1e-3, atol=3e-4)
        z = np.random.default_rng(0).normal(size=(2, 40_000, 5))
        x, y = (
            jnp.asarray(np.asarray(b.mean) + np.sqrt(np.asarray(b.variance)) * n, jnp.float32)
            for b, n in zip((X, OTHER), z, strict=True)
        )
        draws = np.asarray(jax.vmap(OF_TWO[name][0])(x, y), np.float64)
        error = draws.std(0) / 200
        assert (np.abs(got[0, 0] - draws.mean(0)) <= 5 * error + 1e-5).all()
        np.testing.assert_allclose(got[0, 1], draws.var(0), rtol=0.05, atol=1e-3)

    def test_mapped_before_and_after(self):
        functions = [w[1] for w in WRITINGS.values()]

        @jax.jit
        def both(x):
            return [
                (jax.vmap(cg.moments(f))(x), cg.moments(jax.vmap(f))(x), cg.moments(f)(x))
                for f in functions
            ]

        for mapped, of_mapped, plain in both(X):
            for a, b, c in zip(mapped, of_mapped, plain, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
                np.testing.assert_allclose(a, c, rtol=1e-5, atol=1e-6)


@pytest.mark.numerics
class TestPrecision:
    @pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
    def test_half_precision_is_rounded_once(self, dtype):
        half = jax.tree.map(lambda a: a.astype(dtype), X)
        single = jax.tree.map(lambda a: a.astype(jnp.float32), half)
        scale = jnp.array([0.3, -1.7, 0.9, 2.0, 1.1], dtype)

        def functions(scale):
            return [
                jax.nn.gelu,
                lambda x: jnp.tanh(x * scale) + scale,
                lambda x: jnp.where(x > scale, x, scale * x),
                lambda x: jnp.exp(x) * scale,
                lambda x: x * x,
            ]

        got = of_all(functions(scale), half)
        expected = of_all(functions(scale.astype(jnp.float32)), single)
        assert got.dtype == dtype
        unit = float(jnp.finfo(dtype).eps)
        np.testing.assert_allclose(got.astype(np.float32), expected, rtol=2 * unit, atol=unit / 8)

    def test_a_known_value_at_a_jump_is_the_function_there(self):
        functions = [
            lambda x: 1.0 * (x > 0),
            lambda x: 1.0 * (x >= 0),
            jnp.sign,
            lambda x: jnp.heaviside(x, 0.25),
            lambda x: jnp.where(x == 0, 3.0, x),
            lambda x: jnp.where(x > 0, 1.0, jnp.where(x < -1, 2.0, 3.0)),
        ]
        x = Belief(jnp.array([-1.0, 0.0, 1.0]), jnp.zeros(3))
        for (mean, variance), f in zip(of_all(functions, x), functions, strict=True):
            np.testing.assert_array_equal(mean, f(x.mean))
            np.testing.assert_array_equal(variance, jnp.zeros(3))

    def test_derivatives_are_finite_at_kinks_and_jumps(self):
        functions = [f for writings in WRITINGS.values() for f in writings[:3]]
        x = Belief(jnp.array([0.0, 0.0, 1.0, -0.5]), jnp.array([0.0, 1e-8, 0.0, 0.3]))

        @jax.jit
        @jax.grad
        def of(x):
            return sum(sum(a.sum() for a in cg.moments(f)(x)) for f in functions[:-1:2])

        assert all(np.isfinite(g).all() for g in of(x))


class TestDecisions:
    def test_what_is_taken_at_the_means_is_said(self):
        def whole(x):
            return x * x.astype(jnp.int32)

        def dependent(x, y):
            return jnp.where((x > 0) & (y > 0), x, 0.0)

        with pytest.warns(UserWarning, match=r"test_curves.py.*at the mean.*monte_carlo"):
            got = cg.moments(whole)(X)
        np.testing.assert_allclose(got.mean, X.mean * X.mean.astype(jnp.int32), rtol=1e-6)
        with pytest.warns(UserWarning, match="independent"):
            cg.moments(dependent)(X, OTHER)

    def test_a_choice_by_another_variable(self):
        # By the law of total variance.
        got = cg.moments(lambda x, y: jnp.where(y > 0, x, 2.0))(X, OTHER)
        p = np.asarray(jax.scipy.stats.norm.cdf(OTHER.mean / jnp.sqrt(OTHER.variance)))
        m, v = np.asarray(X.mean), np.asarray(X.variance)
        np.testing.assert_allclose(got.mean, p * m + 2 * (1 - p), rtol=1e-5)
        spread = p * v + p * (1 - p) * (m - 2) ** 2
        np.testing.assert_allclose(got.variance, spread, rtol=1e-4, atol=1e-6)

    def test_a_stopped_derivative_stops_and_keeps_the_value(self):
        def through(x):
            return x + lax.stop_gradient(jnp.sign(x) - x)

        got, expected = of_all([through, jnp.sign], X)
        np.testing.assert_allclose(got, expected, atol=1e-4)
        slope = jax.grad(lambda m: cg.moments(through)(Belief(m, X.variance)).mean.sum())(X.mean)
        np.testing.assert_allclose(slope, jnp.ones(5), rtol=1e-4)

    def test_steps_offer_a_way_out_that_works(self):
        def through(x):
            return x + lax.stop_gradient(lax.round(x) - x)

        with pytest.raises(TypeError, match=r"first_order=\['round'\]"):
            cg.moments(through)(X)
        with pytest.warns(UserWarning, match="derivative is 0"):
            got = cg.moments(through, first_order=["round"])(X)
        np.testing.assert_allclose(got.mean, lax.round(X.mean), atol=1e-5)

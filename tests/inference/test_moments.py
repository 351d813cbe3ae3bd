"""Means and variances through functions, against quadrature, closed forms and dense algebra."""

import inspect
import itertools
import math
from functools import lru_cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax import lax
from scipy import stats

import cgjax as cg
from cgjax import Belief
from cgjax._beliefs.valleys import lowest_point
from tests.helpers import as_users, relu, spin, weights

MEANS = jnp.linspace(-5.0, 5.0, 21)


def belief(*shape: int, variance: float = 0.3, seed: int = 0) -> Belief:
    """A belief with random means and variances."""
    a, b = jax.random.split(jax.random.key(seed))
    spread = variance * jax.random.uniform(b, shape, minval=0.3, maxval=1.7)
    return Belief(jax.random.normal(a, shape), spread)


def over_means(variances):
    """Each of MEANS with each variance."""
    return jnp.meshgrid(MEANS, jnp.array(variances))


def by_quadrature(f, mean, variance):
    """E[f] and Var[f] by a fine rule over ten standard deviations, in float64."""
    t = np.linspace(-10, 10, 16_001)
    weight = np.exp(-(t**2) / 2) / np.exp(-(t**2) / 2).sum()
    with jax.enable_x64(True):
        deviation = np.sqrt(np.asarray(variance, np.float64))[..., None]
        x = np.asarray(mean, np.float64)[..., None] + deviation * t
        y = np.asarray(jax.jit(f)(x), np.float64)
    centre = y @ weight
    return centre, ((y - centre[..., None]) ** 2) @ weight


@partial(jax.jit, static_argnums=0)
def drawn(number, key, arguments):
    """Numbers for beliefs, stacked; compiled once for all functions of arguments of some shapes."""

    def one(key):
        keys = jax.random.split(key, len(arguments))
        return [
            x.mean + jnp.sqrt(x.variance) * jax.random.normal(k, x.mean.shape)
            if isinstance(x, Belief)
            else x
            for x, k in zip(arguments, keys, strict=True)
        ]

    return jax.vmap(one)(jax.random.split(key, number))


@lru_cache
def mapped(f):
    """f of stacked arguments, compiled once."""
    return jax.jit(jax.vmap(f))


def sampled(f, *args, number: int = 20_000, seed: int = 3):
    """Mean, variance, and the standard error of the mean, of f by Monte Carlo."""
    leaves, tree = jax.tree.flatten(args, is_leaf=lambda x: isinstance(x, Belief))
    values = drawn(number, jax.random.key(seed), leaves)
    draws = np.asarray(mapped(f)(*jax.tree.unflatten(tree, values)), np.float64)
    return draws.mean(0), draws.var(0), draws.std(0) / np.sqrt(number)


def assert_sampled(f, *args, number=20_000, mean_bias=0.0, variance_error=0.1):
    """Agreement with Monte Carlo: means within 5 standard errors and a bias, total variance."""
    got = cg.moments(f)(*args)
    mean, variance, error = sampled(f, *args, number=number)
    assert (np.abs(got.mean - mean) <= 5 * error + mean_bias * np.sqrt(variance) + 1e-6).all()
    np.testing.assert_allclose(got.variance.sum(), variance.sum(), rtol=variance_error)


# Closed forms, exact but for rounding: relative to the deviation, and to the variance, of x.
EXACT = {
    "relu": jax.nn.relu,
    "abs": jnp.abs,
    "clip": lambda x: jnp.clip(x, -0.5, 1.0),
    "clip the other way round": lambda x: jnp.maximum(jnp.minimum(x, 1.0), -0.5),
    "relu6": jax.nn.relu6,
    "lax.clamp": lambda x: lax.clamp(-0.5, x, 1.0),
    "min": lambda x: jnp.minimum(x, 0.5),
    "affine": lambda x: 3 - 2 * (x / 4 + 1),
    "relu of affine, then affine": lambda x: 1 - 2 * jax.nn.relu(3 * x + 1) / 3,
    "leaky relu": jax.nn.leaky_relu,
    "leaky relu, where": lambda x: jnp.where(x > 0, x, 0.2 * x),
    "relu, where": lambda x: jnp.where(x > 0, x, 0),
    "relu, product": lambda x: x * (x > 0),
    "shifted kink": lambda x: jnp.where(x - 1 > 0, x, 0.5 * x + 0.5),
    "leaky relu of a scaled belief": lambda x: jax.nn.leaky_relu(x * jnp.full_like(x, -0.5) + 1),
    "x + leaky relu": lambda x: x + jax.nn.leaky_relu(x, 0.3),
    "x + x": lambda x: x + x,
    "x - x": lambda x: x - x,
}
# Quadrature: smooth functions, functions with one kink.
INTEGRATED = {
    "tanh": jnp.tanh,
    "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus,
    "silu": jax.nn.silu,
    "x sigmoid(x)": lambda x: x * (1 / (1 + jnp.exp(-x))),
    "gelu": jax.nn.gelu,
    "gelu, exact": lambda x: jax.nn.gelu(x, approximate=False),
    "elu": jax.nn.elu,
    "selu": jax.nn.selu,
    "a kink in a curve": lambda x: jnp.where(x > 0, x, jnp.tanh(x) / 2),
    "mish": jax.nn.mish,
    "sin": jnp.sin,
    "erf": jax.scipy.special.erf,
    "swish with a slope": lambda x: x * jax.nn.sigmoid(1.702 * x),
}


@pytest.mark.numerics
class TestElementwise:
    @pytest.mark.parametrize("name", EXACT)
    def test_closed_forms_are_exact(self, name):
        f = EXACT[name]
        means, variance = over_means([1e-8, 1e-4, 0.1, 1.0, 25.0])
        mean, spread = by_quadrature(f, means, variance)
        got = cg.moments(f)(Belief(means, variance))
        slope = 9 if "relu of" in name or name == "affine" else 4
        # Rounding of means up to 5 (and of 3 x + 1); the variance to 1e-6 of itself and of x's.
        np.testing.assert_allclose(got.mean, mean, atol=5e-6)
        wrong = np.abs(got.variance - spread)
        assert (wrong <= 1e-6 * (variance * slope + spread)).all()
        assert (got.variance >= 0).all()

    @pytest.mark.parametrize("size", [20_480, 16_411])  # equal blocks; a prime number
    def test_large_arrays_are_computed_as_small_ones(self, size):
        rng = np.random.default_rng(0)
        mean = jnp.asarray(rng.normal(size=size), jnp.float32)
        variance = jnp.asarray(rng.uniform(size=size), jnp.float32)

        # Without all passes a compiler rounds the points of one form otherwise than another's.
        @as_users
        def of(mean, variance):
            moments = cg.moments(jax.nn.silu)
            out, back = jax.vjp(lambda m, v: moments(Belief(m, v)), mean, variance)
            return (*out, *back(Belief(jnp.cos(mean), jnp.sin(mean))))

        parts = [of(mean[i : i + 4096], variance[i : i + 4096]) for i in range(0, size, 4096)]
        small = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
        stacked = jax.vmap(of)(mean[None], variance[None])
        for got, several, expected in zip(of(mean, variance), stacked, small, strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(several[0], expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize(
        "f", [jnp.tanh, jax.nn.gelu, jax.nn.relu], ids=["tanh", "gelu", "relu"]
    )
    def test_gradients_take_little_memory(self, f):
        x = Belief(jnp.zeros(1 << 17), jnp.ones(1 << 17))
        loss = jax.jit(jax.grad(lambda x: jnp.sum(cg.moments(f)(x).variance ** 2)))
        memory = loss.lower(x).compile().memory_analysis()
        assert memory is not None
        # The quadrature alone has 16 values for each element.
        assert memory.temp_size_in_bytes < 16 * x.mean.nbytes

    def test_a_line_with_a_jump(self):
        means, variance = over_means([1e-4, 0.1, 1.0, 25.0])
        got = cg.moments(lambda x: jnp.where(x < 0.3, x - 1, 2.0))(Belief(means, variance))
        deviation = np.sqrt(np.float64(variance))
        z = (0.3 - means) / deviation
        below, density = stats.norm.cdf(z), stats.norm.pdf(z) * deviation
        mean = (means - 1) * below - density + 2 * (1 - below)
        # E[(x - 1)^2; x < k], from the moments of a truncated Gaussian.
        square = ((means - 1) ** 2 + variance) * below - (means - 2 + 0.3) * density
        np.testing.assert_allclose(got.mean, mean, atol=5e-6)
        spread = square + 4 * (1 - below) - mean**2
        np.testing.assert_allclose(got.variance, spread, atol=3e-5)  # the oracle cancels

    @pytest.mark.parametrize("name", INTEGRATED)
    def test_quadrature_is_accurate(self, name):
        f = INTEGRATED[name]
        # More than a few bends under one Gaussian are not resolved.
        widest = 4.0 if name in ("sin", "erf") else 16.0
        means, variance = over_means([1e-4, 0.1, 1.0, 2.25, widest])
        mean, spread = by_quadrature(f, means, variance)
        got = cg.moments(f)(Belief(means, variance))
        # In units of x's deviation and variance; wide Gaussians bend within few points.
        loose = variance > 2.25
        wrong = np.abs(got.mean - mean)
        assert (wrong <= np.where(loose, 8e-3, 3e-4) * np.sqrt(variance) + 1e-6).all()
        assert (np.abs(got.variance - spread) <= np.where(loose, 1e-2, 1e-3) * variance).all()

    def test_powers_exponentials_and_logarithms(self):
        x = Belief(jnp.array([0.5, -1.0, 2.0]), jnp.array([0.3, 0.1, 0.2]))
        m, v = np.asarray(x.mean, np.float64), np.asarray(x.variance, np.float64)
        square = cg.moments(lambda x: x * x)(x)
        np.testing.assert_allclose(square.mean, m**2 + v, rtol=1e-5)
        np.testing.assert_allclose(square.variance, 4 * m**2 * v + 2 * v**2, rtol=2e-3)
        np.testing.assert_allclose(
            cg.moments(lambda x: x**2)(x).variance, 4 * m**2 * v + 2 * v**2, rtol=1e-6
        )
        exponential = cg.moments(jnp.exp)(x)
        np.testing.assert_allclose(exponential.mean, np.exp(m + v / 2), rtol=1e-6)
        np.testing.assert_allclose(exponential.variance, np.expm1(v) * np.exp(2 * m + v), rtol=1e-6)
        # The logarithm of a log-normal variable is normal: exact there, and back.
        y = Belief(exponential.mean, exponential.variance)
        back = cg.moments(jnp.log)(y)
        np.testing.assert_allclose(back.mean, m, atol=1e-6)
        np.testing.assert_allclose(back.variance, v, rtol=1e-5)
        for f, p in ((jnp.sqrt, 0.5), (lax.rsqrt, -0.5), (lambda y: 1 / y, -1.0)):
            root = cg.moments(f)(y)
            np.testing.assert_allclose(root.mean, np.exp(p * m + p**2 * v / 2), rtol=1e-5)
            np.testing.assert_allclose(
                root.variance, np.expm1(p**2 * v) * np.exp(2 * p * m + p**2 * v), rtol=1e-5
            )

    @pytest.mark.parametrize("exponent", [2, 3, 1, -1])
    def test_a_whole_power_is_one_however_it_is_written(self, exponent):
        # Of numbers that cross 0, where other powers have no moments.
        mean = jnp.linspace(-0.5, 3.0, 8) if exponent > 0 else jnp.full(8, -4.0)
        x = Belief(mean, jnp.full(8, 0.3))
        whole = cg.moments(lambda x: x**exponent)(x)
        for f in (lambda x: x ** float(exponent), lambda x: jnp.power(x, float(exponent))):
            got = cg.moments(f)(x)
            np.testing.assert_array_equal(got.mean, whole.mean)
            np.testing.assert_array_equal(got.variance, whole.variance)

    @pytest.mark.parametrize(
        "f",
        [
            lambda x: x * jnp.log(x),
            jax.scipy.special.entr,
            lambda x: x * jnp.sqrt(x),
            lambda x: x / jnp.sqrt(x),
            lambda x: (2 * x + 1) * jnp.log(2 * x + 1),
            lambda x: jnp.maximum(jnp.log(x) * x, 3.0),
            lambda x: jnp.log(-x) * x,
        ],
        ids=["x log x", "entropy", "x sqrt x", "x / sqrt x", "affine", "kink", "negative"],
    )
    def test_what_is_positive_is_one_variable(self, f):
        # Narrow enough for a normal variable to be as good as a log-normal one.
        sign = -1 if np.isnan(f(jnp.float32(1.5))) else 1
        mean, variance = sign * jnp.array([2.5, 5.0, 9.0]), jnp.array([0.02, 0.05, 0.1])
        expected, spread = by_quadrature(f, mean, variance)
        got = cg.moments(f)(Belief(mean, variance))
        # Third moments: those of the log-normal variable are not 0.
        np.testing.assert_allclose(got.mean, expected, rtol=1e-3)
        np.testing.assert_allclose(got.variance, spread, rtol=2e-2, atol=1e-4)

        @jax.jit
        def derivatives(x):
            out, back = jax.vjp(cg.moments(f), x)
            return out, f(x.mean), back(out)[0]

        out, value, slopes = derivatives(Belief(mean, jnp.zeros_like(mean)))
        np.testing.assert_allclose(out.mean, value, rtol=1e-5)
        assert not np.any(out.variance) and np.isfinite([*slopes]).all()

    @pytest.mark.parametrize("size", [9, 20_480])
    def test_other_devices_compute_the_same(self, size, monkeypatch):
        x = belief(size)

        def outcome():
            # A function of its own each time: none is found in the compiler's cache.
            @jax.jit
            def both(x):
                out, back = jax.vjp(cg.moments(lambda x: nnx.gelu(x) * 2.0), x)
                return jnp.stack([*out, *back(out)[0]])

            return both(x)

        here = outcome()
        monkeypatch.setattr(
            lax, "platform_dependent", lambda *operands, cpu, default: default(*operands)
        )
        # The sums over the quadrature's points are rounded in another order.
        np.testing.assert_allclose(outcome(), here, rtol=2e-5, atol=1e-6)

    def test_programs_for_a_gpu_have_neither_blocks_nor_products(self):
        def training(x):
            out, back = jax.vjp(cg.moments(nnx.gelu), x)
            return back(out)

        traced = jax.jit(training).trace(belief(20_480))
        cpu, cuda = (traced.lower(lowering_platforms=(p,)).as_text() for p in ("cpu", "cuda"))
        two_rows = "tensor<2x20480xf32>"  # the single loop
        assert two_rows in cpu
        assert two_rows not in cuda
        assert "stablehlo.while" not in cuda and "stablehlo.dot_general" not in cuda

    @pytest.mark.parametrize("f", [jnp.floor, jnp.round, jnp.ceil, lambda x: lax.rem(x, 1.0)])
    def test_functions_with_many_jumps_have_no_rule(self, f):
        x = Belief(jnp.array(0.3), jnp.array(0.3))
        with pytest.raises(TypeError, match="first_order"):
            cg.moments(f)(x)
        assert cg.moments(f, order=1)(x).mean == f(0.3)

    def test_two_variables_are_independent(self):
        x, y = belief(5), belief(5, seed=1)
        m, v, n, w = (np.asarray(a, np.float64) for a in (*x, *y))
        total = cg.moments(lambda x, y: x - y)(x, y)
        np.testing.assert_allclose(total.variance, v + w, rtol=1e-6)
        product = cg.moments(lambda x, y: x * y)(x, y)
        np.testing.assert_allclose(product.mean, m * n, rtol=1e-6)
        np.testing.assert_allclose(product.variance, m**2 * w + n**2 * v + v * w, rtol=1e-6)
        assert_sampled(lambda x, y: jnp.maximum(x, y), x, y, variance_error=0.05)
        assert_sampled(lambda x, y: x / (y + 5), x, y, variance_error=0.1)

    @pytest.mark.parametrize("name", [*EXACT, *INTEGRATED])
    def test_nothing_is_uncertain_at_variance_0_and_gradients_are_finite(self, name):
        f = {**EXACT, **INTEGRATED}[name]

        @jax.jit
        def derivatives(x):
            def total(x):
                got = cg.moments(f)(x)
                return sum(a.sum() for a in got), got

            gradient, got = jax.grad(total, has_aux=True)(x)
            return got, f(x.mean), gradient

        got, value, gradient = derivatives(Belief(MEANS, jnp.zeros_like(MEANS)))
        np.testing.assert_allclose(got.mean, value, rtol=1e-6, atol=1e-6)
        np.testing.assert_array_equal(got.variance, jnp.zeros_like(MEANS))
        assert all(np.isfinite(g).all() for g in gradient)

    @pytest.mark.parametrize("name", ["relu", "clip", "tanh", "silu", "leaky relu"])
    def test_gradients_are_those_of_the_integrals(self, name):
        f = {**EXACT, **INTEGRATED}[name]

        def loss(mean, log_variance, moments):
            out = moments(mean, jnp.exp(log_variance))
            return jnp.sum(out[0] * jnp.cos(mean) + out[1])

        def ours(mean, variance):
            return cg.moments(f)(Belief(mean, variance))

        mean, log_variance = jnp.linspace(-2, 2, 9), jnp.linspace(-1.0, 0.5, 9)
        got = jax.jit(jax.grad(loss, (0, 1)), static_argnums=2)(mean, log_variance, ours)
        for k, direction in enumerate((jnp.sin(7 * mean), jnp.cos(5 * mean))):
            step = 1e-2
            ends = []
            for sign in (1, -1):
                moved = [mean, log_variance]
                moved[k] = moved[k] + sign * step * direction
                ends.append(loss(moved[0], moved[1], partial(by_quadrature, f)))
            slope = (ends[0] - ends[1]) / (2 * step)
            # Central differences: step^2 in truth, rounding 1e-7 / step.
            np.testing.assert_allclose(jnp.vdot(got[k], direction), slope, rtol=3e-3, atol=3e-4)

    @staticmethod
    @lru_cache
    def derivatives(name):
        """Of the function, twice, and of the mean and the variance of its result."""
        f = {**EXACT, **INTEGRATED}[name]

        @jax.jit
        def of(means, variance):
            x = Belief(means, jnp.full_like(means, variance))
            slope, bend = (jax.vmap(g)(means) for g in (jax.grad(f), jax.grad(jax.grad(f))))
            of_mean = jax.grad(lambda x: cg.moments(f)(x).mean.sum())(x)
            return slope, bend, of_mean, jax.grad(lambda x: cg.moments(f)(x).variance.sum())(x)

        return of

    @pytest.mark.parametrize("variance", [0.0, 1e-6, 1e-3])
    @pytest.mark.parametrize("name", ["relu", "tanh", "silu", "gelu, exact"])
    def test_derivatives_of_narrow_gaussians(self, name, variance):
        means = MEANS[jnp.abs(MEANS) > 0.2]  # relu bends at 0
        slope, bend, of_mean, of_variance = self.derivatives(name)(means, variance)
        by_mean, by_variance = of_mean
        # Third and fourth derivatives times the variance, and rounding over the narrowest width.
        np.testing.assert_allclose(by_mean, slope, atol=2e-4 + 2 * variance)
        np.testing.assert_allclose(by_variance, bend / 2, atol=2e-3 + 3 * variance)
        by_mean, by_variance = of_variance
        np.testing.assert_allclose(by_mean, 2 * slope * bend * variance, atol=1e-4 + 5 * variance)
        np.testing.assert_allclose(by_variance, slope**2, atol=1e-3 + 5 * variance)


@pytest.mark.numerics
class TestGroups:
    """Functions of sums over an axis, however written."""

    @pytest.mark.parametrize("size, tolerance", [(8, 0.06), (64, 0.03)])
    @pytest.mark.parametrize(
        "name, f",
        {
            "layer norm": lambda n: nnx.LayerNorm(n, rngs=nnx.Rngs(0)),
            "layer norm, two passes": lambda n: nnx.LayerNorm(
                n, use_fast_variance=False, rngs=nnx.Rngs(0)
            ),
            "rms norm": lambda n: nnx.RMSNorm(n, rngs=nnx.Rngs(0)),
            "standardize": lambda n: jax.nn.standardize,
            "by hand": lambda n: (
                lambda x: (x - x.mean(-1, keepdims=True)) / (x.std(-1, keepdims=True) + 1e-3)
            ),
            "unit length": lambda n: lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True),
            "softmax": lambda n: jax.nn.softmax,
            "softmax by hand": lambda n: (
                lambda x: jnp.exp(x) / jnp.sum(jnp.exp(x), -1, keepdims=True)
            ),
            "log softmax": lambda n: jax.nn.log_softmax,
        }.items(),
        ids=lambda v: v if isinstance(v, str) else "",
    )
    def test_normalisations(self, name, f, size, tolerance):
        x = belief(2, size, variance=0.2)
        assert_sampled(f(size), x, number=20_000, mean_bias=0.05, variance_error=tolerance)

    def test_log_sum_exp(self):
        x = belief(4, 10, variance=0.5)
        assert_sampled(lambda x: jax.nn.logsumexp(x, -1), x, mean_bias=0.05, variance_error=0.1)

    @pytest.mark.parametrize("f", [jax.nn.softmax, jax.nn.log_softmax, jax.nn.logsumexp])
    def test_the_largest_logit_is_an_offset_and_not_a_belief(self, f):
        """Clark's moments of a largest value of 64 are thousands of operations."""
        operations = jax.make_jaxpr(cg.moments(f))(belief(2, 64)).pretty_print().count(" = ")
        assert operations < 500

    def test_a_largest_value_that_a_node_needs_is_a_belief(self):
        def net(x):
            relu(x.max(), "h")  # the result does not need it
            return x * lax.stop_gradient(x.max())

        x = belief(3)
        _, nodes = cg.with_nodes(cg.moments(net))(x)
        expected = cg.moments(lambda x: jax.nn.relu(x.max()))(x)
        np.testing.assert_allclose(nodes["h"].variance, expected.variance, rtol=1e-6)
        assert nodes["h"].variance > 0

    def test_a_plain_mean_is_a_plain_mean(self):
        x = belief(3, 7)
        got = cg.moments(lambda x: x.mean(-1))(x)
        np.testing.assert_allclose(got.mean, x.mean.mean(-1), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(got.variance, x.variance.sum(-1) / 49, rtol=1e-5)


def assert_pooled(pool, x, variance_error):
    """Exact for known values; else means and variances in total, relative to the deviations."""
    moments = cg.moments(pool)
    known = moments(Belief(x.mean, jnp.zeros_like(x.mean)))
    np.testing.assert_allclose(known.mean, pool(x.mean), rtol=1e-6, atol=1e-6)
    assert (known.variance == 0).all()
    got, (mean, variance, _) = moments(x), sampled(pool, x, number=4000)
    # Clark's moments of more than two Gaussians are those of pairs.
    assert ((got.mean - mean) ** 2).mean() < 0.08**2 * variance.mean()
    np.testing.assert_allclose(got.variance.sum(), variance.sum(), rtol=variance_error)
    assert all(jnp.isfinite(a).all() for a in slopes(pool)(x))


@lru_cache
def slopes(f):
    """By the mean and the variance of x, of the sum of the moments of f."""
    return jax.jit(jax.grad(lambda x: sum(a.sum() for a in cg.moments(f)(x))))


def gelu_pool(x):
    return nnx.max_pool(jax.nn.gelu(x), (2, 2), (2, 2))


def silu_pool(x):
    return nnx.max_pool(jax.nn.silu(x), (2, 2), (2, 2))


@pytest.mark.numerics
class TestPooling:
    """The largest of a window."""

    @pytest.mark.parametrize(
        ("f", "at"),
        [
            (jax.nn.relu, -math.inf),
            (jax.nn.softplus, -math.inf),
            (lambda x: jax.nn.gelu(x, approximate=False), -0.7518),
            (jax.nn.gelu, -0.7524),
            (jax.nn.silu, -1.2785),
            (jax.nn.mish, -1.1924),
            (lambda x: jax.nn.gelu(x / 100), -75.2),
            (lambda x: jax.nn.silu(20 * x - 3), 0.086),
            (jax.nn.elu, -math.inf),
            (jnp.abs, None),
            (lambda x: jnp.where(x < 0, jnp.minimum(-x, 100), x), None),
            (lambda x: x + jnp.sin(3 * x), None),
            (jnp.square, None),
            (jnp.sin, None),
            (lambda x: -jax.nn.gelu(x), None),
            (partial(jnp.multiply, jnp.linspace(0, 1, 6001)), None),
        ],
    )
    def test_where_a_function_is_lowest(self, f, at):
        # To the distance of the points that are looked at, and the digits above.
        assert lowest_point(f) == (at if at is None else pytest.approx(at, rel=0.006))

    @pytest.mark.parametrize("pool", [gelu_pool, silu_pool])
    @pytest.mark.parametrize(("mean", "variance_error"), [(0.0, 0.08), (-1.5, 0.2)])
    def test_functions_that_fall_a_little_before_they_rise(self, pool, mean, variance_error):
        x = belief(4, 8, 8, 4, variance=0.5)
        x = Belief(x.mean + mean, x.variance)
        # Each value as a Gaussian before pooling, it would be two thirds of the sampled variance.
        assert_pooled(pool, x, variance_error)

    def test_a_large_array_block_by_block_as_its_parts(self):
        # 16,384 windows are as few as are computed in blocks; the least value of each is an array.
        x = belief(1, 256, 256, 1, variance=0.5)

        @jax.jit
        @partial(jax.value_and_grad, has_aux=True)
        def pool(x):
            out = cg.moments(lambda x: nnx.max_pool(jax.nn.gelu(x), (2, 2), (2, 2)))(x)
            return jnp.sum(jnp.sin(3 * out.mean) + out.variance**2), out

        parts = [jax.tree.map(lambda a, i=i: a[:, i : i + 128], x) for i in (0, 128)]
        (_, out), grads = pool(x)
        found = [pool(part) for part in parts]
        for i in (0, 1):
            joined = jnp.concatenate([out[i] for (_, out), _ in found], axis=1)
            np.testing.assert_allclose(out[i], joined, rtol=1e-5, atol=1e-6)
            joined = jnp.concatenate([grads[i] for _, grads in found], axis=1)
            np.testing.assert_allclose(grads[i], joined, rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize(
        ("window", "options"),
        [
            ((2, 2), {"strides": (2, 2)}),
            ((3, 2), {"strides": (2, 1), "padding": "SAME"}),
            ((3, 3), {"strides": (2, 2), "padding": ((1, 0), (0, 2))}),
            ((1, 4), {}),
        ],
    )
    def test_windows(self, window, options):
        def pool(x):
            return nnx.max_pool(x, window, **options)

        assert_pooled(pool, belief(2, 7, 6, 3), variance_error=0.1)

    def test_dilated_windows(self):
        def pool(x):
            return lax.reduce_window(
                x, -jnp.inf, lax.max, (1, 2), (1, 2), ((0, 0), (1, 1)), (1, 2), (1, 3)
            )

        assert_pooled(pool, belief(2, 9), variance_error=0.02)


class TestProducts:
    @pytest.mark.parametrize(
        "f",
        [
            lambda x: x @ x.T,
            lambda x: x.T @ x,
            lambda x: jnp.einsum("ij,ij->i", x, x),
            lambda x: jnp.einsum("ij,ij->", x, x),
            lambda x: jnp.einsum("ij,jk->ki", x, x.T),
        ],
    )
    def test_a_product_with_itself_sums_squares(self, f):
        # Written with `x * x`, which is one variable.
        shape = f(jnp.zeros((3, 5))).shape
        x = belief(3, 5)
        m, v = np.asarray(x.mean, np.float64), np.asarray(x.variance, np.float64)
        axis = {(3, 3): 1, (5, 5): 0, (3,): 1, (): (0, 1)}[shape]
        square, spread = (m**2 + v).sum(axis), (4 * m**2 * v + 2 * v**2).sum(axis)
        for moments, mean, variance in (
            (cg.moments, square, spread),
            (partial(cg.moments, order=1), (m**2).sum(axis), (4 * m**2 * v).sum(axis)),
        ):
            got = moments(f)(x)
            if len(shape) < 2:
                np.testing.assert_allclose(got.mean, mean, rtol=1e-6)
                np.testing.assert_allclose(got.variance, variance, rtol=1e-6)
                continue
            np.testing.assert_allclose(np.diag(got.mean), mean, rtol=1e-6)
            np.testing.assert_allclose(np.diag(got.variance), variance, rtol=1e-6)
            # Different rows are independent.
            letters = "ji,jk->ik" if shape == (5, 5) else "ij,kj->ik"
            apart = moments(lambda x, y, e=letters: jnp.einsum(e, x, y))(x, x)
            off = ~np.eye(shape[0], dtype=bool)
            np.testing.assert_allclose(got.mean[off], apart.mean[off], rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(got.variance[off], apart.variance[off], rtol=1e-5)

    def test_linear_gaussian_networks_are_exact_where_the_diagonal_is(self):
        x, w, b = belief(5, 3), belief(3, 4, seed=1), belief(4, seed=2)
        got = cg.moments(lambda x, w, b: x @ w + b[None])(x, w, b)
        m, v, n, s = (np.asarray(a, np.float64) for a in (*x, *w))
        np.testing.assert_allclose(got.mean, m @ n + np.asarray(b.mean), rtol=1e-5, atol=1e-5)
        exact = v @ (n**2 + s) + m**2 @ s + np.asarray(b.variance)
        np.testing.assert_allclose(got.variance, exact, rtol=1e-5)
        # The first-order rule leaves out the product of variances.
        first = cg.moments(lambda x, w, b: x @ w + b[None], order=1)(x, w, b)
        np.testing.assert_allclose(first.variance, exact - v @ s, rtol=1e-5)

    def test_linear_gaussian_chains_are_the_diagonal_of_the_dense_joint(self):
        """Inputs and noise of one variance through orthogonal layers stay uncorrelated."""
        with jax.enable_x64(True):
            generator = np.random.default_rng(0)
            rotations = [np.linalg.qr(generator.normal(size=(5, 5)))[0] for _ in range(2)]
            last = generator.normal(size=(5, 3))

            def net(random, rotations):
                x, *noise = random
                for rotation, n in zip(rotations, noise, strict=True):
                    x = 2 * (x @ rotation - 1) + n
                return x @ last

            random = [
                Belief(jnp.asarray(generator.normal(size=5)), jnp.full(5, v))
                for v in (0.3, 0.7, 0.2)
            ]
            means = [b.mean for b in random]

            def joint(rotations):
                parts = jax.jacobian(net)(means, rotations)
                return sum(
                    p @ jnp.diag(b.variance) @ p.T for p, b in zip(parts, random, strict=True)
                )

            got = cg.moments(net)(random, rotations)
            np.testing.assert_allclose(got.mean, net(means, rotations), rtol=1e-12)
            np.testing.assert_allclose(got.variance, jnp.diag(joint(rotations)), rtol=1e-12)
            # Layers that are not orthogonal correlate their outputs, which the diagonal drops.
            sheared = [r + 0.5 for r in rotations]
            approximate = cg.moments(net)(random, sheared).variance
            assert (jnp.abs(approximate / jnp.diag(joint(sheared)) - 1) > 0.05).all()

    def test_two_uncertain_layers_of_a_known_input_are_exact(self):
        """Whatever is linear in each number has the moments of numbers with two values."""
        with jax.enable_x64(True):
            beliefs = [
                Belief(*(jnp.asarray(a, jnp.float64) for a in belief(*shape, seed=seed)))
                for seed, shape in enumerate(((2, 2), (2,), (2, 1), (1,)))
            ]
            x = jnp.array([0.7, -1.3])

            def net(beliefs):
                w1, b1, w2, b2 = beliefs
                return (x @ w1 + b1) @ w2 + b2

            signs = jnp.array(list(itertools.product((-1.0, 1.0), repeat=9)))

            def at(signs):
                parts = jnp.split(signs, [4, 6, 8])
                drawn = zip(beliefs, parts, strict=True)
                return net(
                    [b.mean + jnp.sqrt(b.variance) * s.reshape(b.mean.shape) for b, s in drawn]
                )

            values = jax.vmap(at)(signs)
            got = cg.moments(net)(beliefs)
            np.testing.assert_allclose(got.mean, values.mean(0), rtol=1e-12)
            np.testing.assert_allclose(got.variance, values.var(0), rtol=1e-12)

    @pytest.mark.parametrize(
        "strides, padding, lhs_dilation, rhs_dilation, groups, layout",
        [
            ((1, 1), "SAME", (1, 1), (1, 1), 1, ("NHWC", "HWIO", "NHWC")),
            ((2, 1), "VALID", (1, 1), (1, 2), 1, ("NCHW", "OIHW", "NCHW")),
            ((1, 2), ((2, 0), (1, 1)), (2, 1), (1, 1), 2, ("NHWC", "HWIO", "NCHW")),
            ((1, 1), "SAME", (1, 1), (1, 1), 4, ("NHWC", "HWIO", "NHWC")),
        ],
    )
    @pytest.mark.parametrize("which", ["input", "kernel", "both"])
    def test_convolutions(
        self, strides, padding, lhs_dilation, rhs_dilation, groups, layout, which
    ):
        x = belief(2, 6, 5, 4) if layout[0] == "NHWC" else belief(2, 4, 6, 5)
        inputs = 4 // groups
        kernel = belief(3, 2, inputs, 4, seed=1)
        if layout[1] == "OIHW":
            kernel = Belief(*(jnp.transpose(a, (3, 2, 0, 1)) for a in kernel))
        args = (
            x if which != "kernel" else x.mean,
            kernel if which != "input" else kernel.mean,
        )

        def f(x, kernel):
            return lax.conv_general_dilated(
                x,
                kernel,
                strides,
                padding,
                lhs_dilation,
                rhs_dilation,
                layout,
                feature_group_count=groups,
            )

        for positions in (False, True):
            got = cg.moments(f, positions=positions)(*args)
            zero = jnp.zeros_like(x.mean) if which == "kernel" else x.variance
            none = jnp.zeros_like(kernel.mean) if which == "input" else kernel.variance
            exact = f(zero, kernel.mean**2 + none) + f(x.mean**2, none)
            np.testing.assert_allclose(got.mean, f(x.mean, kernel.mean), rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(got.variance, exact, rtol=1e-5, atol=1e-5)

    @pytest.mark.numerics
    def test_what_positions_share_is_exact_for_one_linear_layer(self):
        """The average over positions of a convolution of a known image, and of a dense layer."""
        image = jax.random.normal(jax.random.key(0), (2, 6, 6, 3)) + 1
        kernel = belief(3, 3, 3, 5, seed=1)
        bias = belief(5, seed=2)

        def pooled(image, kernel, bias):
            y = lax.conv_general_dilated(
                image, kernel, (2, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            return (y + bias[None, None, None]).mean((1, 2))

        # The average is linear in the kernel: its variance is that of the averaged Jacobian.
        jacobian = jax.jacobian(pooled, 1)(image, kernel.mean, bias.mean)
        exact = (
            jnp.sum(jacobian**2 * kernel.variance[None, None], (2, 3, 4, 5)) + bias.variance[None]
        )
        got = cg.moments(pooled)(image, kernel, bias)
        np.testing.assert_allclose(got.variance, exact, rtol=1e-4)
        too_small = cg.moments(pooled, positions=False)(image, kernel, bias)
        assert (too_small.variance < 0.5 * exact).all()

        sequence = jax.random.normal(jax.random.key(0), (2, 7, 3))
        weight = belief(3, 4, seed=3)
        got = cg.moments(lambda x, w: (x @ w).mean(1))(sequence, weight)
        exact = sequence.mean(1) ** 2 @ weight.variance
        np.testing.assert_allclose(got.variance, exact, rtol=1e-4, atol=1e-6)

    @pytest.mark.numerics
    def test_examples_of_a_large_batch_are_computed_as_those_of_a_small_one(self):
        numbers = ("NHWC", "HWIO", "NHWC")
        shapes = [(3, 3, 3, 16), (3, 3, 16, 32), (3, 3, 32, 64)]
        keys = jax.random.split(jax.random.key(1), 3)
        means = [jax.random.normal(k, s) / 10 for k, s in zip(keys, shapes, strict=True)]
        kernels = [Belief(w, jnp.full_like(w, 1e-3)) for w in means]

        @jax.jit
        @cg.moments
        def net(kernels, x):
            for k, kernel in enumerate(kernels):
                x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)
                if k < 2:
                    x = nnx.max_pool(jax.nn.relu(x), (2, 2), (2, 2))
            return x

        x = jax.random.uniform(jax.random.key(0), (64, 16, 16, 3))
        got, few = net(kernels, x), net(kernels, x[:2])
        for ours, theirs in zip(got, few, strict=True):
            assert np.isfinite(ours).all()
            np.testing.assert_allclose(ours[:2], theirs, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("layout", ["rows", "columns", "convolution"])
    def test_one_variance_for_all_weights_in_a_sum(self, layout):
        def net(w, x):
            if layout == "rows":
                return (x @ w).sum(1)
            if layout == "columns":
                return (w.T @ x.T).T.sum(1)
            numbers = ("NHWC", "HWIO", "NHWC")
            x, w = x.reshape(-1, 4, 4, 2), w.reshape(2, 2, 8, 64)[:, :, :2]
            y = lax.conv_general_dilated(x, w, (1, 1), "VALID", dimension_numbers=numbers)
            return y.sum((1, 2, 3))

        keys = jax.random.split(jax.random.key(2), 2)
        # A sum over 4096 elements or more: the compiler for CPUs fuses it with the product.
        x, w = jax.random.normal(keys[0], (200, 32)), jax.random.normal(keys[1], (32, 64))
        moments = cg.moments(net, positions=False)
        got = jax.jit(lambda w, x: moments(Belief(w, jnp.full(w.shape, 0.01)), x))(w, x)
        few = moments(Belief(w, jnp.full(w.shape, 0.01)), x[:2])
        np.testing.assert_allclose(got.mean[:2], few.mean, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(got.variance[:2], few.variance, rtol=1e-4)
        if layout != "convolution":
            np.testing.assert_allclose(got.variance, 0.64 * (x**2).sum(1), rtol=1e-4)

    def test_random_nodes_of_one_variance_in_a_sum(self):
        x = jax.random.normal(jax.random.key(0), (256, 32))
        w = jax.random.normal(jax.random.key(1), (40, 32))

        def net(x):
            return (w @ cg.node(cg.nodes.Gaussian(1.0), x, name="h").T).sum(1)

        got = cg.moments(net, nodes="random")(x).variance
        np.testing.assert_allclose(got, 256 * (w**2).sum(1), rtol=1e-4)

    @pytest.mark.numerics
    def test_networks_against_monte_carlo(self):
        sizes = (16, 32, 32, 5)
        layers = [
            Belief(w * (2 / w.shape[0]) ** 0.5, jnp.full(w.shape, 0.2 / w.shape[0]))
            for w in weights(*sizes)
        ]
        x = jax.random.normal(jax.random.key(5), (6, 16))
        for activation in (jax.nn.relu, jnp.tanh, jax.nn.gelu):

            def net(layers, x, activation=activation):
                for w in layers[:-1]:
                    x = activation(x @ w)
                return x @ layers[-1]

            # One random network: what is dropped between features changes its total by percents.
            assert_sampled(net, layers, x, number=4000, mean_bias=0.03, variance_error=0.06)


CONTROL_FLOW = {
    "jit": lambda x: jax.jit(jnp.tanh)(x),
    "remat": lambda x: jax.checkpoint(jnp.tanh)(x),
    "scan": lambda x: lax.scan(lambda c, x: (c + x, jnp.sin(x)), jnp.zeros(4), x)[1],
    "scan carry": lambda x: lax.scan(lambda c, x: (0.5 * c + x, None), jnp.zeros(4), x)[0],
    "reverse scan": lambda x: lax.scan(lambda c, x: (c + x, c), jnp.zeros(4), x, reverse=True)[0],
    "cond": lambda x: lax.cond(True, lambda x: 2 * x, jnp.zeros_like, x),
    "cond, one branch certain": lambda x: lax.cond(x.ndim > 5, lambda x: 2 * x, jnp.ones_like, x),
    "switch": lambda x: lax.switch(1, [jnp.sin, jnp.cos], x),
    "fori_loop": lambda x: lax.fori_loop(0, 2, lambda i, c: 0.5 * c + i, x),
    "while_loop": lambda x: lax.while_loop(lambda s: s[0] < 2, lambda s: (s[0] + 1, -s[1]), (0, x))[
        1
    ],
    "custom_vjp": lambda x: _custom(x),
    "vmap": lambda x: jax.vmap(lambda row: jnp.sin(row) + 1)(x),
    "gather": lambda x: x[:, jnp.array([0, 2])],
    "scatter": lambda x: jnp.zeros((3, 6)).at[:, 1:5].add(x),
    "dynamic slice": lambda x: lax.dynamic_slice(x, (0, 1), (2, 2)),
    "dynamic update": lambda x: lax.dynamic_update_slice(jnp.ones((3, 6)), x, (0, 1)),
    "concatenate": lambda x: jnp.concatenate([x, 2 * x[:, ::-1]], 1),
    "pad": lambda x: jnp.pad(x, 1),
    "cumsum": lambda x: jnp.cumsum(x, 1),
    "max": lambda x: x.max(1),
    "transpose": lambda x: jnp.swapaxes(jnp.sin(x), 0, 1),
    "subtract at indices": lambda x: x.at[jnp.array([0, 2, 2])].subtract(2 * x[:, ::-1]),
    "tile": lambda x: jnp.tile(jnp.sin(x), (2, 1)),
    "sum of tiled": lambda x: jnp.tile(x[:1, :1], (3, 5)).sum(1),
    "sum of repeated": lambda x: jnp.broadcast_to(x[0, 0], (5,)).sum(keepdims=True),
}


@jax.custom_vjp
def _custom(x):
    return x * jax.nn.sigmoid(x)


_custom.defvjp(lambda x: (_custom(x), x), lambda x, g: (g,))


class TestPrograms:
    @pytest.mark.parametrize("name", CONTROL_FLOW)
    def test_control_flow_and_movement(self, name):
        x = belief(3, 4, variance=0.2)
        assert_sampled(CONTROL_FLOW[name], x, number=10_000, mean_bias=0.03, variance_error=0.08)

    def test_every_order_one_result_is_the_first_order_formula(self):
        def net(x):
            h = jnp.tanh(x @ PARAMETERS)
            return jax.nn.softplus(h) * h

        x = belief(3)
        got = cg.moments(net, order=1)(x)
        h = jnp.tanh(x.mean @ PARAMETERS)
        v = (1 - h**2) ** 2 * (x.variance @ PARAMETERS**2)
        slope = jax.vmap(jax.grad(lambda h: jax.nn.softplus(h) * h))(h)
        np.testing.assert_allclose(got.mean, net(x.mean), rtol=1e-6)
        np.testing.assert_allclose(got.variance, slope**2 * v, rtol=1e-5)

    def test_every_leaf_of_every_argument_may_be_a_belief(self):
        x = belief(4)
        out = cg.moments(lambda tree, *, scale: {"a": tree["x"] * scale, "n": tree["n"]})(
            {"x": x, "n": 3}, scale=belief(4, seed=1)
        )
        assert isinstance(out["a"], Belief) and out["n"] == 3
        assert isinstance(cg.moments(jnp.sin)(x.mean), Belief)
        np.testing.assert_array_equal(cg.moments(jnp.sin)(x.mean).variance, jnp.zeros(4))

    def test_under_transformations(self):
        f = cg.moments(lambda w, x: jnp.tanh(x @ w))
        w, x = belief(4, 3), belief(5, 4, seed=1)
        one = f(w, x)
        for out in (jax.jit(f)(w, x), jax.vmap(f, (None, 0))(w, x)):
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-5, 1e-6), out, one)
        assert cg.moments(jnp.sin) is cg.moments(jnp.sin)

    def test_low_precision_stays(self):
        x = Belief(*(a.astype(jnp.bfloat16) for a in belief(4, 3)))
        out = cg.moments(lambda x: jax.nn.gelu(jax.nn.relu(x) @ jnp.ones((3, 2), jnp.bfloat16)))(x)
        assert out.mean.dtype == out.variance.dtype == jnp.bfloat16
        assert np.isfinite(out.variance.astype(jnp.float32)).all()


PARAMETERS = jnp.linspace(-1, 1, 12).reshape(3, 4)


class TestNodes:
    def test_collapsed_nodes_are_their_activations(self):
        x = belief(5)
        for node, plain in ((relu, jax.nn.relu), (spin, jnp.tanh)):
            got = cg.moments(lambda x, node=node: node(2 * x))(x)
            expected = cg.moments(lambda x, plain=plain: plain(2 * x))(x)
            jax.tree.map(np.testing.assert_array_equal, got, expected)

    def test_random_nodes_add_their_noise(self):
        e = jnp.linspace(-2, 2, 5)
        known = cg.moments(spin, nodes="random")(e)
        np.testing.assert_allclose(known.mean, jnp.tanh(e), rtol=1e-6)
        np.testing.assert_allclose(known.variance, 1 - jnp.tanh(e) ** 2, rtol=1e-5)
        x = belief(5)
        got = cg.moments(spin, nodes="random")(x)
        np.testing.assert_allclose(got.variance, 1 - got.mean**2, rtol=1e-4)

    def test_dropout_noise_is_marginalised(self):
        keep = jnp.full(3, 0.8)

        def drop(x):
            return x * cg.noise(cg.nodes.BernoulliMask(), keep, name="drop") / keep

        x = jnp.array([1.0, 2.0, -3.0])
        np.testing.assert_array_equal(cg.moments(drop)(x).variance, jnp.zeros(3))
        noisy = cg.moments(drop, nodes="random")(x)
        np.testing.assert_allclose(noisy.variance, x**2 * 0.2 / 0.8, rtol=1e-5)

    @pytest.mark.numerics
    def test_marginals_of_spin_networks(self):
        """Closer to the exact marginals than feed-forward is."""

        def net(layers, x):
            for w in layers:
                x = spin(x @ w)
            return x

        for scale, factor in ((0.1, 4), (0.3, 5), (1.0, 2)):
            errors = []
            for seed in range(4):
                layers = [scale * w for w in weights(6, 6, 6, seed=seed)]
                x = jnp.sign(jax.random.normal(jax.random.key(seed), (6,)))
                exact = cg.exact_marginals(net)(layers, x)
                propagated = cg.moments(net, nodes="random")(layers, x).mean
                plain = jnp.abs(net(layers, x) - exact).mean()
                errors.append([plain, jnp.abs(propagated - exact).mean()])
            plain, better = np.mean(errors, 0)
            assert better * factor < plain

    def test_beliefs_of_nodes(self):
        out, nodes = cg.with_nodes(cg.moments(lambda x: 2 * relu(x, "h")))(belief(4))
        np.testing.assert_allclose(out.mean, 2 * nodes["h"].mean, rtol=1e-6)
        np.testing.assert_allclose(out.variance, 4 * nodes["h"].variance, rtol=1e-6)


class TestModules:
    class Net(nnx.Module):
        """A dense layer, batch statistics, and a node."""

        def __init__(self, rngs):
            self.linear = nnx.Linear(3, 4, rngs=rngs)
            self.norm = nnx.BatchNorm(4, rngs=rngs)

        def __call__(self, x):
            return relu(self.norm(self.linear(x)))

    def test_a_module_and_its_function(self):
        net = self.Net(nnx.Rngs(0))
        net.eval()
        x = belief(5, 3)
        got = cg.moments(net)(x)
        f, params, state = cg.functional(net)
        out, new_state = cg.moments(f)(params, state, x)
        jax.tree.map(np.testing.assert_array_equal, out, got)
        assert not any(
            isinstance(leaf, Belief)
            for leaf in jax.tree.leaves(new_state, is_leaf=lambda a: isinstance(a, Belief))
        )
        posterior = jax.tree.map(lambda p: Belief(p, jnp.full_like(p, 0.01)), params)
        wider, _ = cg.moments(f)(posterior, state, x)
        assert (wider.variance > out.variance).mean() > 0.9

    def test_batch_statistics_are_updated_at_their_means(self):
        net, plain = self.Net(nnx.Rngs(0)), self.Net(nnx.Rngs(0))
        x = belief(5, 3)
        cg.moments(net)(x)
        plain(x.mean)
        np.testing.assert_allclose(net.norm.mean[...], plain.norm.mean[...], rtol=1e-5, atol=1e-6)


class TestErrors:
    def test_a_primitive_without_a_rule(self):
        def net(x):
            return jnp.sort(x * 2)

        with pytest.raises(TypeError, match=r"`sort`.*test_moments\.py.*first_order"):
            cg.moments(net)(belief(4))
        got = cg.moments(net, first_order=["sort"])(
            Belief(jnp.array([3.0, 1.0]), jnp.array([1.0, 2]))
        )
        np.testing.assert_allclose(got.mean, [2.0, 6.0])
        np.testing.assert_allclose(got.variance, [8.0, 4.0], rtol=1e-6)
        # Where nothing is uncertain, no rule is needed.
        np.testing.assert_array_equal(cg.moments(net)(jnp.array([2.0, 1.0])).mean, [2.0, 4.0])

    def test_a_function_hidden_in_a_primitive_is_not_guessed(self):
        with pytest.raises(TypeError, match="`scatter`"):
            cg.moments(lambda x: x.at[0].apply(jnp.sin))(belief(3))

    def test_registered_rules(self):
        @jax.jit
        def strange(x):
            return jnp.sort(x)

        @cg.moment_rule(strange)
        def rule(x):
            return Belief(x.mean + 1, x.variance + 1)

        x = belief(4)
        np.testing.assert_allclose(cg.moments(strange)(x).mean, x.mean + 1)

        @jax.jit
        def wrong(x):
            return jnp.sort(x)

        cg.moment_rule(wrong)(lambda x: Belief(x.mean[:1], x.variance[:1]))
        with pytest.raises(TypeError, match="shape"):
            cg.moments(wrong)(x)
        with pytest.raises(TypeError, match="primitive"):
            inspect.unwrap(cg.moment_rule)(3)  # type: ignore[arg-type]

    def test_options_and_beliefs_are_checked(self):
        build = inspect.unwrap(cg.moments)  # without the checks of annotations
        with pytest.raises(ValueError, match="collapsed"):
            build(jnp.sin, nodes="sampled")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="order"):
            build(jnp.sin, order=3)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="first_order"):
            cg.moments(jnp.sin, first_order="sort")
        with pytest.raises(ValueError, match="shape"):
            cg.moments(jnp.sin)(Belief(jnp.zeros(3), jnp.zeros(2)))
        with pytest.raises(TypeError, match="floating"):
            cg.moments(jnp.sin)(Belief(jnp.zeros(3, int), jnp.zeros(3)))

"""Families at the ends of the floating-point range, and beyond: limits, not NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cgjax import nodes
from tests.nodes.table import DISTINCT, believed, given, names

pytestmark = pytest.mark.numerics

LARGEST = float(np.finfo(np.float32).max)
# Pairs of a natural parameter and a larger one, at which everything is as far as it gets.
FAR = np.array([1e4, 1e10, 1e25, 3e38, LARGEST])
VARIANCES = np.array([0.0, 1.0, 1e8])
WORDS = np.array([0, 1, 2**31 - 1, 2**31, 2**32 - 1], np.uint32)
# Elsewhere, the deviation grows with e, and with it the variance, beyond the range; or the values
# themselves are 1.05 e; or there is no limit.
BOUNDED = tuple(
    case
    for case in DISTINCT
    if not case.bounded
    and case.name not in ("rectified_function", "selu", "sine")
    and not isinstance(case.family, nodes.Categorical)
)
# Those of `jax.nn` are NaN at an infinity (0 times it), and a slope of GELU's before.
OF_JAX = (nodes.GELU, nodes.SiLU, nodes.Mish, nodes.HardSiLU, nodes.SoftSign)


@jax.jit
def everything(family, words, e, variance):
    """All values, and their derivatives by e and by the variance."""

    def values(e, variance):
        x = jax.lax.stop_gradient(family.from_words(words, e))
        return given(family, words, x, e) | believed(family, e, variance)

    one, zero = jnp.ones_like(e), jnp.zeros_like(e)
    directions = jnp.stack([one, zero]), jnp.stack([zero, one])
    slopes = jax.vmap(lambda *t: jax.jvp(values, (e, variance), t)[1])(*directions)
    return values(e, variance), slopes


@pytest.mark.parametrize("case", BOUNDED, ids=names)
def test_far_out_and_at_infinity(case):
    ends = np.concatenate([FAR, -FAR, [np.inf, -np.inf]])
    e, variance = (a.ravel() for a in np.meshgrid(ends, VARIANCES, indexing="ij"))
    words = np.resize(WORDS, (e.size, 4))
    e, variance = (np.repeat(a[:, None], 4, 1).astype(np.float32) for a in (e, variance))
    values, slopes = everything(case.family, words, e, variance)
    shape = (len(ends), len(VARIANCES), 4)
    for kind, results in (("", values), ("slope of ", slopes)):
        for name, result in results.items():
            if name == "log_prob":
                continue  # of a sample that may be infinite itself
            if name == "activation" and isinstance(case.family, OF_JAX):
                continue
            result = np.asarray(result, np.float64)
            at = result.reshape(*result.shape[:-2], *shape).swapaxes(0, -3)
            assert np.isfinite(at[:-2]).all(), kind + name
            # At infinity, what it was at the largest numbers; or infinite, if that was as large.
            for infinite, largest in ((at[-2], at[4]), (at[-1], at[9])):
                grows = np.abs(largest) > 1e30
                assert (infinite == np.where(grows, np.copysign(np.inf, largest), infinite)).all()
                np.testing.assert_allclose(
                    infinite[~grows], largest[~grows], 1e-5, 1e-6, err_msg=kind + name
                )


@pytest.mark.parametrize(
    "family", [nodes.Bernoulli(), nodes.Spin(), nodes.Binary(-2.0, 1.0)], ids=repr
)
def test_squashing_families_at_an_infinite_variance(family):
    mean = jnp.array([0.0, 3.0, -1e4, LARGEST])
    low, high = np.asarray(family.states()).ravel()
    statistic, activation = jax.jit(family.moments)(mean, jnp.full(4, jnp.inf))
    # Either state as often, and the activation is always one of them. The quadrature is within
    # 1e-3 of a range of 1.
    middle, most = (low + high) / 2, (high - low) ** 2 / 4
    np.testing.assert_allclose(statistic.mean[:3], [middle] * 3, atol=3e-3)
    np.testing.assert_allclose(statistic.variance[:3], [most] * 3, rtol=3e-3)
    np.testing.assert_allclose(activation.variance[:3], [most] * 3, rtol=3e-3)
    assert np.isfinite(statistic.mean).all() and np.isfinite(activation.variance).all()


def test_classes_at_infinite_variances():
    statistic, activation = nodes.Categorical().moments(
        jnp.array([0.0, 1.0, -2.0]), jnp.full(3, jnp.inf)
    )
    np.testing.assert_allclose(statistic.mean.sum(), 1, rtol=1e-5)
    assert ((statistic.mean > 0.2) & (statistic.mean < 0.5)).all()
    assert ((activation.variance > 0) & (activation.variance <= statistic.variance)).all()


@pytest.mark.parametrize("family", [nodes.Softplus(), nodes.ReLU(), nodes.NairHinton()], ids=repr)
def test_the_largest_float16(family):
    e = jnp.array([65504.0, -65504.0, np.inf, -np.inf], jnp.float16)
    for belief in family.moments(e, jnp.zeros(4, jnp.float16)):
        np.testing.assert_allclose(belief.mean, [65504, 0, np.inf, 0])
        assert np.isfinite(belief.variance).all() and (belief.variance >= 0).all()


# The point mass of a rectified node: log Phi(-e / scale), whose derivative by e / scale at 0 is
# -phi(0) / Phi(0).
SLOPE = -(2**0.5) / np.pi**0.5


@pytest.mark.parametrize(
    ("family", "scale"),
    [
        (nodes.RectifiedGaussian(1.0), 1.0),
        (nodes.RectifiedGaussian(0.5, leak=0.0), 0.5),
        (nodes.Softplus(), nodes.SOFTPLUS_SCALE),
        (nodes.NairHinton(), 0.5),
        (nodes.ReLU(), nodes.SMALLEST_SCALE),
        (nodes.LeakyReLU(0.0), nodes.SMALLEST_SCALE),
    ],
    ids=repr,
)
def test_the_point_mass_at_zero_and_its_derivatives(family, scale):
    def log_prob(e):
        return family.log_prob(jnp.float32(0), e)

    assert np.isclose(jax.grad(log_prob)(0.0), SLOPE / scale, rtol=1e-5)
    np.testing.assert_allclose(log_prob(0.0), -np.log(2), rtol=1e-6)
    e = jnp.array([9.999, 10.0, 10.001, 100.0, 1e4])
    if not isinstance(family, nodes.Softplus):
        second = jax.vmap(jax.grad(jax.grad(log_prob)))(e)
        wide = scale if family == nodes.RectifiedGaussian(0.5) else 1.0
        # -h (z + h) tends to -1 from above: -.9906 at z = -10.
        assert (second * wide**2 < -0.98).all() and (second * wide**2 > -1.0001).all()


def test_known_parameters_that_are_no_probability_raise():
    for family in (nodes.BernoulliMask(), nodes.GaussianMask(), nodes.SoftClamp(0.0, 1.0)):
        for keep in (np.nan, -1.0, 1.5):
            with pytest.raises(ValueError, match="got values from"):
                family.sample(jax.random.key(0), jnp.array([0.5, keep]))

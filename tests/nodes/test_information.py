"""Entropies and divergences in closed form, against sums, quadrature and long doubles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cgjax import nodes

E = np.array([[-2.3, -0.4, 0.0, 0.6], [0.0, 1.7, 3.1, -0.9]])
# Two are equal: there the divergence and its first derivatives are 0.
OTHER = np.array([[1.1, -0.4, 0.8, 0.0], [0.0, -1.2, 2.9, -1.5]])
SCALE = np.array([0.5, 1.0, 1.5, 2.0])
PAIRS = {
    "bernoulli": (nodes.Bernoulli(), nodes.Binary(0.0, 1.0)),
    "spin": (nodes.Spin(), nodes.Spin()),
    "binary": (nodes.Binary(-1.0, 3.0), nodes.Binary(-1.0, 3.0)),
    "categorical": (nodes.Categorical(), nodes.Categorical()),
    "categorical_first": (nodes.Categorical(axis=-2), nodes.Categorical(axis=-2)),
    "gaussian": (nodes.Gaussian(SCALE), nodes.Gaussian(1.2)),
    "gaussian_mask": (nodes.GaussianMask(), nodes.Gaussian(0.7)),
    "bernoulli_mask": (nodes.BernoulliMask(), nodes.SoftClamp(0.0, 1.0)),
}


def parameters(name):
    if name == "gaussian_mask":
        return 0.5 + 0.1 * E, 1 + 0 * OTHER
    return (0.5 + 0.1 * E, 0.5 + 0.1 * OTHER) if "mask" in name else (E, OTHER)


def by_definition(family, e, other, other_e):
    """Entropy and divergence as expectations of log-probabilities, over states or over a grid."""
    if isinstance(family, nodes.Categorical):
        eye = jnp.eye(e.shape[family.axis])
        points = [jnp.expand_dims(row, 1) if family.axis == -2 else row for row in eye]
        points = jnp.stack([jnp.broadcast_to(point, e.shape) for point in points])
        weights = jnp.ones(len(points))
    elif family.discrete:
        points = jnp.stack([jnp.broadcast_to(state, e.shape) for state in family.states()])
        weights = jnp.ones(2)
    else:  # the trapezoidal rule, which is exact but for exp(-100) on smooth functions that vanish
        grid, width = np.linspace(-15, 15, 601, retstep=True)
        spread = jnp.sqrt(family.variance(e))
        at = jax.lax.stop_gradient((family.mean(e), spread))
        points = at[0][None] + at[1][None] * grid.reshape(-1, 1, 1)
        weights = jnp.broadcast_to(width * at[1][None], (601, *e.shape))
    log_p = jnp.stack([family.log_prob(x, e) for x in points]) if family.discrete else None
    if log_p is None:
        log_p = jax.vmap(family.log_prob, (0, None))(points, e)
        log_q = jax.vmap(other.log_prob, (0, None))(points, other_e)
    else:
        log_q = jnp.stack([other.log_prob(x, other_e) for x in points])
    weights = weights.reshape(-1, *weights.shape[1:] or (1, 1))
    mass = weights * jnp.exp(log_p)
    return -jnp.sum(mass * log_p, 0), jnp.sum(mass * (log_p - log_q), 0)


@pytest.mark.parametrize("name", PAIRS)
def test_values_and_two_derivatives_are_those_of_the_expectations(name):
    family, other = PAIRS[name]

    def closed(family, e, other, other_e):
        return family.entropy(e), family.kl(e, other, other_e)

    def everything(of, e, other_e):
        def total(both):
            parts = of(family, both[0], other, both[1])
            return sum(
                jnp.sum(part * jnp.cos(1.0 + jnp.arange(part.size).reshape(part.shape)))
                for part in parts
            )

        slopes = jax.grad(total)
        bends = jax.grad(lambda both: sum(jnp.sum(jnp.sin(2.0 + s) * s) for s in slopes(both)))
        both = (e, other_e)
        return of(family, e, other, other_e), slopes(both), bends(both)

    with jax.enable_x64(True):
        found = jax.jit(lambda *both: [everything(of, *both) for of in (closed, by_definition)])
        got, expected = found(*map(jnp.asarray, parameters(name)))
        for mine, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
            assert mine.shape == theirs.shape
            np.testing.assert_allclose(mine, theirs, 1e-9, 1e-12)  # float64, few terms
        assert got[0][0].shape == family.mask_shape(E.shape)


def long_kl(p, q):
    """sum p log(p / q) over axis 0 of logits, in long doubles."""
    p, q = np.asarray(p, np.longdouble), np.asarray(q, np.longdouble)
    log_p, log_q = (x - np.log(np.exp(x).sum(0)) for x in (p, q))
    return (np.exp(log_p) * (log_p - log_q)).sum(0)


@jax.jit
def closed_in_float32(a, b, p, scale):
    two = nodes.Bernoulli().kl(a[0], nodes.Bernoulli(), b[0])
    spins = nodes.Spin().kl(a[0] / 2, nodes.Spin(), b[0] / 2)
    classes = nodes.Categorical(-3).kl(a, nodes.Categorical(-3), b)
    masks = nodes.BernoulliMask().kl(p, nodes.BernoulliMask(), scale * p)
    zero = jnp.zeros_like(scale)
    normal = nodes.Gaussian(scale).kl(zero, nodes.Gaussian(1.0), zero)
    return two, spins, classes, masks, normal


def test_close_distributions_keep_their_digits_in_float32():
    steps = np.array([0.0, 2e-4, -2e-4, 1e-3, -0.1, 0.4, 0.6, -0.9, 1.1, 5.0, -5.0], np.float32)
    base = np.array([-9.0, -1.0, 0.0, 2.0, 9.0], np.float32)[:, None]
    a = np.stack(np.broadcast_arrays(base + 0 * steps, 0.25 * base, np.float32(0.5)))
    b = np.stack(np.broadcast_arrays(base + steps, 0.25 * base - steps, np.float32(0.5)))
    p, scale = np.full(steps.shape, 0.25, np.float32), 1 + steps / 8
    found = closed_in_float32(*map(jnp.asarray, (a, b, p, scale)))
    two, spins, classes, masks, normal = (np.asarray(x, np.float64) for x in found)
    zero = np.zeros_like(a[0])
    binary = long_kl(np.stack([a[0], zero]), np.stack([b[0], zero]))
    # A few roundings of float32, of which exp magnifies those of its argument, up to 14.
    tolerance = 4e-6
    np.testing.assert_allclose(two, np.float64(binary), tolerance)
    np.testing.assert_allclose(spins, np.float64(binary), tolerance)
    np.testing.assert_allclose(classes[0], np.float64(long_kl(a, b)), tolerance)
    p, q, ratio = (np.asarray(x, np.longdouble) for x in (p, scale * p, scale))
    expected = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    np.testing.assert_allclose(masks, np.float64(expected), tolerance)
    expected = (ratio**2 - 1) / 2 - np.log(ratio)
    np.testing.assert_allclose(normal, np.float64(expected), tolerance)
    assert np.all(two[:, 1:] > 0) and np.all(normal[1:] > 0)  # no step is lost in rounding


def test_extremes_are_finite_and_exclusions_infinite():
    def of_all(e, scale, logits, other):
        families = nodes.Bernoulli(), nodes.Spin(), nodes.Gaussian(scale)
        parts = [f.kl(e, f, -e) for f in families] + [f.entropy(e) for f in families]
        parts += [nodes.Gaussian(scale).kl(e, nodes.Gaussian(scale[::-1]), e)]
        classes = nodes.Categorical()
        return parts, (classes.kl(logits, classes, other), classes.entropy(logits))

    e = jnp.array([-1e4, -30.0, 0.0, 1e4])
    scale = jnp.array([0.0, 1e-3, 1e3, 1e8])
    possible = jnp.array([[0.0, 1.0, -jnp.inf], [0.0, -jnp.inf, 1.0], [1e4, -1e4, 0.0]])
    others = jnp.array([[0.0, 1.0, 2.0], [0.0, 2.0, -jnp.inf], [-1e4, 1e4, 0.0]])

    @jax.jit
    def run(*arguments):
        def total(e, scale, possible, others):
            parts, of_classes = of_all(e, scale, possible, others)
            return sum(map(jnp.sum, (*parts, *of_classes)))

        return of_all(*arguments), jax.grad(total, range(4))(*arguments)

    (parts, (divergence, entropy)), slopes = run(e, scale, possible, others)
    for array in (*parts, entropy, *slopes):
        assert np.isfinite(array).all()
    # log((1 + e + e^2) / (1 + e)): what the excluded state has is missing elsewhere.
    expected = [np.log1p(np.exp(2) / (1 + np.e)), np.inf, 2e4]
    np.testing.assert_allclose(divergence[:, 0], expected, 1e-6)
    assert not np.any(slopes[2][1]) or not np.any(slopes[3][1])
    infinite = jax.jit(lambda a, b: nodes.Bernoulli().kl(a, nodes.Bernoulli(), b))(
        jnp.array([jnp.inf, -jnp.inf, 0.0]), jnp.array([jnp.inf, 2.0, jnp.inf])
    )
    np.testing.assert_allclose(infinite, [0, np.log1p(np.exp(2.0)), np.inf], 1e-6)


def test_what_has_no_closed_form_says_so():
    e = jnp.zeros(3)
    relu, gaussian = nodes.ReLU(), nodes.Gaussian(1.0)
    with pytest.raises(TypeError, match="ReLU has no closed form of its entropy. Estimate"):
        relu.entropy(e)
    for one, other in [
        (relu, relu),
        (nodes.Spin(), nodes.Bernoulli()),
        (gaussian, relu),
        (nodes.Categorical(), nodes.Categorical(-2)),
    ]:
        assert not one.has_kl(other)
        with pytest.raises(TypeError, match=r"no closed form of KL\(.* two Gaussians"):
            one.kl(e, other, e)
    with pytest.raises(ValueError, match=r"one shape, .* \(3,\) and \(2,\)"):
        gaussian.kl(e, gaussian, e[:2])


def test_the_entropy_of_a_continuous_bernoulli_is_that_of_its_density():
    with jax.enable_x64(True):
        points, weights = np.polynomial.legendre.leggauss(60)
        points, weights = jnp.asarray(points / 2 + 0.5), jnp.asarray(weights / 2)
        family = nodes.ContinuousBernoulli()

        def by_quadrature(e):
            log_p = family.log_prob(points, jnp.broadcast_to(e, points.shape))
            return -jnp.sum(weights * jnp.exp(log_p) * log_p)

        @jax.jit
        def both(e):
            found = [jax.vmap(jax.value_and_grad(f)) for f in (family.entropy, by_quadrature)]
            return [f(e) for f in found]

        ours, theirs = both(jnp.array([-30.0, -1.2, -0.5, 0.0, 1e-3, 0.9, 1.1, 8.0]))
        # Sixty points are exact for such densities.
        np.testing.assert_allclose(ours, theirs, 1e-10, 1e-13)
        words = jnp.array([2**31 + 7, 9, 2**32 - 5], jnp.uint32)[:, None]
        at = jnp.array([[-20.0, -1.2, -0.15, 0.0, 0.19, 0.21, 5.0]]) + jnp.zeros((3, 1))
        drawn = jax.jit(lambda e: family.from_words(words + 0 * e.astype(jnp.uint32), e))
        slope = jax.jit(jax.jvp, static_argnums=0)(drawn, (at,), (jnp.ones_like(at),))[1]
        step = 1e-5
        # The polynomial near 0 is right to 1e-7, and so are differences.
        expected = (drawn(at + step) - drawn(at - step)) / (2 * step)
        np.testing.assert_allclose(slope, expected, 2e-6, 1e-9)

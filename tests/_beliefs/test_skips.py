"""What a skip and its branch have in common, against the diagonal of the branch's Jacobian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import cgjax as cg
from cgjax import Belief

IMAGES = ("NHWC", "HWIO", "NHWC")


def convolved(x, kernel):
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=IMAGES)


def kernels(*shapes):
    keys = jax.random.split(jax.random.key(0), len(shapes))
    return [
        jax.random.normal(k, s) / np.prod(s[:-1]) ** 0.5 for k, s in zip(keys, shapes, strict=True)
    ]


DENSE = kernels((5, 7), (7, 5)), kernels((5, 5)), kernels((5, 2), (2, 5))
TAPS = (
    kernels((3, 3, 2, 4), (3, 3, 4, 2)),
    kernels((3, 3, 2, 2)),
    kernels((1, 3, 2, 3), (3, 1, 3, 2)),
)


@pytest.mark.parametrize(
    ("weights", "shape", "layer"),
    [(w, (14, 5), jnp.matmul) for w in DENSE] + [(w, (1, 5, 4, 2), convolved) for w in TAPS],
    ids=["two", "one", "narrow", "two convolutions", "one convolution", "mixed taps"],
)
def test_a_linear_branch(weights, shape, layer):
    """The variance grows by twice the covariance, Var[x] times an element of the diagonal."""

    def branch(x):
        for kernel in weights:
            x = layer(x, kernel)
        return x

    x = Belief(*jax.random.uniform(jax.random.key(1), (2, *shape)))

    def found(x):
        both = cg.moments(lambda x: (x + branch(x), x - branch(x), branch(x)))(x)
        slopes = jax.jacobian(branch)(x.mean).reshape(x.mean.size, -1)
        return both, jnp.diagonal(slopes).reshape(shape)

    (total, difference, alone), slopes = jax.jit(found)(x)
    apart = x.variance + alone.variance
    twice = 2 * x.variance * slopes
    np.testing.assert_allclose(total.variance, apart + twice, rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(difference.variance, apart - twice, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "kernel", "layer"),
    [((14, 5), (5, 3), jnp.matmul), ((2, 5, 4, 2), (3, 3, 2, 3), convolved)],
    ids=["product", "convolution"],
)
def test_two_layers_of_one_value_are_one(shape, kernel, layer):
    one, other = kernels(kernel, kernel)
    other = Belief(other, jnp.full(kernel, 0.1))
    x = Belief(*jax.random.uniform(jax.random.key(1), (2, *shape)))

    def apart(other, x):
        return layer(x, one) - layer(x, other)

    def together(other, x):
        return layer(x, one - other)

    found = jax.jit(lambda *args: [cg.moments(f)(*args) for f in (apart, together)])(other, x)
    np.testing.assert_allclose(found[0].variance, found[1].variance, rtol=2e-5)


def test_residual_blocks_against_samples():
    """Single variances of two blocks with uncertain weights, which were half and twice as large."""
    weights = kernels((6, 8), (8, 9), (9, 8), (8, 9), (9, 8))

    def net(weights, x):
        first, *rest = weights
        x = x @ first
        for one, two in zip(rest[::2], rest[1::2], strict=True):
            x = x + jax.nn.relu(x @ one) @ two
        return x

    about = [Belief(w, jnp.full_like(w, 0.1 / len(w))) for w in weights]
    x = jax.random.normal(jax.random.key(2), (16, 6))

    def sample(key):
        keys = jax.random.split(key, len(about))
        return net(
            [
                b.mean + b.variance**0.5 * jax.random.normal(k, b.mean.shape)
                for k, b in zip(keys, about, strict=True)
            ],
            x,
        )

    @jax.jit
    def both(keys):
        draws = lax.map(sample, keys, batch_size=100)
        return cg.moments(net)(about, x).variance / draws.var(0)

    ratio = both(jax.random.split(jax.random.key(3), 4000))
    assert 0.9 < ratio.mean() < 1.1
    low, high = np.quantile(ratio, [0.1, 0.9])
    assert 0.75 < low and high < 1.3


def test_positions_of_a_convolution_of_independent_pixels():
    """Neighbours see the same pixels: an average over windows knows how they go together."""
    kernel = jnp.ones((3, 3, 1, 1)) / 9
    x = Belief(jnp.zeros((1, 12, 12, 1)), jnp.ones((1, 12, 12, 1)))

    def net(x):
        return lax.reduce_window(
            convolved(x, kernel), 0.0, lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"
        )

    variance = jax.jit(cg.moments(net))(x).variance
    slopes = jax.jacobian(net)(x.mean).reshape(36, -1)
    exact = (slopes**2).sum(1).reshape(variance.shape)
    inside = variance[0, 1:-1, 1:-1] / exact[0, 1:-1, 1:-1]
    # Corners of a window count as neighbours, which they are less; independent ones give 0.36.
    np.testing.assert_allclose(inside, 1, atol=0.12)


def test_positions_of_a_branch_move_with_those_of_its_skip():
    """Of a linear network all is known: its average over positions, with uncertain first kernels.

    An average correlation stands for those of all pairs of positions; without what the branch's
    positions have in common with the skip's, two thirds of the variance are left.
    """
    keys = jax.random.split(jax.random.key(3), 3)
    x = jax.random.uniform(keys[0], (2, 6, 6, 3)) + 0.5
    first = jax.random.normal(keys[1], (3, 3, 3, 4)) / 5
    second = jnp.abs(jax.random.normal(keys[2], (3, 3, 4, 4))) / 20

    def net(kernel):
        h = convolved(x, kernel)
        return (h + convolved(h, second)).mean((1, 2))

    variance = 0.1 + first**2
    slopes = jax.jacobian(net)(first).reshape(8, -1)
    exact = (slopes**2 @ variance.reshape(-1)).reshape(2, 4)
    found = cg.moments(net)(Belief(first, variance)).variance
    np.testing.assert_allclose(found, exact, rtol=0.1)

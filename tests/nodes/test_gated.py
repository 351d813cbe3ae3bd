"""Families whose values are a few numbers that depend on e: self-gated nodes, exponential units."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import cgjax as cg
from cgjax import nodes
from tests.nodes.table import GATED, Case, names, samples

SMALLEST_P_VALUE = 6e-7


def atoms(family: nodes.Family, e: np.ndarray) -> list[np.ndarray]:
    """The values that a node may take at each e; the last one is what passes through it."""
    zero = np.zeros_like(e)
    if isinstance(family, nodes.GELU | nodes.SiLU | nodes.Mish | nodes.HardSiLU):
        return [zero, e]
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    if isinstance(family, nodes.ELU | nodes.CELU):
        scale, alpha = 1.0, np.asarray(family.alpha)
    return [zero, np.where(e > 0, scale * e, -scale * alpha)]


@pytest.mark.parametrize("case", GATED, ids=names)
def test_the_law_of_two_values(case: Case):
    drawn, single = samples(case), np.asarray(case.e, np.float32)
    with jax.enable_x64(True):
        values = atoms(case.family, case.e)
        log_prob = jax.jit(case.family.log_prob)
        p = [np.exp(np.asarray(log_prob(jnp.asarray(x), jnp.asarray(case.e)))) for x in values]
        np.testing.assert_allclose(p[0] + p[1], 1, rtol=1e-14)
        mean = p[0] * values[0] + p[1] * values[1]
        np.testing.assert_allclose(mean, case.family.mean(case.e), rtol=1e-12, atol=1e-15)
        second = p[0] * (values[0] - mean) ** 2 + p[1] * (values[1] - mean) ** 2
        np.testing.assert_allclose(second, case.family.variance(case.e), rtol=1e-11, atol=1e-15)
        entropy = scipy.special.entr(p[0]) + scipy.special.entr(p[1])
        if isinstance(case.family, nodes.GELU | nodes.SiLU | nodes.Mish | nodes.HardSiLU):
            np.testing.assert_allclose(entropy, case.family.entropy(case.e), rtol=1e-12, atol=1e-15)
    hit = [drawn == np.asarray(x, np.float32) for x in atoms(case.family, single)]
    assert np.all(hit[0] | hit[1])
    count, both = hit[1].sum(0), (p[1] > 0) & (p[1] < 1)
    number = len(drawn)
    z = (count - number * p[1])[both] / np.sqrt(number * (p[0] * p[1])[both])
    assert np.all(np.abs(z) < scipy.stats.norm.isf(SMALLEST_P_VALUE / 2))
    np.testing.assert_array_equal(count[~both], number * p[1][~both])


PLAIN = {
    "gelu": (nodes.GELU(), jax.nn.gelu),
    "gelu_exact": (nodes.GELU(approximate=False), lambda e: jax.nn.gelu(e, approximate=False)),
    "silu": (nodes.SiLU(), jax.nn.silu),
    "mish": (nodes.Mish(), jax.nn.mish),
    "hard_silu": (nodes.HardSiLU(), jax.nn.hard_silu),
    "elu": (nodes.ELU(1.3), lambda e: jax.nn.elu(e, 1.3)),
    "selu": (nodes.SELU(), jax.nn.selu),
    "celu": (nodes.CELU(1.3), lambda e: jax.nn.celu(e, 1.3)),
    "hard_tanh": (nodes.HardTanh(), jax.nn.hard_tanh),
    "hard_sigmoid": (nodes.HardSigmoid(), jax.nn.hard_sigmoid),
    "sparse_sigmoid": (nodes.SparseSigmoid(), jax.nn.sparse_sigmoid),
    "relu6": (nodes.ReLU6(), jax.nn.relu6),
    "soft_sign": (nodes.SoftSign(), jax.nn.soft_sign),
    "sparse_plus": (nodes.SparsePlus(), jax.nn.sparse_plus),
}


@pytest.mark.parametrize("name", PLAIN)
def test_the_activation_is_that_of_jax_and_the_mean(name):
    family, plain = PLAIN[name]
    e = np.linspace(-7, 7, 281, dtype=np.float32)
    for dtype in (jnp.float32, jnp.bfloat16, jnp.float16):
        narrow = jnp.asarray(e, dtype)
        np.testing.assert_array_equal(family.activation(narrow), plain(narrow))
    # The library's functions round at their largest intermediate number.
    np.testing.assert_allclose(family.mean(e), plain(jnp.asarray(e)), rtol=2e-5, atol=1e-6)
    slope, own = (jax.vmap(jax.grad(lambda e, f=f: f(e)))(e) for f in (plain, family.activation))
    np.testing.assert_array_equal(slope, own)


@pytest.mark.parametrize(
    "family", [nodes.GELU(), nodes.SiLU(2.0), nodes.ELU(1.5), nodes.SELU()], ids=repr
)
def test_decisions_and_what_passes_have_the_derivative_of_the_mean_together(family):
    e, number = np.array([-1.2, -0.4, 0.3, 1.1], np.float32), 400_000

    def estimate(e, words):
        x = family.from_words(words, e)
        log_prob = family.log_prob(jax.lax.stop_gradient(x), e)
        return jnp.sin(x) + jax.lax.stop_gradient(jnp.sin(x)) * (
            log_prob - jax.lax.stop_gradient(log_prob)
        )

    words = jax.random.bits(jax.random.key(0), (number, 4))
    slopes = jax.jit(jax.vmap(jax.vmap(jax.grad(estimate)), (None, 0)))(jnp.asarray(e), words)
    slopes = np.asarray(slopes, np.float64)
    step = 1e-4

    def expectation(e):
        values = atoms(family, e)
        with jax.enable_x64(True):
            p = [
                np.exp(np.asarray(family.log_prob(jnp.asarray(x), jnp.asarray(e)))) for x in values
            ]
        return sum(q * np.sin(x) for q, x in zip(p, values, strict=True))

    wide = e.astype(np.float64)
    exact = (expectation(wide + step) - expectation(wide - step)) / (2 * step)
    error = slopes.std(0) / number**0.5
    assert np.all(np.abs(slopes.mean(0) - exact) < 5 * error + 1e-6)


def test_in_a_network():
    x, w = (
        jax.random.normal(jax.random.key(0), (5, 4)),
        jax.random.normal(jax.random.key(1), (4, 3)),
    )

    def net(w, x):
        h = cg.node(nodes.GELU(), x @ w, name="h")
        return cg.node(nodes.Gaussian(1.0), h.sum(-1), name="y")

    key = jax.random.key(2)
    np.testing.assert_array_equal(net(w, x), jax.nn.gelu(x @ w).sum(-1))
    out, values = cg.with_nodes(cg.forward_sample(net))(key, w, x)
    assert np.isfinite(jax.jit(cg.log_joint(net, batch_axes=0))(values, w, x)).all()
    assert np.all((values["h"] == 0) | (np.abs(values["h"] - x @ w) < 1e-5))
    assert np.isfinite(cg.log_joint(net, batch_axes=0)(values, w, x)).all()
    # Sampled or not, a node computes one of the two.
    mixed = cg.pcff(net, 0.5)(key, w, x)
    assert not np.array_equal(mixed, out) and mixed.shape == (5,)


@pytest.mark.parametrize("family", [nodes.GELU(), nodes.ELU()], ids=repr)
def test_straight_through_has_the_derivative_of_the_activation(family):
    e = jnp.array([-0.7, 0.4, 1.2])
    net = lambda e: cg.node(family, e, name="h").sum()  # noqa: E731
    sample = cg.forward_sample(net, estimator="straight_through")
    slope = jax.grad(lambda e: sample(jax.random.key(3), e))(e)
    np.testing.assert_allclose(slope, jax.grad(lambda e: family.activation(e).sum())(e), 1e-6)


def test_bad_parameters():
    for make in (nodes.SiLU, nodes.ELU, nodes.CELU):
        for wrong in (0.0, -1.0, float("nan"), float("inf")):
            with pytest.raises(ValueError, match="must be above 0 and finite, got"):
                make(wrong)

"""Uncertain parameters of nodes whose elements touch, against samples of the parameters."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg
from cgjax import Belief, weights

pytestmark = pytest.mark.numerics
ROWS, LENGTH, STATES = 2, 5, 3
FORBIDDEN = jnp.zeros((STATES, STATES)).at[0, 2].set(-jnp.inf)
# Both rows are alike, so that what they differ in is noise.
SCORES = jnp.broadcast_to(
    jax.random.normal(jax.random.key(0), (LENGTH, STATES)), (ROWS, LENGTH, STATES)
)
PIXELS = jnp.broadcast_to(jax.random.normal(jax.random.key(1), (3, 4, 2)), (ROWS, 3, 4, 2))
IMAGE = jnp.linspace(0, 1, 12).reshape(3, 4, 1)


def tags(p, x):
    chain = cg.nodes.LinearChain(p["steps"] + FORBIDDEN, p["start"])
    return cg.node(chain, x, name="tags")


def grid(p, x):
    return cg.node(cg.nodes.Grid(p["couplings"], 5, inference="mean_field"), x)


def dense(p, x):
    node = cg.nodes.DenseGrid(
        IMAGE, 1 - jnp.eye(2), appearance_weight=p["appearance"], smoothness_weight=p["smoothness"]
    )
    return cg.node(node, x)


STEPS = jax.random.normal(jax.random.key(2), (STATES, STATES))
CHAIN = {"steps": STEPS, "start": jnp.array([0.5, 0.0, -0.5])}
COUPLINGS = {"couplings": 0.2 * jnp.eye(2)}
CASES = {  # network, means and a deviation of its parameters, input
    "chain": (tags, CHAIN, 0.15, SCORES),
    "grid": (grid, COUPLINGS, 0.15, PIXELS),
    "dense grid": (
        dense,
        {"appearance": jnp.array(0.2), "smoothness": jnp.array(0.2)},
        0.05,
        PIXELS,
    ),
}
NUMBER = 2000
NOISE = {"local": weights.local_reparameterization, "flipout": weights.flipout}


def uncertain(params, deviation):
    return jax.tree.map(lambda m: Belief(m, jnp.full(m.shape, deviation**2)), params)


@pytest.mark.parametrize("case", CASES)
def test_moments_and_both_kinds_of_noise_have_the_law_of_sampled_parameters(case):
    f, params, deviation, x = CASES[case]
    posterior = uncertain(params, deviation)

    def network(p, x):
        y = f(p, x)
        return y, y.sum(1)

    @jax.jit
    def found(posterior, keys):
        def drawn(procedure):
            return jax.vmap(lambda key: procedure(f)(key, posterior, x).mean)(keys)

        return weights.deterministic(network)(None, posterior, x), jax.tree.map(drawn, NOISE)

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is shared that need not be
        keys = jax.random.split(jax.random.key(3), NUMBER)
        (y, total), samples = found(posterior, keys)
    for name, drawn in samples.items():
        drawn = np.asarray(drawn, np.float64)
        # First order leaves errors of second order in the deviation, beside those of the samples.
        np.testing.assert_allclose(y.mean, drawn.mean(0), atol=0.02)
        np.testing.assert_allclose(np.sqrt(y.variance), drawn.std(0), atol=0.012)
        assert drawn.std(0).max() > 0.03
        # All positions move together, which a sum over them shows.
        np.testing.assert_allclose(np.sqrt(total.variance), drawn.sum(2).std(0), atol=0.04)
        # Each row has a draw of its own: equal rows are uncorrelated. Those of flipout are, but for
        # what is even in the noise.
        rows = drawn[:, :, 0].reshape(NUMBER, ROWS, -1)
        correlation = np.corrcoef(rows[:, 0, 0], rows[:, 1, 0])[0, 1]
        assert abs(correlation) < (5 / NUMBER**0.5 if name == "local" else 0.5)


def test_one_chain_has_one_draw_and_what_two_chains_share_is_told():
    posterior, key = uncertain(CHAIN, 0.1), jax.random.key(0)

    def one(p, x):
        return cg.node(cg.nodes.LinearChain(p["steps"]), x)

    def both(p, x):
        return one(p, one(p, x))

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for procedure in NOISE.values():
            jax.eval_shape(procedure(one), key, posterior, SCORES[0])
    with pytest.warns(UserWarning, match="used more than once"):
        jax.eval_shape(weights.local_reparameterization(both), key, posterior, SCORES)


def test_an_uncertain_parameter_of_another_family_counts_beside_an_uncertain_e():
    x = jnp.linspace(-1.0, 1.0, 4)
    posterior = {"low": Belief(jnp.full(4, -1.0), jnp.full(4, 0.09)), "x": Belief(x, 0.04 + 0 * x)}

    def f(p):
        return cg.node(cg.nodes.Binary(p["low"], 1.0), p["x"])

    y = cg.moments(f, nodes="random")(posterior)
    without = cg.moments(f, nodes="random")({**posterior, "low": posterior["low"].mean})
    # E[T] = low + (1 - low) p with p = sigmoid((1 - low) e), by low.
    p = jax.nn.sigmoid(2 * x)
    slope = 1 - p - 2 * x * p * (1 - p)
    np.testing.assert_allclose(y.variance - without.variance, slope**2 * 0.09, rtol=1e-4)

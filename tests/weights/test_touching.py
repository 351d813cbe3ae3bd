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
DEVIATION = 0.15
LENGTHS = jnp.array([LENGTH, LENGTH])


def tags(p, x):
    chain = cg.nodes.LinearChain(p["steps"] + FORBIDDEN, p["start"], p["end"], lengths=LENGTHS)
    return cg.node(chain, x, name="tags")


def grid(p, x):
    return cg.node(cg.nodes.Grid(p["couplings"], 5, inference="mean_field"), x)


def dense(p, x):
    node = cg.nodes.DenseGrid(
        IMAGE, 1 - jnp.eye(2), appearance_weight=p["appearance"], smoothness_weight=p["smoothness"]
    )
    return cg.node(node, x)


STEPS = jax.random.normal(jax.random.key(2), (STATES, STATES))
CHAIN = {"steps": STEPS, "start": jnp.array([0.5, 0.0, -0.5]), "end": jnp.zeros(STATES)}
COUPLINGS = {"couplings": 0.2 * jnp.eye(2)}
CASES = {
    "chain": (tags, CHAIN, SCORES),
    "grid": (grid, COUPLINGS, PIXELS),
    "dense grid": (dense, {"appearance": jnp.array(0.2), "smoothness": jnp.array(0.2)}, PIXELS),
}
NUMBER = 4000


def uncertain(params):
    return jax.tree.map(lambda m: Belief(m, jnp.full(m.shape, DEVIATION**2)), params)


def samples(procedure, posterior, x):
    """With the warnings of the procedure."""
    keys = jax.random.split(jax.random.key(3), NUMBER)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        drawn = jax.jit(
            lambda keys: jax.lax.map(
                lambda k: procedure(k, posterior, x).mean, keys, batch_size=500
            )
        )(keys)
    return np.asarray(drawn, np.float64), [str(w.message) for w in told]


@pytest.mark.parametrize("case", CASES)
def test_moments_and_both_kinds_of_noise_have_the_law_of_sampled_parameters(case):
    f, params, x = CASES[case]
    posterior = uncertain(params)

    @jax.jit
    def found(posterior):
        y = weights.deterministic(f)(None, posterior, x)
        pooled = weights.deterministic(lambda p, x: f(p, x).sum(1))(None, posterior, x)
        return y, pooled

    y, pooled = found(posterior)
    for name in ("local_reparameterization", "flipout"):
        drawn, told = samples(getattr(weights, name)(f), posterior, x)
        assert told == []
        deviation = drawn.std(0)
        # First order leaves an error of second order in the deviation: measured at most 0.013 in
        # means and 0.008 in deviations, which are 0.03 on average.
        np.testing.assert_allclose(y.mean, drawn.mean(0), atol=0.02)
        np.testing.assert_allclose(np.sqrt(y.variance), deviation, atol=0.012)
        # All positions move together, which a sum over them shows.
        total = drawn.sum(2).std(0)
        np.testing.assert_allclose(np.sqrt(pooled.variance), total, atol=0.04)
        # One draw for each row: equal rows are uncorrelated (and those of flipout but for what is
        # even in the noise).
        one, other = drawn[:, 0].reshape(NUMBER, -1), drawn[:, 1].reshape(NUMBER, -1)
        moves = deviation[0].reshape(-1) > 0.01
        correlation = [np.corrcoef(one[:, k], other[:, k])[0, 1] for k in np.flatnonzero(moves)]
        most = 5 / NUMBER**0.5 if name == "local_reparameterization" else 0.5
        assert np.abs(correlation).max() < most


def test_one_chain_has_one_draw_and_what_is_shared_by_two_chains_is_told():
    posterior = uncertain(CHAIN)

    def one(p, x):
        return cg.node(cg.nodes.LinearChain(p["steps"]), x)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        weights.local_reparameterization(one)(jax.random.key(0), posterior, SCORES[0])
        weights.flipout(one)(jax.random.key(0), posterior, SCORES[0])

    def both(p, x):
        return one(p, one(p, x))

    with pytest.warns(UserWarning, match="used more than once"):
        weights.local_reparameterization(both)(jax.random.key(0), posterior, SCORES)


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

"""Collapsed nodes are gone, and samples come with the log-probability that they have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cgjax as cg
from tests.helpers import assert_identical, two_layers, weights

KEY = jax.random.key(3)
PARAMETERS = weights(3, 4, 4, 2)
X = jax.random.normal(jax.random.key(1), (3,))


def mixed(x):
    """Noise, a scope, a loop and a branch."""
    keep = cg.noise(cg.nodes.BernoulliMask(), jnp.full(3, 0.5), name="drop")
    with cg.scope("encoder"):
        h = cg.node(cg.nodes.Gaussian(0.3), 3 + x * keep, name="h") - 3

        def step(state, _):
            state = cg.node(cg.nodes.Spin(), 0.3 * h + state, name="state")
            return state, state

        h = jax.lax.scan(step, h, None, length=2)[1].sum(0)
    taken = lambda h: cg.node(cg.nodes.ReLU(), h, name="taken")  # noqa: E731
    left = lambda h: cg.node(cg.nodes.Spin(), h, name="left")  # noqa: E731
    return 2 * jax.lax.cond(x.sum() > -99, taken, left, h)


def test_collapse_takes_nodes_away_and_leaves_the_others_as_they_were():
    one = cg.collapse(mixed, ["encoder/*", "left"])
    # Compiled once and evaluated once: rounding of numbers around 3.
    np.testing.assert_allclose(one(X), mixed(X), atol=1e-5)
    program = cg.chain_graph(one)(X)
    assert [c.name for c in program] == ["drop", "taken"]
    _, nodes = cg.with_nodes(cg.forward_sample(one))(KEY, X)
    drawn = cg.with_nodes(cg.forward_sample(mixed))(KEY, X)[1]["drop"]
    assert nodes["drop"].shape == drawn.shape
    none = cg.collapse(mixed, "*")
    assert len(cg.chain_graph(none)(X)) == 0
    out = cg.forward_sample(none)(KEY, X)  # without a warning
    np.testing.assert_allclose(out, mixed(X), atol=1e-5)
    back = cg.collapse(cg.lift(lambda x: jnp.tanh(x) * 2), "*")
    assert len(cg.chain_graph(back)(X)) == 0
    gradient = jax.jit(jax.grad(lambda p: cg.collapse(two_layers, "first")(p, X).sum()))(PARAMETERS)
    expected = jax.jit(jax.grad(lambda p: two_layers(p, X).sum()))(PARAMETERS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-6), gradient, expected)


def test_collapse_says_what_is_wrong():
    with pytest.raises(ValueError, match="'enc' of `collapse` matches no node.*'encoder/h'"):
        cg.collapse(mixed, ["enc"])(X)
    with pytest.raises(TypeError, match="patterns over their names"):
        cg.collapse(mixed, [3])  # type: ignore[list-item]

    @jax.custom_jvp
    def inside(x):
        return cg.node(cg.nodes.Spin(), x, name="s")

    inside.defjvp(lambda p, t: (inside(*p), 3 * t[0]))
    with pytest.raises(TypeError, match="custom derivative contains nodes.*inline=True"):
        cg.collapse(inside, "s")(X)
    assert len(cg.chain_graph(cg.collapse(inside, "s", inline=True))(X)) == 0


def test_samples_are_those_of_forward_sampling_and_the_log_probability_is_log_joints():
    sample = cg.with_log_prob(cg.forward_sample(mixed))
    out, nodes, log_prob = sample(KEY, X)
    expected_out, expected = cg.with_nodes(cg.forward_sample(mixed))(KEY, X)
    assert_identical((out, nodes), (expected_out, expected))
    assert np.isnan(nodes["left"]).all() and nodes["encoder/state"].shape == (2, 3)
    given = {**nodes, "left": jnp.ones(3)}
    # Of the node h, log_joint computes (x - 3) / 0.3 from a rounded x: 1e-6 of a deviation.
    np.testing.assert_allclose(log_prob, cg.log_joint(mixed)(given, X), rtol=1e-5)
    assert cg.with_log_prob(cg.forward_sample(mixed)) is sample


def test_a_gaussian_keeps_its_digits_where_the_mean_is_large():
    def net(e, scale):
        return cg.node(cg.nodes.Gaussian(scale), e, name="z")

    def log_prob(e, scale):
        return cg.with_log_prob(cg.forward_sample(net))(KEY, e, scale)[2]

    far, near = (
        jax.jit(jax.value_and_grad(log_prob, (0, 1)))(e, 0.1)
        for e in (jnp.full(4, 1e6), jnp.zeros(4))
    )
    np.testing.assert_allclose(far[0], near[0], rtol=1e-6)
    # Along a sample the density does not change with the mean, and falls as 1 / scale.
    np.testing.assert_allclose(far[1][0], np.zeros(4), atol=1e-6)
    np.testing.assert_allclose(far[1][1], -40.0, rtol=1e-6)


class Coder(nnx.Module):
    def __init__(self, rngs):
        self.inner, self.count = nnx.Linear(3, 2, rngs=rngs), nnx.BatchStat(jnp.zeros(()))

    def __call__(self, observed):
        x = observed["x"] if isinstance(observed, dict) else observed
        if not isinstance(observed, dict):
            self.count[...] += 1
        return cg.node(cg.nodes.Gaussian(0.5), self.inner(x), name="z")


class Decoder(nnx.Module):
    def __init__(self, rngs):
        self.outer = nnx.Linear(2, 3, rngs=rngs)

    def __call__(self):
        z = cg.node(cg.nodes.Gaussian(1.0), jnp.zeros(2), name="z")
        return cg.node(cg.nodes.Gaussian(0.7), self.outer(z), name="x")


def test_modules_in_the_place_of_functions():
    coder, decoder = Coder(nnx.Rngs(0)), Decoder(nnx.Rngs(1))
    _, nodes, log_prob = cg.with_log_prob(cg.forward_sample(coder))(KEY, X)
    assert nodes["z"].shape == (2,) and log_prob.shape == () and coder.count[...] == 1
    f, params, state = cg.functional(decoder)
    g, of_coder, rest = cg.functional(coder)

    @jax.jit
    def by_hand(params, of_coder):
        model, guide = lambda: f(params, state)[0], lambda o: g(of_coder, rest, o)[0]
        return cg.elbo(model, guide)(KEY, {"x": X}).value

    @nnx.jit
    def of_modules(decoder, coder):
        value = lambda d, c: cg.elbo(d, c)(KEY, {"x": X}).value  # noqa: E731
        slopes = nnx.grad(value, argnums=(0, 1))(decoder, coder)
        return value(decoder, coder), nnx.to_pure_dict(slopes[0])

    value, slopes = of_modules(decoder, coder)
    np.testing.assert_allclose(value, by_hand(params, of_coder), rtol=1e-6)
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(slopes))
    with pytest.raises(ValueError, match="kl of elbo"):
        cg.elbo(decoder, coder, kl="wrong")  # type: ignore[arg-type]


def test_what_has_no_log_probability_says_so():
    for wrong in (cg.pcff(mixed, 0.5), mixed, None):
        with pytest.raises(TypeError, match=r"with_log_prob\(cgjax.forward_sample\(net\)\)"):
            cg.with_log_prob(wrong)

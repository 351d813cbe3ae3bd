"""Parts and weights of nodes in bounds and likelihoods, against the sum over all values."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg
from cgjax.nodes import Bernoulli, Categorical, Gaussian, Grid, LinearChain, Spin
from tests.kernels.chain_oracle import enumerated

KEY = jax.random.key(0)
_draw = np.random.default_rng(9)


def _normal(*shape: int) -> jax.Array:
    return jnp.asarray(_draw.normal(size=shape), jnp.float32)


STEPS = _normal(2, 2)
CHAIN = LinearChain(STEPS, _normal(2), mask=jnp.array([True, False, True]))


@pytest.mark.numerics
def test_of_nodes_that_touch_positions_or_weights_are_observed():
    """By the exact posterior of a latent bit every sample has the weight p(observed)."""
    above, scores = _normal(3, 2), 0.4
    of_bits = [enumerated((h - 0.3) * above, STEPS, CHAIN.mask, CHAIN.start) for h in (0, 1)]
    prior = 1 / (1 + np.exp(np.array([scores, -scores])))
    joint = np.log(prior)[:, None] + np.log([x.probabilities for x in of_bits])
    values = of_bits[0].statistics
    seen, known = values[2], np.array([True, False, False])
    weights = np.array([[-np.inf, 0.7], [3.0, -2.0], [0.5, -1.5]])  # the second is not read
    fits = (values[:, 0] == seen[0]).all(1)
    cases: list[tuple[np.ndarray, Any]] = [
        (np.where(fits, 0, -np.inf), cg.PartlyKnown(np.float32(seen), known)),
        (np.where(values > 0, weights, 0).sum((1, 2)), cg.SoftEvidence(np.float32(weights))),
    ]

    def net(e: Any, _: Any = None) -> Any:
        h = cg.node(Bernoulli(), e, name="h")
        return h, cg.node(CHAIN, (h - 0.3) * above, name="z")

    def guide(observed: Any, e: Any, log_odds: Any) -> Any:
        return cg.node(Bernoulli(), log_odds, name="h")

    bound = jax.jit(cg.elbo(net, guide, kl="sampled", num_samples=2))
    for added, told in cases:
        of_bit = np.exp(joint + added).sum(1)
        found = bound(KEY, {"z": told}, scores, np.log(of_bit[1] / of_bit[0]))
        np.testing.assert_allclose(found.log_weights, np.log(of_bit.sum()), atol=1e-5)  # float32
    # Weights of positions tell what is above, too.
    law, evidence = np.exp(joint + cases[1][0]), {"z": cases[1][1]}
    h, z = cg.exact_marginals(cg.condition(net, evidence))(scores)
    np.testing.assert_allclose(h, law.sum(1)[1] / law.sum(), atol=1e-5)
    np.testing.assert_allclose(z, np.tensordot(law.sum(0), values, 1) / law.sum(), atol=1e-5)


def test_partial_labels_of_long_chains_in_a_loop_and_their_gradients():
    """No list of paths: the gradient is the difference of two expectations."""
    steps, e = _normal(3, 3), _normal(2, 40, 3)
    chain = LinearChain(steps)
    tags = np.eye(3, dtype=np.float32)[_draw.integers(0, 3, (2, 40))]
    known = np.arange(40) % 7 == np.array([[3], [4]])

    def model(e: Any) -> Any:
        step = lambda _, e: (None, cg.node(chain, e, name="z"))  # noqa: E731
        return jax.lax.scan(step, None, e)[1]

    @jax.jit
    def found(e: Any) -> Any:
        part, nobody = {"z": cg.PartlyKnown(tags, known)}, lambda observed, e: jnp.zeros(())
        bound = lambda e: cg.elbo(model, nobody)(KEY, part, e).value  # noqa: E731
        return *jax.value_and_grad(bound)(e), cg.clamp(model, part)(e) - model(e)

    def log_partition(e: Any) -> float:
        state = np.exp(e[0])
        for row in e[1:]:
            state = state @ np.exp(np.asarray(steps, np.float64)) * np.exp(row)
        return float(np.log(state.sum()))

    value, slope, expected = found(e)
    own = np.asarray(e, np.float64)
    allowed = np.where(known[..., None] & (tags == 0), -np.inf, own)
    exact = sum(log_partition(allowed[n]) - log_partition(own[n]) for n in range(2))
    np.testing.assert_allclose(value, exact, rtol=1e-5)
    np.testing.assert_allclose(slope, expected, atol=2e-6)  # rounding of 40 steps
    # A known value that is impossible.
    never = found(jnp.where(known[..., None] & (tags > 0), -jnp.inf, e))
    assert never[0] == -jnp.inf and not np.isnan(never[1]).any()


LOGITS = np.log(np.arange(1.0, 7.0)).reshape(3, 2)


READ = {
    "few": np.array([[0.0, 1.0], [-1.0, 2.0]]),
    "classes": np.array([[0.0, 1.0, 2.0], [0.5, -np.inf, 0.0]]),
    "z": np.array([[0.0, 1.0], [0.5, -np.inf]]),
}
SOFT = {n: cg.SoftEvidence(w[None] if n == "classes" else w) for n, w in READ.items()}


def net() -> None:
    few = cg.node(Bernoulli(), jnp.array([0.5, -1.0]), name="few")
    classes = cg.node(Categorical(axis=-2), jnp.asarray(LOGITS, jnp.float32), name="classes")
    z = cg.node(LinearChain(STEPS), 1.5 * jnp.eye(2), name="z")
    total = 3 * few[0] - few[1] + classes[0].sum() - 2 * classes[1, 0] + 2 * z[0, 0] - z[1, 1]
    cg.node(Bernoulli(), total, name="y")


@jax.jit
def likelihoods(cases: Any) -> Any:
    """By samples of the model."""
    estimate = cg.log_likelihood(net, num_samples=4000, chunk=4000)
    return [estimate(KEY, x) for x in cases]


def log_likelihood(few: Any, classes: Any, z: Any, *, with_y: bool) -> float:
    """By enumeration, with the log-weights of the states of each node."""
    of_z = enumerated(1.5 * np.eye(2), STEPS)
    total = 0.0
    for a, b in itertools.product(itertools.product((0, 1), repeat=2), range(4)):
        path = of_z.paths[b]
        of_few = 1 / (1 + np.exp(np.array([0.5, -1.0]) * (1 - 2 * np.array(a))))
        p = of_few.prod() * of_z.probabilities[b]
        p *= np.exp(few[0, a[0]] + few[1, a[1]] + z[0, path[0]] + z[1, path[1]])
        for c in itertools.product(range(3), repeat=2):
            of_c = np.exp(LOGITS) / np.exp(LOGITS).sum(0)
            weight = of_c[c[0], 0] * of_c[c[1], 1] * np.exp(classes[0, c[0]] + classes[1, c[1]])
            x = 3 * a[0] - a[1] + (c[0] == 0) + (c[1] == 0) - 2 * (c[0] == 1)
            x += 2 * (path[0] == 0) - (path[1] == 1)
            total += p * weight / (1 + np.exp(-x)) if with_y else p * weight
    return float(np.log(total))


def test_what_follows_from_a_part_sees_the_rest_drawn_given_it():
    never, first = -np.inf, np.array([True, False])
    some = np.array([[False, True], [True, False], [False, False]])  # a class is excluded, or is
    parts = {
        "few": cg.PartlyKnown(np.array([1.0, 0.0]), first),
        "classes": cg.PartlyKnown(np.array([[0.0, 1.0], [0.0, 0.0], [0.0, 0.0]]), some),
        "z": cg.PartlyKnown(np.eye(2), first),
    }
    of_parts = {
        "few": np.array([[never, 0], [0, 0]]),
        "classes": np.array([[0, never, 0], [0, never, never]]),
        "z": np.array([[0, never], [0, 0]]),
    }
    weights, soft = READ, SOFT
    y = {"y": jnp.ones(())}
    *followed, alone = likelihoods([parts | y, soft | y, parts])
    for estimate, known in zip(followed, (of_parts, weights), strict=True):
        expected = log_likelihood(**known, with_y=True)
        assert abs(estimate.mean - expected) < 5 * estimate.standard_error
        assert 0 < estimate.standard_error < 0.02
    # Without what follows, nothing is left to chance.
    np.testing.assert_allclose(alone.mean, log_likelihood(**of_parts, with_y=False), atol=2e-6)


def read_guide(observed: Any, scale: Any = 1.0) -> None:
    """The nodes given what was read of them, for a scale of 1."""
    w = {name: jnp.asarray(x.log_weights, jnp.float32) for name, x in observed.items()}
    shift = w["few"][:, 1] - w["few"][:, 0]
    cg.node(Bernoulli(), scale * (jnp.array([0.5, -1.0]) + shift), name="few")
    logits = jnp.asarray(LOGITS, jnp.float32) + w["classes"][0].T
    cg.node(Categorical(axis=-2), scale * logits, name="classes")
    cg.node(LinearChain(STEPS), scale * (1.5 * jnp.eye(2) + w["z"]), name="z")


def test_weights_of_proposed_nodes_are_factors_of_the_joint():
    """By the exact posterior every sample has the weight p(observed), also in a loop."""
    of_net = cg.importance_weighted(net, read_guide, num_samples=6, gradient="vimco")
    expected = log_likelihood(**READ, with_y=False)
    np.testing.assert_allclose(jax.jit(of_net)(KEY, SOFT).log_weights, expected, atol=5e-6)
    seen = SOFT | {"y": jnp.ones(())}

    def of_some(observed: Any) -> None:
        read_guide({name: observed[name] for name in SOFT})

    estimate = cg.log_likelihood(net, of_some, num_samples=2000, chunk=2000)(KEY, seen)
    assert abs(estimate.mean - log_likelihood(**READ, with_y=True)) < 5 * estimate.standard_error

    def loop(shifts: Any) -> None:
        def step(total: Any, shift: Any) -> Any:
            return total + cg.node(Spin(), 0.3 + shift, name="s"), None

        jax.lax.scan(step, jnp.zeros(()), shifts)

    def of_loop(observed: Any, shifts: Any) -> None:
        weights = observed["s"].log_weights
        loop(shifts + (weights[:, 1] - weights[:, 0]) / 2)

    read, shifts = {"s": cg.SoftEvidence(_normal(4, 2))}, _normal(4)
    found = cg.elbo(loop, of_loop, num_samples=5)(KEY, read, shifts).log_weights
    np.testing.assert_allclose(found, cg.log_evidence(loop)(read, shifts), atol=2e-6)


def test_straight_through_weights_of_proposals_are_those_of_logits():
    """Weights in place of a model whose logits they are added to: as many nats less for all
    samples, and the same derivative."""
    soft = {n: cg.SoftEvidence(np.maximum(x.log_weights, -3.0)) for n, x in SOFT.items()}

    def shifted(_: Any) -> None:
        read_guide(soft)

    def value(model: Any, scale: Any, observed: Any) -> Any:
        def guide(_: Any, scale: Any) -> None:
            read_guide(soft, scale)

        options: Any = {"kl": "sampled", "gradient": "straight_through", "num_samples": 3}
        return cg.elbo(model, guide, **options)(KEY, observed, scale).value

    def plain(_: Any) -> None:
        net()

    both = [
        jax.jit(jax.value_and_grad(lambda scale, f=f, x=x: value(f, scale, x)))(0.7)
        for f, x in ((plain, soft), (shifted, {}))
    ]
    (one, slope), (other, expected) = both
    reading = log_likelihood(**{n: np.maximum(w, -3.0) for n, w in READ.items()}, with_y=False)
    np.testing.assert_allclose(one - other, reading, atol=5e-6)
    np.testing.assert_allclose(slope, expected, rtol=1e-4)


def test_what_cannot_be_observed_in_part_is_named():
    whole = jnp.eye(2)
    part = cg.PartlyKnown(whole, jnp.array([True, False]))

    def message(error: Any, family: Any, told: Any, *, below: bool = False, **shape: Any) -> str:
        def model() -> None:
            z = cg.node(family, jnp.zeros(shape.get("of", (2, 2))), name="z")
            cg.node(Gaussian(1.0), z.sum() if below else jnp.zeros(()), name="x")

        with pytest.raises(error) as caught:
            observed = {"z": told, "x": jnp.array(1.0)}
            cg.elbo(model, lambda observed: jnp.zeros(()))(KEY, observed)
        return str(caught.value)

    chain = LinearChain(jnp.zeros((2, 2)))
    for told in (part, cg.SoftEvidence(whole)):
        said = message(ValueError, chain, told, below=True)
        assert "a part of 'z' is observed, and other nodes depend on it" in said
    assert "one-hot along the last axis" in message(
        ValueError, chain, part._replace(values=whole / 2)
    )
    assert "about weights of the node 'z' needs a family of nodes with few states" in message(
        TypeError, Gaussian(1.0), cg.SoftEvidence(whole)
    )
    assert "normalising sum over all images" in message(
        TypeError, Grid(jnp.eye(2)), cg.SoftEvidence(jnp.zeros((2, 2, 2))), of=(2, 2, 2)
    )
    assert "Evidence of shape (3, 2) about the node 'z'" in message(
        ValueError, chain, cg.SoftEvidence(jnp.zeros((3, 2)))
    )
    assert "booleans of shape (3,), which do not broadcast" in message(
        ValueError, Bernoulli(), cg.PartlyKnown(whole, jnp.ones(3, bool))
    )
    model = lambda: cg.node(chain, whole, name="z")  # noqa: E731
    with pytest.raises(TypeError, match="the observed node 'z' is a LinearChain, whose elements"):
        cg.deterministic_elbo(model, lambda observed: jnp.zeros(()))({"z": part})

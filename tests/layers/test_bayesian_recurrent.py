"""The Bayesian recurrent layer: a filter or a smoother when collapsed, and a law of paths."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import cgjax as cg
from cgjax.layers import BayesianRecurrent
from cgjax.layers._two_state_units import _log_mixture
from tests.helpers import assert_identical
from tests.kernels.chain_oracle import forward_backward

ROWS, STEPS, INPUTS, UNITS = 2, 4, 3, 2
KEY = jax.random.key(9)
_draw = np.random.default_rng(1)
X = _draw.normal(size=(ROWS, STEPS, INPUTS))
HOLES = np.array([[False, True, False, True], [True, True, False, True]])
INITIAL = np.array([[0.0, 0.3], [1.0, 0.6]])
both_ways = pytest.mark.parametrize("given", ["past", "all"])


def layer(features: int = UNITS, **options: Any) -> BayesianRecurrent:
    """A layer whose prior and biases are not 0."""
    made = BayesianRecurrent(INPUTS, features, rngs=nnx.Rngs(2), **options)
    made.start[...] = jnp.linspace(0.5, -1.0, features)
    assert made.input is not None and made.input.bias is not None
    made.input.bias[...] = jnp.linspace(-0.3, 0.2, features)
    return made


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def affine(linear: Any, x: Any) -> Any:
    return x @ np.asarray(linear.kernel[...], np.float64) + np.asarray(linear.bias[...])


def unit(made: BayesianRecurrent, u: int, gates: Any) -> tuple[Any, Any]:
    """The prior of a unit, and the probabilities of each step, (T, 2, 2), given its gates."""
    (stay0, stay1), start = (
        sigmoid(np.asarray(p[...], np.float64)[..., u]) for p in (made.stay, made.start)
    )
    prior, kept = np.array([1 - start, start]), np.array([[stay0, 1 - stay0], [1 - stay1, stay1]])
    gates = np.asarray(gates)[:, None, None]
    return prior, gates * kept + (1 - gates) * prior


def expected(made: BayesianRecurrent, mask: Any = None, initial: Any = None) -> Any:
    """Filtered or smoothed probabilities of state 1 by the forward-backward algorithm."""
    found, evidence = np.zeros((ROWS, STEPS, UNITS)), affine(made.input, X)
    logits = np.full(evidence.shape, np.inf) if made.gate is None else affine(made.gate, X)
    for row, u in itertools.product(range(ROWS), range(UNITS)):
        prior, steps = unit(made, u, sigmoid(logits[row, :, u]))
        here = np.ones(STEPS, bool) if mask is None else mask[row]
        if initial is not None:
            h = initial[row, u]
            prior = np.array([1 - h, h]) @ steps[np.argmax(here)]
        e = np.stack([np.zeros(STEPS), evidence[row, :, u]], 1)
        both = forward_backward(e, np.log(steps), np.log(prior), here)
        found[row, :, u] = both[("past", "all").index(made.given)][:, 1]
    return found


@pytest.mark.parametrize(("given", "gate"), [("past", False), ("past", True), ("all", True)])
def test_collapsed_it_is_the_filter_or_the_smoother(given, gate):
    """Computed at once, and by walking the nodes."""
    made = layer(given=given, forget_gate=gate)
    options = {"initial": INITIAL, "mask": HOLES}

    def run(x: Any) -> Any:
        walked = cg.with_nodes(cg.feed_forward(made))(x, **options)[0]
        return made(x), made(x, **options), walked

    with jax.enable_x64(True):
        plain, masked, walked = jax.jit(run)(jnp.asarray(X))
    np.testing.assert_allclose(plain, expected(made), rtol=1e-12)
    known = expected(made, HOLES, INITIAL)
    np.testing.assert_allclose(masked, known, rtol=1e-12)
    np.testing.assert_allclose(walked, known, rtol=1e-12)


def test_the_gradient_is_that_of_the_nodes():
    """The filter's by hand is JAX's own through the loop; the smoother's is tested as a kernel."""
    f, params, state = cg.functional(layer(forget_gate=True))
    weights = _draw.normal(size=(ROWS, STEPS, UNITS))

    def loss(whole: bool, params: Any, x: Any, initial: Any) -> Any:
        call = lambda *args: f(args[0], state, *args[1:], mask=HOLES)[0]  # noqa: E731
        call = (
            call if whole else lambda *args, of=call: cg.with_nodes(cg.feed_forward(of))(*args)[0]
        )
        return (call(params, x, initial) * weights).sum()

    gradient = jax.grad(loss, (1, 2, 3))
    run = jax.jit(lambda *args: (gradient(True, *args), gradient(False, *args)))
    with jax.enable_x64(True):
        ours, theirs = run(params, jnp.asarray(X), jnp.asarray(INITIAL))
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert np.abs(a).max() > 1e-3
        # Parameters are float32, and so are their gradients.
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6 if a.dtype == jnp.float32 else 1e-12)


def law(made: BayesianRecurrent, x: Any) -> tuple[Any, Any, Any]:
    """All paths of one unit and all values of its gates, with their probabilities."""
    steps, x = len(x), np.asarray(x, np.float64)
    evidence, logits = affine(made.input, x)[:, 0], affine(made.gate, x)[:, 0]
    paths, gates, probabilities = [], [], []
    for opened in itertools.product((0, 1), repeat=steps - 1):
        g = np.array([0, *opened])
        prior, tau = unit(made, 0, g)
        chance = np.prod(np.where(g, sigmoid(logits), sigmoid(-logits))[1:])
        weights = []
        for z in itertools.product((0, 1), repeat=steps):
            weight = 1.0
            for t in range(steps):
                row = (tau[t, z[t - 1]] if t else prior) * np.exp([0, evidence[t]])
                # Told of the past, each step has a law of its own; else the whole path has one.
                weight *= (row / row.sum() if made.given == "past" else row)[z[t]]
            paths.append(z)
            gates.append(g)
            weights.append(weight)
        weights = np.array(weights)
        probabilities.extend(chance * weights / weights.sum())
    return np.array(paths), np.array(gates), np.array(probabilities)


@pytest.mark.numerics
@both_ways
def test_the_law_of_paths_and_gates(given):
    made = layer(1, given=given, forget_gate=True)
    x, n = jnp.asarray(2 * X[0, :3], jnp.float32), 4000
    paths, gates, probabilities = law(made, x)

    def as_nodes(paths: Any, gates: Any) -> Any:
        z = paths[..., None].astype(float)
        z = z if given == "past" else jax.nn.one_hot(paths, 2)[:, None]
        return {"state": z, "state_gate": gates[..., None].astype(float)}

    @jax.jit
    def run(keys: Any, values: Any) -> Any:
        log_probs = jax.vmap(lambda v: cg.log_joint(made)(v, x))(values)
        draws = jax.vmap(lambda k: cg.with_nodes(cg.forward_sample(made))(k, x))(keys)
        # Those of a chain given its gates are tested where chains are.
        exact = cg.exact_marginals(made)(x) if given == "past" else None
        return log_probs, draws, exact

    log_probs, (out, drawn), exact = run(jax.random.split(KEY, n), as_nodes(paths, gates))
    np.testing.assert_allclose(np.exp(log_probs), probabilities, rtol=1e-5)
    if given == "past":
        np.testing.assert_allclose(exact[:, 0], probabilities @ paths, rtol=1e-5)
    # Each path with each value of the gates, within five standard errors.
    numbers = np.concatenate([out[..., 0], drawn["state_gate"][:, 1:, 0]], 1) @ 2.0 ** np.arange(5)
    each = np.concatenate([paths, gates[:, 1:]], 1) @ 2.0 ** np.arange(5)
    shares = (numbers[:, None] == each).mean(0)
    assert abs(shares.sum() - 1) < 1e-9
    assert (abs(shares - probabilities) < 5 * np.sqrt(probabilities / n) + 1 / n).all()


def test_pcff_collapses_what_follows_a_sample():
    made = layer()
    x = jnp.asarray(X, jnp.float32)

    @jax.jit
    def run(x: Any) -> Any:
        first = jnp.array([1.0, 0, 0, 0]).reshape(-1, 1, 1)
        mixed = cg.pcff(made, {"state": first})(KEY, x)
        sampled = cg.forward_sample(made)(KEY, x), cg.pcff(made, 1.0)(KEY, x)
        return mixed, made(x[:, 1:], mixed[:, 0]), sampled, (cg.pcff(made, 0.0)(KEY, x), made(x))

    mixed, rest, sampled, collapsed = run(x)
    assert set(np.unique(mixed[:, 0])) <= {0, 1}
    np.testing.assert_allclose(mixed[:, 1:], rest, rtol=1e-5)
    assert_identical(*sampled)
    assert_identical(*collapsed)
    # The number that decides a sample is the same at every rate.
    assert_identical(mixed[:, 0], sampled[0][:, 0])


def test_a_mixture_keeps_its_bounds_in_moments():
    """There its weights are Gaussian, so that they leave the interval from 0 to 1."""
    mixture = lambda w: _log_mixture(0.9 * w + 0.1 * (1 - w), jnp.array(0.1))  # noqa: E731
    w = cg.Belief(jnp.array(0.7), jnp.array(0.21))  # of a variable that is 0 or 1
    belief = jax.jit(cg.moments(mixture))(w)
    draws = np.random.default_rng(0).normal(0.7, np.sqrt(0.21), 100_000)
    logs = np.log(np.maximum(0.1 + 0.8 * draws, 0.0999))
    np.testing.assert_allclose(belief.mean, logs.mean(), atol=0.02)
    np.testing.assert_allclose(belief.variance, logs.var(), atol=0.05)
    np.testing.assert_allclose(mixture(jnp.array(0.0)), np.log(0.1), rtol=1e-6)


def test_lengths_padding_and_axes():
    made, turned = layer(forget_gate=True), layer(forget_gate=True, time_major=True)
    x = jnp.asarray(X, jnp.float32)
    lengths = jnp.array([3, 0])
    mask = np.arange(STEPS) < np.array([[3], [0]])

    @jax.jit
    def run(x: Any) -> Any:
        short = made(x, lengths=lengths)
        same = (
            made(x, mask=mask),
            made(x.at[:, 3:].set(jnp.nan), lengths=lengths),
            jnp.moveaxis(turned(jnp.moveaxis(x, 1, 0), mask=mask.T), 0, 1),
        )
        states = made(x)
        alike = (
            jax.vmap(made)(x),
            jnp.concatenate([states[:, :2], made(x[:, 2:], states[:, 1])], 1),
            jnp.concatenate([short[:1, :3], states[:1, 3:]], 1),
        )
        path = cg.with_nodes(cg.forward_sample(made))(KEY, x[0], lengths=lengths[0])[1]
        log_probs = [
            cg.log_joint(made)({k: v[:n] for k, v in path.items()}, x[0, :n], **options)
            for n, options in ((4, {"lengths": lengths[0]}), (3, {}))
        ]
        return short, same, states, alike, log_probs

    short, same, states, alike, log_probs = run(x)
    for other in same:
        np.testing.assert_allclose(other, short, rtol=1e-6)
    assert (short[~mask] == 0).all() and (short[mask] > 0).all()
    for other in alike:
        np.testing.assert_allclose(other, states[: len(other)], rtol=1e-5)
    # What takes no part has no probability other than 1.
    np.testing.assert_allclose(*log_probs, rtol=1e-5)
    assert jax.eval_shape(made, x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    bare = BayesianRecurrent(None, UNITS, given="all", rngs=nnx.Rngs(0))
    assert jax.eval_shape(bare, jnp.ones((2, 0, UNITS))).shape == (2, 0, UNITS)


def test_the_graph_shows_gates_and_the_last_step():
    parents = lambda given: [  # noqa: E731
        (p.name, p.through_time)
        for p in cg.chain_graph(layer(given=given, forget_gate=True))(jnp.ones((STEPS, INPUTS)))[
            "state"
        ].parents
    ]
    inputs_and_gates = [("inputs", False), ("state_gate", False)]
    assert parents("past") == [*inputs_and_gates, ("state", True)]
    assert parents("all") == inputs_and_gates


PLAIN, ONES = layer(), jnp.ones((ROWS, STEPS, INPUTS))
MISTAKES = [
    (
        lambda: BayesianRecurrent(None, 2, forget_gate=True, rngs=nnx.Rngs(0)),
        ValueError,
        "give in_features",
    ),
    (lambda: PLAIN(jnp.ones((2, 3, 4))), ValueError, r"\(\*batch, time, 3\), got one of \(2, 3, 4"),
    (lambda: PLAIN(ONES, jnp.ones(2)), ValueError, r"here \(2, 2\), got \(2,\)"),
    (lambda: PLAIN(ONES, 1.5), ValueError, "from 0 to 1, got 1.5 to 1.5"),
    (
        lambda: PLAIN(ONES, lengths=jnp.ones(2)),
        TypeError,
        "lengths must be integers, got an array of",
    ),
    (lambda: PLAIN(ONES, lengths=jnp.ones(3, int)), ValueError, r"here \(2,\), got \(3,\)"),
    (lambda: PLAIN(ONES, lengths=jnp.array([5, 0])), ValueError, "from 0 to 4, .* got 0 to 5"),
    (
        lambda: PLAIN(ONES, mask=jnp.ones((2, 4))),
        TypeError,
        "mask must be booleans, got an array of",
    ),
    (lambda: PLAIN(ONES, mask=HOLES.T), ValueError, r"here \(2, 4\), got \(4, 2\)"),
    (lambda: PLAIN(ONES, lengths=2, mask=HOLES), ValueError, "got both"),
]


@pytest.mark.parametrize(("make", "error", "message"), MISTAKES)
def test_what_does_not_fit_is_said(make, error, message):
    with pytest.raises(error, match=message):
        make()

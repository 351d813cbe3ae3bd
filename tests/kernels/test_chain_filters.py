"""Filters of chains against the forward-backward algorithm in NumPy, and their derivatives."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cgjax.kernels.chains import (
    Chain,
    TwoStateChain,
    filtered,
    two_state_filter,
    two_state_smoother,
)
from tests.kernels.chain_oracle import enumerated, forward_backward

STEPS, CHAINS = 5, 2
HOLES = np.array([[1, 0], [0, 1], [1, 1], [0, 1], [1, 0]], bool)


def test_the_oracle_is_right():
    draw = np.random.default_rng(0)
    e, transitions, start = (draw.normal(size=s) for s in ((4, 3), (4, 3, 3), (3,)))
    mask = np.array([True, False, True, True])
    known = enumerated(e, transitions[1:], mask, start).marginals
    np.testing.assert_allclose(
        forward_backward(e, transitions, start, mask)[1][mask], known[mask], rtol=1e-12
    )
    past = enumerated(e[:3], transitions[1:3], mask[:3], start).marginals[2]
    np.testing.assert_allclose(forward_backward(e, transitions, start, mask)[0][2], past)


def weighed(evidence: Any, transitions: Any, start: Any, weights: Any, mask: Any) -> Any:
    """A number made of all filtered and all smoothed probabilities, by the oracle."""
    total = 0.0
    for c in range(CHAINS):
        e = np.stack([0 * evidence[:, c], evidence[:, c]], 1)
        steps = np.moveaxis(np.broadcast_to(transitions, (2, 2, STEPS, CHAINS))[..., c], 2, 0)
        first = np.array([0 * start[c], start[c]])
        found = forward_backward(e, steps, first, None if mask is None else mask[:, c])
        for which, weight in zip(found, weights, strict=True):
            total = total + np.sum(weight[:, c] * which[:, 1])
    return total


def by_complex_steps(function: Any, arguments: tuple[Any, ...]) -> list[Any]:
    """The gradient of a holomorphic function, to rounding."""
    gradients = []
    for n, argument in enumerate(arguments):
        gradient = np.zeros(argument.shape)
        for index in np.ndindex(argument.shape):
            moved = [a.astype(complex) for a in arguments]
            moved[n][index] += 1e-100j
            gradient[index] = function(*moved).imag / 1e-100
        gradients.append(gradient)
    return gradients


@pytest.mark.parametrize("mask", [None, HOLES], ids=["everywhere", "holes"])
@pytest.mark.parametrize("edges", [1, STEPS], ids=["alike", "by step"])
def test_chains_of_two_states_and_their_derivatives(edges, mask):
    draw = np.random.default_rng(3)
    shapes = ((STEPS, CHAINS), (2, 2, edges, CHAINS), (CHAINS,))
    arguments = tuple(2 * draw.normal(size=s) for s in shapes)
    directions = tuple(draw.normal(size=s) for s in shapes)
    weights = draw.normal(size=(2, STEPS, CHAINS))

    def ours(*arguments: Any) -> Any:
        chain = TwoStateChain(*arguments, mask=None if mask is None else jnp.asarray(mask))
        total = 0.0
        for of, weight in zip((two_state_filter, two_state_smoother), weights, strict=True):
            found = jax.nn.sigmoid(of(chain))
            total += jnp.sum(jnp.where(True if mask is None else mask, found, 0) * weight)
        return total

    def theirs(*arguments: Any) -> Any:
        return weighed(*arguments, weights=weights, mask=mask)

    with jax.enable_x64(True):
        gradient = jax.grad(ours, (0, 1, 2))
        run = jax.jit(lambda a, v: (ours(*a), jax.jvp(gradient, a, v)))
        value, (first, second) = run(arguments, directions)
    np.testing.assert_allclose(value, theirs(*arguments), rtol=1e-10)
    for got, expected in zip(first, by_complex_steps(theirs, arguments), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)
    # Differences of those gradients: an error of h^2, times derivatives of order 1.
    h = 1e-4
    ends = [
        by_complex_steps(theirs, tuple(a + s * d for a, d in zip(arguments, directions)))  # noqa: B905
        for s in (h, -h)
    ]
    for got, up, down in zip(second, *ends, strict=True):
        np.testing.assert_allclose(got, (up - down) / (2 * h), atol=2e-6)


def test_large_potentials_neither_overflow_nor_underflow():
    evidence = jnp.array([1e4, -1e4, 3.0, -300.0, 0.0, 80.0])
    transitions = jnp.array([[300.0, -200.0], [-150.0, 250.0]])[:, :, None]
    chain = TwoStateChain(evidence, transitions, jnp.array(-500.0))
    both = lambda chain: (two_state_filter(chain), two_state_smoother(chain))  # noqa: E731
    slope = jax.grad(lambda c: sum(jnp.sum(jnp.tanh(x / 100)) for x in both(c)))
    got, gradient = jax.jit(lambda c: (both(c), slope(c)))(chain)

    def log_odds(evidence, steps, start):
        found = []
        for t, a in enumerate(np.asarray(evidence, np.float64)):
            if t:
                on, off = (np.logaddexp(steps[0, j], steps[1, j] + found[-1]) for j in (1, 0))
                start = on - off
            found.append(a + start)
        return np.array(found)

    steps = np.asarray(transitions[:, :, 0], np.float64)
    past = log_odds(evidence, steps, -500.0)
    future = log_odds(evidence[::-1], steps.T, 0.0)[::-1] - np.asarray(evidence, np.float64)
    np.testing.assert_allclose(got[0], past, rtol=1e-6)
    np.testing.assert_allclose(got[1], past + future, rtol=1e-6)
    assert all(jnp.isfinite(g).all() for g in gradient[:3])


def test_sequences_of_one_step_and_of_none():
    steps = jnp.zeros((2, 2, 1))
    assert two_state_smoother(TwoStateChain(jnp.zeros(0), steps, jnp.array(1.0))).shape == (0,)
    one = TwoStateChain(jnp.array([2.0]), steps, jnp.array(1.0))
    assert two_state_filter(one).tolist() == two_state_smoother(one).tolist() == [3.0]


@pytest.mark.parametrize("mask", [None, HOLES.T], ids=["everywhere", "holes"])
def test_filtered_probabilities_of_any_chain_have_a_derivative(mask):
    """Also where states and steps are forbidden: by what is forbidden the derivative is 0."""
    draw = np.random.default_rng(5)
    unary, transitions = draw.normal(size=(2, STEPS, 3)), draw.normal(size=(STEPS - 1, 3, 3))
    unary[0, 2, 1] = transitions[1, 0, 2] = transitions[3, 1, 1] = -np.inf
    weights = draw.normal(size=unary.shape)
    if mask is not None:
        weights = np.where(mask[:, :, None], weights, 0)

    def ours(unary: Any, transitions: Any) -> Any:
        found = filtered(Chain(unary, transitions[None], None if mask is None else mask))
        return jnp.sum(jnp.exp(found) * weights)

    def theirs(unary: Any, transitions: Any) -> Any:
        total, steps = 0.0, np.concatenate([0 * transitions[:1], transitions])
        for row in range(2):
            here = None if mask is None else mask[row]
            found = forward_backward(unary[row], steps, np.zeros(3), here)[0]
            total = total + np.sum(weights[row] * found)
        return total

    with jax.enable_x64(True):
        gradient = jax.grad(ours, (0, 1))
        run = jax.jit(lambda *a: (ours(*a), gradient(*a)))
        value, first = run(unary, transitions)
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(value, theirs(unary, transitions), rtol=1e-10)
        expected = by_complex_steps(theirs, (unary, transitions))
    for got, known in zip(first, expected, strict=True):
        np.testing.assert_allclose(got, known, rtol=1e-9, atol=1e-12)

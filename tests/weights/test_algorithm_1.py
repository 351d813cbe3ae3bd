"""[B] Algorithm 1 written by hand, against `order=1`, the marginal objective and `jax.grad`."""

import inspect
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cgjax as cg
from cgjax import weights
from tests.weights.test_smooth import close

pytestmark = pytest.mark.numerics

NOISE = 0.3
HEAD = weights.GaussianHead(math.log(NOISE))


@pytest.fixture(autouse=True)
def float64():
    with jax.enable_x64(True):
        yield


class Layer(NamedTuple):
    """Means and variances of the weights of a layer of tanh nodes, (outputs, inputs)."""

    mean: Any
    variance: Any


def case(sizes=(3, 4, 5, 2), seed=0):
    generator = np.random.default_rng(seed)
    layers = [
        Layer(generator.normal(size=(n, k)) / k**0.5, generator.gamma(2, 0.05, size=(n, k)))
        for k, n in zip(sizes[:-1], sizes[1:], strict=True)
    ]
    return layers, generator.normal(size=sizes[0]), generator.normal(size=sizes[-1])


def forward(layers: Any, x: Any) -> list[dict[str, Any]]:
    """Algorithm 1's forward propagation: x_l, P_l, and the Jacobian F_l of each layer."""
    states = [{"x": x, "p": np.zeros_like(x)}]
    for mu, s2 in layers:
        m, v = states[-1]["x"], states[-1]["p"]
        bend = 1 - np.tanh(mu @ m) ** 2
        jacobian = bend[:, None] * mu
        by_noise = bend[:, None] * np.sqrt(s2) * m[None]  # the derivative by omega_l
        p = jacobian**2 @ v + by_noise**2 @ np.ones(len(m))
        states.append({"x": np.tanh(mu @ m), "p": p, "F": jacobian, "bend": bend})
    return states


def backward(layers: Any, states: Any, y: Any) -> tuple[list[Any], list[Any]]:
    """Eq. 8 for each layer's weights, and the gradients of x_l and P_l.

    From x_{L|L} and P_{L|L} as printed, with Eq. 7; then x_{l|L} - x_l = G_l (x_{l+1|L} - x_{l+1}),
    and the corrected step of variances: the printed one, G_l^2, is no gradient.
    """
    last = states[-1]
    s = last["p"] + NOISE
    dx, dp = last["p"] * (y - last["x"]) / s, -(last["p"] ** 2) / s
    by_x = -dx / last["p"]
    by_p = -(dp + dx**2) / (2 * last["p"] ** 2)
    of_weights, of_states = [], [(by_x, by_p, dx)]
    for (_, s2), before, after in zip(layers[::-1], states[-2::-1], states[:0:-1], strict=True):
        loading = after["bend"][:, None] * before["x"][None]  # B_l: one weight feeds one node
        of_weights.append(
            Layer(loading * by_x[:, None], loading**2 * by_p[:, None] * np.ones_like(s2))
        )
        by_p = (after["F"] ** 2).T @ by_p
        if (before["p"] > 0).all():
            gain = after["F"].T * (before["p"][:, None] / after["p"][None])
            dx = gain @ dx
            by_x = -dx / before["p"]
        else:
            dx, by_x = np.zeros_like(before["x"]), after["F"].T @ by_x
        of_states.append((by_x, by_p, dx))
    return of_weights[::-1], of_states[::-1]


def network(params: Any, x: Any) -> Any:
    for number, w in enumerate(params):
        x = cg.node(cg.nodes.Spin(), x @ w, name=f"x{number + 1}")
    return x


def posterior(layers: Any) -> Any:
    return [cg.Belief(jnp.asarray(w.mean).T, jnp.asarray(w.variance).T) for w in layers]


def gradient(layers: Any, x: Any, y: Any, jacobian: Any) -> Any:
    procedure = weights.deterministic(network, order=1, jacobian=jacobian)

    def loss(params: Any) -> Any:
        output = procedure(None, params, jnp.asarray(x)[None])
        return weights.marginal(HEAD, output, jnp.asarray(y)[None], ()).nll

    return jax.jit(jax.grad(loss))(posterior(layers))


def test_forward_propagation():
    layers, x, _ = case()
    states = forward(layers, x)
    out, nodes = cg.with_nodes(cg.moments(network, order=1))(
        posterior(layers), jnp.asarray(x)[None]
    )
    close(out.mean[0], states[-1]["x"], 1e-12)
    for state, node in zip(states[1:], nodes.values(), strict=True):
        close(node.mean[0], state["x"], 1e-12)
        close(node.variance[0], state["p"], 1e-12)


def test_gradients_of_weights_with_constant_jacobians():
    layers, x, y = case()
    by_hand, _ = backward(layers, forward(layers, x), y)
    for got, expected in zip(gradient(layers, x, y, "frozen"), by_hand, strict=True):
        close(got.mean.T, expected.mean, 1e-12)
        close(got.variance.T, expected.variance, 1e-12)


def test_the_derivative_itself_has_more_terms_in_the_means():
    layers, x, y = case()
    states = forward(layers, x)
    s = states[-1]["p"] + NOISE
    off = y - states[-1]["x"]
    by_m, by_v = -off / s, (1 / s - off**2 / s**2) / 2
    frozen = gradient(layers, x, y, "frozen")
    got = gradient(layers, x, y, "exact")
    for number in reversed(range(len(layers))):
        (mu, s2), before, after = layers[number], states[number], states[number + 1]
        m, v, bend = before["x"], before["p"], after["bend"]
        q = mu**2 @ v + s2 @ m**2
        by_q = bend**2 * by_v
        by_a = bend * by_m + 2 * bend * (-2 * after["x"] * bend) * q * by_v
        close(got[number].mean.T, by_a[:, None] * m[None] + 2 * mu * by_q[:, None] * v[None], 1e-12)
        close(got[number].variance.T, by_q[:, None] * m[None] ** 2, 1e-12)
        by_m, by_v = mu.T @ by_a + 2 * m * (s2.T @ by_q), (mu**2).T @ by_q
        # Variances have the same gradient either way; means do not.
        close(frozen[number].variance, got[number].variance, 1e-12)
        apart = np.abs(frozen[number].mean - got[number].mean).max()
        assert apart > 0.01 * np.abs(got[number].mean).max()


def test_smoothed_means_are_those_of_the_gains():
    layers, x, y = case()
    states = forward(layers, x)
    _, of_states = backward(layers, states, y)
    smooth = weights.smooth(network, HEAD, order=1, jacobian="frozen")
    got = smooth(posterior(layers), jnp.asarray(x)[None], jnp.asarray(y)[None])
    for number in range(1, len(states)):
        close(got.innovations()[f"x{number}"][0], of_states[number][2], 1e-12)
    exact = weights.smooth(network, HEAD, order=1)
    other = exact(posterior(layers), jnp.asarray(x)[None], jnp.asarray(y)[None])
    assert np.abs(other.posterior["x1"].mean - got.posterior["x1"].mean).max() > 1e-4


def test_the_printed_step_of_variances_is_no_gradient_and_goes_negative():
    layers, x, y = case()
    states = forward(layers, x)
    last, before, after = states[-1], states[-2], states[-1]
    s = last["p"] + NOISE
    dx, dp = last["p"] * (y - last["x"]) / s, -(last["p"] ** 2) / s
    gain = after["F"].T * (before["p"][:, None] / after["p"][None])
    printed = -(gain**2 @ dp + (gain @ dx) ** 2) / (2 * before["p"] ** 2)
    # As moments of second order, dP + dx^2, the same step is the gradient.
    corrected = -(gain**2 @ (dp + dx**2)) / (2 * before["p"] ** 2)
    _, of_states = backward(layers, states, y)
    close(corrected, of_states[-2][1], 1e-12)
    assert np.abs(printed - corrected).max() > 0.1 * np.abs(corrected).max()
    negative = 0
    for seed in range(20):
        layers, x, y = case((3, 4, 4, 4, 6), seed)
        wide = [Layer(w.mean, 4 * w.variance) for w in layers]
        states = forward(wide, x)
        s = states[-1]["p"] + 0.01
        dp = -(states[-1]["p"] ** 2) / s
        for before, after in zip(states[-2:0:-1], states[:1:-1], strict=True):
            gain = after["F"].T * (before["p"][:, None] / after["p"][None])
            dp = gain**2 @ dp
            negative += (before["p"] + dp < 0).sum()
        smooth = weights.smooth(network, weights.GaussianHead(math.log(0.01)), order=1)
        got = smooth(posterior(wide), jnp.asarray(x)[None], jnp.asarray(y)[None])
        for name, node in got.posterior.items():
            assert (node.variance > 0).all() and (node.variance <= got.prior[name].variance).all()
    assert negative > 0


def test_options():
    with pytest.raises(ValueError, match="order=1"):
        weights.deterministic(network, jacobian="frozen")
    build = inspect.unwrap(weights.deterministic)  # without the checks of annotations
    with pytest.raises(ValueError, match="jacobian is"):
        build(network, order=1, jacobian="constant")  # type: ignore[arg-type]

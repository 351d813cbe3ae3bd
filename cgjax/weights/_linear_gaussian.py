"""Gaussian-linear networks and their exact inference: the reference for [B] section 2 and 3.

    x_l = F_l x_{l-1} + B_l w_l,   w_l ~ N(W_l, Q_l),   y = H x_L + noise,   noise ~ N(0, R)

The Kalman filter runs forward, the Rauch-Tung-Striebel smoother backward. Both are written in the
form that is correct: the printed gains use the smoothed in place of the filtered covariance of the
next layer, and the printed updates of variances have the other sign. The gain form is for reference
and for small networks: it needs every filtered covariance to be invertible, which that of a layer
with a dead unit is not. Training uses gradients, which are the same numbers.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float


class Moments(NamedTuple):
    """A Gaussian vector: its mean and its whole covariance."""

    mean: Float[Array, " n"]
    covariance: Float[Array, "n n"]


class Smoothed(NamedTuple):
    """What is known once y is: of each layer x_0, …, x_L, and of the weights of layers 1, …, L."""

    layers: list[Moments]
    weights: list[Moments]


class LinearGaussian(NamedTuple):
    """A Gaussian-linear network.

    Attributes:
        transitions: F_l of shape (n_l, n_{l-1}), for each layer.
        loadings: B_l of shape (n_l, k_l).
        weights: means and covariances of w_l, independent of each other.
        inputs: the belief about x_0; a covariance of 0 where the input is known.
        readout: H, of shape (m, n_L).
        noise: R, of shape (m, m).

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> one = jnp.eye(1)
        >>> prior = cg.weights.Moments(jnp.zeros(1), one)
        >>> known = cg.weights.Moments(jnp.zeros(1), 0 * one)
        >>> net = cg.weights.LinearGaussian([one], [one], [prior], known, one, one)
        >>> print(net.smoothed(jnp.array([2.0])).weights[0])
        Moments(mean=Array([1.], dtype=float32), covariance=Array([[0.5]], dtype=float32))

    Source: [B] Eq. 3-6.
    """

    transitions: Sequence[Float[Array, "_ _"]]
    loadings: Sequence[Float[Array, "_ _"]]
    weights: Sequence[Moments]
    inputs: Moments
    readout: Float[Array, "_ _"]
    noise: Float[Array, "_ _"]

    def filtered(self, layer: int = 0, start: Moments | None = None) -> list[Moments]:
        """The beliefs about x_layer, …, x_L before y is seen ([B] Eq. 5).

        Args:
            layer: where to begin.
            start: the belief there; by default that about the inputs, for layer 0.
        """
        beliefs = [self.inputs if start is None else start]
        parts = zip(self.transitions, self.loadings, self.weights, strict=True)
        for f, b, w in list(parts)[layer:]:
            x = beliefs[-1]
            covariance = f @ x.covariance @ f.T + b @ w.covariance @ b.T
            beliefs.append(Moments(f @ x.mean + b @ w.mean, covariance))
        return beliefs

    def predicted(self, last: Moments) -> Moments:
        """The belief about y, given that about x_L ([B] Eq. 4): its mean, and S."""
        h = self.readout
        return Moments(h @ last.mean, h @ last.covariance @ h.T + self.noise)

    def loss(
        self, y: Float[Array, " m"], layer: int = 0, start: Moments | None = None
    ) -> Float[Array, ""]:
        """J = -log p(y), as a function of the belief about one layer."""
        y_hat = self.predicted(self.filtered(layer, start)[-1])
        off = y - y_hat.mean
        _, log_determinant = jnp.linalg.slogdet(2 * jnp.pi * y_hat.covariance)
        return (off @ jnp.linalg.solve(y_hat.covariance, off) + log_determinant) / 2

    def gains(self) -> tuple[list[Array], list[Array]]:
        """The smoothing gains of layers 0, …, L - 1 and of the weights of layers 1, …, L.

        G_l = P_l F_{l+1}^T P_{l+1}^-1 and G_w = Q_l B_l^T P_l^-1, with filtered covariances P.
        """
        x = self.filtered()
        of_layers, of_weights = [], []
        for i, (f, b, w) in enumerate(
            zip(self.transitions, self.loadings, self.weights, strict=True)
        ):
            of_layers.append(jnp.linalg.solve(x[i + 1].covariance, f @ x[i].covariance).T)
            of_weights.append(jnp.linalg.solve(x[i + 1].covariance, b @ w.covariance).T)
        return of_layers, of_weights

    def smoothed(self, y: Float[Array, " m"]) -> Smoothed:
        """The beliefs about all layers and weights once y is seen ([B] Eq. 6, corrected).

            x_{L|L} = x_L + K (y - y_hat),   P_{L|L} = P_L - K S K^T,   K = P_L H^T S^-1
            x_{l|L} = x_l + G_l (x_{l+1|L} - x_{l+1})
            P_{l|L} = P_l + G_l (P_{l+1|L} - P_{l+1}) G_l^T

        and the same for weights, with G_w and layer l in place of l + 1.
        """
        x = self.filtered()
        y_hat = self.predicted(x[-1])
        gain = jnp.linalg.solve(y_hat.covariance, self.readout @ x[-1].covariance).T
        last = Moments(
            x[-1].mean + gain @ (y - y_hat.mean),
            x[-1].covariance - gain @ y_hat.covariance @ gain.T,
        )
        of_layers, of_weights = self.gains()
        layers, weights = [last], []
        for i in reversed(range(len(self.transitions))):
            layers.append(_updated(x[i], of_layers[i], layers[-1], x[i + 1]))
            weights.append(_updated(self.weights[i], of_weights[i], layers[-2], x[i + 1]))
        return Smoothed(layers[::-1], weights[::-1])


def _updated(before: Moments, gain: Array, after: Moments, expected: Moments) -> Moments:
    change = after.covariance - expected.covariance
    return Moments(
        before.mean + gain @ (after.mean - expected.mean),
        before.covariance + gain @ change @ gain.T,
    )

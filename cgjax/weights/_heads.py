"""Likelihoods on top of beliefs about a network's outputs.

Each has the expected negative log-likelihood E_q[-log p(y | f)], which the ELBO needs, the marginal
one -log E_q[p(y | f)], and the prediction. All are computed in at least float32. For outputs that
are known exactly (variance 0) the two are the ordinary negative log-likelihood.
"""

import math
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Integer

from cgjax._gaussian.belief import LARGEST_LOG_VARIANCE, Belief
from cgjax._gaussian.numerics import wide
from cgjax._gaussian.softmax import log_sum_exp_moments, softmax_moments
from cgjax._static import Function, Leaf
from cgjax.weights._posterior import broadcasts

Labels = Integer[ArrayLike, "*batch"]

_LOG_2_PI = math.log(2 * math.pi)


def _normal_nll(square: Array, variance: Array) -> Array:
    return (square / variance + jnp.log(variance) + _LOG_2_PI) / 2


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GaussianHead:
    """y = f + noise, noise ~ N(0, exp(log_noise)).

        expected:  1/2 (((y - m)^2 + v) / r + log(2 pi r)),  r = exp(log_noise)
        marginal:  1/2 ((y - m)^2 / (v + r) + log(2 pi (v + r)))

    The noise has the unit of the targets: `log_noise=0` says a variance of 1. **Scale targets and
    features** to mean 0 and deviation 1 over the training rows, or intervals mean nothing: of the
    hundred points of the tutorial all are within their 95 % intervals, and none are in a unit that
    makes the targets 10,000 times as large, although the noise is learnt ("Scale your data" in
    docs/tutorials/bayesian_in_three_lines.md). `cgjax.estimators.BayesianRegressor` scales by
    itself.

    Attributes:
        log_noise: the logarithm of the noise variance, a number or an array that broadcasts against
            the targets. It is a pytree leaf: to learn it, make it a parameter.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> head = cg.weights.GaussianHead(0.0)
        >>> f = cg.Belief(jnp.zeros(1), jnp.ones(1))
        >>> print(head.expected_nll(f, jnp.zeros(1)).round(3), head.predict(f).variance)
        [1.419] [2.]

    Source: MacKay 1992; [B] Eq. 2.
    """

    log_noise: Leaf = 0.0

    def expected_nll(self, output: Belief, y: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """E_q[-log p(y | f)] of each target, of the outputs' shape."""
        m, v, y = _fitting(output, y)
        log_noise = self._log_noise(m.shape)
        return (((y - m) ** 2 + v) * jnp.exp(-log_noise) + log_noise + _LOG_2_PI) / 2

    def marginal_nll(self, output: Belief, y: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """-log E_q[p(y | f)] of each target."""
        m, v, y = _fitting(output, y)
        return _normal_nll((y - m) ** 2, v + jnp.exp(self._log_noise(m.shape)))

    def predict(self, output: Belief) -> Belief:
        """The belief about a target: the output's, with the noise's variance added."""
        noise = jnp.exp(self._log_noise(_checked(output).mean.shape))
        return Belief(output.mean, wide(output.variance) + noise)

    def _log_noise(self, shape: tuple[int, ...]) -> Float[Array, "..."]:
        log_noise = wide(jnp.asarray(self.log_noise))
        if not broadcasts(log_noise.shape, shape):
            raise ValueError(
                f"log_noise has shape {log_noise.shape}, which does not broadcast to that of the "
                f"outputs, {shape}."
            )
        return log_noise

    def half_information(
        self, f: Float[Array, "*shape"], tangent: Float[Array, "*shape"]
    ) -> Float[Array, "*shape"]:
        """G^T tangent, where G G^T is the Fisher information of outputs f: here tangent / r^1/2."""
        return wide(tangent) * jnp.exp(-wide(jnp.asarray(self.log_noise)) / 2)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class HeteroscedasticHead:
    """y = f + noise whose variance the network computes too: the last axis holds (f, s).

    The noise has the variance r(s) = exp(s) + smallest_noise, in training as in prediction, so that
    no density is unbounded. With f and s taken as independent,

        expected:  1/2 (((y - m)^2 + v) / r(k) + log r(k) + v_s / 2 + log(2 pi)),  k = m_s - v_s / 2

    which is exact where s is known, or where `smallest_noise` is small beside exp(s), and an upper
    bound otherwise; its derivative by m_s has the sign of r(k) - ((y - m)^2 + v) everywhere. The
    marginal one and the prediction take y as Gaussian with its exact variance,
    v + r(m_s + v_s / 2).

    Attributes:
        smallest_noise: the smallest variance of the noise, at least 0.

    Raises:
        ValueError: smallest_noise is negative or not finite.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> output = cg.Belief(jnp.zeros((3, 2)), jnp.zeros((3, 2)))
        >>> print(cg.weights.HeteroscedasticHead().expected_nll(output, jnp.zeros(3)).round(3))
        [0.919 0.919 0.919]

    Source: Wu et al. 2019 (deterministic variational inference), Eq. 9, without the covariance.
    """

    smallest_noise: float = field(default=1e-6, metadata={"static": True})

    def __post_init__(self) -> None:
        if not 0 <= self.smallest_noise < math.inf:
            raise ValueError(
                "smallest_noise is the smallest variance of the noise, at least 0 and finite, got "
                f"{self.smallest_noise}."
            )

    def expected_nll(self, output: Belief, y: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """E_q[-log p(y | f)] of each target; the outputs have one more axis, of size 2."""
        f, s = _parts(output)
        m, v, y = _fitting(f, y)
        log_noise = self._log_noise(s.mean - s.variance / 2)
        fit = ((y - m) ** 2 + v) * jnp.exp(-log_noise)
        return (fit + log_noise + s.variance / 2 + _LOG_2_PI) / 2

    def marginal_nll(self, output: Belief, y: Float[ArrayLike, "*shape"]) -> Float[Array, "*shape"]:
        """-log of the Gaussian density with the mean and the variance of a target."""
        f, s = _parts(output)
        m, v, y = _fitting(f, y)
        # In units of the noise, whose logarithm is finite where the variance itself is not.
        log_noise = self._log_noise(s.mean + s.variance / 2)
        precision = jnp.exp(-log_noise)
        total = 1 + v * precision
        return ((y - m) ** 2 * precision / total + jnp.log(total) + log_noise + _LOG_2_PI) / 2

    def predict(self, output: Belief) -> Belief:
        """The belief about a target; an exp(s) beyond exp(80) counts as that."""
        f, s = _parts(output)
        noise = jnp.exp(jnp.minimum(s.mean + s.variance / 2, LARGEST_LOG_VARIANCE))
        return Belief(f.mean, f.variance + noise + self.smallest_noise)

    def half_information(
        self, f: Float[Array, "*shape 2"], tangent: Float[Array, "*shape 2"]
    ) -> Float[Array, "*shape 2"]:
        """G^T tangent, G G^T the Fisher information of (f, s): diag(1 / r, (exp(s) / r)^2 / 2)."""
        s, tangent = wide(f[..., 1]), wide(tangent)
        log_noise = self._log_noise(s)
        of_mean, of_noise = jnp.exp(-log_noise / 2), jnp.exp(s - log_noise) * 0.5**0.5
        return jnp.stack([tangent[..., 0] * of_mean, tangent[..., 1] * of_noise], -1)

    def _log_noise(self, s: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """log r(s), in which nothing overflows."""
        if self.smallest_noise == 0:
            return s
        return jnp.logaddexp(s, math.log(self.smallest_noise))


def _parts(output: object) -> tuple[Belief, Belief]:
    output = _checked(output)
    if output.mean.ndim < 1 or output.mean.shape[-1] != 2:
        raise ValueError(
            "The outputs of a network with heteroscedastic noise have a last axis of size 2, the "
            f"mean and the log-variance of the noise; got shape {output.mean.shape}."
        )
    mean, variance = wide(output.mean), wide(output.variance)
    return Belief(mean[..., 0], variance[..., 0]), Belief(mean[..., 1], variance[..., 1])


def _checked(output: object) -> Belief:
    if not isinstance(output, Belief):
        raise TypeError(
            f"A likelihood takes a belief about the outputs, got {type(output).__name__}. For "
            "outputs f that are known, it is `Belief(f, jnp.zeros_like(f))`."
        )
    return output


def _fitting(output: object, target: ArrayLike) -> tuple[Array, Array, Array]:
    output = _checked(output)
    y = jnp.asarray(target)
    if y.shape != output.mean.shape:
        raise ValueError(
            f"The targets have shape {y.shape} and the outputs {output.mean.shape}; they must be "
            "the same (for one output per example, squeeze the network's last axis)."
        )
    return wide(output.mean), wide(output.variance), wide(y)


# -- categories: approximations and bounds of E[log sum exp]


def second_order(mean: Float[Array, "*batch classes"], variance: Array) -> Float[Array, "*batch"]:
    """lse(m) + 1/2 sum_i p_i (1 - p_i) v_i: the expansion at the mean."""
    p = jax.nn.softmax(mean)
    return jax.nn.logsumexp(mean, -1) + (p * (1 - p) * variance).sum(-1) / 2


def matched(mean: Float[Array, "*batch classes"], variance: Array) -> Float[Array, "*batch"]:
    """The expansion, damped so that it stays near the truth for large variances: the default."""
    return log_sum_exp_moments(mean, variance, (mean.ndim - 1,))[0][..., 0]


def jensen(mean: Float[Array, "*batch classes"], variance: Array) -> Float[Array, "*batch"]:
    """lse(m + v / 2): an upper bound, by Jensen's inequality."""
    return jax.nn.logsumexp(mean + variance / 2, -1)


def tilted(
    mean: Float[Array, "*batch classes"], variance: Array, iterations: int = 2
) -> Float[Array, "*batch"]:
    """1/2 sum_i a_i^2 v_i + lse(m + (1 - 2 a) v / 2): an upper bound for every a.

    The a that makes it small solves a = softmax(m + (1 - 2 a) v / 2), by damped iterations.
    Source: Knowles and Minka 2011.
    """

    def tilt(a: Array) -> Array:
        return mean + (1 - 2 * a) * variance / 2

    a = jax.nn.softmax(mean)
    for _ in range(iterations):
        a = (a + jax.nn.softmax(tilt(a))) / 2
    a = jax.lax.stop_gradient(a)  # nearly stationary, and a bound whatever it is
    return (a**2 * variance).sum(-1) / 2 + jax.nn.logsumexp(tilt(a), -1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class CategoricalHead:
    """Labels whose logits the network computes, along the last axis.

        expected:  E[log sum exp(f)] - m_y
        marginal:  -log E[softmax(f)]_y

    Attributes:
        log_normaliser: of (mean, variance) of the logits to the first term: `matched` (the
            default), `second_order`, or the upper bounds `jensen` and `tilted`, with which the ELBO
            stays a bound.

    The negative log-likelihood of a label that is no class is not a number.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> logits = cg.Belief(jnp.array([[2.0, 0.0]]), jnp.array([[1.0, 1.0]]))
        >>> head = cg.weights.CategoricalHead()
        >>> print(head.expected_nll(logits, jnp.array([0])).round(2))
        [0.22]
        >>> print(head.predict(logits)[0, 0].round(2))
        0.82
    """

    log_normaliser: Function = field(default=matched, metadata={"static": True})

    def expected_nll(
        self, output: Belief, y: Integer[ArrayLike, "*batch"]
    ) -> Float[Array, "*batch"]:
        """E_q[-log p(y | f)] of each label."""
        mean, variance, labels = _labelled(output, y)
        picked = jnp.take_along_axis(mean, labels[..., None], -1)[..., 0]
        return self.log_normaliser(mean, variance) - picked

    def marginal_nll(
        self, output: Belief, y: Integer[ArrayLike, "*batch"]
    ) -> Float[Array, "*batch"]:
        """-log E_q[p(y | f)] of each label."""
        mean, variance, labels = _labelled(output, y)
        probabilities = softmax_moments(mean, variance, -1)[0]
        picked = jnp.take_along_axis(probabilities, labels[..., None], -1)[..., 0]
        # A probability that is too small for a number has a logarithm, and one with a derivative:
        # at most the expected log-likelihood, by Jensen's inequality.
        vanishes = picked < jnp.finfo(picked.dtype).tiny
        bound = self.expected_nll(output, y)
        return jnp.where(vanishes, bound, -jnp.log(jnp.where(vanishes, 1, picked)))

    def predict(self, output: Belief) -> Float[Array, "*batch classes"]:
        """E_q[softmax(f)], the probability of each class."""
        return softmax_moments(wide(output.mean), wide(output.variance), -1)[0]

    def half_information(
        self, f: Float[Array, "*batch classes"], tangent: Float[Array, "*batch classes"]
    ) -> Float[Array, "*batch classes"]:
        """G^T tangent, where G G^T = diag(p) - p p^T is the Fisher information of the logits f."""
        p = jax.nn.softmax(wide(f))
        return jnp.sqrt(p) * (wide(tangent) - (p * tangent).sum(-1, keepdims=True))


def _labelled(output: object, y: ArrayLike) -> tuple[Array, Array, Array]:
    output = _checked(output)
    y = jnp.asarray(y)
    if not jnp.issubdtype(y.dtype, jnp.integer) or y.shape != output.mean.shape[:-1]:
        raise ValueError(
            f"Labels are integers of the logits' shape without the last axis, "
            f"{output.mean.shape[:-1]}; got {y.dtype}{list(y.shape)}."
        )
    # Indices count from the end where they are negative; a label does not.
    labels = jnp.where(y < 0, output.mean.shape[-1], y)
    return wide(output.mean), wide(output.variance), labels


Head = GaussianHead | HeteroscedasticHead | CategoricalHead

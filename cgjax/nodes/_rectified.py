"""Rectified Gaussian nodes: ReLU, leaky ReLU, softplus and their relatives ([A] Eq. 10-11)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float, Num, UInt32

from cgjax.kernels.random_bits import standard_normal
from cgjax.nodes._family import (
    SMALLEST_SCALE,
    Belief,
    Family,
    like,
    possible_or_minus_infinity,
    require_parameter,
    wide,
)
from cgjax.nodes._gaussian import normal_log_density
from cgjax.nodes._quadrature import displacements, moments_of
from cgjax.nodes._rectified_moments import rectified_moments, rectified_moments_of_belief

# The standard deviation whose rectified Gaussian mean is uniformly closest to softplus.
SOFTPLUS_SCALE = 1.776091849725427


class _Rectified(Family):
    """X = max(leak Y, Y), Y ~ N(e, scale(e)^2): what all rectified families share."""

    reparameterised: ClassVar[bool] = True
    scale: ArrayLike | Callable[[Float[Array, "..."]], Float[Array, "..."]]
    leak: ArrayLike

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """The exact mean, shape and dtype of e."""
        e = self.natural_parameter(e)
        return lax.convert_element_type(self.mean(e), e.dtype)

    def mean(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """E[X] given e, at least float32."""
        return self._moments_given(wide(self.natural_parameter(e)))[0]

    def variance(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """Var[X] given e, at least float32."""
        return self._moments_given(wide(self.natural_parameter(e)))[1]

    def from_words(
        self, words: UInt32[Array, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """max(leak y, y) of y = e + scale n, n the word's standard normal number; differentiable."""
        e = self.natural_parameter(e)
        precise = wide(e)
        y = precise + self._scale(precise) * standard_normal(words, precise.dtype)
        if isinstance(self.leak, int | float) and self.leak == 0:
            # y <= 0, not y > 0: a NaN stays a NaN.
            sample = lax.select(y <= 0, jnp.zeros_like(y), y)
        else:
            leak = like(self.leak, y)
            # A leak of 0 that is not known yet must give 0, not -0.
            sample = lax.select(y < 0, jnp.where(leak > 0, leak * y, 0), y)
        return lax.convert_element_type(sample, e.dtype)

    def log_prob(
        self, x: Num[ArrayLike, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        """Log-density of X with respect to Lebesgue measure plus, if leak is 0, an atom at 0."""
        e = wide(self.natural_parameter(e))
        x = lax.convert_element_type(jnp.asarray(x), e.dtype)
        scale = jnp.maximum(jnp.abs(self._scale(e)), SMALLEST_SCALE)
        leak = like(self.leak, e)
        leaky = leak > 0
        slope = jnp.where(leaky & (x < 0), leak, 1)
        density = normal_log_density(x / slope, e, scale) - jnp.log(slope)
        atom = log_normal_tail(-e / scale)
        value = jnp.where(~leaky & (x == 0), atom, density)
        return possible_or_minus_infinity(leaky | (x >= 0), value)

    def moments(
        self, mean: Num[ArrayLike, "*nodes"], variance: Num[ArrayLike, "*nodes"]
    ) -> tuple[Belief, Belief]:
        """Beliefs of X and of the activation when e ~ N(mean, variance)."""
        mean, variance = self._gaussian_parameter(mean, variance)
        leak = like(self.leak, mean)
        if not callable(self.scale):
            total = variance + like(self.scale, mean) ** 2
            statistic = Belief(*rectified_moments_of_belief(mean, total, leak))
        else:
            expectation, spread = moments_of(self.mean, mean, variance)
            displacement, weights = displacements(variance)
            noise = jnp.sum(weights * self._moments_given(mean[None] + displacement)[1], axis=0)
            statistic = Belief(expectation, spread + noise)
        return statistic, self._activation_belief(mean, variance)

    def _activation_belief(
        self, mean: Float[Array, "*nodes"], variance: Float[Array, "*nodes"]
    ) -> Belief:
        return Belief(*moments_of(self.mean, mean, variance))

    def _moments_given(self, e):
        return rectified_moments(e, jnp.abs(self._scale(e)), like(self.leak, e))

    def _scale(self, e: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
        scale = self.scale
        return like(scale(e) if callable(scale) else scale, e)


@dataclasses.dataclass(frozen=True, eq=False)
class RectifiedGaussian(_Rectified):
    """A Gaussian node passed through a (leaky) rectifier: X = max(leak Y, Y), Y ~ N(e, scale^2).

    Args:
        scale: standard deviation; a number at least 0, an array that broadcasts against e from
            the right, or a function of e (element-wise; its sign does not matter).
        leak: slope of the negative part, from 0 to 1.
    """

    scale: ArrayLike | Callable[[Float[Array, "..."]], Float[Array, "..."]]
    leak: ArrayLike = 0.0

    def __post_init__(self) -> None:
        if not callable(self.scale):
            require_parameter(
                self,
                "scale",
                lambda scale: (scale >= 0) & (scale < math.inf),
                "at least 0 and finite",
            )
        require_parameter(self, "leak", lambda leak: (leak >= 0) & (leak <= 1), "from 0 to 1")


@dataclasses.dataclass(frozen=True, eq=False)
class ReLU(_Rectified):
    """X = max(0, Y), Y ~ N(e, tanh(e)^2), activation `jax.nn.relu`."""

    scale: ClassVar[Callable] = staticmethod(jnp.tanh)
    leak: ClassVar[float] = 0.0

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """relu(e), shape and dtype of e."""
        return jax.nn.relu(self.natural_parameter(e))

    def _activation_belief(self, mean, variance) -> Belief:
        return Belief(*rectified_moments_of_belief(mean, variance, jnp.zeros((), mean.dtype)))


@dataclasses.dataclass(frozen=True, eq=False)
class LeakyReLU(_Rectified):
    """X = max(leak Y, Y), Y ~ N(e, tanh(e)^2), activation `jax.nn.leaky_relu`."""

    scale: ClassVar[Callable] = staticmethod(jnp.tanh)
    leak: ArrayLike = 0.01

    def __post_init__(self) -> None:
        require_parameter(self, "leak", lambda leak: (leak >= 0) & (leak <= 1), "from 0 to 1")

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """leaky_relu(e, leak), shape and dtype of e."""
        e = self.natural_parameter(e)
        leak = self.leak if isinstance(self.leak, int | float) else like(self.leak, e)
        return jax.nn.leaky_relu(e, leak)

    def _activation_belief(self, mean, variance) -> Belief:
        return Belief(*rectified_moments_of_belief(mean, variance, like(self.leak, mean)))


@dataclasses.dataclass(frozen=True, eq=False)
class Softplus(_Rectified):
    """X = max(0, Y), Y ~ N(e, 1.776...^2), activation `jax.nn.softplus`."""

    scale: ClassVar[float] = SOFTPLUS_SCALE
    leak: ClassVar[float] = 0.0

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        """softplus(e), shape and dtype of e."""
        return jax.nn.softplus(self.natural_parameter(e))

    def _activation_belief(self, mean, variance) -> Belief:
        return Belief(*moments_of(jax.nn.softplus, mean, variance))


@dataclasses.dataclass(frozen=True, eq=False)
class NairHinton(_Rectified):
    """X = max(0, Y), Y ~ N(e, sigmoid(e)^2), activation the exact mean."""

    scale: ClassVar[Callable] = staticmethod(jax.nn.sigmoid)
    leak: ClassVar[float] = 0.0


def log_normal_tail(z: Float[Array, "*nodes"]) -> Float[Array, "*nodes"]:
    """log Phi(z), with accurate derivatives however far out."""
    # Three ranges, each evaluated only where it is accurate, so that autodiff is accurate too.
    far = jnp.minimum(z, -10.0)
    inverse = 1 / far**2
    series = jnp.zeros_like(z)
    for k in range(8, 0, -1):
        series = -(2 * k - 1) * inverse * (1 + series)
    left = -(far**2) / 2 - jnp.log(-far) - 0.5 * math.log(2 * math.pi) + jnp.log1p(series)
    middle = jnp.log(jax.scipy.special.erfc(-jnp.clip(z, -10.0, 0.0) / np.sqrt(2)) / 2)
    right = jnp.log1p(-jax.scipy.special.erfc(jnp.maximum(z, 0.0) / np.sqrt(2)) / 2)
    return jnp.where(z < -10, left, jnp.where(z < 0, middle, right))

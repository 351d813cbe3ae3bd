"""Batch normalisation as noise: deterministic statistics, and two random variables for a channel.

For inputs from N(mu, s^2), the mean and standard deviation of M of them are mu + s z / sqrt(M) and
s chi_{M-1} / sqrt(M), z normal and independent of chi. What an input x becomes by them is thus

    (x - mean) / deviation = ((x - mu)/s + V) U,   V ~ N(0, 1/M),   U ~ sqrt(M) / chi_{M-1}.
"""

import math
from typing import Literal

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jax.scipy.special import gammaln
from jaxtyping import Array, Float

from cgjax import _static
from cgjax._node import check_name, noise
from cgjax._static import Leaf
from cgjax.layers._sizes import check_sizes
from cgjax.nodes import Gaussian, InverseChi


class StochasticNorm(nnx.Module):
    """Normalises by running statistics, times and plus noise, as if by those of a random batch.

        y = ((x - mean)/sqrt(var + epsilon) + V) U scale + bias
        V ~ N(0, 1/M),   U ~ sqrt(M) / chi_{M-1}

    V and U are noise nodes, one of each for a channel, which the positions of an example share.
    Which procedure transforms the network decides what it is:

    - plain evaluation and `feed_forward`: V = 0 and U = 1, `flax.nnx.BatchNorm` at test time, to
      the bit;
    - `forward_sample`, and `pcff` at any rate: for an input that is not in the batch itself, the
      law of what batch normalisation by M Gaussian inputs makes of it; `monte_carlo` averages it;
    - `moments(nodes="random")`: its mean and variance, without sampling. Of a known input with
      z = (x - mean)/sqrt(var + epsilon), at scale 1 and bias 0, they are E[U] z and
      Var[U] (z^2 + 1/M) + E[U]^2/M.

    An input that is in the batch itself pulls the statistics after it: over a batch, batch
    normalisation has the variance 1, this layer (M + 1)/(M - 3).

    The running statistics are averages over the batches that training has seen; `var` is the
    population's variance (divisor n - 1, as in PyTorch; Flax's BatchNorm has n). `module.train()`
    and `module.eval()` decide whether a call updates them. They are used as they were before a
    call, so that no example depends on the others, and they are constants in derivatives: let the
    weights before the layer have a fixed norm, or nothing holds their size.

    Args:
        features: the number of channels, the last axis.
        batch: M, the number of independent inputs that statistics are made of, above 3; of a
            convolution, less than batch times positions, since positions depend on each other. A
            number may be replaced later by a number.
        learnt: whether the size of the noise is learnt, for each channel: V ~ N(0, tau^2) and
            log U ~ N(0, sigma^2), parameters log tau and log sigma, which begin close to the law at
            `batch`. `divergence` is for the loss.
        per: whether each example has its own noise ("example", whose gradients vary less), or all
            examples share it ("batch", as by batch normalisation). The first axis of inputs that
            have two or more holds examples; under `jax.vmap`, so does the mapped one.
        use_running_average: whether calls leave the running statistics as they are.
        momentum: of the running averages.
        epsilon: added to the variance.
        name: noise nodes are called `{name}_shift` and `{name}_factor`.

    Raises:
        ValueError: no feature; batch is not above 3 and finite; momentum is not in [0, 1]; another
            `per`.
        TypeError: features is no integer, batch no number, the name no string.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> norm = cg.layers.StochasticNorm(4, batch=32, use_running_average=True)
        >>> norm(jnp.ones((2, 4))).round(3)[0]
        Array([1., 1., 1., 1.], dtype=float32)
        >>> belief = cg.moments(norm, nodes="random")(jnp.ones((2, 4)))
        >>> print(belief.mean[0, 0].round(4), belief.variance[0, 0].round(4))
        1.0414 0.0533

    Source: Shekhovtsov and Flach, "Stochastic normalizations as Bayesian learning", 2018 (arXiv
    1811.00639); sampled at test time: Teye et al., "Bayesian uncertainty estimation for batch
    normalized deep networks", 2018 (arXiv 1802.06455).
    """

    def __init__(
        self,
        features: int,
        *,
        batch: Leaf = 32,
        learnt: bool = False,
        per: Literal["example", "batch"] = "example",
        use_running_average: bool = False,
        momentum: float = 0.99,
        epsilon: float = 1e-5,
        name: str = "norm",
    ):
        check_sizes(features=features)
        check_name("node", name)
        if per not in ("example", "batch"):
            raise ValueError(f"per is 'example' or 'batch', got {per!r}.")
        if not 0 <= momentum <= 1:
            raise ValueError(f"momentum is in [0, 1], got {momentum!r}.")
        check_batch(batch)
        self.features = features
        self.batch = batch
        self.per = per
        self.use_running_average = use_running_average
        self.momentum = momentum
        self.epsilon = epsilon
        self.name = name
        self.mean = nnx.BatchStat(jnp.zeros(features))
        self.var = nnx.BatchStat(jnp.ones(features))
        self.scale = nnx.Param(jnp.ones(features))
        self.bias = nnx.Param(jnp.zeros(features))
        log_tau = jnp.full(features, -0.5 * jnp.log(jnp.asarray(batch, jnp.float32)))
        # Var[log U] is 1/(2 M) and more, of order 1/M^2.
        self.log_tau = nnx.Param(log_tau) if learnt else None
        self.log_sigma = nnx.Param(log_tau - 0.5 * math.log(2)) if learnt else None

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The normalised input.

        Args:
            x: (..., features), floating point; the first of two or more axes holds examples.

        Returns:
            An array of x's shape and dtype.

        Raises:
            TypeError: if x is not floating point.
            ValueError: if its last axis is not of `features`.
        """
        x = jnp.asarray(x)
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(f"StochasticNorm takes floating-point arrays, got {x.dtype}{x.shape}.")
        if x.ndim == 0 or x.shape[-1] != self.features:
            raise ValueError(
                f"StochasticNorm has {self.features} features, got an input of shape {x.shape}."
            )
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))

        def row(parameter: nnx.Variable) -> Array:
            return parameter[...].reshape((1,) * (x.ndim - 1) + (-1,))

        mean, variance = row(self.mean), row(self.var) + self.epsilon
        shift, factor = self.noise(x)
        # In the order of Flax's BatchNorm, to whose bits no noise comes back.
        centred = wide - mean + jnp.sqrt(variance) * shift
        y = centred * (lax.rsqrt(variance) * row(self.scale)) * factor + row(self.bias)
        if not self.use_running_average:
            self._update(lax.stop_gradient(wide))
        return y.astype(x.dtype)

    def noise(self, x: Array) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
        """V and U for an input, whose shape matters alone: (examples or 1, 1, …, features)."""
        own = self.per == "example"
        examples = x.shape[:1] if own else (1,)
        shape = (*examples, *(1,) * (x.ndim - 2), self.features) if x.ndim > 1 else x.shape
        zero = jnp.zeros(shape, jnp.promote_types(x.dtype, jnp.float32))
        like = x if own else None
        shift, factor = f"{self.name}_shift", f"{self.name}_factor"
        if self.log_tau is None or self.log_sigma is None:
            count = jnp.asarray(self.batch, zero.dtype)
            v = noise(Gaussian(lax.rsqrt(count)), zero, name=shift, like=like)
            return v, noise(InverseChi(count - 1), zero + 1, name=factor, like=like)
        tau, sigma = jnp.exp(self.log_tau[...]), jnp.exp(self.log_sigma[...])
        v = noise(Gaussian(tau), zero, name=shift, like=like)
        return v, jnp.exp(noise(Gaussian(sigma), zero, name=factor, like=like))

    def divergence(self, batch: Leaf | None = None) -> Float[Array, ""]:
        """KL(learnt || prior) of the noise of all channels, in nats; 0 where nothing is learnt.

        The prior is the law of V and U at a batch size, so that learning begins as batch
        normalisation and leaves it where the data say so.

        Args:
            batch: M of the prior; none: that of the layer.

        Raises:
            ValueError, TypeError: as for `batch` of the layer.
        """
        if self.log_tau is None or self.log_sigma is None:
            return jnp.zeros(())
        batch = self.batch if batch is None else batch
        check_batch(batch)
        return noise_divergence(self.log_tau[...], self.log_sigma[...], batch)

    def _update(self, x: Float[Array, "*shape"]) -> None:
        axes = tuple(range(x.ndim - 1))
        count = math.prod(x.shape[:-1])
        population = count / max(count - 1, 1)
        keep = self.momentum
        self.mean[...] = keep * self.mean[...] + (1 - keep) * x.mean(axes)
        self.var[...] = keep * self.var[...] + (1 - keep) * population * x.var(axes)


def check_batch(batch: Leaf) -> None:
    """Raise unless a number may be the size of a batch.

    Raises:
        TypeError: it is no number.
        ValueError: it is known, and not above 3 and finite.
    """
    if _static.is_traced(batch):
        return
    known = np.asarray(batch)
    if known.shape or not jnp.issubdtype(known.dtype, jnp.number):
        raise TypeError(f"batch is one number, got {_static.described(batch)}.")
    if not 3 < known < math.inf:
        raise ValueError(
            f"batch is above 3 and finite, so that the noise has a variance, got {batch!r}."
        )


def noise_divergence(
    log_tau: Float[Array, "features"], log_sigma: Float[Array, "features"], batch: Leaf
) -> Float[Array, ""]:
    """KL of V ~ N(0, tau^2), log U ~ N(0, sigma^2) from V ~ N(0, 1/M), U ~ sqrt(M)/chi_{M-1}.

        V:  (M tau^2 - 1 - log(M tau^2)) / 2
        U:  M exp(2 sigma^2)/2 - log sigma - (1 + log(2 pi))/2
            - log 2 - (M - 1)/2 log(M/2) + log G((M - 1)/2)

    For U: E[log U] is 0 and E[U^-2] is exp(2 sigma^2) under the log-normal law; the log-density of
    the prior is log 2 + (M - 1)/2 log(M/2) - log G((M - 1)/2) - M log u - M/(2 u^2).
    """
    m = jnp.asarray(batch, jnp.promote_types(log_tau.dtype, jnp.float32))
    precision = jnp.log(m) + 2 * log_tau
    shift = (jnp.expm1(precision) - precision) / 2
    half = (m - 1) / 2
    # M/2 (exp(2 sigma^2) - 1) and what is left of M/2 and the constants, small as 1/M.
    height = m / 2 - half * jnp.log(m / 2) + gammaln(half)
    known = 0.5 * (1 + math.log(2 * math.pi)) + math.log(2)
    factor = m / 2 * jnp.expm1(2 * jnp.exp(2 * log_sigma)) - log_sigma + height - known
    return jnp.sum(shift + factor)

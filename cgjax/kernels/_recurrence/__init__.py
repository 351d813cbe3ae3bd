"""The recurrence h_t = act(x_t + u h_{t-1}) of independent units, with and without sampled nodes.

Three implementations of one function: a loop of the compiler, a parallel form for the ReLU, and a
kernel for GPUs. The loop is the reference.
"""

import math
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Num

from cgjax._rate import check_rate
from cgjax.kernels._recurrence._activations import NAMES, activation, precise
from cgjax.kernels._recurrence._derivative import recurrence
from cgjax.kernels._recurrence._settings import Noise, Settings, varying_alike
from cgjax.kernels.random_bits import Keys, random_words, typed_key

ActivationName = Literal["relu", "leaky_relu", "tanh", "logistic", "softplus"]
Implementation = Literal["scan", "parallel", "mosaic_gpu"]

_IMPLEMENTATIONS = ("scan", "parallel", "mosaic_gpu")
# By platform, the one that is fastest in float32 at every size of `benchmarks.recurrence`; and what
# is used where that has not been measured yet, as on GPUs and TPUs.
_FASTEST = {"cpu": "scan"}
_UNMEASURED = "scan"
# What the compiler for the kernel has instructions for, in all supported versions of JAX.
_ON_GPU = ("relu", "leaky_relu", "tanh", "logistic")


def independent_recurrence(
    inputs: Num[ArrayLike, "..."],
    weights: Num[ArrayLike, "..."],
    initial: Num[ArrayLike, "..."] | None = None,
    *,
    activation: ActivationName = "relu",
    leak: float = 0.01,
    implementation: Implementation | None = None,
) -> Float[Array, "..."]:
    """A layer of independent recurrent units: each unit sees its own last state only.

        h_t = act(x_t + u h_{t-1})

    The derivative is written by hand, forward and backward, and keeps the states alone; at a kink
    it is that of `jax.nn`. In float16 and bfloat16, natural parameter and state are rounded at each
    step and everything between is computed in float32, as are the sums over time and batch in the
    derivative by the weights. The implementation "parallel" knows no steps: there the states are
    computed in float32, and rounded once.

    Args:
        inputs: x, time first; the features are usually last, after any number of batch axes.
        weights: u, which broadcasts against the other axes of the inputs from the right: one number
            a unit, usually.
        initial: the state before the first step, which broadcasts likewise; by default 0.
        activation: "relu", "leaky_relu", "tanh", "logistic" or "softplus".
        leak: the slope of the negative part of "leaky_relu", positive and at most 1.
        implementation: "scan", a loop over time; "parallel" (the ReLU only), a prefix scan of
            depth log(time); "mosaic_gpu", a Pallas kernel for NVIDIA GPUs with a thread for each
            unit of each example (not for softplus). By default "scan", the fastest on CPU in
            float32 at every measured size, and so far on other devices too, where nothing has been
            measured. What is named is used, or raises.

    Returns:
        All states, shape and dtype of the inputs.

    Raises:
        ValueError: weights or initial state do not broadcast; a name is unknown; the implementation
            does not have the activation.
        TypeError: the inputs are not real floating point.

    Example:
        >>> import jax.numpy as jnp
        >>> x = jnp.array([[1.0, 1.0], [0.0, -2.0], [0.0, 1.0]])
        >>> print(independent_recurrence(x, jnp.array([0.5, 1.0])))
        [[1.   1.  ]
         [0.5  0.  ]
         [0.25 1.  ]]

    Source: Li et al., "Independently recurrent neural network", CVPR 2018; [A] section 4.2.2.
    """
    x, u, initial = _arrays(inputs, weights, initial)
    settings = _settings(activation, leak, implementation, sampled=False)
    return recurrence(settings, *varying_alike(x, u, initial, None))


def sampled_independent_recurrence(
    key: Keys,
    inputs: Num[ArrayLike, "..."],
    weights: Num[ArrayLike, "..."],
    initial: Num[ArrayLike, "..."] | None = None,
    *,
    rate: ArrayLike = 1.0,
    activation: Literal["relu", "tanh", "logistic"] = "relu",
    implementation: Implementation | None = None,
) -> Float[Array, "..."]:
    """The recurrence with each state sampled with probability `rate`, and collapsed otherwise.

        e_t = x_t + u h_{t-1}
        h_t = T(X), X ~ P(X given e_t)   with probability `rate`,
              act(e_t)                   otherwise.

    "relu", "tanh" and "logistic" are the nodes `cgjax.nodes.ReLU`, `Spin` and `Bernoulli`. Samples
    of ReLU nodes carry their reparameterised derivative; those of the others pass none. The
    derivative needs no random numbers: it is a function of e_t and h_t, and e_t is computed again.

    Args:
        key: a key of `jax.random`. Every implementation draws the same numbers from it,
            `random_words(key, inputs.shape)`: the first word decides whether a node is sampled.
        inputs: as in `independent_recurrence`.
        weights: as in `independent_recurrence`.
        initial: as in `independent_recurrence`.
        rate: the probability that a node is sampled, in [0, 1]; a number, or an array that
            broadcasts against one step of the inputs, or (not for "mosaic_gpu") against all.
        activation: "relu", "tanh" or "logistic".
        implementation: "scan" (the default) or "mosaic_gpu", which needs a threefry key. There is
            no parallel form: how much noise a step adds depends on the state.

    Returns:
        All states, shape and dtype of the inputs.

    Raises:
        ValueError: as `independent_recurrence`; or the rate does not broadcast, or is known to lie
            outside [0, 1].
        TypeError: as `independent_recurrence`; or `key` is no key, or the rate no number and no
            floating-point array.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> x, u = jnp.full((3, 4), 2.0), jnp.ones(4)
        >>> h = sampled_independent_recurrence(jax.random.key(0), x, u, activation="tanh")
        >>> set(h.ravel().tolist()) <= {-1.0, 1.0}
        True

    Source: [A] Eq. 14 at every step of [A] section 4.2.
    """
    x, u, initial = _arrays(inputs, weights, initial)
    settings = _settings(activation, 0.0, implementation, sampled=True)
    rate = jnp.asarray(check_rate(rate), jnp.float32)
    if rate.ndim > x.ndim or not _broadcasts(rate.shape, x.shape):
        raise ValueError(
            f"A rate of shape {rate.shape} does not broadcast against inputs of shape {x.shape}."
        )
    rate = rate.reshape((1,) * (x.ndim - rate.ndim) + rate.shape)
    key = typed_key(key)
    threefry = str(jax.random.key_impl(key)) == "threefry2x32"
    if settings.implementation == "mosaic_gpu" and not (threefry and rate.shape[0] == 1):
        raise ValueError(
            "implementation='mosaic_gpu' needs a threefry key and a rate that is the same at all "
            f"steps, got a key of {jax.random.key_impl(key)} and a rate of shape {rate.shape}; "
            "implementation='scan' takes any."
        )
    if threefry and math.prod(x.shape[1:]) <= 2**32:
        noise = Noise(rate, key=jax.random.key_data(key))
    else:
        noise = Noise(rate, words=random_words(key, x.shape))
    return recurrence(settings, *varying_alike(x, u, initial, noise))


def _arrays(
    inputs: ArrayLike, weights: ArrayLike, initial: ArrayLike | None
) -> tuple[Array, Array, Array]:
    """The arguments, weights and initial state with all axes of one step."""
    x = jnp.asarray(inputs)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise TypeError(f"A recurrence needs real floating-point inputs, got {x.dtype}.")
    if not x.ndim:
        raise ValueError("The inputs of a recurrence have time as their first axis, got a number.")
    lanes = x.shape[1:]

    def full(name: str, value: ArrayLike) -> Array:
        value = jnp.asarray(value)
        if value.ndim > len(lanes) or not _broadcasts(value.shape, lanes):
            raise ValueError(
                f"{name} of shape {value.shape} do not broadcast against one step of the inputs, "
                f"of shape {lanes}; the first axis of the inputs is time."
            )
        # Widened before it is broadcast, so that its derivative is summed in this precision.
        value = value.astype(precise(x.dtype))
        return value.reshape((1,) * (len(lanes) - value.ndim) + value.shape)

    initial = jnp.zeros((), x.dtype) if initial is None else initial
    return x, full("weights", weights), full("initial states", initial)


def _broadcasts(shape: tuple[int, ...], against: tuple[int, ...]) -> bool:
    return all(n in (1, m) for n, m in zip(shape[::-1], against[::-1], strict=False))


def _settings(name: str, leak: float, implementation: str | None, sampled: bool) -> Settings:
    if name not in NAMES:
        raise ValueError(f"activation is one of {', '.join(NAMES)}, got {name!r}.")
    if name == "leaky_relu" and not 0 < leak <= 1:
        raise ValueError(f"leak is positive and at most 1, got {leak!r}; 0 is 'relu'.")
    if sampled and activation(name, 1.0).sample is None:
        raise ValueError(f"Nodes with activation {name!r} are not sampled in a recurrence.")
    if implementation is None:
        implementation = _FASTEST.get(jax.default_backend(), _UNMEASURED)
    if implementation not in _IMPLEMENTATIONS:
        known = ", ".join(_IMPLEMENTATIONS)
        raise ValueError(f"implementation is one of {known}, got {implementation!r}.")
    if implementation == "parallel" and (sampled or name != "relu"):
        raise ValueError(
            "implementation='parallel' is there for activation='relu' without sampling: only "
            f"clipped affine steps can be composed. Got {name!r}{', sampled' if sampled else ''}."
        )
    if implementation == "mosaic_gpu" and name not in _ON_GPU:
        raise ValueError(f"implementation='mosaic_gpu' has {', '.join(_ON_GPU)}, got {name!r}.")
    return Settings(name, leak if name == "leaky_relu" else 0.0, sampled, implementation)

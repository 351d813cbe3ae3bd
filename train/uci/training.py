"""The whole training of a run as one function of arrays, and what comes of all splits at once."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.scipy.stats import norm
from jaxtyping import Array

from cgjax import metrics
from train.uci.methods import METHODS, optimiser
from train.uci.settings import Hyper, MethodName, Noise

# The streams of random numbers of a run.
INITIAL, ORDER, NOISE, TEST = range(4)


class Shape(NamedTuple):
    """What a program of a run is compiled for."""

    method: MethodName
    noise: Noise
    hidden: int
    batch: int
    samples: int


class Scores(NamedTuple):
    """Of each row, in scaled units; arrays of JAX or of NumPy."""

    mean: Any  # predicted
    deviation: Any  # predicted, noise included
    nll: Any  # minus the logarithm of the predictive density
    level: Any  # the predictive distribution function at the target: uniform if calibrated


def trained(
    shape: Shape, epochs: Any, key: Any, hyper: Hyper, examples: Any, x: Array, y: Array
) -> Any:
    """The parameters after the last epoch. The number of epochs may be traced, and that of the
    examples, the first rows, which alone are trained on: with fewer each is seen more often."""
    method = METHODS[shape.method]
    rows, batch = len(x), min(shape.batch, len(x))
    steps = rows // batch
    init_key, order_key, noise_key = (jax.random.fold_in(key, i) for i in (INITIAL, ORDER, NOISE))
    params = method.init(init_key, x.shape[1], shape.hidden, shape.noise, hyper)
    update = optimiser(method, hyper, examples, epochs * steps)

    def step(carry: Any, chosen: Array) -> tuple[Any, None]:
        params, state, number = carry
        key = jax.random.fold_in(noise_key, number)
        # The cost of weights rises to its full size, as if there were more examples at first.
        share = jnp.minimum(1, (number + 1) / jnp.maximum(hyper.warm_up * epochs * steps, 1))
        gradient = jax.grad(method.loss)(params, key, hyper, examples / share, x[chosen], y[chosen])
        change, state = update.update(gradient, state, params)
        return (optax.apply_updates(params, change), state, number + 1), None

    def epoch(number: Array, carry: Any) -> Any:
        # The first rows in random order; where they are too few, from their start again.
        ranks = jax.random.uniform(jax.random.fold_in(order_key, number), (rows,))
        order = jnp.argsort(jnp.where(jnp.arange(rows) < examples, ranks, 2.0))
        chosen = order[jnp.arange(steps * batch) % examples].reshape(steps, batch)
        return jax.lax.scan(step, carry, chosen)[0]

    start = (params, update.init(params), jnp.int32(0))
    return jax.lax.fori_loop(0, epochs, epoch, start)[0]


def scored(shape: Shape, params: Any, key: Any, hyper: Hyper, x: Array, y: Array) -> Scores:
    """What a network, trained with this key and these hyperparameters, predicts of other rows."""
    key = jax.random.fold_in(key, TEST)
    output = METHODS[shape.method].predict(params, key, hyper, shape.samples, x)
    deviations = jnp.sqrt(output.variance)
    return Scores(
        output.mean.mean(0),
        jnp.sqrt(output.variance.mean(0) + output.mean.var(0)),
        metrics.gaussian_mixture_nll(output.mean, output.variance, y),
        norm.cdf((y[None] - output.mean) / deviations).mean(0),
    )


def bound(shape: Shape, params: Any, key: Any, hyper: Hyper, x: Array, y: Array) -> Array:
    """Minus the full loss over training rows: of a posterior, its bound for each example."""
    return -METHODS[shape.method].loss(params, key, hyper, len(x), x, y)


@functools.lru_cache
def at_once(function: Any, shape: Shape) -> Any:
    """`trained`, `scored` or `bound` of all splits: but for epochs, arguments have that axis."""
    axes = (None, 0, 0, 0, 0, 0) if function is trained else 0
    return jax.jit(jax.vmap(functools.partial(function, shape), axes))

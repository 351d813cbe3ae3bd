"""Optax transformations for posteriors: natural gradient, and assumed density filtering."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Int

from cgjax import _static
from cgjax._gaussian.belief import Normal
from cgjax._gaussian.numerics import wide
from cgjax._static import Function, Leaf, Tree

ScalarOrSchedule = ArrayLike | Callable[[ArrayLike], ArrayLike]


class NaturalGradientState(NamedTuple):
    """Attributes:
    steps: how many are done.
    momentum: of the gradients by the means, in the posterior's structure.
    """

    steps: Int[Array, ""]
    momentum: Tree


def natural_gradient(
    learning_rate: ScalarOrSchedule,
    learning_rate_of_variance: ScalarOrSchedule | None = None,
    *,
    number_of_examples: ArrayLike = 1.0,
    momentum: ArrayLike = 0.9,
    largest_step: ArrayLike = 1.0,
) -> optax.GradientTransformation:
    """Natural gradient descent on means and log-variances of a mean-field posterior.

    With s = 1 / v, the total loss L = number_of_examples * loss, and its gradients g:

        u = 2 rho_v g_log_variance,   s' = s (1 + u if u >= 0 else 1 + u + u^2 / 2)
        m' = m - rho_m g_mean / s',   sum_i (m'_i - m_i)^2 / v_i <= largest_step^2

    the Bayesian learning rule, with a retraction that at most doubles a variance in one step and is
    exact where the precision grows, so no variance is ever zero, negative or infinite.

    The sum is over the weights i of one output unit (all axes but the last; a vector counts as the
    weights of one unit), whose step is scaled down as a whole. By the inequality of Cauchy and
    Schwarz it bounds what the step does to that output, for every input x, however far from data:

        |sum_i x_i (m'_i - m_i)| <= largest_step * sqrt(sum_i x_i^2 v_i),

    `largest_step` posterior deviations of the output. (The sum is also twice the divergence of the
    new means from the old ones.) A bound for each weight alone lets n weights that move together
    move the output by n^1/2 deviations: tens, on a row 30 deviations out.

    Args:
        learning_rate: rho_m, in (0, 1], or an Optax schedule. On a conjugate model 1 is exact.
        learning_rate_of_variance: rho_v; by default the same.
        number_of_examples: N, where the loss is `Loss.per_example(N)`; 1 for a loss that is summed.
        momentum: decay of the average of the means' gradients, from 0.
        largest_step: of the mean of a layer's output, in its posterior deviations.

    Returns:
        A transformation for trees of `Normal` leaves, whose `update` needs the parameters.
        Parameters that are not uncertain go to another optimiser, see `partition_labels`.

    Raises:
        ValueError: an option is out of range, and its value is known (under
            `optax.inject_hyperparams`, which traces them, none is); update is called without
            parameters.
        TypeError: an option is no number; a leaf is not `Normal`.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> posterior = cg.weights.mean_field({"w": jnp.zeros(())}, 1.0)
        >>> def loss(posterior):  # one observation, 2, with noise variance 1, and the prior N(0, 1)
        ...     output = cg.Belief(posterior["w"].mean, posterior["w"].variance)
        ...     head = cg.weights.GaussianHead()
        ...     return cg.weights.elbo(head, output, 2.0, posterior).per_example(1)
        >>> optimiser = cg.weights.natural_gradient(1.0, momentum=0.0, largest_step=10.0)
        >>> gradient = jax.grad(loss)(posterior)
        >>> update, _ = optimiser.update(gradient, optimiser.init(posterior), posterior)
        >>> exact = jax.tree.map(jnp.add, posterior, update)
        >>> print(exact["w"].mean, exact["w"].variance)
        1.0 0.5

    Source: Khan and Rue 2023 (the Bayesian learning rule); Lin, Schmidt and Khan 2020 (retraction).
    """
    of_variance = learning_rate if learning_rate_of_variance is None else learning_rate_of_variance
    _check_options(learning_rate, of_variance, number_of_examples, momentum, largest_step)

    def init(params: Tree) -> NaturalGradientState:
        zeros = _each(lambda p: jnp.zeros_like(p.mean), params)
        return NaturalGradientState(jnp.zeros((), jnp.int32), zeros)

    def update(
        updates: Tree, state: NaturalGradientState, params: Tree = None
    ) -> tuple[Tree, NaturalGradientState]:
        if params is None:
            raise ValueError("natural_gradient needs the parameters: update(grads, state, params).")
        steps = jnp.asarray(optax.safe_increment(state.steps))
        debias = 1 - momentum**steps
        rate, variance_rate = (
            r(state.steps) if callable(r) else r for r in (learning_rate, of_variance)
        )
        averages = _each(
            lambda g, average: momentum * average + (1 - momentum) * g.mean,
            updates,
            state.momentum,
        )

        def step(p: Normal, g: Normal, average: Array) -> Normal:
            change = 2 * variance_rate * number_of_examples * g.log_variance
            # The precision's factor; where it grows huge, its logarithm is what is needed.
            grown = jnp.where(change >= 0, 1 + change, 1 + change + change**2 / 2)
            log_variance = p.clipped_log_variance - jnp.log(grown)
            new = Normal(p.mean, log_variance)
            move = rate * number_of_examples * new.variance * average / debias
            move = _bounded(jnp.asarray(move), jnp.sqrt(p.variance), largest_step)
            # What is returned is added by Optax.
            return Normal(-move, new.clipped_log_variance - p.log_variance)

        return _each(step, params, updates, averages), NaturalGradientState(steps, averages)

    return optax.GradientTransformation(init, update)  # pyright: ignore[reportArgumentType]


def _bounded(move: Array, deviation: Array, largest: ArrayLike) -> Array:
    """A step of the weights of each output unit, at most so many deviations long."""
    # One by one first: no square overflows below, and an infinite step becomes a finite one.
    most = jnp.asarray(largest)
    steps = wide(jnp.clip(move / deviation, -most, most))
    axes = tuple(range(max(steps.ndim - 1, 1))) if steps.ndim else ()
    length = jnp.sqrt(jnp.sum(steps**2, axes, keepdims=True))
    factor = jnp.minimum(most / jnp.maximum(length, jnp.finfo(length.dtype).tiny), 1)
    return jnp.asarray(steps * factor, move.dtype) * deviation


def _check_options(
    rate: ScalarOrSchedule,
    rate_of_variance: ScalarOrSchedule,
    number_of_examples: ArrayLike,
    momentum: ArrayLike,
    largest_step: ArrayLike,
) -> None:
    """Raises if an option is out of range, of those whose values are known.

    Schedules are not, nor what is traced, as `optax.inject_hyperparams` does with all of them.
    """
    for name, value in (("learning_rate", rate), ("learning_rate_of_variance", rate_of_variance)):
        # A schedule may end at 0, and is an array where `optax.inject_hyperparams` evaluates it.
        least = np.greater_equal if isinstance(value, jax.Array) else np.greater
        if not callable(value) and not _within(name, value, lambda v, f=least: f(v, 0) & (v <= 1)):
            raise ValueError(f"{name} is positive and at most 1, got {value}.")
    if not _within("momentum", momentum, lambda v: (v >= 0) & (v < 1)):
        raise ValueError(f"momentum is at least 0 and below 1, got {momentum}.")
    options = (("number_of_examples", number_of_examples), ("largest_step", largest_step))
    for name, value in options:
        if not _within(name, value, lambda v: v > 0):
            raise ValueError(f"{name} is positive, got {value}.")


def _within(name: str, value: Leaf, allowed: Callable[[np.ndarray], ArrayLike]) -> bool:
    """Whether a number, or array, is in its range; yes where it is traced."""
    if _static.is_traced(value):
        return True
    if not (_static.is_array(value) or _static.is_number(value)):
        raise TypeError(f"{name} is a number, got {_static.described(value)}.")
    return bool(np.all(allowed(np.asarray(value))))


def assumed_density() -> optax.GradientTransformation:
    """One step of assumed density filtering for each gradient (probabilistic backpropagation).

        m' = m - v g_m,   v' = v - v^2 (g_m^2 + 2 g_v)

    for the gradients g of -log p(y), the marginal negative log-likelihood of one example (without
    the divergence): the moments of the exact posterior, where the marginal is exact. Run over the
    data once. An entry whose variance would not be positive is left as it is.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> posterior = cg.weights.mean_field({"w": jnp.zeros(())}, 1.0)
        >>> def loss(posterior):
        ...     output = cg.Belief(posterior["w"].mean, posterior["w"].variance)
        ...     return cg.weights.GaussianHead().marginal_nll(output, jnp.array(2.0))
        >>> optimiser = cg.weights.assumed_density()
        >>> gradient = jax.grad(loss)(posterior)
        >>> update, _ = optimiser.update(gradient, optimiser.init(posterior), posterior)
        >>> exact = jax.tree.map(jnp.add, posterior, update)
        >>> print(exact["w"].mean, exact["w"].variance)
        1.0 0.5

    Source: Hernandez-Lobato and Adams 2015; [B] Theorem 1.
    """

    def update(updates: Tree, state: Tree, params: Tree = None) -> tuple[Tree, Tree]:
        if params is None:
            raise ValueError("assumed_density needs the parameters: update(grads, state, params).")

        def step(p: Normal, g: Normal) -> Normal:
            v = p.variance
            factor = 1 - v * g.mean**2 - 2 * g.log_variance  # g_log_variance = v g_v
            valid = factor > 0
            shrink = jnp.log(jnp.where(valid, factor, 1))
            return Normal(jnp.where(valid, -v * g.mean, 0), shrink)

        return _each(step, params, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def partition_labels(
    posterior: Tree, uncertain: str = "uncertain", certain: str = "certain"
) -> Tree:
    """Which parameters are uncertain, for `optax.partition`.

    Args:
        posterior: a tree with `Normal` leaves and others.
        uncertain: the label of the `Normal` ones.
        certain: the label of the others.

    Returns:
        The tree with a label in place of each array.

    Example:
        >>> import jax.numpy as jnp, optax, cgjax as cg
        >>> posterior = cg.weights.mean_field({"w": jnp.ones(2), "b": jnp.ones(2)}, {"w": 0.1})
        >>> optimiser = optax.partition(
        ...     {"uncertain": cg.weights.natural_gradient(0.1), "certain": optax.adam(0.01)},
        ...     cg.weights.partition_labels,
        ... )
        >>> state = optimiser.init(posterior)
    """
    return jax.tree.map(
        lambda leaf: Normal(uncertain, uncertain) if isinstance(leaf, Normal) else certain,  # pyright: ignore[reportArgumentType]
        posterior,
        is_leaf=lambda leaf: isinstance(leaf, Normal),
    )


def _each(function: Function, tree: Tree, *rest: Tree) -> Tree:
    """Applies a function to the distributions of a tree, and to what other trees hold there."""

    def one(leaf: Leaf, *others: Leaf) -> Leaf:
        if isinstance(leaf, optax.MaskedNode):
            return leaf
        if not isinstance(leaf, Normal):
            raise TypeError(
                f"A parameter of type {type(leaf).__name__} is no distribution. Train it with "
                "another optimiser: `optax.partition({...}, cgjax.weights.partition_labels)`."
            )
        if isinstance(leaf.mean, optax.MaskedNode):
            return leaf
        return function(leaf, *others)

    return jax.tree.map(
        one, tree, *rest, is_leaf=lambda leaf: isinstance(leaf, Normal | optax.MaskedNode)
    )

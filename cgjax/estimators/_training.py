"""Trains a model: candidates compared on validation rows, early stopping, and then all rows.

The learning rate falls to 0 as a cosine, and the cost of weights rises from nothing to its full
size in the first nine tenths of the epochs: at its full size from the first step it puts most
hidden nodes to sleep before their weights have learnt anything.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike

from cgjax._static import Tree
from cgjax.estimators import _methods
from cgjax.estimators._methods import Model

WARM_UP = 0.9  # share of the epochs in which the cost of weights rises
# Checks of validation rows, in the second half of a training: in the first, weights cost so little
# that rows with much noise are predicted worse for a while, and better again later.
CHECKS = 10
PATIENCE = 4  # checks in a row that are worse than the best by the standard error
BLOCK = 256  # rows that are predicted at once
SMALLEST = 256  # rows that arrays have at least
ORDER, NOISE = range(2)  # streams of random numbers


class Candidate(NamedTuple):
    """What is chosen on validation rows."""

    first_noise: float  # the logarithm of the noise's variance to begin with, where targets have 1
    prior: float  # the standard deviation of weights before data


class Plan(NamedTuple):
    """Numbers of a training that its program takes as arguments."""

    seed: Any
    rows: Any  # of the arrays, from the first: the others only fill them
    epochs: Any
    learning_rate: Any
    prior: Any


class Rows(NamedTuple):
    """Inputs and targets, in scaled units; labels are whole numbers."""

    x: np.ndarray  # float32[rows, features]
    y: np.ndarray  # float32[rows, targets] or int32[rows]

    def taken(self, chosen: np.ndarray) -> "Rows":
        """Some of them."""
        return Rows(self.x[chosen], self.y[chosen])

    def filled(self, size: int) -> "Rows":
        """Followed by copies of the first, so that programs are compiled for few sizes."""
        return self.taken(np.arange(size) % len(self.x) * (np.arange(size) < len(self.x)))


class Problem(NamedTuple):
    """A model, and how it begins."""

    model: Model
    params: Tree  # the network's first ones
    state: tuple[Tree, ...]
    seed: int
    learning_rate: float


class Trained(NamedTuple):
    """A model after its training."""

    weights: dict[str, Tree]
    epochs: int  # that it took
    log_densities: np.ndarray | None = None  # float64[validation rows]


class Search(NamedTuple):
    """How a training is chosen.

    Attributes:
        candidates: the most trusted first.
        epochs: of the whole training.
        until: the epoch after which it ends.
        stops: whether a training may end before.
        held: numbers of validation rows; none, if nothing is to be chosen.
        tell: called with a sentence on how far it is.
    """

    candidates: Sequence[Candidate]
    epochs: int
    until: int
    stops: bool
    held: np.ndarray
    tell: Callable[[str], None]


def size_of(rows: int) -> int:
    """Rows of the arrays for so many: a power of two."""
    return max(1 << math.ceil(math.log2(rows)), SMALLEST)


@functools.partial(jax.jit, static_argnums=0)
def begin(model: Model, params: Tree, level: ArrayLike) -> tuple[Tree, Tree]:
    """What is trained, and the optimiser's state."""
    first = _methods.initial(model, params, level)
    return first, optax.scale_by_adam().init(first)


def first_weights(model: Model, params: Tree) -> Tree:
    """What is trained, as shapes."""
    level = jax.ShapeDtypeStruct((model.likelihood.targets,), jnp.float32)
    return jax.eval_shape(functools.partial(_methods.initial, model), params, level)


@functools.partial(jax.jit, static_argnums=0)
def advance(
    model: Model,
    carry: Tree,
    state: Tree,
    rows: Rows,
    plan: Plan,
    first: ArrayLike,
    last: ArrayLike,
) -> Tree:
    """The epochs from number `first` to before `last`. In each, all rows come in random order, in
    whole batches; fewer rows than a batch come several times."""
    steps = jnp.maximum(plan.rows // model.batch, 1)
    total = plan.epochs * steps
    key, adam = jax.random.key(plan.seed), optax.scale_by_adam()
    order_key, noise_key = (jax.random.fold_in(key, i) for i in (ORDER, NOISE))

    def epoch(number: Array, carry: Tree) -> Tree:
        ranks = jax.random.uniform(jax.random.fold_in(order_key, number), (len(rows.x),))
        order = jnp.argsort(jnp.where(jnp.arange(len(rows.x)) < plan.rows, ranks, 2.0))

        def step(position: Array, carry: Tree) -> Tree:
            trained, optimiser_state = carry
            done = number * steps + position
            chosen = order[(position * model.batch + jnp.arange(model.batch)) % plan.rows]
            share = jnp.minimum(1, (done + 1) / (WARM_UP * total)) / plan.rows
            gradient = jax.grad(_methods.loss, argnums=1)(
                model,
                trained,
                state,
                jax.random.fold_in(noise_key, done),
                (rows.x[chosen], rows.y[chosen]),
                (share, plan.prior),
            )
            direction, optimiser_state = adam.update(gradient, optimiser_state)
            rate = plan.learning_rate * (1 + jnp.cos(jnp.pi * done / total)) / 2
            return jax.tree.map(lambda a, d: a - rate * d, trained, direction), optimiser_state

        return jax.lax.fori_loop(0, steps, step, carry)

    return jax.lax.fori_loop(first, last, epoch, carry)


def predict(model: Model, trained: Tree, state: Tree, seed: int, x: np.ndarray) -> Any:
    """Predictions of rows, float32[rows, features], with an axis of components before that of
    rows. Blocks have one size, so that what is predicted of a row does not depend on the others."""
    blocks = []
    for start in range(0, len(x), BLOCK):
        block = np.zeros((BLOCK, *x.shape[1:]), np.float32)
        part = x[start : start + BLOCK]
        block[: len(part)] = part
        blocks.append(_methods.predict_block(model, trained, state, np.uint32(seed), block))
    return jax.tree.map(lambda *arrays: np.concatenate(arrays, 1)[:, : len(x)], *blocks)


def search(problem: Problem, rows: Rows, how: Search) -> tuple[Trained, Candidate]:
    """Compares the candidates on the validation rows, and trains the best on all rows, for as many
    epochs as were best."""
    size, best, until = size_of(len(rows.x)), how.candidates[0], how.epochs
    if len(how.held):
        kept = np.setdiff1d(np.arange(len(rows.x)), how.held)
        fit, held = rows.taken(kept), rows.taken(how.held)
        found: Trained | None = None
        for number, candidate in enumerate(how.candidates):
            words = f"candidate {number + 1} of {len(how.candidates)}"
            made = _train(
                problem, fit, size, candidate, how._replace(tell=_after(how, words)), held
            )
            if found is None or _better(made.log_densities, found.log_densities):
                best, found, until = candidate, made, made.epochs
    last = how._replace(until=until, tell=_after(how, "all rows"))
    return _train(problem, rows, size, best, last), best


def _after(how: Search, words: str) -> Callable[[str], None]:
    return lambda text: how.tell(f"{words}, {text}")


def _train(
    problem: Problem,
    rows: Rows,
    size: int,
    candidate: Candidate,
    how: Search,
    held: Rows | None = None,
) -> Trained:
    """Trains on some rows, in arrays of a size. With validation rows it ends where these have been
    worse than at their best for long, and what was best is kept, if the end is worse by more than
    the standard error of the difference; otherwise the end."""
    model = problem.model
    level = np.full(model.likelihood.targets, candidate.first_noise, np.float32)
    carry = begin(model, problem.params, level)
    plan = Plan(
        np.uint32(problem.seed),
        np.int32(len(rows.x)),
        np.int32(how.epochs),
        np.float32(problem.learning_rate),
        np.float32(candidate.prior),
    )
    filled, best, worse = rows.filled(size), None, 0
    parts = np.linspace(0, how.epochs, 2 * CHECKS + 1).round().astype(np.int32)
    ends = np.unique(np.minimum(parts, how.until))
    made = Trained(carry[0], 0)
    for first, last in zip(ends, ends[1:], strict=False):
        carry = advance(model, carry, problem.state, filled, plan, first, last)
        made = Trained(carry[0], int(last))
        how.tell(f"epoch {last} of {how.until}")
        early = not how.stops or 2 * last < how.epochs
        if held is None or (early and last < how.epochs):
            continue
        predicted = predict(model, carry[0], problem.state, problem.seed, held.x)
        made = made._replace(log_densities=model.likelihood.log_density(predicted, held.y))
        if best is None or _mean(made) >= _mean(best):
            best, worse = made, 0
        else:
            worse = worse + 1 if _better(best.log_densities, made.log_densities) else 0
        if worse >= PATIENCE:
            break
    if best is not None and _better(best.log_densities, made.log_densities):
        return best
    return made


def _mean(made: Trained) -> float:
    return float(np.mean(made.log_densities)) if made.log_densities is not None else -math.inf


def _better(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    """Whether log-densities of validation rows are better by more than the standard error of their
    difference: on a few dozen rows the highest average is often luck.

    Example:
        >>> rows = np.array([0.0, 1.0, 0.0, 1.0])
        >>> _better(rows + 0.1, rows), _better(rows[::-1] + 0.2, rows)
        (True, False)
    """
    assert one is not None and other is not None
    if not np.isfinite(one).all() or not np.isfinite(other).all():
        return bool(np.isfinite(one).all())
    gains = one - other
    return bool(gains.mean() > gains.std() / math.sqrt(len(gains)))

"""Exact inference in a network of discrete nodes: its sum of products, and what it is asked.

    E[f | evidence] = sum_x f(x) prod_l P(x_l | parents) P(evidence | x) / P(evidence)

The distribution of the nodes that a value depends on is a derivative: multiplied by a table w of
ones, the sum has the derivative P(nodes, evidence) by w. So one backward pass gives all of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from cgjax._program import Linear
from cgjax._static import Leaf, Tree
from cgjax.inference._conditionals import Conditionals
from cgjax.inference._contraction import Order, order, product
from cgjax.inference._elimination import TERMS_PER_STATE, Set
from cgjax.inference._evidence import WAYS_OUT
from cgjax.inference._factors import Model, Scope, model
from cgjax.inference._leaves import Laws, Leaves, ones
from cgjax.inference._passes import total
from cgjax.inference._states import EVIDENCE, WEIGHTED, mask_shape

# The largest table that is held as a whole.
_MOST_ENTRIES = 1 << 26


@dataclass(frozen=True)
class Problem:
    """A sum of products, and what is averaged over it.

    Attributes:
        model: the factors and the questions.
        scopes: the sets of pieces whose joint distribution is wanted.
        order: of the contractions.
    """

    model: Model
    scopes: tuple[Scope, ...]
    order: Order

    @property
    def has_evidence(self) -> bool:
        """Whether something is known."""
        return any(s.kind in (EVIDENCE, WEIGHTED) for s in self.model.sites)

    def log_evidence(self, arrays: Sequence[Leaf]) -> jax.Array:
        """log P(evidence), -inf where that is impossible."""
        leaves = Conditionals(self.model, arrays, logs=True).leaves()
        return _log_total([leaves], self.order)[0]

    def expectations(self, arrays: Sequence[Leaf]) -> tuple[jax.Array, Tree]:
        """log P(evidence), and the expectation of the network's result."""
        conditionals = Conditionals(self.model, arrays, logs=self.has_evidence)
        factors = conditionals.leaves()
        weights = ones(self.scopes, self.model.sizes)
        if self.has_evidence:
            # Of logarithms, so that no derivative is as large as the evidence is improbable.
            (log, possible), slopes = jax.value_and_grad(
                lambda w: _log_total([factors, weights.at(w)], self.order), has_aux=True
            )(weights.numbers)
        else:
            log, possible = jnp.zeros(()), None
            slopes = weights.numbers
            if self.scopes:
                slopes = jax.grad(lambda w: total([factors, weights.at(w)], self.order.steps)[0])(
                    weights.numbers
                )
        found = conditionals.expectations(Laws(weights.at(slopes)))
        result = self.model.linear.combine(arrays, found)
        if possible is None:
            return log, result
        # All of it, also what follows from parts of the evidence that do not contradict each other.
        return log, jax.tree.map(lambda x: or_nan(possible, x), result)


def or_nan(possible: jax.Array, x: jax.Array) -> jax.Array:
    """A result, NaN if the evidence is impossible; whole numbers are not of nodes, and stay."""
    return jnp.where(possible, x, jnp.nan) if jnp.issubdtype(x.dtype, jnp.inexact) else x


def _log_total(leaves: Sequence[Leaves], order: Order) -> tuple[jax.Array, jax.Array]:
    """The logarithm of the sum of the product of all tables, and whether that is not 0."""
    mantissa, exponent = total(leaves, order.steps)
    possible = mantissa > 0
    log = jnp.log(jnp.where(possible, mantissa, 1)) + math.log(2) * exponent
    return jnp.where(possible, log, -jnp.inf), possible


def problem(flat: Linear) -> Problem:
    """The sum of products for the values of a network."""
    sites = flat.values.sites
    masks = {s.index: mask_shape(s) for s in sites if s.kind == EVIDENCE}
    found = model(flat, masks)
    scopes = tuple(dict.fromkeys(q.scope for q in found.questions if q.scope))
    every = [f.scope for f in found.factors] + [frozenset(s) for s in scopes]
    return Problem(found, scopes, order(every, found.sizes))


def too_large(found: Problem, max_states: int) -> str | None:
    """Why a problem is too large; None if it is not."""
    pieces, sizes = found.model.pieces, found.model.sizes
    scopes = [frozenset(f.parents) for f in found.model.factors]
    scopes += map(frozenset, found.scopes)
    scopes += [s.result for s in found.order.steps if s.summed]
    scope = max(scopes, key=lambda s: product(s, sizes), default=frozenset())
    if (size := product(scope, sizes)) > max_states:
        return (
            f"{number(size)} joint states, and max_states is {number(max_states)}. They are those "
            f"of {_listed(scope, found)}, which have to be known jointly at one time."
        )
    terms = max((s.terms for s in found.order.steps), default=0)
    if terms > TERMS_PER_STATE * max_states:
        return (
            f"one of its distributions is a sum of {number(terms)} terms, and at most "
            f"{TERMS_PER_STATE} times max_states, {number(TERMS_PER_STATE * max_states)}, are "
            "summed."
        )
    entries = [product(f.scope, sizes) for f in found.model.factors]
    entries += [s.table for s in found.order.steps]
    if pieces and max(entries) > _MOST_ENTRIES:
        return (
            f"a product of its factors has {number(max(entries))} entries, and at most "
            f"{number(_MOST_ENTRIES)} are held at one time."
        )
    return None


def check_size(found: Problem, max_states: int) -> None:
    """Raises for problems that are too large."""
    if (why := too_large(found, max_states)) is not None:
        raise ValueError(f"The network is too large for exact marginals: {why} {WAYS_OUT}")


def _listed(scope: Set, found: Problem) -> str:
    """Pieces by the names of their components."""
    nodes: dict[int, int] = {}
    for p in sorted(scope):
        piece = found.model.pieces[p]
        nodes[piece.component] = nodes.get(piece.component, 0) + len(piece.elements)
    return ", ".join(
        described(found.model.sites[i].name, count, found.model.kinds[i].states)
        for i, count in nodes.items()
    )


def described(name: str, num_nodes: int, states: int) -> str:
    """Nodes of one component in a few words."""
    return f"{name!r} ({num_nodes} nodes of {number(states)} states)"


def number(n: int) -> str:
    """A large number in a few characters."""
    if n & (n - 1) == 0 and n >= 1024:
        return f"2^{n.bit_length() - 1}" + (f" = {n:,}" if n < 10**13 else "")
    return f"{n:,}" if n < 10**13 else f"about 10^{len(str(n)) - 1}"

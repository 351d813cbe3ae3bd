"""Gives nodes their values, and records how probable these are."""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array

from cgjax import _static
from cgjax._program import Site
from cgjax._static import Leaf
from cgjax._walk import Visitor
from cgjax._walk.visitor import Draw, Handed
from cgjax.nodes import Family


class Natural(NamedTuple):
    """What a node's law is made of; each has a time axis in front for each scan."""

    e: Array
    parameters: tuple[Leaf, ...]


class Scored(NamedTuple):
    """What a model says of a node's value; each has a time axis in front for each scan."""

    log_prob: Array
    e: Array | None = None
    parameters: tuple[Leaf, ...] = ()


@dataclass(frozen=True)
class Scoring(Visitor):
    """Gives nodes their values, and records how probable these are.

    Attributes:
        scored: the nodes that have values; the others are left as they are.
        partly: those of them whose unknown elements, which are NaN, do not count.
        natural: the nodes whose natural parameters are recorded.
    """

    absent = 0.0
    scored: frozenset[int] = frozenset()
    partly: frozenset[int] = frozenset()
    natural: frozenset[int] = frozenset()

    def changes(self, site: Site) -> bool:
        return site.index in self.scored

    def visit(
        self, site: Site, family: Family, activation: Array, e: Array, draw: Draw, given: Handed
    ) -> tuple[Array, Scored | None]:
        if site.index not in self.scored:
            return activation, None
        assert given is not None  # those that are scored are given
        value = jnp.broadcast_to(given, site.shape).astype(site.dtype)
        log_prob = log_prob_of_known(family, value, e, partly=site.index in self.partly)
        if site.index in self.partly:
            value = jnp.where(jnp.isnan(value), activation, value)
        if site.index not in self.natural:
            return value, Scored(log_prob)
        return value, Scored(log_prob, e, tuple(_static.split(family)[1]))


def log_prob_of_known(family: Family, value: Array, e: Array, partly: bool) -> Array:
    """The log-probability of a value, summed over the elements that are not NaN if only a part is
    known, else over all."""
    if not partly:
        return jnp.sum(family.log_prob(value, e))
    known = ~jnp.isnan(value)
    # In place of what is not known stands something possible that e has no part in.
    possible = (family.mode if family.discrete else family.activation)(jnp.zeros_like(e))
    log_prob = family.log_prob(jnp.where(known, value, possible), e)
    axes = [k for k, n in enumerate(log_prob.shape) if n != e.shape[k]]
    counts = jnp.all(known, axes, keepdims=True) if axes else known
    return jnp.sum(jnp.where(counts, log_prob, 0))

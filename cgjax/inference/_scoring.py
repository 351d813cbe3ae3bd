"""Gives nodes their values, and records how probable these are."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from cgjax import _static
from cgjax._program import Site
from cgjax._static import Leaf
from cgjax._walk import Visitor
from cgjax._walk.visitor import Draw, Handed
from cgjax.inference._condition import weights_of
from cgjax.inference._evidence import Evidence
from cgjax.inference._states import Component, component, law_of, log_weights, mask_shape
from cgjax.nodes import Family
from cgjax.nodes._one_hot import OneHotPositions


class Natural(NamedTuple):
    """What a node's law is made of; each has a time axis in front for each scan."""

    e: Array
    parameters: tuple[Leaf, ...]


class Scored(NamedTuple):
    """What a model says of a node's value; each has a time axis in front for each scan.

    Attributes:
        log_prob: the log-probability of the value.
        e, parameters: what its law is made of, where that is asked for.
        reading: the log-weights of the states that it is in, where these are known.
    """

    log_prob: Array
    e: Array | None = None
    parameters: tuple[Leaf, ...] = ()
    reading: Array | None = None


@dataclass(frozen=True)
class Scoring(Visitor):
    """Gives nodes their values, and records how probable these are.

    Attributes:
        scored: the nodes of which something is known; the others are left as they are.
        partly: those of them whose unknown elements, which are NaN, are summed out.
        weighted: those of them of whose states the log-weights are known.
        natural: the nodes whose natural parameters are recorded.
        read: the nodes that are given both, values and log-weights of their states, as `together`
            puts them.
    """

    absent = 0.0
    scored: frozenset[int] = frozenset()
    partly: frozenset[int] = frozenset()
    weighted: frozenset[int] = frozenset()
    natural: frozenset[int] = frozenset()
    read: frozenset[int] = frozenset()

    @classmethod
    def of(
        cls,
        known: Evidence,
        scored: frozenset[int],
        natural: frozenset[int] = frozenset(),
        read: frozenset[int] = frozenset(),
    ) -> "Scoring":
        """Of nodes some of which are known in part."""
        partly, weighted = frozenset(known.partly), frozenset(known.weights)
        return cls(scored=scored, partly=partly, weighted=weighted, natural=natural, read=read)

    def changes(self, site: Site) -> bool:
        return site.index in self.scored

    def handed(self, site: Site) -> tuple[int, ...]:
        if site.index in self.read:
            return (math.prod(site.shape) + math.prod(weights_of(site)),)
        return weights_of(site) if site.index in self.weighted else site.shape

    def visit(
        self, site: Site, family: Family, activation: Array, e: Array, draw: Draw, given: Handed
    ) -> tuple[Array, Scored | None]:
        if site.index not in self.scored:
            return activation, None
        assert given is not None  # those that are scored are given
        given, reading = jnp.broadcast_to(given, self.handed(site)), None
        if site.index in self.read:
            size = math.prod(site.shape)
            value, weights = given[:size].reshape(site.shape), given[size:]
            given, reading = value, log_weight(site, family, weights, value)
        scored = Scored(self.log_prob(site, family, given, e), reading=reading)
        if site.index in self.natural:
            scored = scored._replace(e=e, parameters=tuple(_static.split(family)[1]))
        if site.index in self.partly | self.weighted:
            return activation, scored  # which nothing that is scored depends on
        return given.astype(site.dtype), scored

    def log_prob(self, site: Site, family: Family, given: Array, e: Array) -> Array:
        """The log-probability of what is known of a node, summed over its elements."""
        if site.index not in self.partly | self.weighted:
            return jnp.sum(family.log_prob(given.astype(site.dtype), e))
        if isinstance(family, OneHotPositions):
            return jnp.sum(family.log_evidence(e, self.told(site, family, given, e)))
        if (weights := self.weights(site, family, given)) is None:
            return _of_elements(family, given.astype(site.dtype), e)
        logits = weighted_law(family, component(site), weights, e)
        never, nothing = jnp.all(logits == -jnp.inf, -1), jnp.all(weights == 0, -1)
        found = jax.nn.logsumexp(jnp.where(never[..., None], 0, logits), -1)
        # Of what nothing is known the sum is 1, without rounding.
        return jnp.sum(jnp.where(nothing, 0, jnp.where(never, -jnp.inf, found)))

    def told(self, site: Site, family: OneHotPositions, given: Array, e: Array) -> Array:
        """The natural parameter of a node whose elements touch, given what is known of it."""
        if site.index in self.weighted:
            return family.weighted(e, given)
        return family.conditioned(e, given)

    def weights(self, site: Site, family: Family, given: Array) -> Array | None:
        """The log-weights of states, (*nodes, states), of a node known in part: where each state
        has one, or some classes are known of a slice. None where elements are known or not."""
        if site.index in self.weighted:
            return given
        if mask_shape(site) == site.shape:
            return None
        return log_weights(family, component(site), given, site.shape)


def together(site: Site, value: Array, weights: Array) -> Array:
    """A node's value and the log-weights of its states in one row, for each step of its scans."""
    pair = (x.reshape(*site.lengths, -1) for x in (value, weights))
    return jnp.concatenate([*pair], -1)


def log_weight(site: Site, family: Family, weights: Array, value: Array) -> Array:
    """The log-weights of the states that the elements of a node are in, summed.

    Between the states of a node it is linear in the value where its log-probability is, for
    straight-through estimators: of indicators of classes, and of two states that are numbers.

    Args:
        weights: of each state, in the order of `weights_of(site)`.
        value: of the node, one of its states.
    """
    weights = weights.reshape(weights_of(site))
    if isinstance(family, OneHotPositions):
        inside, share = value == 1, value
    else:
        kind = component(site)
        inside = log_weights(family, kind, value, site.shape) == 0
        if kind.axis is not None:
            share = jnp.expand_dims(jnp.moveaxis(value, kind.axis, -1), kind.axis - 1)
        elif kind.states == 2:
            first, last = family.states().reshape(2)
            share = (value - first) / (last - first)
            share = jnp.stack([1 - share, share], -1)
        else:
            share = jnp.zeros(weights.shape)
    slope = jnp.where(jnp.isfinite(weights), weights, 0) * (share - lax.stop_gradient(share))
    return jnp.sum(jnp.where(inside, weights, 0) + slope)


def weighted_law(family: Family, kind: Component, weights: Array, e: Array) -> Array:
    """log P(state) + log-weight of each state: (*nodes, states)."""
    law = law_of(family, kind, e, logs=True)[1]
    assert law is not None  # it is asked for
    return jnp.moveaxis(law, 0, -1) + weights


def _of_elements(family: Family, value: Array, e: Array) -> Array:
    """The log-probability of the elements that are not NaN."""
    known = ~jnp.isnan(value)
    # In place of what is not known stands something possible that e has no part in.
    possible = (family.mode if family.discrete else family.activation)(jnp.zeros_like(e))
    log_prob = family.log_prob(jnp.where(known, value, possible), e)
    return jnp.sum(jnp.where(known, log_prob, 0))

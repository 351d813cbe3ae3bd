"""What is known about a network's nodes, and the network, without loops, that it is put into."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, Num, UInt32

from cgjax._gaussian.belief import Belief
from cgjax._node import bind
from cgjax._program import Linear, Program, Site, linear, trace
from cgjax._program.reads import marks
from cgjax._static import Leaf, Tree
from cgjax._walk import Records, Visitor, unroll
from cgjax._walk.visitor import Draw, Handed
from cgjax.inference._elimination import Set
from cgjax.inference._states import EVIDENCE, WEIGHTED, component, log_weights
from cgjax.nodes import Family
from cgjax.nodes._one_hot import OneHotPositions

# An unrolled network has a component for each step; beyond this, tracing alone takes minutes.
_MAX_COMPONENTS = 1000

WAYS_OUT = (
    "exact_marginals takes one example: map it over a batch with `jax.vmap`. Otherwise use "
    "`monte_carlo(forward_sample(net), num_samples)`, make the network smaller, or raise "
    "`max_states` if time and memory allow."
)


@dataclass(frozen=True)
class Evidence:
    """What is known about nodes, by index.

    Attributes:
        values: the values of nodes that are observed.
        partly: values of which a part is known, NaN elsewhere.
        weights: the logarithms of what the states of nodes are multiplied by.
    """

    values: Mapping[int, jax.Array]
    partly: Mapping[int, jax.Array]
    weights: Mapping[int, jax.Array]

    @property
    def all(self) -> dict[int, jax.Array]:
        """All that is known."""
        return {**self.values, **self.partly, **self.weights}


NO_EVIDENCE = Evidence({}, {}, {})


@dataclass(frozen=True)
class _Unrolled(Visitor):
    """Marks every random node again, and records all nodes' values.

    Nodes that are observed are marked as such: what follows sees their values.
    """

    observed: Set = frozenset()
    partly: Set = frozenset()
    weighted: Set = frozenset()

    def changes(self, site: Site) -> bool:
        return site.kind != "observe"

    def visit(
        self, site: Site, family: Family, activation: Array, e: Array, draw: Draw, given: Handed
    ) -> tuple[Array, Array]:
        if site.kind == "observe":
            return activation, activation
        kind, like = site.kind, None
        told = site.index in self.partly or site.index in self.weighted
        if given is not None and isinstance(family, OneHotPositions) and told:
            weighs = site.index in self.weighted
            after = family.weighted(e, given) if weighs else family.conditioned(e, given)
            _observe(family.log_evidence(e, after), site)
            e = after
        elif site.index in self.observed:
            assert given is not None  # it is observed
            kind, like = EVIDENCE, given.astype(site.dtype)
        elif given is not None:
            kind, like = WEIGHTED, given
            if site.index in self.partly:
                like = log_weights(family, component(site), given, site.shape)
        value = bind(
            family,
            e,
            activation,
            kind=kind,
            name=site.name,
            scopes_in_name=site.num_scopes,
            lifted=site.lifted,
            like=like,
        )
        value = like if kind == EVIDENCE and like is not None else value
        return value, value


@dataclass(frozen=True, eq=False)
class _Factor(Family):
    """An observed node whose log-probability is e, whatever its value."""

    def activation(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        return jnp.asarray(e)

    def mean(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        return jnp.asarray(e)

    def variance(self, e: Num[ArrayLike, "*nodes"]) -> Float[Array, "*nodes"]:
        return jnp.zeros_like(e)

    def from_words(
        self, words: UInt32[Array, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        return jnp.asarray(e)

    def log_prob(
        self, x: Num[ArrayLike, "*nodes"], e: Num[ArrayLike, "*nodes"]
    ) -> Float[Array, "*nodes"]:
        return jnp.asarray(e)

    def moments(
        self, mean: Num[ArrayLike, "*nodes"], variance: Num[ArrayLike, ...]
    ) -> tuple[Belief, Belief]:
        known = Belief(jnp.asarray(mean), jnp.asarray(variance))
        return known, known


def _observe(log_probability: Array, site: Site) -> None:
    """Marks what was seen at a site, of which only its log-probability counts."""
    bind(
        _Factor(),
        log_probability,
        log_probability,
        kind=EVIDENCE,
        name=site.name,
        scopes_in_name=site.num_scopes,
        lifted=site.lifted,
        like=jnp.zeros_like(log_probability),
    )


def flattened(
    program: Program,
    arrays: Sequence[Leaf],
    evidence: Evidence,
    *,
    inline: bool,
    wanted: Literal["result", "nodes", "nothing"],
) -> Linear:
    """The network without loops and calls, and the values that its expectation needs.

    Its arguments are the network's, and then what is known, in order.

    Args:
        program: the network.
        arrays: its flat arguments.
        evidence: what is known.
        inline: whether custom derivatives are dropped.
        wanted: the expectation of the result, of all nodes too, or none.
    """
    check(program, evidence)
    known = evidence.all
    visitor = _Unrolled(
        inline=inline,
        observed=frozenset(evidence.values),
        partly=frozenset(evidence.partly),
        weighted=frozenset(evidence.weights),
    )

    def unrolled(*arrays: Leaf) -> tuple[Tree, Records]:
        own, rest = arrays[: len(arrays) - len(known)], arrays[len(arrays) - len(known) :]
        given = dict(zip(known, rest, strict=True))
        out, records = unroll(program, visitor, own, given)
        return None if wanted == "nothing" else out, records if wanted == "nodes" else {}

    flat = linear(trace(unrolled, (*arrays, *known.values())))
    hidden = {s.index for s in flat.values.sites if s.kind in (EVIDENCE, WEIGHTED)}
    for index in hidden - set(marks(flat.values)):
        site = flat.values.sites[index]
        raise ValueError(
            f"The node {site.name!r} lies in a branch of `lax.cond` ({site.source}), which may not "
            "be taken: evidence about it cannot be used. Mark the node outside the branch."
        )
    return flat


def check(program: Program, evidence: Evidence) -> None:
    """Raises for networks that exact inference cannot do."""
    random = [site for site in program.sites if site.kind != "observe"]
    for site in random:
        if not site.family_type.discrete and site.index not in evidence.values:
            raise TypeError(
                f"The node {site.name!r} is of {site.family_type.in_words()} "
                f"({site.source}); exact marginals are for discrete nodes (Binary, Bernoulli, "
                "Spin, Categorical, BernoulliMask). Use `monte_carlo(forward_sample(net), "
                "num_samples)`, or `clamp` the node to a value."
            )
        if site.in_while:
            raise ValueError(
                f"The node {site.name!r} lies in a `while_loop` ({site.source}), whose number of "
                "steps is not known, so its values cannot be enumerated. Use `lax.scan`, or "
                "`lax.fori_loop` with constant bounds."
            )
    steps = [math.prod(site.lengths) for site in random]
    if sum(steps) > _MAX_COMPONENTS:
        raise ValueError(
            f"The network has {sum(steps)} components, counting every step of its scans (the most: "
            f"{random[steps.index(max(steps))].name!r}); exact marginals take at most "
            f"{_MAX_COMPONENTS}. {WAYS_OUT}"
        )


def check_discrete(program: Program, evidence: Evidence, what: str) -> None:
    """Raises for a node of a continuous family that was not seen.

    Args:
        program: the network.
        evidence: what is known.
        what: what discrete nodes alone have, as "the most probable joint values are those".
    """
    for site in program.sites:
        seen = site.kind == "observe" or site.index in evidence.values
        if not seen and not site.family_type.discrete:
            raise TypeError(
                f"The node {site.name!r} is of {site.family_type.in_words()} "
                f"({site.source}); {what} of discrete nodes (Binary, Bernoulli, Spin, Categorical, "
                "BernoulliMask). Observe the node, `clamp` it to a value, or make it deterministic "
                "by `collapse`."
            )

"""The most probable joint values of all nodes of a network, given what was seen of some."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from cgjax._procedure import Arrays, Method, Result, method
from cgjax._program import Linear, Program, Site
from cgjax._static import Leaf, Tree
from cgjax._walk import Records, Visitor, walk
from cgjax._walk.visitor import Draw, Handed
from cgjax.inference._condition import Pairs, evidence
from cgjax.inference._contraction import order
from cgjax.inference._evidence import check_discrete, flattened
from cgjax.inference._exact import Problem, or_nan, too_large
from cgjax.inference._factors import Model
from cgjax.inference._log_tables import LogTables
from cgjax.inference._maxima import Scores, largest
from cgjax.inference._states import EVIDENCE, WEIGHTED, at_states, component, law_of, mask_shape
from cgjax.inference._variables import for_maxima
from cgjax.nodes import Family


@method
class JointMode(Method):
    """Options of the mode of a network with evidence: pairs of a node's name and what is known."""

    max_states: int
    inline: bool
    evidence: Pairs

    @classmethod
    def procedure(cls) -> str:
        return "mode"

    def run(self, program: Program, lead: Tree, arrays: Arrays, capture: bool) -> Result:
        known = evidence(program, dict(self.evidence))
        check_discrete(program, known, "the most probable joint values are those")
        wanted = "nodes" if capture else "result"
        flat = flattened(program, arrays, known, inline=self.inline, wanted=wanted)
        found = _problem(flat)
        if (why := too_large(found, self.max_states)) is not None:
            raise ValueError(
                f"The network is too large for its most probable joint values: {why} Observe more "
                "of it, make it smaller, or raise `max_states` if time and memory allow; `mode` of "
                "the network without evidence decides node by node."
            )

        # Under one jit whoever calls, so that what a walk computes in vain is never run.
        @jax.jit
        def compute(arrays: Sequence[Leaf]) -> tuple[jax.Array, tuple[Tree, Records]]:
            return _decided(found, arrays)

        log, (out, records) = compute([*arrays, *known.all.values()])
        return (log, out), records


def _problem(flat: Linear) -> Problem:
    masks = {s.index: mask_shape(s) for s in flat.values.sites if s.kind == EVIDENCE}
    found = for_maxima(flat, masks)
    return Problem(found, (), order([f.scope for f in found.factors], found.sizes))


def _decided(found: Problem, arrays: Sequence[Leaf]) -> tuple[jax.Array, tuple[Tree, Records]]:
    """The largest log-probability, and the result of the network where it is reached."""
    model = found.model
    tables = LogTables(model, [lax.stop_gradient(x) for x in arrays], absent="nothing")
    scores = [Scores(t.axes, t.mantissa) for t in tables.tables()]
    log, of_piece = largest(scores, found.order.steps)
    states = _States(model, tables, of_piece)
    visitor = Decided(weights=states.weights())
    values, _ = walk(model.linear.values, visitor, arrays, given=states.given())
    result = model.linear.combine(arrays, values)
    return log, jax.tree.map(lambda x: or_nan(log > -jnp.inf, x), result)


@dataclass(frozen=True)
class _States:
    """The states of the pieces of a model.

    Attributes:
        model: the model.
        tables: its factors.
        of_piece: the number of the state of each piece.
    """

    model: Model
    tables: LogTables
    of_piece: Mapping[int, jax.Array]

    @functools.cached_property
    def numbers(self) -> dict[int, dict[int, jax.Array]]:
        """The number of the state of each node that a piece holds, by component."""
        found: dict[int, dict[int, jax.Array]] = {i: {} for i in self.model.kinds}
        for p, index in self.of_piece.items():
            piece = self.model.pieces[p]
            for k in reversed(piece.elements):
                found[piece.component][k] = index % piece.states
                index = index // piece.states
        return found

    def given(self) -> dict[int, jax.Array]:
        """The states of components of which a piece holds every node."""
        found = {}
        for i, own in self.numbers.items():
            kind = self.model.kinds[i]
            if len(own) == kind.num_nodes:
                rows = [own[k] for k in range(kind.num_nodes)]
                stacked = jnp.stack(rows) if rows else jnp.zeros(0, int)
                found[i] = stacked.reshape(kind.shape)
        return found

    def weights(self) -> dict[int, jax.Array]:
        """Of components of which it does not, and of which something is known, log-weights of the
        states: (states, *nodes). Those of nodes that a piece holds leave them one state."""
        found = {}
        for i, own in self.numbers.items():
            kind = self.model.kinds[i]
            weighted = self.model.sites[i].kind == WEIGHTED
            if len(own) < kind.num_nodes and (own or weighted):
                none = jnp.asarray(-1)
                number = jnp.stack([own.get(k, none) for k in range(kind.num_nodes)])[None]
                other = (number >= 0) & (jnp.arange(kind.states)[:, None] != number)
                weights = jnp.zeros((kind.states, kind.num_nodes))
                if weighted:
                    known = self.model.parts.handed(i, self.tables.fixed)
                    weights = known.reshape(kind.num_nodes, kind.states).T
                weights = jnp.where(other, -jnp.inf, weights)
                found[i] = weights.reshape(kind.states, *kind.shape)
        return found


@dataclass(frozen=True, eq=False)
class Decided(Visitor):
    """Puts nodes into given states, others into the most probable ones, given their parents.

    Attributes:
        weights: for some components the log-weights of these states.
    """

    weights: Mapping[int, jax.Array] = field(default_factory=dict)

    def changes(self, site: Site) -> bool:
        return True

    def visit(
        self, site: Site, family: Family, activation: Array, e: Array, draw: Draw, given: Handed
    ) -> tuple[Array, None]:
        if site.kind == EVIDENCE:  # what follows reads its value, not this one
            return activation, None
        kind = component(site)
        if site.index in self.weights:
            log = law_of(family, kind, lax.stop_gradient(e), logs=True)[1]
            assert log is not None  # it is asked for
            given = jnp.argmax(log + self.weights[site.index], 0)
        if given is None:
            return family.mode(e), None
        return at_states(family, kind, given, site.shape), None

"""Marginals of networks that are too large for exact sums, by loopy belief propagation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cgjax._procedure import Arrays, Method, Network, Procedure, Result, intern, method
from cgjax._program import Linear, Program
from cgjax._static import Leaf, Tree
from cgjax._walk import Records, walk
from cgjax.inference._condition import Conditioned, Pairs, evidence
from cgjax.inference._contraction import product
from cgjax.inference._evidence import check_discrete, flattened
from cgjax.inference._exact import described, number, or_nan
from cgjax.inference._exact_marginals import MAX_STATES, check_max_states
from cgjax.inference._factors import Model, Question, Scope, owners
from cgjax.inference._joint_mode import Decided
from cgjax.inference._log_tables import LogTables
from cgjax.inference._messages import Batch, FactorGraph, Schedule, State
from cgjax.inference._posterior import Posterior
from cgjax.inference._scaled import laid
from cgjax.inference._states import EVIDENCE, mask_shape
from cgjax.inference._variables import for_messages

# All tables together have at most so many entries.
_MOST_ENTRIES = 1 << 26


class LoopyMarginals(NamedTuple):
    """What belief propagation found.

    Attributes:
        mean: the expectation of the network's result.
        iterations: the rounds of messages that were passed.
        residual: the largest change of a message in the last round, as a probability.
        converged: whether that is at most the tolerance; without one, whether it is 0 to rounding.
    """

    mean: Tree
    iterations: jax.Array
    residual: jax.Array
    converged: jax.Array


@method
class BeliefPropagation(Method):
    """Options of `belief_propagation`; evidence is pairs of a node's name and what is known."""

    schedule: Schedule
    max_states: int
    inline: bool
    evidence: Pairs = ()

    def run(self, program: Program, lead: Tree, arrays: Arrays, capture: bool) -> Result:
        known = evidence(program, dict(self.evidence))
        check_discrete(program, known, "messages are distributions")
        wanted = "nodes" if capture else "result"
        flat = flattened(program, arrays, known, inline=self.inline, wanted=wanted)
        found = _Graph(flat)
        found.check(self.max_states)

        # Under one jit whoever calls, so that what a walk computes in vain is never run.
        @jax.jit
        def compute(arrays: Sequence[Leaf]) -> tuple[jax.Array, tuple[Tree, Records], State]:
            return found.expectations(arrays, self.schedule)

        log, (out, records), state = compute([*arrays, *known.all.values()])
        tolerance = self.schedule.tolerance
        small = 8 * jnp.finfo(state.residual.dtype).eps if tolerance is None else tolerance
        result = LoopyMarginals(out, state.iterations, state.residual, state.residual <= small)
        return (log, result), records


class _Joint(NamedTuple):
    """A factor that holds a set of variables: its batch, its place there, the order of its axes."""

    batch: int
    row: int
    axes: Scope


@dataclass
class _Graph:
    """A network as a graph of factors, and what is asked about it.

    Attributes:
        flat: the values that are asked for.
    """

    flat: Linear

    def __post_init__(self) -> None:
        masks = {s.index: mask_shape(s) for s in self.flat.values.sites if s.kind == EVIDENCE}
        self.model = for_messages(self.flat, masks)
        self.means = _by_node(self.model)
        self.model.questions = [q for q in self.model.questions if q.value not in self.means]
        sizes = self.model.sizes
        # By their axes, sorted by size, so that as few shapes as possible differ.
        self.of_shape: dict[tuple[int, ...], list[int]] = {}
        self.axes: list[Scope] = []
        for k, factor in enumerate(self.model.factors):
            self.axes.append(tuple(sorted(factor.scope, key=lambda v: (-sizes[v], v))))
            self.of_shape.setdefault(tuple(sizes[v] for v in self.axes[-1]), []).append(k)
        self.constant = self.of_shape.pop((), [])  # observed, and so are all parents
        self.batches = [
            Batch(np.array([self.axes[k] for k in numbers]), shape)
            for shape, numbers in self.of_shape.items()
        ]
        self.graph = FactorGraph(self.batches, list(sizes.values()))

    def check(self, max_states: int) -> None:
        """Raises for graphs that are too large, and for values of several factors' nodes."""
        sizes = self.model.sizes

        factors = self.model.factors
        entries = [product(f.scope, sizes) for f in factors]
        if entries and (most := max(entries)) > max_states:
            factor = factors[entries.index(most)]
            raise ValueError(
                "The network is too large for belief propagation: a node of "
                f"{self.model.sites[factor.node].name!r} depends on {self._listed(factor.parents)},"
                f" and its table given these has {number(most)} entries, where max_states is "
                f"{number(max_states)}. Make the node depend on fewer others, or use "
                "`monte_carlo(forward_sample(net), num_samples)` for a network without evidence."
            )
        if (total := sum(entries)) > _MOST_ENTRIES:
            raise ValueError(
                f"The network is too large for belief propagation: its factors have {number(total)}"
                f" entries, and at most {number(_MOST_ENTRIES)} are held at one time."
            )
        for question in self.model.questions:
            if len(question.scope) > 1:
                self.joint(question)

    def joint(self, question: Question) -> _Joint:
        """The smallest factor that holds all that a value depends on."""
        wanted = set(question.scope)
        found = []
        for number_, batch in enumerate(self.batches):
            inside = np.isin(batch.variables, list(wanted)).sum(1) == len(wanted)
            if inside.any():
                found.append((math.prod(batch.sizes), number_, int(inside.argmax())))
        if not found:
            raise ValueError(
                "Belief propagation knows the distribution of each node, and the joint one of a "
                "node and its parents; the result is a nonlinear function of "
                f"{self._listed(question.scope)}, which no factor holds together. Return the nodes "
                "or sums of them, make the function a node, or use `exact_marginals`, or "
                "`monte_carlo(forward_sample(net), num_samples)` for a network without evidence."
            )
        _, batch, row = min(found)
        return _Joint(batch, row, tuple(map(int, self.batches[batch].variables[row])))

    def expectations(
        self, arrays: Sequence[Leaf], schedule: Schedule
    ) -> tuple[jax.Array, tuple[Tree, Records], State]:
        """0, or -inf where the evidence is found to be impossible; the result; the messages."""
        tables = LogTables(self.model, arrays, absent="uniform")
        every = tables.tables()
        factors = [
            jnp.stack([laid(every[k].mantissa, every[k].axes, self.axes[k]) for k in numbers])
            for numbers in self.of_shape.values()
        ]
        state = self.graph.run(factors, schedule)
        beliefs = self.graph.beliefs(state.messages)
        laws: dict[Scope, jax.Array] = {}
        for question in self.model.questions:
            if question.scope and question.scope not in laws:
                laws[question.scope] = self._law(question, factors, state, beliefs)
        general = tables.expectations(laws)
        values = sorted({q.value for q in self.model.questions})
        found = dict(zip(values, general, strict=True)) | self._means(arrays, beliefs)
        possible = [every[k].mantissa > -jnp.inf for k in self.constant]
        possible += [(log.max(1) > -jnp.inf).all() for _, log in beliefs.values()]
        all_possible = jnp.stack([jnp.bool_(True), *possible]).all()
        result = self.flat.combine(arrays, [found[k] for k in sorted(found)])
        result = jax.tree.map(lambda x: or_nan(all_possible, x), result)
        return jnp.where(all_possible, 0.0, -jnp.inf), result, state

    def _means(
        self, arrays: Sequence[Leaf], beliefs: Mapping[int, tuple[np.ndarray, jax.Array]]
    ) -> dict[int, jax.Array]:
        """The expectations of nodes' statistics, from the distributions of their elements."""
        if not self.means:
            return {}
        kinds = self.model.kinds
        states = max(kinds[i].states for i in self.means.values())

        def at(state: jax.Array) -> list[jax.Array]:
            given = {
                i: jnp.broadcast_to(jnp.minimum(state, kind.states - 1), kind.shape)
                for i, kind in kinds.items()
            }
            found = walk(self.flat.values, Decided(), arrays, given=given)[0]
            return [found[value] for value in self.means]

        # The states of all nodes at once: a statistic is a function of its own alone.
        statistics = jax.vmap(at)(jnp.arange(states))
        place = {size: {int(v): k for k, v in enumerate(vs)} for size, (vs, _) in beliefs.items()}
        pieces: dict[int, dict[int, int]] = {}
        for p, piece in enumerate(self.model.pieces):
            pieces.setdefault(piece.component, {})[piece.elements[0]] = p
        found = {}
        for (value, i), of_states in zip(self.means.items(), statistics, strict=True):
            kind = kinds[i]
            rows = [place[kind.states][pieces[i][e]] for e in range(kind.num_nodes)]
            owner = np.array(rows, int)[owners(kind, self.model.sites[i])]
            laws = jnp.moveaxis(jnp.exp(beliefs[kind.states][1])[owner], -1, 0)
            found[value] = (laws * of_states[: kind.states]).sum(0)
        return found

    def _law(
        self,
        question: Question,
        factors: Sequence[jax.Array],
        state: State,
        beliefs: Mapping[int, tuple[np.ndarray, jax.Array]],
    ) -> jax.Array:
        """The joint distribution of the variables of a question."""
        if len(question.scope) == 1:
            [p] = question.scope
            numbers, logs = beliefs[self.model.sizes[p]]
            return jnp.exp(logs[int(np.flatnonzero(numbers == p)[0])])
        found = self.joint(question)
        law = self.graph.joint(factors, state.messages, found.batch)[found.row]
        gone = tuple(k for k, v in enumerate(found.axes) if v not in question.scope)
        left = [v for v in found.axes if v in question.scope]
        return law.sum(gone).transpose([left.index(v) for v in question.scope])

    def _listed(self, scope: Scope) -> str:
        nodes: dict[int, int] = {}
        for p in scope:
            i = self.model.pieces[p].component
            nodes[i] = nodes.get(i, 0) + len(self.model.pieces[p].elements)
        kinds, sites = self.model.kinds, self.model.sites
        return ", ".join(described(sites[i].name, n, kinds[i].states) for i, n in nodes.items())


def _by_node(model: Model) -> dict[int, int]:
    """The values that are the statistic of a component, and what states mean there is fixed."""
    found = {}
    for value, node in enumerate(model.linear.nodes):
        if node is None or node not in model.kinds or model.kinds[node].numbered:
            continue
        if model.parts.found.of_family.get(node, 1) == 0:
            found[value] = node
    return found


def belief_propagation(
    net: Network | Conditioned,
    *,
    iterations: int = 1000,
    damping: float = 0.0,
    tolerance: float | None = 1e-5,
    max_states: int = MAX_STATES,
    inline: bool = False,
) -> Procedure:
    """Expectations of the nodes of a network, by messages between its factors.

        r_{f->v}(x_v) = sum over x_{f - v} of F_f(x_f) prod_{u in f - v} q_{u->f}(x_u)
        q_{v->f}(x_v) = prod_{g with v, g != f} r_{g->v}(x_v),   P(x_v) ~ prod_g r_{g->v}(x_v)

    with a factor F_f = P(x_v | parents) for each node, also for each that was observed. What counts
    is the number of parents of a node, not the treewidth of the graph: networks that are too large
    for `exact_marginals` are no problem. Where the graph of nodes and factors is a tree, the
    result is exact; otherwise it is an approximation, which may be poor, or not converge: the
    record says what became of the messages. Each node of an array is a variable of its own.

    Args:
        net: a network, as in `exact_marginals`; with evidence (`condition`) or without.
        iterations: the most rounds, in each of which all messages are passed; as many as the graph
            is long are needed to go from one end to the other.
        damping: the part of the last message that stays, from 0 to below 1; helps messages that go
            round in circles.
        tolerance: the change of a message, as a probability, below which it has converged. None:
            all rounds are made, a fixed number, through which derivatives flow backwards
            (`jax.grad`); otherwise only forwards (`jax.jvp`).
        max_states: the largest number of entries of a node's table given its parents.
        inline: as in `forward_sample`.

    Returns:
        `procedure(*args)`, a record of the expectation of `net(*args)` as `mean`, of the
        `iterations`, the `residual`, and whether they have `converged`. Under `with_nodes` also
        E[T] of each node. A result that is no linear function of the nodes is known where one
        factor holds what it depends on, a node and its parents.

    Raises:
        ValueError: when called: for a result that depends nonlinearly on several nodes together, a
            node with too many parents, evidence that is known and found to be impossible (traced,
            NaN; that it is impossible is not always found), and options out of range.
        TypeError: for a node of a continuous family that was not seen.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> def net(e):
        ...     rain = cg.node(cg.nodes.Bernoulli(), e, name="rain")
        ...     wet = cg.node(cg.nodes.Bernoulli(), 6 * rain - 3, name="wet")
        ...     return rain
        >>> found = cg.belief_propagation(cg.condition(net, {"wet": 1.0}))(jnp.float32(-1))
        >>> found.mean, found.iterations, bool(found.converged)
        (Array(0.880..., dtype=float32), Array(2, dtype=int32), True)

    Source: Pearl 1988, chapter 4; Kschischang, Frey and Loeliger 2001 (factor graphs); Murphy,
    Weiss and Jordan 1999 (loops, damping).
    """
    check_max_states(max_states)
    schedule = _schedule(iterations, damping, tolerance)
    values = net.values if isinstance(net, Conditioned) else ()
    plain = net.net if isinstance(net, Conditioned) else net
    return intern(Posterior(plain, BeliefPropagation(schedule, max_states, inline, values)))


def _schedule(iterations: object, damping: object, tolerance: object) -> Schedule:
    if not isinstance(iterations, int) or isinstance(iterations, bool) or iterations < 1:
        raise ValueError(f"iterations is a whole number from 1 on, got {iterations!r}.")
    if not isinstance(damping, int | float) or not 0 <= damping < 1:
        raise ValueError(
            f"damping is the part of the last message that stays, a number from 0 to below 1, got "
            f"{damping!r}."
        )
    if tolerance is not None and (not isinstance(tolerance, int | float) or not tolerance >= 0):
        raise ValueError(
            f"tolerance is a change of probabilities, a number from 0 on, or None, got "
            f"{tolerance!r}."
        )
    return Schedule(iterations, float(damping), None if tolerance is None else float(tolerance))

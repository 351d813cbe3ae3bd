"""Exact expectations of discrete networks, by factors or in chunks ([A] Eq. 4-5)."""

from collections.abc import Sequence

import jax

from cgjax._procedure import Arrays, Method, Network, Procedure, Result, intern, method
from cgjax._program import Linear, Program, Site
from cgjax._static import Function, Leaf, Tree
from cgjax._walk import Records
from cgjax.inference._condition import Conditioned, Pairs, evidence
from cgjax.inference._elimination import TERMS_PER_STATE, Ask, Enter, Set, Step, plan
from cgjax.inference._evidence import WAYS_OUT, flattened
from cgjax.inference._exact import Problem, check_size, described, number, problem, too_large
from cgjax.inference._posterior import Posterior
from cgjax.inference._states import Component, component
from cgjax.inference._tables import Tables

MAX_STATES = 1 << 22

# Networks with so much work, and so few components, are compared with the sums in chunks, which are
# taken unless they are so many times the work.
_MUCH_WORK, _FEW_COMPONENTS, _LESS = 1 << 20, 64, 2


@method
class ExactMarginals(Method):
    """Options of `exact_marginals`; evidence is pairs of a node's name and what is known of it."""

    max_states: int
    inline: bool
    evidence: Pairs = ()

    def run(self, program: Program, lead: Tree, arrays: Arrays, capture: bool) -> Result:
        known = evidence(program, dict(self.evidence))
        wanted = "nodes" if capture else "result"
        flat = flattened(program, arrays, known, inline=self.inline, wanted=wanted)
        found = problem(flat)
        chunked = None
        if self.evidence:
            check_size(found, self.max_states)
        else:
            chunked = _in_chunks(flat, found, self.max_states)

        # Under one jit whoever calls, so that what a walk computes in vain is never run.
        @jax.jit
        def compute(arrays: Sequence[Leaf]) -> tuple[jax.Array | None, tuple[Tree, Records]]:
            if chunked is not None:
                return None, chunked(arrays)
            return found.expectations(arrays)

        log, (out, records) = compute([*arrays, *known.all.values()])
        return ((log, out) if self.evidence else out), records


def _in_chunks(flat: Linear, found: Problem, max_states: int) -> Function | None:
    """How to sum in chunks, for few components of many nodes each that depend on all the others.

    A sum over dense layers is a product of large matrices, which are never held as a whole.
    """
    small = too_large(found, max_states) is None
    if small and found.order.work < _MUCH_WORK:
        return None
    if len(flat.values.sites) > _FEW_COMPONENTS:
        check_size(found, max_states)
        return None
    components, questions, steps = _plan(flat, max_states)
    work = sum(s.terms for s in steps if isinstance(s, Enter))
    peak = max((s.table for s in steps if isinstance(s, Enter | Ask)), default=1)
    longest = max((s.terms for s in steps if isinstance(s, Enter)), default=1)
    fits = peak <= max_states and longest <= TERMS_PER_STATE * max_states
    if small and not (fits and work <= _LESS * found.order.work):
        return None
    _check_size(steps, questions, flat.values.sites, components, max_states)
    values = [tuple(v) for v in _by_parents(flat).values()]

    def compute(arrays: Sequence[Leaf]) -> tuple[Tree, Records]:
        tables = Tables(flat, components, arrays)
        return flat.combine(arrays, tables.expectations(steps, values))

    return compute


def _by_parents(flat: Linear) -> dict[Set, list[int]]:
    """The values that are averaged over the same components."""
    by_parents: dict[Set, list[int]] = {}
    for value in range(len(flat.nodes)):
        by_parents.setdefault(flat.parents_of_value(value), []).append(value)
    return by_parents


def _plan(flat: Linear, max_states: int) -> tuple[dict[int, Component], list[Set], list[Step]]:
    """The components to enumerate, those of each question, and the steps."""
    by_parents = _by_parents(flat)
    wanted, pending = set(), [c for question in by_parents for c in question]
    while pending:
        c = pending.pop()
        if c not in wanted:
            wanted.add(c)
            pending.extend(flat.of_node[c])
    sites = flat.values.sites
    components = {c: component(sites[c]) for c in sorted(wanted)}
    sizes = {c: kind.size for c, kind in components.items()}
    steps = plan(sizes, {c: flat.of_node[c] for c in sizes}, list(by_parents), max_states)
    return components, list(by_parents), steps


def _check_size(
    steps: Sequence[Step],
    questions: Sequence[Set],
    sites: Sequence[Site],
    components: dict[int, Component],
    max_states: int,
) -> None:
    tables = [s for s in steps if isinstance(s, Enter | Ask)]
    largest = max(tables, key=lambda s: s.table, default=None)
    if largest is not None and largest.table > max_states:
        if isinstance(largest, Ask):
            together, why = questions[largest.question], "on which a result depends jointly"
        else:
            stay = largest.joined - largest.dropped
            together = stay | {largest.component}
            size = 1
            for c in together:
                size *= components[c].size
            if size < largest.table:
                together = largest.joined
            why = "which have to be known jointly at one time"
        listed = ", ".join(_described(sites[c].name, components[c]) for c in sorted(together))
        raise ValueError(
            f"The network is too large for exact marginals: {number(largest.table)} joint states, "
            f"and max_states is {number(max_states)}. They are those of {listed}, {why}. "
            f"{WAYS_OUT}"
        )
    longest = max((s for s in steps if isinstance(s, Enter)), key=lambda s: s.terms, default=None)
    if longest is not None and longest.terms > TERMS_PER_STATE * max_states:
        raise ValueError(
            "The network is too large for exact marginals: the distribution of "
            f"{_described(sites[longest.component].name, components[longest.component])} is a sum "
            f"of {number(longest.terms)} terms, and at most {TERMS_PER_STATE} times max_states, "
            f"{number(TERMS_PER_STATE * max_states)}, are summed. {WAYS_OUT}"
        )


def _described(name: str, kind: Component) -> str:
    return described(name, kind.num_nodes, kind.states)


def exact_marginals(
    net: Network | Conditioned, *, max_states: int = MAX_STATES, inline: bool = False
) -> Procedure:
    """The exact expectation of a network's output over all its random nodes, by enumeration.

        E[out | input] = sum_x P(x | input) out(x),   P(x | input) = prod_l P(x_l | parents of x_l)

    for networks of discrete nodes: the measure of what feed-forward, which moves the expectation
    inside ([A] Eq. 6), gets wrong. The distribution of each node given its parents is a factor, and
    the sum of their product is taken in the best order that several heuristics find. Nodes of one
    array are variables of their own where something reads a part of them. What counts is the
    treewidth of the graph, not the number of nodes or the order in which they are written: a layer
    of n binary nodes in a chain of dense layers costs 2^n states, whatever the depth; a skip
    connection keeps one more layer. What the output is linear in needs no joint distribution.
    Nodes inside `lax.scan` are unrolled. Noise nodes are variables like others; observed ones keep
    their values.

    Args:
        net: a network, as a function of the arrays of *one* example (`jax.vmap` for a batch), of
            nodes of discrete families. Between nodes, and from nodes to the output, any function.
            Of a network with evidence (`condition`) the expectation is that given the evidence.
        max_states: the largest number of joint states that a table may have; a step sums at most
            1024 times as many terms. The default takes about 100 MB and a few seconds on a CPU.
        inline: as in `forward_sample`.

    Returns:
        `procedure(*args)`, the expectation of `net(*args)`, in at least float32 where the output
        is of integers; differentiable in the arguments. Under `with_nodes` also E[T] of each node,
        NaN in a branch of `lax.cond` that may not be taken.

    Raises:
        ValueError: when called, before any computation, if the graph is too large; says how large
            and what to do. Also if nodes lie in a `while_loop`.
        TypeError: for a node of a continuous family, which it names.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> def net(x):
        ...     a = cg.node(cg.nodes.Spin(), x, name="a")
        ...     return cg.node(cg.nodes.Spin(), 3 * a.sum(), name="b")
        >>> x = jnp.array([0.5, 0.5])
        >>> cg.exact_marginals(net)(x), cg.feed_forward(net)(x)
        (Array(0.4621..., dtype=float32), Array(0.992..., dtype=float32))

    Source: [A] Eq. 4-5.
    """
    check_max_states(max_states)
    if isinstance(net, Conditioned) and net.values:
        return intern(Posterior(net.net, ExactMarginals(max_states, inline, net.values)))
    plain = net.net if isinstance(net, Conditioned) else net
    return intern(Procedure(plain, ExactMarginals(max_states, inline)))


def check_max_states(max_states: object) -> None:
    """Raises unless something can be the largest number of states of a table."""
    if not isinstance(max_states, int) or not 1 <= max_states <= 1 << 30:
        raise ValueError(f"max_states is an integer from 1 to 2^30, got {max_states!r}.")

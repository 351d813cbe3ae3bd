"""Exact expectations of discrete networks by elimination along the graph ([A] Eq. 4-5)."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
from jaxtyping import Array

from cgjax._node import bind
from cgjax._procedure import Arrays, Method, Network, Procedure, Result, intern, method
from cgjax._program import Linear, Program, Site, linear, trace
from cgjax._static import Leaf, Tree
from cgjax._walk import Records, Visitor, unroll
from cgjax._walk.visitor import Draw, Handed
from cgjax.inference._elimination import TERMS_PER_STATE, Ask, Enter, Set, Step, plan
from cgjax.inference._states import Component, component
from cgjax.inference._tables import Tables
from cgjax.nodes import Family

MAX_STATES = 1 << 22

# An unrolled network has a component for each step; beyond this, tracing alone takes minutes.
_MAX_COMPONENTS = 1000

_WAYS_OUT = (
    "exact_marginals takes one example: map it over a batch with `jax.vmap`. Otherwise use "
    "`monte_carlo(forward_sample(net), num_samples)`, make the network smaller, or raise "
    "`max_states` if time and memory allow."
)


@dataclass(frozen=True)
class _Unrolled(Visitor):
    """Marks every random node again, and records all nodes' values."""

    def changes(self, site: Site) -> bool:
        return site.kind != "observe"

    def visit(
        self, site: Site, family: Family, activation: Array, e: Array, draw: Draw, given: Handed
    ) -> tuple[Array, Array]:
        if site.kind == "observe":
            return activation, activation
        value = bind(
            family,
            e,
            activation,
            kind=site.kind,
            name=site.name,
            scopes_in_name=site.num_scopes,
        )
        return value, value


@method
class ExactMarginals(Method):
    """Options of `exact_marginals`."""

    max_states: int
    inline: bool

    def run(self, program: Program, lead: Tree, arrays: Arrays, capture: bool) -> Result:
        _check(program)
        visitor = _Unrolled(inline=self.inline)

        def unrolled(*arrays: Leaf) -> tuple[Tree, Records]:
            out, records = unroll(program, visitor, arrays)
            return out, records if capture else {}

        flat = linear(trace(unrolled, tuple(arrays)))
        components, questions, steps = _plan(flat, self.max_states)

        # Under one jit whoever calls, so that what a step's walk computes in vain is never run.
        @jax.jit
        def compute(arrays: Sequence[Leaf]) -> tuple[Tree, Records]:
            tables = Tables(flat, components, arrays)
            return flat.combine(arrays, tables.expectations(steps, questions))

        return compute(list(arrays))


def _check(program: Program) -> None:
    """Raises for networks that exact inference cannot do."""
    random = [site for site in program.sites if site.kind != "observe"]
    for site in random:
        if not site.family_type.discrete:
            raise TypeError(
                f"The node {site.name!r} is of the continuous family {site.family_type.__name__} "
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
    steps = [_steps(site) for site in random]
    if sum(steps) > _MAX_COMPONENTS:
        raise ValueError(
            f"The network has {sum(steps)} components, counting every step of its scans (the most: "
            f"{random[steps.index(max(steps))].name!r}); exact marginals take at most "
            f"{_MAX_COMPONENTS}. {_WAYS_OUT}"
        )


def _steps(site: Site) -> int:
    count = 1
    for length in site.lengths:
        count *= length
    return count


def _plan(
    flat: Linear, max_states: int
) -> tuple[dict[int, Component], list[tuple[int, ...]], list[Step]]:
    """The components to enumerate, the values of each question, and the steps."""
    by_parents: dict[Set, list[int]] = {}
    for number in range(len(flat.nodes)):
        by_parents.setdefault(flat.parents_of_value(number), []).append(number)
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
    _check_size(steps, list(by_parents), sites, components, max_states)
    return components, [tuple(v) for v in by_parents.values()], steps


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
            f"The network is too large for exact marginals: {_number(largest.table)} joint states, "
            f"and max_states is {_number(max_states)}. They are those of {listed}, {why}. "
            f"{_WAYS_OUT}"
        )
    longest = max((s for s in steps if isinstance(s, Enter)), key=lambda s: s.terms, default=None)
    if longest is not None and longest.terms > TERMS_PER_STATE * max_states:
        raise ValueError(
            "The network is too large for exact marginals: the distribution of "
            f"{_described(sites[longest.component].name, components[longest.component])} is a sum "
            f"of {_number(longest.terms)} terms, and at most {TERMS_PER_STATE} times max_states, "
            f"{_number(TERMS_PER_STATE * max_states)}, are summed. {_WAYS_OUT}"
        )


def _described(name: str, kind: Component) -> str:
    return f"{name!r} ({kind.num_nodes} nodes of {_number(kind.states)} states)"


def _number(n: int) -> str:
    if n & (n - 1) == 0 and n >= 1024:
        return f"2^{n.bit_length() - 1}" + (f" = {n:,}" if n < 10**13 else "")
    return f"{n:,}" if n < 10**13 else f"about 10^{len(str(n)) - 1}"


def exact_marginals(
    net: Network, *, max_states: int = MAX_STATES, inline: bool = False
) -> Procedure:
    """The exact expectation of a network's output over all its random nodes, by enumeration.

        E[out | input] = sum_x P(x | input) out(x),   P(x | input) = prod_l P(x_l | parents of x_l)

    for networks of discrete nodes: the measure of what feed-forward, which moves the expectation
    inside ([A] Eq. 6), gets wrong. Components are eliminated along the graph: they enter in a
    topological order (one with small tables is searched for), and the joint distribution is kept
    only of those that something to come depends on. A layer of n binary nodes in a chain costs
    2^n states, whatever the depth; a skip connection keeps one more layer. What the output is
    linear in needs no joint distribution. Nodes inside `lax.scan` are unrolled. Noise nodes are
    variables like others; observed ones keep their values.

    Args:
        net: a network, as a function of the arrays of *one* example (`jax.vmap` for a batch), of
            nodes of discrete families. Between nodes, and from nodes to the output, any function.
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
    if not isinstance(max_states, int) or not 1 <= max_states <= 1 << 30:
        raise ValueError(f"max_states is an integer from 1 to 2^30, got {max_states!r}.")
    return intern(Procedure(net, ExactMarginals(max_states, inline)))

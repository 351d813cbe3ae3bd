"""The flow of data between nodes: which are parents of which, and which are output nodes."""

from collections.abc import Callable, Sequence
from typing import Any

from cgjax._node import node_p
from cgjax._program.jaxprs import (
    ENTERED,
    Literal,
    call_jaxpr,
    open_jaxpr,
    scan_counts,
    sub_jaxprs,
)
from cgjax._program.program import Program, Site

# The operations that only move data, and which of their operands; the others say where, or which.
_MOVEMENT = {
    **dict.fromkeys(
        "reshape transpose slice dynamic_slice squeeze expand_dims broadcast_in_dim "
        "convert_element_type rev copy split unstack tile gather sharding_constraint device_put "
        "name reduce_precision stop_gradient".split(),
        slice(1),
    ),
    **dict.fromkeys("concatenate stack pad optimization_barrier".split(), slice(None)),
    "dynamic_update_slice": slice(2),
    "scatter": slice(0, None, 2),
    "select_n": slice(1, None),
}


Tags = frozenset[tuple[int, bool]]  # (site index, whether it is the previous step's)
_NONE: Tags = frozenset()


def _flow(
    program: Program,
    at_node: Callable[[Site, list[Tags], Tags], Tags],
    at_equation: Callable[[Any, list[Tags]], Tags],
    arguments: Sequence[Tags] | None = None,
) -> list[Tags]:
    """Pushes sets of node tags through a program; returns the tags of each flat result.

    `at_node` is given the tags of its operands, and those that decide which branches are taken.
    """

    def run(jaxpr: Any, tags: Sequence[Tags], start: int, deciding: Tags) -> list[Tags]:
        inner = open_jaxpr(jaxpr)
        env: dict[Any, Tags] = dict.fromkeys(inner.constvars, _NONE)
        env.update(zip(inner.invars, tags, strict=True))
        index = start
        for eqn in inner.eqns:
            operands = [_NONE if isinstance(v, Literal) else env[v] for v in eqn.invars]
            name = eqn.primitive.name
            if eqn.primitive is node_p:
                outs = [at_node(program.sites[index], operands, deciding)]
                index += 1
            elif name in ENTERED:
                count = sum(program.counts[id(open_jaxpr(s))] for s in sub_jaxprs(eqn))
                outs = enter(eqn, operands, index, deciding)
                index += count
            else:
                outs = [at_equation(eqn, operands)] * len(eqn.outvars)
            env.update(zip(eqn.outvars, outs, strict=True))
        return [_NONE if isinstance(v, Literal) else env[v] for v in inner.outvars]

    def union(a: Sequence[Tags], b: Sequence[Tags]) -> list[Tags]:
        return [x | y for x, y in zip(a, b, strict=True)]

    def earlier(tags: Tags) -> Tags:
        return frozenset((i, True) for i, _ in tags)

    def settled(tags: Tags) -> Tags:
        return frozenset((i, False) for i, _ in tags)

    def enter(eqn: Any, operands: list[Tags], start: int, deciding: Tags) -> list[Tags]:
        name, params = eqn.primitive.name, eqn.params
        if name == "scan":
            num_consts, num_carry = scan_counts(params)
            consts, rest = operands[:num_consts], operands[num_consts:]
            carry, xs = rest[:num_carry], rest[num_carry:]
            while True:
                outs = run(params["jaxpr"], [*consts, *carry, *xs], start, deciding)
                new = union(carry, list(map(earlier, outs[:num_carry])))
                if new == carry:
                    return list(map(settled, outs))
                carry = new
        if name == "while":
            num_cond, num_body = params["cond_nconsts"], params["body_nconsts"]
            starts, index = {}, start
            for sub in sub_jaxprs(eqn):
                starts[id(sub)] = index
                index += program.counts[id(open_jaxpr(sub))]
            state = operands[num_cond + num_body :]
            while True:
                cond, body = params["cond_jaxpr"], params["body_jaxpr"]
                seen = [*operands[:num_cond], *state]
                stop = run(cond, seen, starts[id(cond)], deciding)[0]
                at_equation(eqn, [stop])
                seen = [*operands[num_cond : num_cond + num_body], *state]
                outs = run(body, seen, starts[id(body)], deciding | stop)
                new = [s | earlier(o) | stop for s, o in zip(state, outs, strict=True)]
                if new == state:
                    return list(map(settled, new))
                state = new
        if name == "cond":
            chosen = at_equation(eqn, operands[:1])
            outs = [chosen] * len(eqn.outvars)
            for sub in params["branches"]:
                outs = union(outs, run(sub, operands[1:], start, deciding | chosen))
                start += program.counts[id(open_jaxpr(sub))]
            return outs
        return run(call_jaxpr(eqn), operands, start, deciding)

    if arguments is None:
        arguments = [_NONE] * len(open_jaxpr(program.jaxpr).invars)
    return run(program.jaxpr, arguments, 0, _NONE)


def parents(
    program: Program, *, arguments: bool = False, deciding: bool = False
) -> tuple[dict[int, Tags], list[Tags]]:
    """The direct parents of each node, and of each flat result.

    Args:
        program: the traced function.
        arguments: whether its flat arguments count as parents too, argument k as -1 - k.
        deciding: whether what decides that a node's branch is taken counts as its parent.

    Returns:
        For each node index the set of (parent index, whether at the previous step), and the same
        for each result.
    """
    found: dict[int, Tags] = {site.index: _NONE for site in program.sites}

    def at_node(site: Site, operands: list[Tags], decides: Tags) -> Tags:
        # The activation, operand 0, is a function of e and brings nothing of its own; what comes
        # after the parameters lends its mapped axes only.
        found[site.index] |= frozenset().union(*operands[1 : 2 + site.family.num_arrays])
        if deciding:
            found[site.index] |= decides
        return frozenset({(site.index, False)})

    def at_equation(eqn: Any, operands: list[Tags]) -> Tags:
        return frozenset().union(*operands)

    count = len(open_jaxpr(program.jaxpr).invars)
    tags = [frozenset({(-1 - k, False)}) if arguments else _NONE for k in range(count)]
    return found, _flow(program, at_node, at_equation, tags)


def output_sites(program: Program) -> set[int]:
    """The nodes whose statistic is returned, through movement of data only, and feeds nothing."""
    consumed: set[int] = set()

    def consume(operands: Sequence[Tags]) -> None:
        consumed.update(i for tags in operands for i, _ in tags)

    def at_node(site: Site, operands: list[Tags], decides: Tags) -> Tags:
        consume(operands)
        return frozenset({(site.index, False)})

    def at_equation(eqn: Any, operands: list[Tags]) -> Tags:
        moved = range(len(operands))[_MOVEMENT.get(eqn.primitive.name, slice(0))]
        consume([tags for k, tags in enumerate(operands) if k not in moved])
        return frozenset().union(*(operands[k] for k in moved))

    results = _flow(program, at_node, at_equation)
    return {i for tags in results for i, _ in tags} - consumed

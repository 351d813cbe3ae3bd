"""Walking: evaluates a program and asks a visitor for the value of every node.

Loops, branches and rematerialised parts that contain nodes are rebuilt with JAX's public functions,
which threads keys and recorded values through them; everything without nodes is left as it is.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax._src import source_info_util

from cgjax import _static
from cgjax._component import component_p
from cgjax._node import node_p
from cgjax._program.jaxprs import (
    CUSTOM,
    JIT,
    REMAT,
    Literal,
    bind,
    call_jaxpr,
    consts,
    open_jaxpr,
    scan_counts,
    source,
    sub_jaxprs,
    with_node_params,
)
from cgjax._program.program import Program, Site
from cgjax._walk.rows import Rows
from cgjax._walk.visitor import Visitor
from cgjax.kernels.random_bits import grouped_words, random_words

# Words for nodes of equal shape are made together when the nodes are small: compiling one generator
# for all of them is much cheaper than one each. For large nodes fusing wins (benchmarks/).
# So many nodes are also compiled alike, see `Rows`.
GROUP_AT_LEAST = 3
GROUP_MAX_ELEMENTS = 1 << 16


class _Stream:
    """The random streams of one scope: a key per node or inner loop, by site index."""

    def __init__(self, keys: Any, row: Mapping[int, int]):
        self.keys, self.row = keys, row
        # At once, in the trace that the keys belong to; the streams may be read in an inner one.
        self.rows = Rows(jax.random.key_data(keys)) if len(row) >= GROUP_AT_LEAST else None

    def key(self, index: int) -> Any:
        if self.rows is None:
            return self.keys[self.row[index]]
        words = self.rows.of(jax.random.key_data(self.keys), self.row[index])
        return jax.random.wrap_key_data(words, impl=jax.random.key_impl(self.keys))


Records = dict[int, Any]


def walk(
    program: Program,
    visitor: Visitor,
    arrays: Sequence[Any],
    *,
    key: Any = None,
    given: Mapping[int, Any] | None = None,
) -> tuple[Any, Records]:
    """Evaluates a program, asking the visitor for the value of each node.

    Args:
        program: the traced function.
        visitor: what to do at a node.
        arrays: the flat array arguments.
        key: the key of `jax.random` that all randomness derives from, if any is needed.
        given: for some nodes, by index, an array to hand to the visitor: it broadcasts against the
            node's statistic, with one leading time axis for each enclosing scan. In a loop of
            unknown length it serves every step.

    Returns:
        The function's result, and what the visitor recorded, by node index (stacked over scans).
    """
    given = {i: _full_rank(program.sites[i], v) for i, v in (given or {}).items()}
    walker = _Walker(program, visitor)
    walker.spread = frozenset(i for i, v in given.items() if v.size != 1)
    jaxpr = open_jaxpr(program.jaxpr)
    stream = walker.stream(key, jaxpr, 0)
    flat, records = walker.run(program.jaxpr, arrays, 0, stream, given, 0)
    return jax.tree.unflatten(program.out_tree, flat), records


def _full_rank(site: Site, value: Any) -> Any:
    value = jnp.asarray(value)
    missing = len(site.stacked_shape) - value.ndim
    if missing < 0 or any(
        n not in (1, m) for n, m in zip(value.shape, site.stacked_shape[missing:], strict=True)
    ):
        raise ValueError(
            f"An array of shape {value.shape} does not broadcast against the node {site.name!r} "
            f"of shape {site.stacked_shape} ({site.source})."
        )
    return value.reshape((1,) * missing + value.shape)


def _trimmed(rate: Any) -> Any:
    """A rate without leading axes of length 1, so that one number is one under a `vmap` too."""
    if isinstance(rate, float):
        return rate
    ones = next((i for i, n in enumerate(rate.shape) if n != 1), rate.ndim)
    return rate.reshape(rate.shape[ones:])


def _sharded_as(e: Any, words: tuple[Any, Any]) -> tuple[Any, Any]:
    """A node's words, sharded as its natural parameter where shardings are part of the type."""
    sharding = jax.typeof(e).sharding
    if all(axis is None for axis in sharding.spec):
        return words
    return jax.sharding.reshard(words[0], sharding), jax.sharding.reshard(words[1], sharding)


class _Walker:
    counts_turns = False  # whether `turn` looks at the number of a loop's turn
    spread: frozenset[int] = frozenset()  # nodes that are given an array of several numbers

    def __init__(self, program: Program, visitor: Visitor):
        self.program = program
        self.visitor = visitor

    def count(self, jaxpr: Any) -> int:
        return self.program.counts[id(open_jaxpr(jaxpr))]

    def nodes_in(self, eqn: Any) -> int:
        return sum(map(self.count, sub_jaxprs(eqn)))

    # -- randomness

    def slots(self, jaxpr: Any, start: int) -> list[int]:
        """Site indices that number the streams of a scope: nodes, and the first node of loops."""
        found, index = [], start
        for eqn in open_jaxpr(jaxpr).eqns:
            if eqn.primitive is node_p:
                if self.visitor.draws(self.program.sites[index]):
                    found.append(index)
                index += 1
            elif count := self.nodes_in(eqn):
                inside = self.program.sites[index : index + count]
                if self.is_one_stream(eqn, index):
                    if any(map(self.visitor.draws, inside)):
                        found.append(index)
                    index += count
                else:
                    for sub in sub_jaxprs(eqn):
                        found.extend(self.slots(sub, index))
                        index += self.count(sub)
        return found

    def is_one_stream(self, eqn: Any, start: int) -> bool:
        """Whether all nodes inside derive from one key: those of loops, and of fused components."""
        return eqn.primitive.name in ("scan", "while") or bool(self.implementation(eqn, start))

    def implementation(self, eqn: Any, start: int) -> Callable[..., Any] | None:
        """The implementation that computes a component, if it is one and has it; its first node is
        `start`."""
        if eqn.primitive is not component_p or self.visitor.implementation is None:
            return None
        # The axes of these arrays are the reference's, in which a map has an axis of its own.
        inside = range(start, start + self.nodes_in(eqn))
        if eqn.params["mapped"] and not self.spread.isdisjoint(inside):
            return None
        return dict(eqn.params["implementations"]).get(self.visitor.implementation)

    def stream(self, key: Any, jaxpr: Any, start: int) -> _Stream | None:
        if key is None:
            return None
        slots = self.slots(jaxpr, start)
        if not slots:
            return None
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, np.array(slots, np.uint32))
        return _Stream(keys, {index: row for row, index in enumerate(slots)})

    def grouped(self, jaxpr: Any, start: int, stream: _Stream | None) -> dict[int, Any]:
        """Words of small nodes of equal shape that lie directly in this scope, made together."""
        # Mapping other generators over keys gives other bits than calling them key by key.
        if stream is None or str(jax.random.key_impl(stream.keys)) != "threefry2x32":
            return {}
        groups: dict[tuple[int, ...], list[int]] = {}
        loops = self.loop_sites(jaxpr, start)
        for index in stream.row:
            if index not in loops:
                groups.setdefault(self.program.sites[index].shape, []).append(index)
        words = {}
        for shape, indices in groups.items():
            if len(indices) >= GROUP_AT_LEAST and math.prod(shape) <= GROUP_MAX_ELEMENTS:
                rows = np.array([stream.row[i] for i in indices])
                both = grouped_words(stream.keys[rows], shape, rounds=self.visitor.rounds)
                assert stream.rows is not None  # no group is larger than its stream
                of = stream.rows.of
                words.update({i: (of(both[0], k), of(both[1], k)) for k, i in enumerate(indices)})
        return words

    def loop_sites(self, jaxpr: Any, start: int) -> set[int]:
        found, index = set(), start
        for eqn in open_jaxpr(jaxpr).eqns:
            count = 1 if eqn.primitive is node_p else self.nodes_in(eqn)
            # A rematerialised part draws again, inside.
            if self.is_one_stream(eqn, index) or eqn.primitive.name in REMAT:
                found.update(range(index, index + count))
            elif eqn.primitive is not node_p and count:
                inner = index
                for sub in sub_jaxprs(eqn):
                    found |= self.loop_sites(sub, inner)
                    inner += self.count(sub)
            index += count
        return found

    # -- what walks with other values than arrays do differently

    def enters(self, eqn: Any, operands: Sequence[Any]) -> bool:
        """Whether to enter an equation that holds no nodes."""
        return False

    def compute(self, eqn: Any, operands: Sequence[Any]) -> list[Any]:
        """The results of an equation that is not entered."""
        return bind(eqn, operands)

    def leave(self, outs: Sequence[Any]) -> list[Any]:
        """What leaves a loop, a branch or a rematerialised part: pytrees of arrays."""
        return list(outs)

    def stable(self, step: Callable[..., Any], carry: Sequence[Any], *rest: Any) -> list[Any]:
        """What a loop starts from, in the form that `step(carry, *rest)` leaves it in."""
        return list(carry)

    def alike(self, functions: Sequence[Any], operands: Sequence[Any]) -> Sequence[Any]:
        """Branches that return results of the same form."""
        return functions

    def turn(self, turn: Any, length: int | None) -> AbstractContextManager[None]:
        """What surrounds one turn of a loop, whose number of turns may not be known."""
        return nullcontext()

    # -- evaluation

    def run(
        self,
        jaxpr: Any,
        arrays: Sequence[Any],
        start: int,
        stream: _Stream | None,
        given: Mapping[int, Any],
        depth: int,
        words: Mapping[int, Any] | None = None,
    ) -> tuple[list[Any], Records]:
        """Evaluates one jaxpr whose nodes are numbered from `start`, `depth` scans deep."""
        if words is None:
            words = self.grouped(jaxpr, start, stream)
        inner = open_jaxpr(jaxpr)
        env: dict[Any, Any] = dict(zip(inner.constvars, consts(jaxpr), strict=True))
        env.update(zip(inner.invars, arrays, strict=True))
        records: Records = {}

        def read(v: Any) -> Any:
            return v.val if isinstance(v, Literal) else env[v]

        index = start
        for eqn in inner.eqns:
            operands = [read(v) for v in eqn.invars]
            stack = source_info_util.current_name_stack() + eqn.source_info.name_stack
            with (
                source_info_util.user_context(eqn.source_info.traceback, name_stack=stack),
                eqn.ctx.manager,
            ):
                if eqn.primitive is node_p:
                    out, record = self.node(eqn, operands, index, stream, given, words)
                    outs, recorded, count = [out], {index: record}, 1
                elif (count := self.nodes_in(eqn)) or self.enters(eqn, operands):
                    context = (index, stream, given, depth, words)
                    outs, recorded = self.enter(eqn, operands, context)
                else:
                    outs, recorded = self.compute(eqn, operands), {}
            index += count
            env.update(zip(eqn.outvars, outs, strict=True))
            records.update({i: r for i, r in recorded.items() if r is not None})
        return [read(v) for v in inner.outvars], records

    def node(
        self,
        eqn: Any,
        operands: Sequence[Any],
        index: int,
        stream: _Stream | None,
        given: Mapping[int, Any],
        words: Mapping[int, Any],
    ) -> tuple[Any, Any]:
        site = self.program.sites[index]
        if site.differentiated and self.visitor.changes(site):
            raise TypeError(
                f"The network differentiates through its node {site.name!r} ({site.source}), and "
                "a derivative of the activation is not the derivative of a sample. Keep the node "
                "collapsed, or take the derivative outside the procedure."
            )
        activation, e, *rest = operands
        family = _static.join(site.family, rest[: site.family.num_arrays])

        def draw() -> tuple[Any, Any]:
            if index in words:
                return _sharded_as(e, words[index])
            if stream is None:
                raise TypeError("A procedure that samples needs a key as its first argument.")
            drawn = random_words(stream.key(index), site.shape, rounds=self.visitor.rounds)
            return _sharded_as(e, drawn)

        value, record = self.visitor.visit(site, family, activation, e, draw, given.get(index))
        return jnp.asarray(value, site.dtype), record

    def enter(self, eqn: Any, operands: list[Any], context: Any) -> tuple[list[Any], Records]:
        return _RULES[eqn.primitive.name](self, eqn, operands, *context)

    def inline(
        self, eqn: Any, operands: Any, start: int, stream: Any, given: Any, depth: int, words: Any
    ) -> tuple[list[Any], Records]:
        return self.run(call_jaxpr(eqn), operands, start, stream, given, depth, words)

    def component(
        self, eqn: Any, operands: Any, start: int, stream: Any, given: Any, depth: int, words: Any
    ) -> tuple[list[Any], Records]:
        sites = self.program.sites[start : start + self.nodes_in(eqn)]
        if all(map(self.visitor.passes, sites)):
            return bind(self.named(eqn, start), operands), {}
        implementation = self.implementation(eqn, start)
        if implementation is None:
            return self.inline(eqn, operands, start, stream, given, depth, words)
        lead: list[Any] = []
        if self.visitor.implementation != "feed_forward":
            assert stream is not None  # a node inside draws
            lead.append(stream.key(start))
        if self.visitor.implementation == "pcff":
            lead.append(tuple(_trimmed(self.visitor.rate(s, given.get(s.index))) for s in sites))
        outs = [jnp.asarray(x) for x in implementation(*lead, *operands)]
        for out, v in zip(outs, eqn.outvars, strict=True):
            if (out.shape, out.dtype) != (v.aval.shape, v.aval.dtype):
                raise TypeError(
                    f"The component at {source(eqn)} returned {out.dtype}{list(out.shape)} from "
                    f"its {self.visitor.implementation} implementation, and its reference "
                    f"{v.aval.dtype}{list(v.aval.shape)}."
                )
        return outs, {}

    def custom(
        self, eqn: Any, operands: Any, start: int, stream: Any, given: Any, depth: int, words: Any
    ) -> tuple[list[Any], Records]:
        sites = self.program.sites[start : start + self.nodes_in(eqn)]
        changed = [s for s in sites if self.visitor.changes(s)]
        context = (start, stream, given, depth, words)
        if not changed:
            # The rule is kept; what is recorded is computed beside it.
            records = self.inline(eqn, operands, *context)[1] if self.visitor.capture else {}
            return bind(self.named(eqn, start), operands), records
        if not self.visitor.inline:
            names = ", ".join(repr(s.name) for s in changed)
            raise TypeError(
                f"A function with a custom derivative contains nodes ({names}; {source(eqn)}). "
                "Its derivative rule would not know of the change. Move the nodes out of it, or "
                "pass `inline=True` to drop the rule and differentiate the function itself."
            )
        return self.inline(eqn, operands, *context)

    def named(self, eqn: Any, start: int) -> Any:
        """An equation that is kept whole, with the names that its nodes have in this program."""
        if not self.visitor.keeps_nodes:
            return eqn
        sites = iter(self.program.sites[start:])

        def change(params: Any) -> dict[str, Any]:
            site = next(sites)
            return {**params, "name": site.name, "scopes_in_name": site.num_scopes}

        return with_node_params(eqn, node_p, change)

    def remat(
        self, eqn: Any, operands: Any, start: int, stream: Any, given: Any, depth: int, words: Any
    ) -> tuple[list[Any], Records]:
        jaxpr = eqn.params["jaxpr"]
        inside = range(start, start + self.nodes_in(eqn))
        # The keys go in as arguments, so that noise is drawn again, the same, not stored.
        keys = None if stream is None else stream.keys
        local = {i: given[i] for i in inside if i in given}

        def body(keys: Any, local: Any, *operands: Any) -> Any:
            inner = None if stream is None else _Stream(keys, stream.row)
            outs, records = self.run(jaxpr, operands, start, inner, local, depth, {})
            return self.leave(outs), records

        body = jax.checkpoint(
            body, prevent_cse=eqn.params["prevent_cse"], policy=eqn.params["policy"]
        )
        return body(keys, local, *operands)

    def scan(
        self, eqn: Any, operands: Any, start: int, stream: Any, given: Any, depth: int, words: Any
    ) -> tuple[list[Any], Records]:
        params, jaxpr = eqn.params, eqn.params["jaxpr"]
        length = params["length"]
        num_consts, num_carry = scan_counts(params)
        consts = operands[:num_consts]
        carry = operands[num_consts : num_consts + num_carry]
        xs = operands[num_consts + num_carry :]
        inside = range(start, start + self.count(jaxpr))
        keys, row = self.iteration_keys(jaxpr, start, stream, np.arange(length, dtype=np.uint32))
        fixed, stepped = {}, {}
        for i in inside:
            if i in given:
                # Axis 0 is this scan's time axis; a value of length 1 there serves every step.
                value = given[i]
                if value.shape[0] == 1:
                    fixed[i] = value[0]
                else:
                    stepped[i] = value

        turns = np.arange(length, dtype=np.uint32) if self.counts_turns else None
        steps = (turns, xs, keys, stepped)

        def body(carry: Any, step: Any) -> Any:
            turn, xs, keys, stepped = step
            inner = None if keys is None else _Stream(keys, row)
            with self.turn(turn, length):
                outs, records = self.run(
                    jaxpr, [*consts, *carry, *xs], start, inner, {**fixed, **stepped}, depth + 1
                )
                outs = self.leave(outs)
            return outs[:num_carry], (outs[num_carry:], records)

        carry, (ys, records) = lax.scan(
            body,
            self.stable(body, carry, steps),
            steps,
            length=length,
            reverse=params["reverse"],
            unroll=params["unroll"],
        )
        return [*carry, *ys], records

    def iteration_keys(
        self, jaxpr: Any, start: int, stream: _Stream | None, counters: Any
    ) -> tuple[Any, Mapping[int, int]]:
        """Keys of all streams inside a loop: (*iterations, streams)."""
        slots = self.slots(jaxpr, start)
        if stream is None or not slots:
            return None, {}
        fold = jax.vmap(jax.random.fold_in, (None, 0))
        steps = jnp.asarray(counters)
        keys = fold(stream.key(start), steps.reshape(-1))
        keys = jax.vmap(fold, (0, None))(keys, np.array(slots, np.uint32))
        keys = keys.reshape(*steps.shape, len(slots))
        return keys, {index: r for r, index in enumerate(slots)}

    def loop(
        self, eqn: Any, operands: Any, start: int, stream: Any, given: Any, depth: int, words: Any
    ) -> tuple[list[Any], Records]:
        params = eqn.params
        num_cond, num_body = params["cond_nconsts"], params["body_nconsts"]
        cond_jaxpr, body_jaxpr = params["cond_jaxpr"], params["body_jaxpr"]
        cond_consts = operands[:num_cond]
        body_consts = operands[num_cond : num_cond + num_body]
        init = operands[num_cond + num_body :]
        # The sites of the condition come in the order of the parameters' traversal.
        starts, index = {}, start
        for sub in sub_jaxprs(eqn):
            starts[id(sub)] = index
            index += self.count(sub)

        def part(jaxpr: Any, consts: Any, state: Any, counter: Any, turn: int) -> list[Any]:
            first = starts[id(jaxpr)]
            keys, row = None, {}
            if stream is not None and start in stream.row:
                # The condition and the body of one iteration draw from streams of their own.
                keys, row = self.iteration_keys(
                    jaxpr,
                    first,
                    _Stream(stream.keys, {first: stream.row[start]}),
                    2 * counter + turn,
                )
            inner = None if keys is None else _Stream(keys, row)
            with self.turn(2 * counter + turn, None):
                outs = self.run(jaxpr, [*consts, *state], first, inner, given, depth)[0]
                return self.leave(outs)

        # Under a user's vmap the predicate has rows, which stop one by one.
        def predicate(counter: Any, state: Any) -> Any:
            return part(cond_jaxpr, cond_consts, state, counter, 0)[0]

        def cond(carry: Any) -> Any:
            return carry[1].any()

        def body(carry: Any) -> Any:
            counter, running, state = carry
            new = part(body_jaxpr, body_consts, state, counter, 1)
            if running.ndim:
                new = jax.tree.map(
                    lambda n, o: jnp.where(
                        running.reshape(running.shape + (1,) * (n.ndim - running.ndim)), n, o
                    ),
                    new,
                    list(state),
                )
            counter = counter + 1
            return counter, running & predicate(counter, new), new

        zero = jnp.uint32(0)
        init = jax.tree.map(jnp.asarray, list(init))
        init = self.stable(lambda s: (part(body_jaxpr, body_consts, s, zero, 1), None), init)
        final = lax.while_loop(cond, body, (zero, jnp.asarray(predicate(zero, init)), init))
        return list(final[2]), {}

    def branch(
        self, eqn: Any, operands: Any, start: int, stream: Any, given: Any, depth: int, words: Any
    ) -> tuple[list[Any], Records]:
        chosen, *operands = operands
        starts = np.cumsum([start, *map(self.count, eqn.params["branches"])])

        def taken(jaxpr: Any, first: int) -> Callable[..., Any]:
            def call(*operands: Any) -> Any:
                outs, records = self.run(jaxpr, operands, first, stream, given, depth, words)
                return self.leave(outs), records

            return call

        functions = [
            taken(jaxpr, int(first))
            for jaxpr, first in zip(eqn.params["branches"], starts[:-1], strict=True)
        ]
        functions = self.alike(functions, operands)
        # Every branch must return the same records, so the ones of the others are filled in.
        shapes: Records = {}
        for function in functions:
            shapes.update(jax.eval_shape(function, *operands)[1])

        def padded(function: Callable[..., Any]) -> Callable[..., Any]:
            def call(*operands: Any) -> Any:
                outs, records = function(*operands)
                missing = {
                    i: jax.tree.map(lambda s: jnp.full(s.shape, self.visitor.absent, s.dtype), s)
                    for i, s in shapes.items()
                    if i not in records
                }
                return outs, records | missing

            return call

        return lax.switch(chosen, [padded(f) for f in functions], *operands)


_RULES: dict[str, Callable[..., tuple[list[Any], Records]]] = {
    **dict.fromkeys(JIT, _Walker.inline),
    **dict.fromkeys(CUSTOM, _Walker.custom),
    **dict.fromkeys(REMAT, _Walker.remat),
    "scan": _Walker.scan,
    "while": _Walker.loop,
    "cond": _Walker.branch,
    component_p.name: _Walker.component,
}

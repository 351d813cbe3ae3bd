"""How often a network uses a weight: a plan before the computation, so that a warning is true.

A use is where a weight meets data, or is drawn. Parts of a weight, as `split` and slices make them,
are told apart element by element, but only where counting the parts says that it may be needed.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jax.extend.core import JaxprEqn, Literal, Var

from cgjax._node import node_p
from cgjax._program.control import Call, Cond, Scan, While, control
from cgjax._program.jaxprs import AnyJaxpr, Atom, consts, open_jaxpr
from cgjax._program.live import live, live_inside, touches
from cgjax._program.program import Program
from cgjax._weight_noise.axes import Examples, is_paired, shape_of
from cgjax._weight_noise.pieces import (
    Either,
    Known,
    Piece,
    Pieces,
    Use,
    after,
    at_most,
    computed,
    counted,
    is_number,
    known_row,
    known_value,
    most,
    one_of,
    row_of,
)
from cgjax._weight_noise.shared import carried, passage, passes

_SEVERAL = 2  # turns of a loop whose number is not known
_FEW = 256  # turns of loops in loops that are told apart


@dataclass(frozen=True, eq=False)
class Found:
    """What a pass over a program finds.

    Attributes:
        outs: the pieces that its results are.
        uses: its uses of weights.
        known: its results, as far as they are known without data.
    """

    outs: list[Pieces]
    uses: list[Use]
    known: list[Known | None]


def used_more_than_once(
    program: Program, weights: Iterable[int], examples: Examples
) -> frozenset[int]:
    """The weights of which an element is used more than once.

    Args:
        program: the traced function.
        weights: the numbers of its flat arguments that are uncertain weights.
        examples: what data is part of.
    """
    shapes = {k: shape_of(open_jaxpr(program.jaxpr).invars[k]) for k in weights}

    def whole(weight: int) -> Pieces:
        shape = shapes[weight]
        numbers = lambda: np.arange(np.prod(shape, dtype=int), dtype=np.int32).reshape(shape)  # noqa: E731
        return (Piece(weight, 1, 0, numbers),)

    invars = open_jaxpr(program.jaxpr).invars
    arguments = [whole(k) if k in shapes else () for k in range(len(invars))]
    uses = _Counting(examples).run(program.jaxpr, arguments).uses
    return frozenset(
        k
        for k, shape in shapes.items()
        if at_most(uses, k) > 1 and most(uses, k, int(np.prod(shape, dtype=int))) > 1
    )


@dataclass(frozen=True)
class _Counting:
    """A pass over a program with pieces of weights for values.

    Attributes:
        examples: what data is part of.
        few: how many turns of a loop are told apart at most.
    """

    examples: Examples
    few: int = _FEW

    def run(
        self,
        jaxpr: AnyJaxpr,
        arguments: Sequence[Pieces],
        given: Sequence[Known | None] = (),
        wanted: Sequence[bool] | None = None,
    ) -> Found:
        """The pieces that a program's results are, and its uses that reach a wanted result.

        Args:
            jaxpr: the program.
            arguments: the pieces that its arguments are.
            given: the values of its first arguments, as far as they are known.
            wanted: which results are; None of all.
        """
        inner = open_jaxpr(jaxpr)
        env: dict[Var, Pieces] = dict(zip(inner.invars, arguments, strict=True))
        known: dict[Var, Known] = {
            v: functools.partial(np.asarray, c)
            for v, c in zip(inner.constvars, consts(jaxpr), strict=True)
        }
        known.update((v, x) for v, x in zip(inner.invars, given, strict=False) if x is not None)
        uses: list[Use] = []

        def read(v: Atom) -> Pieces:
            return () if isinstance(v, Literal) else env.get(v, ())

        wanted = [True] * len(inner.outvars) if wanted is None else wanted
        _, eqns = live(jaxpr, wanted, own=True)
        needed = {v for e in eqns for v in e.invars if not isinstance(v, Literal)}
        returned = zip(inner.outvars, wanted, strict=True)
        needed.update(v for v, is_wanted in returned if is_wanted and not isinstance(v, Literal))
        for eqn in eqns:
            operands = [read(v) for v in eqn.invars]
            if any(operands):
                outs, used = self.equation(eqn, operands, known, [v in needed for v in eqn.outvars])
                env.update(zip(eqn.outvars, outs, strict=True))
                uses += used
            elif all(isinstance(v, Literal) or v in known for v in eqn.invars):
                known.update(computed(eqn, known))
        outs = [read(v) for v in inner.outvars]
        return Found(outs, uses, [known_value(v, known) for v in inner.outvars])

    def equation(
        self,
        eqn: JaxprEqn,
        operands: Sequence[Pieces],
        known: Mapping[Var, Known],
        wanted: Sequence[bool],
    ) -> tuple[list[Pieces], list[Use]]:
        part = control(eqn, operands)
        nothing: list[Pieces] = [()] * len(eqn.outvars)
        if eqn.primitive is node_p:
            # Its activation says all, unless it is to be found from what else the node holds.
            operands = operands[1:] if touches(eqn) else operands[:1]
            return nothing, [p for pieces in operands for p in pieces]
        every: list[Use] = [p for pieces in operands for p in pieces]
        values = [known_value(v, known) for v in eqn.invars]
        if isinstance(part, Scan) and self.are_told_apart(eqn, part, values):
            return self.turns(eqn, part, values, wanted)
        if isinstance(part, Scan | While):
            return self.loop(eqn, part, values, wanted)
        if isinstance(part, Cond):
            found = [self.run(b, part.operands, values[1:], wanted) for b in part.branches]
            outs = [one_of(pieces) for pieces in zip(*(f.outs for f in found), strict=True)]
            return outs, [Either(tuple(f.uses for f in found))]
        if isinstance(part, Call) and (part.kind != "custom" or passes(part.body)):
            inside = self.run(part.body, part.operands, values, wanted)
            return inside.outs, inside.uses
        way = passage(eqn, list(map(bool, operands)))
        if way in (None, "product") or self.examples.is_data(eqn.outvars[0]):
            return nothing, every
        if is_paired(eqn):
            return list(operands), []
        return [
            tuple(
                after(eqn, way, k, piece, out, known)
                for k, pieces in enumerate(operands)
                for piece in pieces
            )
            for out in range(len(eqn.outvars))
        ], []

    def loop(
        self,
        eqn: JaxprEqn,
        part: Scan[Pieces] | While[Pieces],
        values: Sequence[Known | None],
        wanted: Sequence[bool],
    ) -> tuple[list[Pieces], list[Use]]:
        """A loop whose turns do the same."""
        length = part.length if isinstance(part, Scan) else _SEVERAL
        if self.examples.are_turns(eqn):
            length = 1  # each example has a turn, and noise of its own

        def at_all_turns(pieces: Pieces) -> Pieces:
            return tuple(replace(p, times=p.times * length) for p in pieces)

        kept, changed = _carry(eqn, part)
        carry = list(map(at_all_turns, kept))
        uses: list[Use] = list(changed)
        inside = live_inside(eqn, wanted, own=True)
        if isinstance(part, While):
            number, fixed = len(part.cond_consts), list(map(at_all_turns, part.body_consts))
            condition = [*map(at_all_turns, part.cond_consts), *carry]
            uses += self.run(part.cond, condition, values[:number]).uses
            given = values[number : number + len(fixed)]
            turn = self.run(part.body, [*fixed, *carry], given, inside)
            stacked: list[Pieces] = []
        else:
            rows = [tuple(replace(p, rows=p.rows + 1) for p in pieces) for pieces in part.xs]
            fixed = list(map(at_all_turns, part.consts))
            turn = self.run(part.body, [*fixed, *carry, *rows], values[: len(fixed)], inside)
            stacked = [one_of([pieces]) for pieces in part.split(turn.outs)[1]]
        return [*kept, *stacked], [*uses, *turn.uses]

    def are_told_apart(
        self, eqn: JaxprEqn, part: Scan[Pieces], values: Sequence[Known | None]
    ) -> bool:
        """Whether a weight stays where it is while a loop counts: turns may use parts of it."""
        start, inner = len(part.consts), open_jaxpr(part.body).invars[len(part.consts) :]
        given = zip(values[start:], inner, strict=True)
        counts = any(x is not None and is_number(v) for x, v in given)
        stay = any(part.consts) or any(_carry(eqn, part)[0])
        few = part.length <= self.few and not self.examples.are_turns(eqn)
        if not (counts and stay and few):
            return False
        return all(not p.mixed and p.elements() is not None for ps in part.xs for p in ps)

    def turns(
        self,
        eqn: JaxprEqn,
        part: Scan[Pieces],
        values: Sequence[Known | None],
        wanted: Sequence[bool],
    ) -> tuple[list[Pieces], list[Use]]:
        """A loop whose turns may use different elements, by what it counts."""
        within = replace(self, few=self.few // max(part.length, 1))
        kept, changed = _carry(eqn, part)
        uses: list[Use] = list(changed)
        inside, start = live_inside(eqn, wanted, own=True), len(part.consts)
        carry = list(values[start : start + len(kept)])
        stacked: list[Pieces] = [()] * (len(eqn.outvars) - len(kept))
        for k in range(part.length):
            row = part.length - 1 - k if part.reverse else k
            rows = [tuple(row_of(p, row) for p in pieces) for pieces in part.xs]
            numbers = zip(values[start + len(kept) :], part.row_variables, strict=True)
            rows_known = [known_row(x, row, v) for x, v in numbers]
            given = [*values[:start], *carry, *rows_known]
            turn = within.run(part.body, [*part.consts, *kept, *rows], given, inside)
            carry = list(map(counted, turn.known[: len(kept)], eqn.outvars[: len(kept)]))
            uses += turn.uses
            stacked = [
                (*before, *(replace(p, mixed=True) for p in pieces))
                for before, pieces in zip(stacked, part.split(turn.outs)[1], strict=True)
            ]
        return [*kept, *stacked], uses


def _carry(eqn: JaxprEqn, part: Scan[Pieces] | While[Pieces]) -> tuple[list[Pieces], Pieces]:
    """What a loop carries on as it is, for each place, and what turns change."""
    changes = [changed for _, changed in carried(eqn)]
    pairs = list(zip(part.carry, changes, strict=True))
    kept: list[Pieces] = [() if changed else pieces for pieces, changed in pairs]
    return kept, tuple(p for pieces, changed in pairs if changed for p in pieces)

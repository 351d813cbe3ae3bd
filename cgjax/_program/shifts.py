"""Largest values that only keep numbers in range, and cancel: as in softmax and log-sum-exp.

`exp(x - m)`, divided by its sum over axes along which m is one number, is the same for every m. So
are `x - m - log(sum(exp(x - m)))` and `m + log(sum(exp(x - m)))`: what is m is no matter, and
nothing needs to be believed about it. Nor does it matter what the exponentials are multiplied by,
or which of them a mask leaves out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from jax import lax
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var, gensym

from cgjax._program.axes import Axes, after, own, spread
from cgjax._program.control import Call, control
from cgjax._program.jaxprs import Atom, Aval, aval, consts, open_jaxpr
from cgjax._program.primitives import facts

_CONVERTS = lax.convert_element_type_p
# What changes nothing if it is put among the values that the largest or the smallest is taken of.
_NEVER_CHOSEN = {lax.max_p: -np.inf, lax.min_p: np.inf}


def cancelling(jaxpr: Jaxpr) -> list[JaxprEqn]:
    """The equations of a jaxpr whose largest (or smallest) value cancels."""
    extremes = [e for e in jaxpr.eqns if _is_extreme(e)]
    if not extremes:
        return []
    jaxpr = jaxpr.replace(eqns=list(_inlined(jaxpr.eqns, gensym())))
    return [e for e in extremes if _Shift.of(jaxpr, e).cancels()]


def _inlined(eqns: Sequence[JaxprEqn], new: Callable[[Aval], Var]) -> Iterator[JaxprEqn]:
    """Equations, and in place of jitted calls, such as that of `jnp.where`, those that they hold.

    Args:
        eqns: the equations; those that are no calls stay the same objects.
        new: makes variables.
    """
    for eqn in eqns:
        call = control(eqn, eqn.invars)
        if not isinstance(call, Call) or call.kind != "jit" or consts(call.body):
            yield eqn
            continue
        body = open_jaxpr(call.body)
        operands: dict[Var, Atom] = dict(zip(body.invars, call.operands, strict=True))
        results: dict[Var, Var] = {}
        copies = []
        for out, v in zip(eqn.outvars, body.outvars, strict=True):
            if isinstance(v, Literal) or v in operands or v in results:
                copies.append((out, v))
            else:
                results[v] = out
        for e in body.eqns:
            for v in e.outvars:
                results.setdefault(v, new(aval(v)))
        names = {**operands, **results}
        renamed = [
            e.replace(
                invars=[v if isinstance(v, Literal) else names[v] for v in e.invars],
                outvars=[results[v] for v in e.outvars],
            )
            for e in body.eqns
        ]
        yield from _inlined(renamed, new)
        for out, v in copies:
            origin = v if isinstance(v, Literal) else names[v]
            yield eqn.replace(primitive=lax.copy_p, params={}, invars=[origin], outvars=[out])


def _is_extreme(eqn: JaxprEqn) -> bool:
    known = facts(eqn)
    whole = not (known.running or known.windowed)
    return known.reduces in ("largest", "smallest") and whole and isinstance(eqn.invars[0], Var)


@dataclass
class _Shift:
    """One largest value, and the variables that it goes into.

    Attributes:
        users: the equations that use a variable.
        made: the equation that makes a variable.
        returned: the results of the jaxpr.
        largest: the value and what only moves it.
        places: for all that is made of the value, where the value's axes lie in it.
        shifted: something minus it.
        exponentials, sums, logarithms: of these, over axes along which it does not vary, and moved.
    """

    users: dict[Var, list[JaxprEqn]]
    made: dict[Var, JaxprEqn]
    returned: set[Var]
    largest: set[Var]
    places: dict[Var, Axes]
    shifted: set[Var] = field(default_factory=set)
    exponentials: set[Var] = field(default_factory=set)
    sums: set[Var] = field(default_factory=set)
    logarithms: set[Var] = field(default_factory=set)

    @classmethod
    def of(cls, jaxpr: Jaxpr, eqn: JaxprEqn) -> _Shift:
        users: dict[Var, list[JaxprEqn]] = {}
        for e in jaxpr.eqns:
            for v in e.invars:
                if not isinstance(v, Literal):
                    users.setdefault(v, []).append(e)
        returned = {v for v in jaxpr.outvars if isinstance(v, Var)}
        (value,) = eqn.outvars
        made = {v: e for e in jaxpr.eqns for v in e.outvars}
        return cls(users, made, returned, {value}, {value: own(aval(value).shape)})

    @property
    def kinds(self) -> tuple[set[Var], ...]:
        """All that is made of the value, by what it is."""
        return self.largest, self.shifted, self.exponentials, self.sums, self.logarithms

    def cancels(self) -> bool:
        """Whether every use of the value is one in which it cancels."""
        pending = list(self.largest)
        while pending:
            v = pending.pop()
            for eqn in self.users.get(v, ()):
                found = self.leads_to(v, eqn)
                if found is not None:
                    kind, place = found
                    new = [out for out in eqn.outvars if out not in kind]
                    kind.update(new)
                    self.places.update(dict.fromkeys(new, place))
                    pending += new
        every = set().union(*self.kinds)
        ends = all(self.ends(v, e) for v in every for e in self.users.get(v, ()))
        return bool(self.sums) and self.returned.isdisjoint(every) and ends

    def leads_to(self, v: Var, eqn: JaxprEqn) -> tuple[set[Var], Axes] | None:
        """Of which kind the results of an equation are, and where the value's axes lie in them.

        None for none of the kinds.
        """
        known, kind = facts(eqn), next(kind for kind in self.kinds if v in kind)
        place = self.places[v]
        if known.converts and not known.mixes and eqn.invars[0] is v:
            return kind, place
        if known.moves and not known.mixes and eqn.invars[0] is v:
            axes = spread(eqn, aval(v).shape, aval(eqn.outvars[0]).shape)
            # Of what varies otherwise too, a move could take elements elsewhere.
            varies = kind is self.shifted or kind is self.exponentials
            return None if varies or axes is None else (kind, after(place, axes))
        if kind is self.largest and eqn.primitive is lax.sub_p and eqn.invars[1] is v:
            return self.shifted, place
        if kind is self.largest and eqn.primitive in _NEVER_CHOSEN:
            others = {self.number(other) for other in eqn.invars if other is not v}
            return (kind, place) if others == {_NEVER_CHOSEN[eqn.primitive]} else None
        if kind is self.shifted and eqn.primitive is lax.exp_p:
            return self.exponentials, place
        if kind is self.exponentials and self.is_multiple(v, eqn):
            return kind, place
        if kind is self.exponentials and known.reduces == "sum":
            over = set() if known.running or known.windowed else set(eqn.params["axes"])
            if not over or any(axis in over for axis, _ in place):
                return None
            below = {axis: axis - sum(k < axis for k in over) for axis, _ in place}
            return self.sums, tuple((below[axis], origin) for axis, origin in place)
        if kind in (self.exponentials, self.sums) and eqn.primitive is lax.abs_p:
            return kind, place
        if kind is self.sums and eqn.primitive is lax.log_p:
            return self.logarithms, place
        return None

    def is_multiple(self, v: Var, eqn: JaxprEqn) -> bool:
        """Whether a result is v times what the value does not go into, such as a mask."""
        others = [other for other in eqn.invars if other is not v]
        free = [isinstance(o, Literal) or not any(o in kind for kind in self.kinds) for o in others]
        if len(others) != len(eqn.invars) - 1 or not all(free):
            return False
        if eqn.primitive is lax.select_n_p and len(others) == 2 and others[0] is eqn.invars[0]:
            return self.number(others[1]) == 0
        return eqn.primitive is lax.mul_p

    def number(self, v: Var | Literal) -> float | None:
        """The number that an array is everywhere, if it is written down."""
        while not isinstance(v, Literal):
            eqn = self.made.get(v)
            if eqn is None or eqn.primitive not in (lax.broadcast_in_dim_p, _CONVERTS):
                return None
            v = eqn.invars[0]
        return float(v.val) if np.ndim(v.val) == 0 and np.isrealobj(v.val) else None

    def ends(self, v: Var, eqn: JaxprEqn) -> bool:
        """Whether a use of a variable leads on to a kind, or the value cancels in it."""
        if self.leads_to(v, eqn) is not None:
            return True
        if eqn.primitive is lax.sign_p:
            return v in self.exponentials or v in self.sums
        if len(eqn.invars) != 2:
            return False
        cancelling = {
            lax.div_p: [(self.exponentials, self.sums)],
            lax.sub_p: [(self.shifted, self.logarithms)],
            lax.add_p: [(self.largest, self.logarithms), (self.logarithms, self.largest)],
        }
        first, second = eqn.invars
        if isinstance(first, Literal) or isinstance(second, Literal):
            return False
        pairs = cancelling.get(eqn.primitive, ())
        if not any(first in a and second in b for a, b in pairs):
            return False
        return self.places[first] == self.places[second]

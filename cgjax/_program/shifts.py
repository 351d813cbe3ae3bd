"""Largest values that only keep numbers in range, and cancel: as in softmax and log-sum-exp.

`exp(x - m)`, divided by its sum over the axes that m is the largest value over, is the same for
every m. So are `x - m - log(sum(exp(x - m)))` and `m + log(sum(exp(x - m)))`: what is m is no
matter, and nothing needs to be believed about it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from jax import lax
from jax.extend.core import Jaxpr, JaxprEqn, Literal, Var

from cgjax._program.primitives import facts


def cancelling(jaxpr: Jaxpr) -> list[JaxprEqn]:
    """The equations of a jaxpr whose largest (or smallest) value cancels."""
    return [e for e in jaxpr.eqns if _is_extreme(e) and _Shift.of(jaxpr, e).cancels()]


def _is_extreme(eqn: JaxprEqn) -> bool:
    known = facts(eqn)
    whole = not (known.running or known.windowed)
    return known.reduces in ("largest", "smallest") and whole and isinstance(eqn.invars[0], Var)


@dataclass
class _Shift:
    """One largest value, and the variables that it goes into.

    Attributes:
        x: what it is the largest value of.
        axes: over which axes.
        users: the equations that use a variable.
        returned: the results of the jaxpr.
        largest: the value and what only moves it.
        shifted: x minus it.
        exponentials, sums, logarithms: of these, over the axes, and moved.
    """

    x: Var
    axes: tuple[int, ...]
    users: dict[Var, list[JaxprEqn]]
    returned: set[Var]
    largest: set[Var]
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
        (x,) = eqn.invars
        assert isinstance(x, Var)
        axes = tuple(sorted(eqn.params["axes"]))
        return cls(x, axes, users, returned, {eqn.outvars[0]})

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
                kind = self.leads_to(v, eqn)
                if kind is not None:
                    new = [out for out in eqn.outvars if out not in kind]
                    kind.update(new)
                    pending += new
        every = set().union(*self.kinds)
        ends = all(self.ends(v, e) for v in every for e in self.users.get(v, ()))
        return bool(self.sums) and self.returned.isdisjoint(every) and ends

    def leads_to(self, v: Var, eqn: JaxprEqn) -> set[Var] | None:
        """Of which kind the results of an equation are; None for none of them."""
        known, kind = facts(eqn), next(kind for kind in self.kinds if v in kind)
        if (known.moves or known.converts) and not known.mixes and eqn.invars[0] is v:
            # Of what varies along the axes, a move could take elements elsewhere.
            varies = kind is self.shifted or kind is self.exponentials
            return kind if known.converts or not varies else None
        if kind is self.largest and eqn.primitive is lax.sub_p and eqn.invars[0] is self.x:
            return self.shifted
        if kind is self.shifted and eqn.primitive is lax.exp_p:
            return self.exponentials
        if kind is self.exponentials and known.reduces == "sum":
            whole = not (known.running or known.windowed)
            return self.sums if whole and tuple(sorted(eqn.params["axes"])) == self.axes else None
        return self.logarithms if kind is self.sums and eqn.primitive is lax.log_p else None

    def ends(self, v: Var, eqn: JaxprEqn) -> bool:
        """Whether a use of a variable leads on to a kind, or the value cancels in it."""
        if self.leads_to(v, eqn) is not None:
            return True
        if len(eqn.invars) != 2:
            return False
        cancelling = {
            lax.div_p: [(self.exponentials, self.sums)],
            lax.sub_p: [(self.shifted, self.logarithms)],
            lax.add_p: [(self.largest, self.logarithms), (self.logarithms, self.largest)],
        }
        first, second = eqn.invars
        return any(first in a and second in b for a, b in cancelling.get(eqn.primitive, ()))

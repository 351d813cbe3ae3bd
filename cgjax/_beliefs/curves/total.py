"""Sums of Gaussians that know their parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from cgjax._beliefs.curves.form import Coefficient, Line, same_line
from cgjax._beliefs.values import Gaussian


class Part(NamedTuple):
    """A Gaussian, and how much of it is in a sum.

    Attributes:
        root: the Gaussian.
        weight: what it is multiplied by.
    """

    root: Gaussian
    weight: Coefficient


@dataclass(frozen=True, eq=False)
class Total(Gaussian):
    """A sum of independent Gaussians. It is only ever the root of a curve.

    Attributes:
        parts: what is summed.
        constant: what is added.
    """

    parts: tuple[Part, ...] = ()
    constant: Coefficient = 0.0

    def same(self, other: Gaussian) -> bool:
        """Whether another is the same sum."""
        if self is other:
            return True
        if not isinstance(other, Total) or len(other.parts) != len(self.parts):
            return False
        lines = [Line(part.weight, self.constant) for part in self.parts]
        others = [Line(part.weight, other.constant) for part in other.parts]
        roots = zip(self.parts, other.parts, strict=True)
        return all(a.root is b.root for a, b in roots) and all(map(same_line, lines, others))


def same_root(a: Gaussian, b: Gaussian) -> bool:
    """Whether two Gaussians are known to be one variable."""
    return a is b or (isinstance(a, Total) and a.same(b))


def parts_of(root: Gaussian) -> tuple[Part, ...]:
    """What a Gaussian is a sum of."""
    return root.parts if isinstance(root, Total) else (Part(root, 1.0),)

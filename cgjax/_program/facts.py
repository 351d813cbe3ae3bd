"""What can be known about a primitive: the columns of the table in `primitives`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Operands:
    """Some of an operation's operands: every `step`-th from `start` to before `stop`."""

    start: int = 0
    stop: int | None = None
    step: int = 1

    def of(self, number: int) -> range:
        """Their positions among a number of operands."""
        return range(number)[self.start : self.stop : self.step]


ALL = Operands()
NONE = Operands(stop=0)
FIRST = Operands(stop=1)
TWO = Operands(stop=2)
CASES = Operands(1)  # of a selection, whose first operand decides
ARRAY_AND_UPDATES = Operands(step=2)  # of a scatter, whose second operand says where

Curvature = Literal["straight", "smooth", "kinked", "stepped"]
Reduction = Literal["sum", "product", "largest", "smallest", "logical", "index", "custom"]


@dataclass(frozen=True)
class Facts:
    """What is known about a primitive.

    The operands that are no data say where, which, or how: indices, decisions, sizes.

    Attributes:
        data: the operands that hold data.
        moves: every element of a result is an element of a data operand, or a constant that fills.
        paired: where there are as many results as operands, result k is made of operand k alone.
        mixes: some elements give way to those of another operand, or to a filling: a mask, padding,
            writing into an array.
        converts: the same numbers, rounded at most: in another dtype or under another name.
        rounds: the numbers that it converts may lose digits.
        linear: the operands that the results are jointly linear in, for fixed others; affine, that
            is: what stays where all of them are zero may be anything.
        bilinear: linear in each data operand for fixed others, not in all of them together.
        curvature: of an element-wise function: "straight", "smooth", "kinked" (somewhere it or its
            derivative jumps), or "stepped" (it jumps at each whole number).
        rises: an element-wise function that never falls where its arguments rise.
        decides: the result is a decision (booleans), or whole numbers: an index, bits.
        signs: of a sum or difference of its operands, their signs.
        commutes: the operands may change places.
        mirror: the primitive that it becomes when the operands change places.
        positive: made for positive numbers: at 0 or below it, the function or its derivative has
            no value, or an infinite one.
        powers: a power, a root, an exponential or a logarithm, of which losses and normalisers are
            made.
        reduces: how many elements become one, over axes, in windows, or up to each element.
        running: the reduction is up to each element ("cumsum").
        windowed: the reduction is in windows.
        contracts: a product that sums over an axis: a matrix product, a convolution.
        call: holds a function that is evaluated as it stands: "jit", "custom", "remat",
            "component".
        loop: "scan", "while" or "cond".
        wraps: its results are those of the function that it holds, evaluated in a setting of its
            own: on a mesh, with rules for mapping or compiling.
        marks: marks a node.
        random: random bits come from it.
        opaque: nothing is known of what it does with its operands.
    """

    data: Operands = ALL
    moves: bool = False
    paired: bool = False
    mixes: bool = False
    converts: bool = False
    rounds: bool = False
    linear: Operands = NONE
    bilinear: bool = False
    curvature: Curvature | None = None
    rises: bool = False
    decides: bool = False
    signs: tuple[int, ...] = ()
    commutes: bool = False
    mirror: str = ""
    positive: bool = False
    powers: bool = False
    reduces: Reduction | None = None
    running: bool = False
    windowed: bool = False
    contracts: bool = False
    call: Literal["jit", "custom", "remat", "component"] | None = None
    loop: Literal["scan", "while", "cond"] | None = None
    wraps: bool = False
    marks: bool = False
    random: bool = False
    opaque: bool = False

    @property
    def elementwise(self) -> bool:
        """Whether each element of the result is a function of those at its place."""
        return self.curvature is not None

    @property
    def adds(self) -> bool:
        """Whether it is a sum or a difference of two arrays."""
        return len(self.signs) == 2

    @property
    def multiplies(self) -> bool:
        """Whether it is the element-wise product."""
        return self.elementwise and self.bilinear

    @property
    def divides(self) -> bool:
        """Whether it is the element-wise quotient."""
        return self.elementwise and self.linear == FIRST and self.data == ALL

    @property
    def entered(self) -> bool:
        """Whether it holds functions that nodes may lie in."""
        return self.call is not None or self.loop is not None

    def is_data(self, operand: int, number: int) -> bool:
        """Whether one of a number of operands holds data."""
        return operand in self.data.of(number)

    def is_linear(self, random: Sequence[bool]) -> bool:
        """Whether the results are linear in the operands that are random, for fixed others."""
        if self.bilinear and sum(random) > 1:
            return False
        inside = (self.data if self.bilinear else self.linear).of(len(random))
        return not any(is_random and k not in inside for k, is_random in enumerate(random))

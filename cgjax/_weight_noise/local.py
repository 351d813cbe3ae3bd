"""Local reparameterisation: the result of a product is drawn, not the weights.

An uncertain weight is followed until it meets data in a matrix product, a convolution or a sum; the
result has noise that differs between examples. Noise is kept as a variance through additions (of a
bias), and drawn where anything else is done with it. Data that is used more than once is drawn at
once, so that all uses agree.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax.extend.core import JaxprEqn, Var
from jaxtyping import Array

from cgjax._gaussian.numerics import root, wide
from cgjax._program.jaxprs import AnyJaxpr, bind, open_jaxpr, sub_jaxprs
from cgjax._program.primitives import facts
from cgjax._program.program import Program
from cgjax._static import Function, Tree
from cgjax._walk import Records, Results
from cgjax._walk.evaluate import Value
from cgjax._weight_noise.axes import (
    argument_names,
    examples_of,
    shape_of,
    used_again,
)
from cgjax._weight_noise.shared import (
    WeightNoise,
    normal,
    passage,
    walked,
)
from cgjax._weight_noise.uses import used_more_than_once
from cgjax._weight_noise.variances import Noisy, repeats, spread, variances
from cgjax.nodes import Belief


@dataclass(frozen=True)
class Places:
    """Numbers for all places of a program where a value may be drawn.

    Attributes:
        of_equation: the place of an equation's first operand, by its id, from the start of the
            program that it stands in.
        of_variable: that of a variable.
        sizes: how many places a program has, by id.
    """

    of_equation: Mapping[int, int]
    of_variable: Mapping[Var, int]
    sizes: Mapping[int, int]

    @classmethod
    def of(cls, jaxpr: AnyJaxpr) -> Places:
        """Those of a program and all that it holds."""
        equations: dict[int, int] = {}
        variables: dict[Var, int] = {}
        sizes: dict[int, int] = {}

        def number(jaxpr: AnyJaxpr) -> int:
            inner = open_jaxpr(jaxpr)
            if id(inner) not in sizes:
                variables.update((v, k) for k, v in enumerate(inner.invars))
                size = len(inner.invars)
                for eqn in inner.eqns:
                    equations[id(eqn)] = size
                    size += len(eqn.invars)
                    variables.update((v, size + k) for k, v in enumerate(eqn.outvars))
                    size += len(eqn.outvars) + sum(map(number, sub_jaxprs(eqn)))
                sizes[id(inner)] = size + len(inner.outvars)
            return sizes[id(inner)]

        number(jaxpr)
        return cls(equations, variables, sizes)


@dataclass(frozen=True)
class LocalNoise(WeightNoise):
    """Values of which some have independent noise.

    Attributes:
        key: that all noise of this turn of a loop derives from.
        places: numbers for what is drawn.
        again: the variables that are used more than once.
        base: the place that the function at hand begins at.
        end: the place that it ends before.
    """

    kind = Noisy
    method = "Local reparameterisation"
    counts_turns = True

    key: jax.Array
    places: Places
    again: frozenset[Var]
    base: int = 0
    end: int = 0

    def inside(self, eqn: JaxprEqn, part: int) -> LocalNoise:
        """The domain inside a function: what is drawn there has places of its own."""
        subs = [self.places.sizes[id(open_jaxpr(sub))] for sub in sub_jaxprs(eqn)]
        start = self.base + self.places.of_equation[id(eqn)] + len(eqn.invars) + len(eqn.outvars)
        base = start + sum(subs[:part])
        inner = super().inside(eqn, part)
        return replace(self, within=inner.within, base=base, end=base + subs[part])

    def turn(self, turn: jax.Array | None, length: int | None) -> LocalNoise:
        """The domain in one turn of a loop, where noise is fresh."""
        assert turn is not None  # turns are counted
        return replace(self, key=jax.random.fold_in(self.key, turn))

    def weights_in(self, value: Noisy) -> frozenset[int]:
        """The weights that are drawn for all examples at once."""
        return frozenset() if value.data else value.weights

    def draw(self, value: Noisy, place: int) -> jax.Array:
        """A value as an array."""
        noise = normal(jax.random.fold_in(self.key, place), wide(value.mean))
        drawn = wide(value.mean) + jnp.asarray(root(value.variance) * noise, noise.dtype)
        return jnp.asarray(drawn, value.mean.dtype)

    def drawn(self, values: Sequence[Value], eqn: JaxprEqn) -> list[Value]:
        """The operands of an equation as arrays; one that stands twice is one number."""
        first = self.base + self.places.of_equation[id(eqn)]
        shape = shape_of(eqn.outvars[0]) if facts(eqn).elementwise else None
        known: dict[int, Array] = {}
        for k, x in enumerate(values):
            if self.is_noisy(x) and id(x) not in known:
                known[id(x)] = self.draw(spread(x, shape), first + k)
        return [known.get(id(x), x) for x in values]

    def of_each(
        self, eqn: JaxprEqn, operand: int, value: Noisy, rank: int, axis: int | None, size: int
    ) -> Array:
        """A parameter of nodes whose elements touch: a draw for each example."""
        shape = [1] * (rank - value.mean.ndim) + list(value.shape)
        each = tuple(max(n, size) if a == axis else n for a, n in enumerate(shape))
        mean, variance = (
            jnp.broadcast_to(x.reshape(shape), each) for x in (value.mean, value.variance)
        )
        place = self.base + self.places.of_equation[id(eqn)] + operand
        return self.draw(replace(value, mean=mean, variance=variance), place)

    def bound(self, variables: Sequence[Var], values: Sequence[Value]) -> list[Value]:
        """Draws data that is used more than once."""
        return [
            self.draw(x, self.base + self.places.of_variable[v])
            if self.is_noisy(x) and x.data and v in self.again
            else x
            for v, x in zip(variables, values, strict=True)
        ]

    def rule(self, eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value] | None:
        """The results of an equation that noise passes through."""
        way = passage(eqn, [self.is_noisy(x) for x in operands])
        noisy = [x for x in operands if self.is_noisy(x)]
        data = any(map(self.examples.is_data, eqn.outvars))
        # Elements that would share noise: of a product of weights, of data that is shown twice.
        dependent = (way == "product" and not data) or (
            way == "moved" and repeats(eqn) and any(x.data for x in noisy)
        )
        if way is None or dependent:
            return None
        if way in ("scaled", "product") and len(noisy) > 1:
            if noisy[0].weights & noisy[1].weights:
                return None
            # Of a weight and data, the data is drawn.
            if noisy[0].data != noisy[1].data:
                data = [x if self.is_noisy(x) and x.data else None for x in operands]
                settled = self.drawn(data, eqn)
                operands = [x if s is None else s for x, s in zip(operands, settled, strict=True)]
        means = bind(eqn, [x.mean if self.is_noisy(x) else x for x in operands])
        spreads = variances(way, eqn, operands)
        weights = frozenset().union(*(x.weights for x in noisy))
        return [
            m if v is None else Noisy(m, v, weights, self.examples.is_data(out))
            for m, v, out in zip(means, spreads, eqn.outvars, strict=True)
        ]

    # -- control flow

    def entering(self, eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
        """Data is drawn where it enters, so that all turns of a loop agree."""
        first = self.base + self.places.of_equation[id(eqn)]
        settled = [
            self.draw(x, first + k) if self.is_noisy(x) and x.data else x
            for k, x in enumerate(operands)
        ]
        return super().entering(eqn, settled)

    def leave(self, outs: Sequence[Value]) -> list[Value]:
        """Weights leave as they are, where that is possible; all else is drawn."""
        first = self.end - len(outs)
        return [
            self.draw(x, first + k) if self.is_noisy(x) and (x.data or not stays) else x
            for k, (x, stays) in enumerate(zip(outs, self.stays(len(outs)), strict=True))
        ]

    def alike(self, functions: Sequence[Function], operands: Sequence[Value]) -> Sequence[Function]:
        """Branches that return noise of the same weights."""
        forms = [jax.eval_shape(f, *operands)[0] for f in functions]
        same = [
            frozenset().union(*(x.weights for x in outs if isinstance(x, Noisy)))
            if any(isinstance(x, Noisy) for x in outs)
            else None
            for outs in zip(*forms, strict=True)
        ]

        def one(x: Value, weights: frozenset[int] | None) -> Value:
            if weights is None:
                return x
            if isinstance(x, Noisy):
                return replace(x, weights=weights)
            x = jnp.asarray(x)
            return Noisy(x, jnp.zeros_like(wide(x)), weights)

        def wrapped(function: Function) -> Function:
            def call(*operands: Value) -> Results:
                outs, records = function(*operands)
                return [one(x, w) for x, w in zip(outs, same, strict=True)], records

            return call

        return [wrapped(f) for f in functions]


def local_noise(
    program: Program, capture: bool, key: jax.Array, arguments: Sequence[Value]
) -> tuple[Tree, Records]:
    """Walks a program with beliefs for some of its flat arguments by local reparameterisation.

    Args:
        program: the traced function.
        capture: whether the nodes' statistics are recorded.
        key: of `jax.random`.
        arguments: for each flat argument an array or a `Belief`.

    Returns:
        A sample of the result, and the nodes' statistics.
    """
    names, examples = argument_names(program), examples_of(program)
    places = Places.of(program.jaxpr)
    size = places.sizes[id(open_jaxpr(program.jaxpr))]
    domain = LocalNoise(
        tuple(name for _, name in names), examples, key, places, used_again(program), end=size
    )
    values, weights = [], set()
    for i, x in enumerate(arguments):
        if isinstance(x, Belief):
            is_data = not names[i][0]
            weights.update(() if is_data else (i,))
            x = Noisy(x.mean, wide(x.variance), frozenset((i,)), is_data)
        values.append(x)
    several = used_more_than_once(program, weights, examples)
    if several:
        listed = ", ".join(names[i][1] for i in sorted(several))
        warnings.warn(
            "Local reparameterisation draws the noise of a weight anew wherever it is used, and "
            f"{len(several)} of the weights are used more than once (in a loop, or by several "
            f"layers): {listed}. Their uses are treated as independent. `weight_sample` and "
            "`flipout` use one draw.",
            stacklevel=2,
        )
    return walked(domain, program, capture, values)

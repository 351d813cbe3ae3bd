"""Walks with noisy weights: local reparameterisation and flipout.

Both follow an uncertain weight until it meets data in a matrix product or a convolution, and there
replace one sample of the weight for all examples by noise that differs between examples.
"""

import abc
import copy
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from cgjax._beliefs.movement import reshaped_axes
from cgjax._beliefs.products import bilinear
from cgjax._beliefs.values import Gaussian
from cgjax._gaussian.numerics import root
from cgjax._program.control import Call, Component, Scan, While, control
from cgjax._program.jaxprs import (
    ENTERED,
    Literal,
    bind,
    open_jaxpr,
    sub_jaxprs,
)
from cgjax._program.program import Program
from cgjax._walk import Domain, Evaluator, Frame, Records, Results, Visitor, evaluator
from cgjax._walk.control_flow import inline
from cgjax.kernels.random_bits import random_words, standard_normal, uniform
from cgjax.nodes import Belief

PRODUCTS = ("dot_general", "conv_general_dilated")
_MOVES = frozenset(
    "transpose broadcast_in_dim reshape squeeze expand_dims slice dynamic_slice rev gather".split()
)
_COPIES = frozenset("convert_element_type reduce_precision copy copy_p name".split())
_SUMS = frozenset("add add_any sub".split())


def normal(key: Any, like: Any) -> Any:
    """Standard normal numbers of an array's shape and dtype."""
    return jnp.asarray(standard_normal(random_words(key, like.shape)[1]), like.dtype)


@dataclass(frozen=True, eq=False)
class Noisy:
    """A value with independent Gaussian noise that is not drawn yet.

    Attributes:
        mean: its mean.
        variance: of the noise.
        leaf: the index of the weight that this is, or is a rearrangement of; None once data is
            part of it.
    """

    mean: Any
    variance: Any
    leaf: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return self.mean.shape


jax.tree_util.register_dataclass(Noisy, data_fields=["mean", "variance"], meta_fields=["leaf"])


class _NoisyWalker(Domain, abc.ABC):
    """What both share: where noisy values are drawn, and how they pass through calls and loops."""

    noisy: type

    def __init__(self, program: Program, key: Any):
        self.key = key

    @abc.abstractmethod
    def draw(self, value: Any) -> Any:
        """The value as an array."""

    @abc.abstractmethod
    def rule(self, eqn: Any, operands: Sequence[Any]) -> Any:
        """The result of an equation with a noisy operand, or None: it takes arrays."""

    def is_noisy(self, value: Any) -> bool:
        return isinstance(value, self.noisy)

    def drawn(self, values: Sequence[Any]) -> list[Any]:
        return [self.draw(x) if self.is_noisy(x) else x for x in values]

    def enters(self, eqn: Any, operands: Sequence[Any]) -> bool:
        return eqn.primitive.name in ENTERED and any(map(self.is_noisy, operands))

    def compute(self, eqn: Any, operands: Sequence[Any]) -> list[Any]:
        if any(map(self.is_noisy, operands)):
            out = self.rule(eqn, operands)
            if out is not None:
                return [out]
        return bind(eqn, self.drawn(operands))

    def node(
        self, walk: Evaluator, eqn: Any, operands: Sequence[Any], frame: Frame
    ) -> tuple[Any, Any]:
        return walk.visit(eqn, self.drawn(operands), frame)

    def enter(self, walk: Evaluator, eqn: Any, operands: Sequence[Any], frame: Frame) -> Results:
        part = control(eqn, operands)
        operands = list(operands)
        if isinstance(part, Call) and part.kind == "jit":
            return inline(walk, eqn, part, frame)
        if isinstance(part, Call) and part.kind == "custom" and any(map(self.is_noisy, operands)):
            if holds_products(part.body):
                return inline(walk, eqn, part, frame)
            operands = self.drawn(operands)
        elif isinstance(part, Scan):
            operands = [*part.consts, *self.drawn(part.carry), *part.xs]
        elif isinstance(part, While):
            operands = [*part.cond_consts, *part.body_consts, *self.drawn(part.carry)]
        elif isinstance(part, Component):
            operands = self.drawn(operands)
        return walk.enter(walk, eqn, operands, frame)

    def leave(self, outs: Sequence[Any]) -> list[Any]:
        return self.drawn(outs)


def holds_products(jaxpr: Any) -> bool:
    """Whether a matrix product or a convolution is computed inside."""
    return any(
        eqn.primitive.name in PRODUCTS or any(map(holds_products, sub_jaxprs(eqn)))
        for eqn in open_jaxpr(jaxpr).eqns
    )


class _LocalNoise(_NoisyWalker):
    """Local reparameterisation: the result of a product is drawn, not the weights.

    Noise is kept as a variance through additions (of a bias), and drawn where anything else is
    done with it. Data that is used more than once is drawn at once, so that all uses agree.
    """

    noisy = Noisy
    counts_turns = True

    def __init__(self, program: Program, key: Any):
        super().__init__(program, key)
        self.uses: dict[int, int] = {}
        self.steps = 1
        self.number = [0]
        self.shared: set[Any] = set()
        _several_uses(program.jaxpr, self.shared)

    def turn(self, turn: Any, length: int | None) -> "_LocalNoise":
        """Inside one turn of a loop, where noise is fresh."""
        inner = copy.copy(self)
        inner.key = jax.random.fold_in(self.key, turn)
        inner.steps = self.steps * (2 if length is None else length)
        return inner

    def used(self, value: Noisy) -> None:
        if value.leaf is not None:
            self.uses[value.leaf] = self.uses.get(value.leaf, 0) + self.steps

    def draw(self, value: Noisy) -> Any:
        self.used(value)
        self.number[0] += 1
        noise = normal(jax.random.fold_in(self.key, self.number[0]), value.mean)
        return value.mean + root(value.variance) * noise

    def rule(self, eqn: Any, operands: Sequence[Any]) -> Any:
        out = self.noise_of(eqn, operands)
        if out is not None and out.leaf is None and eqn.outvars[0] in self.shared:
            return self.draw(out)
        return out

    def noise_of(self, eqn: Any, operands: Sequence[Any]) -> Noisy | None:
        name = eqn.primitive.name
        if name in PRODUCTS:
            return self.product(eqn, operands)
        if name in _COPIES or name == "neg":
            (x,) = operands
            variance = x.variance if name == "neg" else bind(eqn, [x.variance])[0]
            return Noisy(bind(eqn, [x.mean])[0], variance, x.leaf)
        if name in _MOVES and not any(map(self.is_noisy, operands[1:])):
            x, *rest = operands
            mean, variance = (bind(eqn, [a, *rest])[0] for a in (x.mean, x.variance))
            return Noisy(mean, variance, x.leaf)
        if name in _SUMS:
            return self.sum(eqn, operands)
        if name == "mul" or (name == "div" and not self.is_noisy(operands[1])):
            return self.scaled(eqn, operands)
        return None

    def product(self, eqn: Any, operands: Sequence[Any]) -> Noisy:
        x, y = operands
        if self.is_noisy(x) and self.is_noisy(y):
            # Of a weight and data, the data is drawn.
            x, y = (x, self.draw(y)) if y.leaf is None and x.leaf is not None else (self.draw(x), y)
        self.used(x if self.is_noisy(x) else y)
        x, y = (Gaussian(v.mean, v.variance).stored() if self.is_noisy(v) else v for v in (x, y))
        mean, variance = bilinear(lambda a, b: bind(eqn, [a, b])[0], x, y, 2)
        return Noisy(mean, variance)

    def sum(self, eqn: Any, operands: Sequence[Any]) -> Noisy:
        noisy = [x for x in operands if self.is_noisy(x)]
        for x in noisy:
            self.used(x)
        mean = bind(eqn, [x.mean if self.is_noisy(x) else x for x in operands])[0]
        variance = sum(jnp.broadcast_to(x.variance, mean.shape) for x in noisy)
        return Noisy(mean, variance)

    def scaled(self, eqn: Any, operands: Sequence[Any]) -> Noisy | None:
        noisy = [x for x in operands if self.is_noisy(x)]
        if len(noisy) > 1:
            return None
        (x,) = noisy
        leaf = x.leaf
        if any(jnp.ndim(a) for a in operands if a is not x):
            self.used(x)
            leaf = None
        mean, variance = (
            bind(eqn, [part if a is x else by for a, by in zip(operands, factors, strict=True)])[0]
            for part, factors in (
                (x.mean, operands),
                (x.variance, [a if a is x else a**2 for a in operands]),
            )
        )
        return Noisy(mean, variance, leaf)


def _several_uses(jaxpr: Any, found: set[Any]) -> None:
    """Adds the variables that a program uses more than once."""
    inner = open_jaxpr(jaxpr)
    once: set[Any] = set()
    for v in [v for eqn in inner.eqns for v in eqn.invars] + list(inner.outvars):
        if not isinstance(v, Literal):
            (found if v in once else once).add(v)
    for eqn in inner.eqns:
        for sub in sub_jaxprs(eqn):
            _several_uses(sub, found)


@dataclass(frozen=True, eq=False)
class Perturbed:
    """A weight with one perturbation, which each example sees with signs of its own.

    Attributes:
        mean: its mean.
        noise: the perturbation, of the same shape.
        leaf: the index of the weight.
        signs: for each axis, which of the weight's axes it is, so which signs flip it; None for an
            axis that is not flipped.
    """

    mean: Any
    noise: Any
    leaf: int
    signs: tuple[int | None, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return self.mean.shape


jax.tree_util.register_dataclass(
    Perturbed, data_fields=["mean", "noise"], meta_fields=["leaf", "signs"]
)


class _Flipout(_NoisyWalker):
    """Flipout: example n sees the weight mean + noise * (r_n s_n^T), with random signs r and s.

    The signs belong to the axes of a weight, so that an example sees one weight wherever, and at
    whichever step of a loop, it is used.
    """

    noisy = Perturbed

    def draw(self, value: Perturbed) -> Any:
        """As all examples see it."""
        return value.mean + value.noise

    def signs(self, value: Perturbed, axis: int, examples: int) -> Any:
        """Random signs of (examples, size of an axis of a weight)."""
        key = jax.random.fold_in(self.key, value.leaf)
        key = jax.random.fold_in(key, 1 + (value.signs[axis] or 0))
        words = random_words(key, (examples, value.shape[axis]))[0]
        return jnp.where(uniform(words) < 0.5, -1, 1).astype(value.mean.dtype)

    def flipped(
        self, array: Any, value: Perturbed, axis: int, example: int, at: int, repeats: int = 1
    ) -> Any:
        """An array times the signs of one axis of a weight.

        Args:
            array: the array.
            value: the weight.
            axis: its axis.
            example: the array's axis of examples.
            at: the array's axis that the weight's axis runs along.
            repeats: how often it does.
        """
        if value.signs[axis] is None:
            return array
        signs = jnp.tile(self.signs(value, axis, array.shape[example]), (1, repeats))
        shape = [1] * array.ndim
        shape[example], shape[at] = array.shape[example], array.shape[at]
        return array * (signs if example < at else signs.T).reshape(shape)

    def rule(self, eqn: Any, operands: Sequence[Any]) -> Any:
        name = eqn.primitive.name
        if name in PRODUCTS and sum(map(self.is_noisy, operands)) == 1:
            return (self.dot if name == "dot_general" else self.convolution)(eqn, operands)
        if (name in _COPIES or name == "neg") and self.is_noisy(operands[0]):
            return self.moved(eqn, operands, operands[0].signs)
        if name in _MOVES and not any(map(self.is_noisy, operands[1:])):
            return self.moved(eqn, operands, _axes_after(eqn, operands[0]))
        if name in ("mul", "div") and self.is_noisy(operands[0]) and not jnp.ndim(operands[1]):
            return self.moved(eqn, operands, operands[0].signs)
        if name == "mul" and self.is_noisy(operands[1]) and not jnp.ndim(operands[0]):
            return self.moved(eqn, operands[::-1], operands[1].signs)
        if name in _SUMS or name in ("mul", "div"):
            return bind(eqn, [self.by_example(x) for x in operands])[0]
        return None

    def moved(self, eqn: Any, operands: Sequence[Any], signs: Any) -> Perturbed:
        x, *rest = operands
        mean, noise = (bind(eqn, [a, *rest])[0] for a in (x.mean, x.noise))
        return replace(x, mean=mean, noise=noise, signs=signs)

    def by_example(self, value: Any) -> Any:
        """A weight as each example sees it, where it was broadcast over examples."""
        if not self.is_noisy(value):
            return value
        noise, signs = value.noise, value.signs
        if noise.ndim > 1 and signs[0] is None:
            for axis in range(1, noise.ndim):
                noise = self.flipped(noise, value, axis, 0, axis)
        return value.mean + noise

    def dot(self, eqn: Any, operands: Sequence[Any]) -> Any:
        side = 0 if self.is_noisy(operands[0]) else 1
        weight, data = operands[side], operands[1 - side]
        contract, batch = eqn.params["dimension_numbers"]

        def dot(w: Any, x: Any) -> Any:
            return bind(eqn, [w, x] if side == 0 else [x, w])[0]

        out = dot(weight.mean, data)
        taken = {*contract[1 - side], *batch[1 - side]}
        if 0 in taken or data.ndim < 2:
            return out + dot(weight.noise, data)  # no axis of examples
        free = [
            [a for a in range(o.mean.ndim if self.is_noisy(o) else o.ndim)
             if a not in contract[k] and a not in batch[k]]
            for k, o in enumerate(operands)
        ]  # fmt: skip
        first = [len(batch[0]), len(batch[0]) + len(free[0])]
        example = first[1 - side] + free[1 - side].index(0)
        for w_axis, x_axis in zip(contract[side], contract[1 - side], strict=True):
            data = self.flipped(data, weight, w_axis, 0, x_axis)
        noise = dot(weight.noise, data)
        places = [(a, k) for k, a in enumerate(batch[side])]
        places += [(a, first[side] + k) for k, a in enumerate(free[side])]
        for w_axis, out_axis in places:
            noise = self.flipped(noise, weight, w_axis, example, out_axis)
        return out + noise

    def convolution(self, eqn: Any, operands: Sequence[Any]) -> Any:
        data, weight = operands
        numbers, groups = eqn.params["dimension_numbers"], eqn.params["feature_group_count"]
        if self.is_noisy(data) or eqn.params["batch_group_count"] > 1:
            return None
        out = bind(eqn, [data, weight.mean])[0]
        (example, feature), (w_out, w_in) = numbers.lhs_spec[:2], numbers.rhs_spec[:2]
        data = self.flipped(data, weight, w_in, example, feature, groups)
        noise = bind(eqn, [data, weight.noise])[0]
        return out + self.flipped(noise, weight, w_out, *numbers.out_spec[:2])

    def enter(self, walk: Evaluator, eqn: Any, operands: Sequence[Any], frame: Frame) -> Results:
        part = control(eqn, operands)
        if isinstance(part, Scan):
            # The step's weights are slices of these.
            xs = [replace(x, signs=x.signs[1:]) if self.is_noisy(x) else x for x in part.xs]
            operands = [*part.consts, *part.carry, *xs]
        return super().enter(walk, eqn, operands, frame)


def _axes_after(eqn: Any, x: Perturbed) -> tuple[int | None, ...]:
    """Which axes of the weight the axes of a rearrangement are."""
    name, shape = eqn.primitive.name, eqn.outvars[0].aval.shape
    if name == "transpose":
        return tuple(x.signs[a] for a in eqn.params["permutation"])
    out: list[int | None] = [None] * len(shape)
    if name == "broadcast_in_dim":
        for axis, to in enumerate(eqn.params["broadcast_dimensions"]):
            if shape[to] == x.shape[axis]:
                out[to] = x.signs[axis]
    elif name in ("reshape", "squeeze", "expand_dims"):
        for axis, size in enumerate(x.shape):
            to = reshaped_axes(x.shape, shape, (axis,)) if size > 1 else ()
            if len(to) == 1 and shape[to[0]] == size:
                out[to[0]] = x.signs[axis]
    return tuple(out)


def _walked(
    domain: _NoisyWalker, program: Program, capture: bool, values: Sequence[Any]
) -> tuple[Any, Records]:
    walker = evaluator(program, Visitor(capture))
    flat, records = walker.run(program.jaxpr, values, Frame(domain))
    return jax.tree.unflatten(program.out_tree, domain.leave(flat)), records


def local_noise(
    program: Program, capture: bool, key: Any, arguments: Sequence[Any]
) -> tuple[Any, Records]:
    """Walks a program with beliefs for some of its flat arguments by local reparameterisation.

    Args:
        program: the traced function.
        capture: whether the nodes' statistics are recorded.
        key: of `jax.random`.
        arguments: for each flat argument an array or a `Belief`.

    Returns:
        A sample of the result, and the nodes' statistics.
    """
    walker = _LocalNoise(program, key)
    values = [
        Noisy(x.mean, x.variance, i) if isinstance(x, Belief) else x
        for i, x in enumerate(arguments)
    ]
    out = _walked(walker, program, capture, values)
    if several := sum(uses > 1 for uses in walker.uses.values()):
        warnings.warn(
            f"Local reparameterisation draws the noise of a weight anew wherever it is used, and "
            f"{several} of the weights are used more than once (in a loop, or by several layers): "
            "their uses are treated as independent. `weight_sample` and `flipout` use one draw.",
            stacklevel=2,
        )
    return out


def flipout(
    program: Program, capture: bool, key: Any, arguments: Sequence[Any]
) -> tuple[Any, Records]:
    """Walks a program with beliefs for some of its flat arguments by flipout; see `local_noise`."""
    walker = _Flipout(program, jax.random.fold_in(key, 0))
    values = []
    for i, x in enumerate(arguments):
        if isinstance(x, Belief):
            own = jax.random.fold_in(jax.random.fold_in(key, 1), i)
            noise = root(x.variance) * normal(own, x.mean)
            x = Perturbed(x.mean, noise, i, tuple(range(x.mean.ndim)))
        values.append(x)
    return _walked(walker, program, capture, values)

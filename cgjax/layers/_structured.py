"""What layers share whose node is a whole component: scores from features, fixed potentials."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, ArrayLike, Float

from cgjax._node import check_name
from cgjax._static import described, is_array, is_traced
from cgjax.layers._recurrent import Initializer
from cgjax.layers._sizes import check_sizes

# Arrays as numbers, so that they are no state of the module.
Numbers = tuple[float, ...] | tuple[tuple[float, ...], ...]


class Structured(nnx.Module):
    """A component of positions that touch, on top of features."""

    def __init__(
        self,
        in_features: int | None,
        num_states: int,
        kernel_init: Initializer,
        name: str,
        rngs: nnx.Rngs,
    ):
        check_sizes(in_features=in_features, num_states=num_states)
        check_name("node", name)
        self.num_states = num_states
        self.name = name
        self.projection = (
            None
            if in_features is None
            else nnx.Linear(in_features, num_states, kernel_init=kernel_init, rngs=rngs)
        )

    def _projected(self, inputs: Float[Array, "..."], axis: str) -> Float[Array, "..."]:
        """The scores of states at positions, in the dtype of the inputs."""
        x = jnp.asarray(inputs)
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise TypeError(
                f"A {type(self).__name__} layer takes floating-point inputs, got {x.dtype}."
            )
        expected = self.num_states if self.projection is None else self.projection.in_features
        if x.ndim < 2 or x.shape[-1] != expected:
            raise ValueError(
                f"The inputs have the shape (*batch, {axis}, {expected}), got one of {x.shape}."
            )
        return x if self.projection is None else self.projection(x).astype(x.dtype)


class Fixed(NamedTuple):
    """Potentials of a sequence that are not trained."""

    start: Numbers
    transitions: Numbers
    end: Numbers


class Sequence(Structured):
    """Positions one after the other: potentials of steps, of the first and of the last state."""

    def __init__(
        self,
        in_features: int | None,
        num_states: int,
        forbidden: tuple[ArrayLike, ArrayLike, ArrayLike] | None,
        initializers: tuple[Initializer, Initializer],
        name: str,
        rngs: nnx.Rngs,
    ):
        kernel_init, transitions_init = initializers
        super().__init__(in_features, num_states, kernel_init, name, rngs)
        k = num_states
        self.forbidden = None if forbidden is None else _fixed(forbidden, k)
        self.transitions = nnx.Param(transitions_init(rngs.params(), (k, k), jnp.float32))
        self.start = nnx.Param(jnp.zeros(k))
        self.end = nnx.Param(jnp.zeros(k))

    def _potentials(self) -> tuple[Array, Array, Array]:
        """Those of the start, of steps and of the end, with what is fixed."""
        own = self.start, self.transitions, self.end
        fixed = self.forbidden or (None, None, None)
        start, transitions, end = map(with_fixed, own, fixed)
        return start, transitions, end


def with_fixed(own: nnx.Param[Array], fixed: Numbers | None) -> Array:
    """A parameter, and what is added to it."""
    found = own[...]
    if fixed is None:
        return found
    return found + jnp.broadcast_to(jnp.asarray(fixed, found.dtype), found.shape)


def as_numbers(name: str, value: object, shape: tuple[int, ...]) -> Numbers:
    """A fixed array as numbers.

    Raises:
        TypeError: it is no array, or traced.
        ValueError: it has another shape.
    """
    if not is_array(value) or is_traced(value):
        raise TypeError(f"{name} is an array of known numbers, got {described(value)}.")
    if np.shape(value) != shape:
        raise ValueError(
            f"{name} has shape {np.shape(value)}; for {shape[0]} states it is {shape}."
        )
    rows = np.asarray(value, np.float32).tolist()
    return tuple(tuple(row) if isinstance(row, list) else row for row in rows)


def _fixed(forbidden: object, k: int) -> Fixed:
    """`forbidden` as numbers, after checking that it fits k states."""
    if not isinstance(forbidden, tuple) or len(forbidden) != 3:
        raise TypeError(
            "forbidden is a tuple (start, transitions, end), as `cgjax.nodes.bio_transitions` "
            f"returns it, got {described(forbidden)}."
        )
    shapes = (k,), (k, k), (k,)
    each = zip(Fixed._fields, forbidden, shapes, strict=True)
    return Fixed(*(as_numbers(f"forbidden.{name}", *rest) for name, *rest in each))

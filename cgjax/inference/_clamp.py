"""Clamping: a network with some of its nodes fixed to given values."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Bool, Num

from cgjax import _static
from cgjax._node import bind
from cgjax._procedure import Arrays, Method, Network, Procedure, Result, intern, method
from cgjax._program import Program, Site, trace
from cgjax._static import Leaf, Tree
from cgjax._walk import Visitor, walk
from cgjax._walk.visitor import Draw, Handed
from cgjax.nodes import Family


class PartlyKnown(NamedTuple):
    """A value of which some positions are known, for `clamp`: the others follow given these.

    For families whose elements touch (`LinearChain`, `SemiMarkov`, `Tree`, `Grid`, `DenseGrid`):
    partial labels, or decoding under constraints. The node stays in the network, with the law of
    its unknown positions given the known ones and its parents. For `condition`, `log_evidence` and
    bounds such as `elbo`, what is known was seen, and tells something of the parents too.

    Attributes:
        values: the one-hot statistic, (..., positions, states); read at known positions only.
        known: which positions are known, (..., positions).

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> chain = cg.nodes.LinearChain(jnp.array([[2.0, 0.0], [0.0, 2.0]]))  # tends to stay
        >>> net = lambda e: cg.node(chain, e, name="tags")
        >>> first = cg.PartlyKnown(jnp.array([[1.0, 0.0], [0.0, 0.0]]), jnp.array([True, False]))
        >>> print(cg.clamp(net, {"tags": first})(jnp.zeros((2, 2))).round(2))
        [[1.   0.  ]
         [0.88 0.12]]
    """

    values: Num[ArrayLike, "..."]
    known: Bool[ArrayLike, "..."]

    def check(self, name: str) -> None:
        """Raise ValueError for shapes that do not fit, or a known position that is not one-hot."""
        shape, known_shape = np.shape(self.values), np.shape(self.known)
        dtype = jnp.result_type(self.known)
        if not jnp.issubdtype(dtype, jnp.bool_) or not 0 < len(known_shape) < len(shape):
            raise ValueError(
                f"PartlyKnown for the node {name!r} takes booleans, one for each position, got "
                f"{dtype} of shape {known_shape} with values of shape {shape}; the last axis of "
                "the values holds the states of a position."
            )
        if _static.is_traced(tuple(self)):
            return
        values = np.asarray(self.values)
        one_hot = ((values == 0) | (values == 1)).all(-1) & (values.sum(-1) == 1)
        wrong = np.broadcast_to(self.known, one_hot.shape) & ~one_hot
        if wrong.any():
            raise ValueError(
                f"PartlyKnown for the node {name!r}: what is known of a position is one-hot along "
                f"the last axis, 1 at its state and 0 elsewhere; got {values[wrong][0]}."
            )

    def encoded(self) -> Array:
        """The values, NaN where they are not known."""
        values, known = jnp.asarray(self.values), jnp.asarray(self.known)
        values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
        lead = (1,) * (values.ndim - 1 - known.ndim)
        return jnp.where(known.reshape(*lead, *known.shape, 1), values, jnp.nan)


@dataclass(frozen=True)
class _Clamped(Visitor):
    """Replaces the named nodes and marks all others again, under the names they had.

    Those of which a part is known are marked again, too, with a natural parameter that says so.
    """

    clamped: frozenset[int] = frozenset()
    partly: frozenset[int] = frozenset()
    keeps_nodes = True

    def changes(self, site: Site) -> bool:
        return site.index in self.clamped

    def passes(self, site: Site) -> bool:
        return site.index not in self.clamped

    def value(
        self, site: Site, family: Family, activation: Array, e: Array, draw: Draw, given: Handed
    ) -> Array:
        if site.index in self.clamped:
            assert given is not None  # those that are clamped are given
            value = jnp.broadcast_to(given, site.shape)
            if site.index not in self.partly:
                return value
            e = family.conditioned(e, value)
            activation = family.activation(e)
        return marked_again(site, family, e, activation)


def marked_again(site: Site, family: Family, e: Array, activation: Array) -> Array:
    """A node that survives in a network made of another, under the name that it had."""
    return bind(
        family,
        e,
        activation,
        kind=site.kind,
        name=site.name,
        scopes_in_name=site.num_scopes,
        lifted=site.lifted,
        differentiated=site.differentiated,
    )


@method
class Clamp(Method):
    """Options of `clamp`: pairs of a node's name and its value."""

    values: tuple[tuple[str, Leaf], ...]
    inline: bool
    is_network = True
    removes_nodes = True

    def run(self, program: Program, lead: Tree, arrays: Arrays, capture: bool) -> Result:
        partly = {name for name, value in self.values if isinstance(value, PartlyKnown)}
        values = {
            name: value.encoded() if isinstance(value, PartlyKnown) else value
            for name, value in self.values
        }
        given = named_values(program, values)
        indices = frozenset(program.by_name[name].index for name in partly)
        visitor = _Clamped(inline=self.inline, clamped=frozenset(given), partly=indices)
        return walk(program, visitor, arrays, given=given)


@dataclass(frozen=True, eq=False)
class _ClampedNetwork(Procedure):
    """Looks at the values where they are known: in what is compiled, they are not."""

    def __call__(self, *args: Tree, **kwargs: Tree) -> Tree:
        options = self.method
        assert isinstance(options, Clamp)
        whole = [(n, v) for n, v in options.values if not isinstance(v, PartlyKnown)]
        values = {n: v for n, v in whole if not _static.is_traced(v)}
        if values:
            program = trace(self.net, args, kwargs)
            for index, value in named_values(program, values).items():
                _check_value(program.sites[index], value)
        return super().__call__(*args, **kwargs)


def _check_value(site: Site, value: object) -> None:
    """Raises for a value that is neither one of the statistic nor a mean of such ones."""
    # What depends on arrays of the network is not known, and no number.
    unknown = [np.float32(np.nan)] * site.family.num_arrays
    with jax.ensure_compile_time_eval():
        low, high = map(np.asarray, _static.join(site.family, unknown).bounds())
    value = np.asarray(value).astype(site.dtype).astype(np.float64)
    low, high = (bound.astype(site.dtype).astype(np.float64) for bound in (low, high))
    low, high = np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)
    possible = (value >= low) & (value <= high) & np.isfinite(value)
    if not np.all(possible):
        raise ValueError(
            f"The node {site.name!r} is a {site.family_type.__name__}, whose values and their "
            f"means are finite and lie between {low} and {high}: it cannot be clamped to "
            f"{value[~possible].flat[0]}."
        )


def named_values(program: Program, values: Mapping[str, Leaf]) -> dict[int, Leaf]:
    """Values by node index instead of by name."""
    by_name = program.by_name
    for name in values:
        if name not in by_name:
            known = ", ".join(map(repr, by_name)) or "none"
            raise ValueError(f"The network has no node {name!r}. Its nodes: {known}.")
        if by_name[name].in_while:
            raise ValueError(
                f"The node {name!r} lies in a `while_loop` ({by_name[name].source}), whose number "
                "of steps is not known: it cannot be given values. Use `lax.scan`, or "
                "`lax.fori_loop` with constant bounds."
            )
    return {by_name[name].index: value for name, value in values.items()}


def clamp(net: Network, values: Mapping[str, Leaf], *, inline: bool = False) -> Procedure:
    """The network in which the named nodes have given values and are random no more.

    What a clamped node depends on is cut off from it: this is an intervention, the operation that
    inputs undergo, not conditioning on an observation. All other nodes survive, so that the result
    is a network again, for any procedure.

    Args:
        net: a network, as a function of arrays.
        values: for each node to clamp, by full name, its statistic: an array that broadcasts
            against the node (with a leading time axis, if the node lies in `lax.scan`); or
            `PartlyKnown` positions of a component whose nodes touch.
        inline: whether functions with a custom derivative that contain a clamped node may be
            differentiated as plain functions; otherwise they raise.

    Returns:
        A network with the same arguments.

    Raises:
        TypeError: values is no dict from names to arrays.
        ValueError: when called, for an unknown name, a value that does not broadcast, a node in a
            `while_loop`, or a value that is known and out of the node's reach: not a number, or
            beyond all that it can take, as 7 for a Spin (0.5, the mean of its two values, is not).

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> net = lambda x: 2 * cg.node(cg.nodes.Spin(), x, name="hidden")
        >>> cg.clamp(net, {"hidden": jnp.array([1.0, -1.0])})(jnp.zeros(2))
        Array([ 2., -2.], dtype=float32)
    """
    if not isinstance(values, Mapping):
        raise TypeError(
            "The values to clamp are a dict from node names to arrays, such as "
            f'`clamp(net, {{"hidden": 1.0}})`, got {_static.described(values)}.'
        )
    for name, value in values.items():
        if not isinstance(name, str):
            raise TypeError(f"A node to clamp is given by its name, got {_static.described(name)}.")
        if isinstance(value, PartlyKnown):
            value.check(name)
        elif not is_numeric(value):
            raise TypeError(
                f"The value of the node {name!r} must be a number or an array of numbers, got "
                f"{_static.described(value)}."
            )
    return intern(_ClampedNetwork(net, Clamp(tuple(values.items()), inline)))


def is_numeric(value: object) -> bool:
    """Whether something is a number, an array of numbers, or a list of such ones."""
    try:
        dtype = jnp.result_type(value) if _static.is_array(value) else np.asarray(value).dtype
    except (TypeError, ValueError):  # what NumPy cannot make an array of
        return False
    return jnp.issubdtype(dtype, jnp.number) or jnp.issubdtype(dtype, jnp.bool_)

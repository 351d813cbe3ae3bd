"""A network with evidence: some of its nodes were seen, which says something about all others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Num

from cgjax import _static
from cgjax._procedure import Network, check_network
from cgjax._program import Program, Site, trace
from cgjax._static import Leaf, Tree
from cgjax.inference._clamp import PartlyKnown, is_numeric, named_values
from cgjax.inference._evidence import Evidence
from cgjax.inference._states import component, mask_shape
from cgjax.nodes import Family
from cgjax.nodes._one_hot import OneHotPositions

# Node names and what is known of them; a tuple, so that it is an option of a procedure.
Pairs = tuple[tuple[str, Tree], ...]


class SoftEvidence(NamedTuple):
    """What an unsure observation says of a node: a weight for each of its states.

    The joint probability is multiplied by exp(log_weights) of the state that each node is in. The
    log-probability of a reading given the state is such a weight; what is added to all weights of a
    node changes the evidence alone.

    Attributes:
        log_weights: (..., *nodes, states), with the states in the order of `family.states()`; for
            a `Categorical`, whose nodes have size 1 along the class axis, that of the classes. Of a
            component whose nodes touch, such as a `LinearChain`, of the shape of its statistic: for
            each state of each position, and of a `SemiMarkov` for each segment.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> net = lambda e: cg.node(cg.nodes.Bernoulli(), e, name="rain")
        >>> seen = cg.SoftEvidence(jnp.log(jnp.array([0.1, 0.9])))  # P(wet | dry), P(wet | rain)
        >>> cg.exact_marginals(cg.condition(net, {"rain": seen}))(jnp.zeros(()))
        Array(0.9, dtype=float32)

    Source: Pearl 1988, section 2.2.2 (virtual evidence).
    """

    log_weights: Num[ArrayLike, ...]


@dataclass(frozen=True, eq=False)
class Conditioned:
    """What `condition` returns: a network and what is known of its nodes.

    Attributes:
        net: the network.
        values: pairs of a node's name and what is known of it.
    """

    net: Network
    values: Pairs

    def __call__(self, *args: Tree, **kwargs: Tree) -> NoReturn:
        """There is no value of a network that takes evidence into account without inference."""
        raise TypeError(
            "A network with evidence is no function of its inputs alone: what was seen changes the "
            "distribution of all nodes. `exact_marginals(condition(net, values))` gives the "
            "posterior expectation. To give nodes values without learning from them, use `clamp`."
        )


def condition(net: Network, values: Mapping[str, Tree]) -> Conditioned:
    """The network, given that some of its nodes were seen with certain values.

        P(X | evidence) = P(X, evidence) / P(evidence)

    Unlike `clamp`, which sets nodes from outside and leaves their parents as they are, this says
    that the nodes took these values by themselves: their parents, and all that is related, become
    more or less probable.

    Args:
        net: a network, as a function of the arrays of *one* example (`jax.vmap` for a batch), a
            module, or a network with evidence, to which more is added.
        values: for each node that something is known of, by full name: its statistic, an array that
            broadcasts against the node (with a leading time axis inside `lax.scan`); `PartlyKnown`
            values, of which a part was seen (of a component whose nodes touch, positions); or
            `SoftEvidence`. Nodes of continuous families may be observed, too.

    Returns:
        A network with evidence, for `exact_marginals`, `mode` and `belief_propagation`. Values may
        be traced, mapped and differentiated; what is compiled serves all values of one shape.

    Raises:
        TypeError: values is no dict from names to arrays.
        ValueError: from the procedure, when it is called: for an unknown name, a value that does
            not broadcast, a node in a `while_loop` or a branch, and evidence of probability 0,
            where values are known (traced, the result is NaN).

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> def net(e):
        ...     rain = cg.node(cg.nodes.Bernoulli(), e, name="rain")
        ...     wet = cg.node(cg.nodes.Bernoulli(), 6 * rain - 3, name="wet")
        ...     return rain
        >>> cg.exact_marginals(cg.condition(net, {"wet": 1.0}))(jnp.float32(-1))
        Array(0.880..., dtype=float32)
        >>> cg.exact_marginals(cg.clamp(net, {"wet": 1.0}))(jnp.float32(-1))  # tells nothing
        Array(0.268..., dtype=float32)

    Source: Pearl 2009, section 1.3 (seeing against doing).
    """
    if not isinstance(values, Mapping):
        raise TypeError(
            "The evidence is a dict from node names to values, such as "
            f'`condition(net, {{"wet": 1.0}})`, got {_static.described(values)}.'
        )
    if not isinstance(net, Conditioned):
        check_network(net, "condition")
        return Conditioned(net, pairs(values))
    if both := [name for name, _ in net.values if name in values]:
        raise ValueError(f"The network has evidence already about {', '.join(map(repr, both))}.")
    return Conditioned(net.net, (*net.values, *pairs(values)))


def pairs(values: Mapping[str, Tree]) -> Pairs:
    """Evidence as an option of a procedure: numbers become arrays, which are traced."""
    found = []
    for name, value in values.items():
        if not isinstance(name, str):
            raise TypeError(
                f"A node that was seen is given by its name, got {_static.described(name)}."
            )
        if not isinstance(value, PartlyKnown | SoftEvidence) and not is_numeric(value):
            raise TypeError(
                f"What is known of the node {name!r} is a number, an array of numbers, "
                f"`PartlyKnown` or `SoftEvidence`, got {_static.described(value)}."
            )
        if isinstance(value, PartlyKnown | SoftEvidence):
            found.append((name, type(value)(*map(_array, value))))
        else:
            found.append((name, _array(value)))
    return tuple(found)


def _array(value: Leaf) -> Leaf:
    if _static.is_array(value):
        return value
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype == np.float64 else array


def evidence(program: Program, values: Mapping[str, Tree]) -> Evidence:
    """What is known, by node index, in the shapes of the nodes.

    Raises:
        ValueError: as `condition`.
        TypeError: a part or weights of a continuous family.
    """
    found = seen(program, values)
    for index in found.partly:
        site = program.sites[index]
        if not site.family_type.discrete:
            raise _no_list(site, "a part")
    return found


def seen(program: Program, values: Mapping[str, Tree]) -> Evidence:
    """`evidence`, in which parts of the elements of continuous nodes may be known."""
    values_of, partly, weights = {}, {}, {}
    for index, value in named_values(program, values).items():
        site = program.sites[index]
        touching = issubclass(site.family_type, OneHotPositions)
        if site.kind == "observe":
            raise ValueError(
                f"{site.name!r} is an input that the network reads as expected values: it has its "
                "value from the arguments."
            )
        if isinstance(value, SoftEvidence):
            weights[index] = _fitted(site, value.log_weights, (*site.lengths, *weights_of(site)))
        elif isinstance(value, PartlyKnown):
            if touching:
                value.check(site.name)
            encoded = value.encoded() if touching else _encoded(site, value)
            partly[index] = _fitted(site, encoded, site.stacked_shape)
        else:
            values_of[index] = _fitted(site, value, site.stacked_shape)
    return Evidence(values_of, partly, weights)


def weights_of(site: Site) -> tuple[int, ...]:
    """The shape of what soft evidence has of a node: a weight for each state of each of its
    elements, and where these touch, one for each number of its statistic.

    Raises:
        TypeError: the family has no list of states.
    """
    if issubclass(site.family_type, OneHotPositions):
        return site.shape
    kind = component(site) if site.family_type.discrete else None
    if kind is None or kind.numbered:
        raise _no_list(site, "weights")
    return *kind.shape, kind.states


def _no_list(site: Site, what: str) -> TypeError:
    return TypeError(
        f"Evidence about {what} of the node {site.name!r} needs a family of nodes with few states, "
        f"and it is a {site.family_type.__name__}. Give the value of all of it."
    )


def _encoded(site: Site, value: PartlyKnown) -> jax.Array:
    """A value, NaN where it is not known."""
    values, known = jnp.asarray(value.values), jnp.asarray(value.known)
    if known.dtype != jnp.bool_:
        raise ValueError(
            f"PartlyKnown for the node {site.name!r} takes booleans that say what is known, got "
            f"{known.dtype} of shape {known.shape}."
        )
    classes = [k for k, n in enumerate(mask_shape(site)) if n != site.shape[k]]
    if classes and known.ndim < values.ndim:  # one for each slice of classes
        lead = (1,) * (values.ndim - 1 - known.ndim)
        axis = values.ndim + classes[0] - len(site.shape)
        known = jnp.expand_dims(known.reshape(*lead, *known.shape), axis)
    try:
        shape = jnp.broadcast_shapes(values.shape, known.shape)
    except ValueError:
        raise ValueError(
            f"PartlyKnown for the node {site.name!r} has values of shape {values.shape} and "
            f"booleans of shape {known.shape}, which do not broadcast."
        ) from None
    values = values.astype(jnp.promote_types(values.dtype, jnp.float32))
    return jnp.where(jnp.broadcast_to(known, shape), jnp.broadcast_to(values, shape), jnp.nan)


def _fitted(site: Site, value: Leaf, shape: tuple[int, ...]) -> jax.Array:
    value = jnp.asarray(value)
    try:
        return jnp.broadcast_to(value, shape)
    except ValueError:
        raise ValueError(
            f"Evidence of shape {value.shape} about the node {site.name!r} ({site.source}) does "
            f"not broadcast to {shape}."
        ) from None


def check_values(program: Program, values: Mapping[str, Any]) -> None:
    """Raises for a value that is known and that its node cannot take."""
    _check_parts(program, values)
    whole = {n: v for n, v in values.items() if not isinstance(v, PartlyKnown | SoftEvidence)}
    for index, value in named_values(program, whole).items():
        site = program.sites[index]
        if _static.is_traced(value) or site.family.num_arrays or not site.family_type.discrete:
            continue  # unknown, or what it can be depends on the network
        if component(site).numbered:
            continue
        with jax.ensure_compile_time_eval():
            family: Family = _static.join(site.family, ())
            kind = component(site)
            size = 1 if kind.axis is None else site.shape[kind.axis]
            states = np.asarray(family.states(size)).reshape(kind.states, -1)
        value = np.asarray(value).astype(np.float64)
        if not np.isin(value, states).all():
            wrong = value[~np.isin(value, states)].flat[0]
            listed = ", ".join(f"{x:g}" for x in np.unique(states))
            raise ValueError(
                f"The node {site.name!r} is a {site.family_type.__name__}, whose statistic has the "
                f"values {listed}: it cannot have been seen as {wrong:g}."
            )


def check_parts(
    net: Network, values: Leaf, args: Sequence[Tree], kwargs: Mapping[str, Tree]
) -> None:
    """Raises for a known position of nodes that touch whose value is known, and not one-hot."""
    if isinstance(values, Mapping) and any(isinstance(v, PartlyKnown) for v in values.values()):
        _check_parts(trace(net, args, kwargs), values)


def _check_parts(program: Program, values: Mapping[str, Any]) -> None:
    for name, value in values.items():
        site = program.by_name.get(name)
        touching = site is not None and issubclass(site.family_type, OneHotPositions)
        if touching and isinstance(value, PartlyKnown):
            value.check(name)


def impossible(names: Mapping[str, Any]) -> ValueError:
    """The error for evidence of probability 0."""
    return ValueError(
        f"The evidence about {', '.join(map(repr, names)) or 'no node'} has probability 0 under "
        "the network, so that nothing follows from it."
    )

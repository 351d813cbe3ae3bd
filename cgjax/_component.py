"""Fused components: functions with nodes inside that some procedures compute by a kernel.

A component is a primitive that carries its reference, an ordinary network, and for each procedure
that has one a faster implementation. Procedures without an implementation walk the reference.
"""

import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array

from cgjax._static import Function, Leaf, Tree, Treedef
from cgjax.nodes import Belief

# The implementations of a component, by the procedure that they serve.
Table = tuple[tuple[str, Function], ...]

component_p = Primitive("cgjax_component")
component_p.multiple_results = True

# A context of JAX, not of Python: jitted functions and their derivatives are cached for each value.
_tracing_a_network = jax.make_user_context(default_value=False)


def tracing_a_network() -> AbstractContextManager[object]:
    """Says that what is traced now will be walked, so that derivatives must show their nodes."""
    return _tracing_a_network(True)


def is_tracing_a_network() -> bool:
    """Whether what is traced now will be walked, so that nodes may be sampled."""
    return bool(_tracing_a_network.value)


def component(
    reference: Function,
    *,
    feed_forward: Function | None = None,
    forward_sample: Function | None = None,
    pcff: Function | None = None,
    moments: Function | None = None,
) -> Function:
    """Declares a part of a network that has faster implementations under some procedures.

    The reference defines what the part is: plain JAX with ordinary nodes. A procedure that has an
    implementation here calls it in place of walking the reference, unless the values of its nodes
    are asked for (`with_nodes`) or another estimator than "pathwise". All others walk it. Where no
    node inside is sampled or clamped, the part is evaluated as a whole.

    An implementation draws its own random numbers: with the same key it gives other samples, of the
    same distribution, than the walk of `with_nodes` shows, and `rounds` does not concern it.

    Args:
        reference: `reference(*args)`, arrays to a pytree of arrays, with nodes inside; arrays it
            uses are arguments, not closed over.
        feed_forward: `feed_forward(*args)`, the result with all nodes collapsed; also what plain
            evaluation computes.
        forward_sample: `forward_sample(key, *args)`, the result with all nodes sampled.
        pcff: `pcff(key, rates, *args)`, with one rate for each node of the reference, in walking
            order, each a float or an array that broadcasts against the node.
        moments: `moments(nodes, *args)`, the result with a `Belief` in place of each uncertain
            array, given arguments of which some are beliefs; `nodes` is "collapsed" or "random", as
            for `cgjax.moments`. First-order moments (`order=1`) walk the reference.

    Returns:
        A function with the reference's arguments, to be called inside a network. Under `jax.vmap`
        inside the network, implementations are mapped with a key of its own for each row, and that
        of `pcff` serves if each rate is one number; with rates for single nodes the reference is
        walked, since their axes include those of the map.

    Raises:
        ValueError: when called, if the reference closes over arrays.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> def reference(x):
        ...     return cg.node(cg.nodes.ReLU(), x, name="hidden")
        >>> fused = cg.component(reference, feed_forward=lambda x: jnp.maximum(x, 0))
        >>> fused(jnp.array([-1.0, 2.0]))
        Array([0., 2.], dtype=float32)
    """
    given = {
        "feed_forward": feed_forward,
        "forward_sample": forward_sample,
        "pcff": pcff,
        "moments": moments,
    }
    implementations = tuple((name, f) for name, f in given.items() if f is not None)

    @functools.wraps(reference)
    def call(*args: Tree) -> Tree:
        flat, in_tree = jax.tree.flatten(args)
        flat = [jnp.asarray(x) for x in flat]
        jaxpr, shapes = jax.make_jaxpr(
            lambda *flat: reference(*jax.tree.unflatten(in_tree, flat)), return_shape=True
        )(*flat)
        if jaxpr.consts:
            raise ValueError(
                f"The component {getattr(reference, '__name__', reference)!r} closes over "
                f"{len(jaxpr.consts)} arrays; pass them as arguments."
            )
        out_tree = jax.tree.structure(shapes)
        # Implementations work on flat arrays from here on, as the reference's jaxpr does.
        table = tuple((name, _flat(name, f, in_tree, out_tree)) for name, f in implementations)
        out = component_p.bind(*flat, call_jaxpr=jaxpr, implementations=table, mapped=False)
        return jax.tree.unflatten(out_tree, out)

    return call


def _flat(name: str, f: Function, in_tree: Treedef, out_tree: Treedef) -> Function:
    lead = {"feed_forward": 0, "forward_sample": 1, "pcff": 2, "moments": 1}[name]

    def call(*args: Tree) -> list[Leaf]:
        out = f(*args[:lead], *jax.tree.unflatten(in_tree, args[lead:]))
        leaves, tree = jax.tree.flatten(out, is_leaf=lambda x: isinstance(x, Belief))
        if tree != out_tree:
            raise TypeError(
                f"The component's {name} implementation returned {tree}, its reference {out_tree}."
            )
        return leaves

    return call


def plain(call_jaxpr: ClosedJaxpr, implementations: Table) -> Callable[..., list[Leaf]]:
    """What a component computes where no procedure looks at it."""
    return dict(implementations).get("feed_forward") or jaxpr_as_fun(call_jaxpr)


def _evaluate(
    *args: Tree, call_jaxpr: ClosedJaxpr, implementations: Table, mapped: bool
) -> list[Leaf]:
    return plain(call_jaxpr, implementations)(*args)


def _abstract(
    *args: Tree, call_jaxpr: ClosedJaxpr, implementations: Table, mapped: bool
) -> Sequence[object]:
    return call_jaxpr.out_avals


def _jvp(
    primals: Sequence[Leaf],
    tangents: Sequence[Leaf],
    *,
    call_jaxpr: ClosedJaxpr,
    implementations: Table,
    mapped: bool,
) -> tuple[list[Leaf], list[Leaf]]:
    inside = is_tracing_a_network()
    function = jaxpr_as_fun(call_jaxpr) if inside else plain(call_jaxpr, implementations)
    tangents = [ad.instantiate_zeros(t) for t in tangents]
    return jax.jvp(lambda *a: list(function(*a)), tuple(primals), tuple(tangents))


def _batch(
    args: Sequence[Array],
    dims: Sequence[int | None],
    *,
    call_jaxpr: ClosedJaxpr,
    implementations: Table,
    mapped: bool,
) -> tuple[list[Array], list[int]]:
    size = next(x.shape[d] for x, d in zip(args, dims, strict=True) if d is not None)
    function = jax.vmap(jaxpr_as_fun(call_jaxpr), dims, axis_size=size)
    batched = jax.make_jaxpr(function)(*args)

    def over_rows(name: str, f: Function) -> Function:
        if name == "feed_forward":
            return jax.vmap(f, dims, axis_size=size)
        if name == "moments":
            return lambda nodes, *rest: jax.vmap(functools.partial(f, nodes), dims, axis_size=size)(
                *rest
            )
        unmapped = (None,) * (1 if name == "pcff" else 0)

        def call(key: Array, *rest: Tree) -> Tree:
            keys = jax.random.split(key, size)
            return jax.vmap(f, (0, *unmapped, *dims), axis_size=size)(keys, *rest)

        return call

    table = tuple((name, over_rows(name, f)) for name, f in implementations)
    out = component_p.bind(*args, call_jaxpr=batched, implementations=table, mapped=True)
    return out, [0] * len(out)


component_p.def_impl(_evaluate)
component_p.def_abstract_eval(_abstract)
mlir.register_lowering(component_p, mlir.lower_fun(_evaluate, multiple_results=True))
ad.primitive_jvps[component_p] = _jvp
batching.primitive_batchers[component_p] = _batch

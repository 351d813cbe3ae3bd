"""Marks values of a JAX function as random variables: `node`, `noise`, `observe` and `scope`.

A mark is a tag. `node_p` returns its first operand, the activation, and carries beside it the
natural parameter and the node family, which only cgjax's procedures look at. Everything else (jit,
grad, vmap, scan, the compiler) sees the activation alone, so a marked network computes bit for bit
what the unmarked one computes.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, ArrayLike, Float

from cgjax import _static
from cgjax._static import Leaf
from cgjax.nodes import Family, SoftClamp

T = TypeVar("T")

# Scopes are recorded as JAX name scopes with this prefix, because those are kept relative to every
# nested function: a jitted function used in two scopes is traced once and still named twice.
SCOPE_PREFIX = "cgjax:"

node_p = Primitive("cgjax_node")


def _activation(activation: T, e: Leaf, *rest: Leaf, **params: object) -> T:
    return activation


def _jvp(
    primals: Sequence[Leaf], tangents: Sequence[Leaf], *, differentiated: bool, **params: object
) -> tuple[Array, Leaf]:
    # The mark is kept, but remembers that a tangent of the activation flows beside it: replacing
    # the activation by a sample would leave that tangent wrong, so procedures refuse.
    return node_p.bind(*primals, differentiated=True, **params), tangents[0]


def _batch(
    operands: Sequence[Array],
    dims: Sequence[int | None],
    *,
    family: _static.Structure,
    **params: object,
) -> tuple[Array, int]:
    mapped = [(x, d) for x, d in zip(operands, dims, strict=True) if d is not None]
    size = mapped[0][0].shape[mapped[0][1]]

    def in_front(x: Array, d: int | None) -> Array:
        if d is None:
            return jnp.broadcast_to(x, (size, *jnp.shape(x)))
        return jnp.moveaxis(x, d, 0)

    activation, e = (in_front(x, d) for x, d in zip(operands[:2], dims[:2], strict=True))

    def parameter(x: Array, d: int | None, extra: int) -> Array:
        # Parameters broadcast against e from the right, so a mapped one needs the axes between.
        if d is None:
            return x
        x = jnp.moveaxis(x, d, 0)
        return x.reshape(size, *(1,) * (e.ndim + extra - x.ndim), *x.shape[1:])

    end = 2 + family.num_arrays
    each = zip(operands[2:end], dims[2:end], extra_axes(family), strict=True)
    rest = [parameter(x, d, extra) for x, d, extra in each]
    out = node_p.bind(activation, e, *rest, *operands[end:], family=family, **params)
    return out, 0


def node_rank(family: Family, shape: tuple[int, ...]) -> int:
    """How many of the last axes of a natural parameter belong to a single node.

    An axis of size 1 in front of these counts as one of them, which makes no difference.
    """
    own = [n == 1 for n in family.mask_shape(shape)]
    return len(shape) if all(own) else own[::-1].index(False)


def extra_axes(family: _static.Structure) -> list[int]:
    """For each array of a family, how many axes more than e that of a single node has."""
    made, (names, _) = family.treedef.node_data()
    parts = zip(names, family.treedef.children(), strict=True)
    leaves = [made.extra_axes.get(name, 0) for name, part in parts for _ in range(part.num_leaves)]
    found = zip(leaves, family.leaves, strict=True)
    return [extra for extra, leaf in found if _static.is_hole(leaf)]


node_p.def_impl(_activation)
node_p.def_abstract_eval(_activation)
mlir.register_lowering(node_p, lambda ctx, activation, *rest, **params: [activation])
ad.primitive_jvps[node_p] = _jvp
batching.primitive_batchers[node_p] = _batch


def bind(
    family: Family,
    e: Array,
    activation: Array,
    *,
    kind: str,
    name: str | None,
    scopes_in_name: int = 0,
    lifted: bool = False,
    differentiated: bool = False,
    like: Array | None = None,
) -> Array:
    """Binds the mark.

    `scopes_in_name` of the innermost scopes are part of the name already, and the others go before
    it; names of `lifted` nodes have all of JAX's scopes; `like` adds its mapped axes.
    """
    structure, arrays = _static.split(family)
    extra = () if like is None else (like,)
    return node_p.bind(
        activation,
        e,
        *arrays,
        *extra,
        family=structure,
        kind=kind,
        name=name,
        scopes_in_name=scopes_in_name,
        lifted=lifted,
        differentiated=differentiated,
    )


def check_name(what: str, name: object) -> None:
    """Raises unless something can be the name of a node or a scope.

    Raises:
        TypeError: it is no string.
        ValueError: it is empty, or holds a character that patterns and full names are made with.
    """
    if not isinstance(name, str):
        raise TypeError(f"A {what}'s name is a string, got {_static.described(name)}.")
    if not name or any(c in name for c in "/#*?["):
        raise ValueError(
            f"A {what}'s name must be non-empty and free of the characters / # * ? [, got {name!r}."
            + (" Use `cgjax.scope` to group names." if what == "node" else "")
        )


def _marked(
    family: Leaf, e: ArrayLike, kind: str, name: str | None, like: Array | None = None
) -> Array:
    if not isinstance(family, Family):
        hint = ""
        if isinstance(family, type) and issubclass(family, Family):
            hint = f" Did you mean `{family.__name__}()`?"
        raise TypeError(
            f"The first argument must be a node family such as `cgjax.nodes.ReLU()`, "
            f"got {family!r}.{hint}"
        )
    if kind not in family.kinds:
        right = " or ".join(f"`cgjax.{k}`" for k in sorted(family.kinds))
        raise TypeError(
            f"{type(family).__name__} is a family for {right}, got it in `cgjax.{kind}`. `noise` "
            "marks auxiliary variables, such as `cgjax.nodes.BernoulliMask()`; `node` those that "
            "the network is made of, such as `cgjax.nodes.Spin()`."
        )
    if name is not None:
        check_name("node", name)
    e = jnp.asarray(e)
    if not jnp.issubdtype(e.dtype, jnp.floating):
        raise TypeError(
            f"The natural parameter of a node must be a floating-point array, got {e.dtype} of "
            f"shape {e.shape}. Convert it first, e.g. with `.astype(jnp.float32)`."
        )
    family.check(e.shape)
    activation = family.activation(e)
    return bind(family, e, activation, kind=kind, name=name, like=like)


def node(family: Family, e: Float[Array, "*shape"], *, name: str | None = None) -> Array:
    """Marks an array of random variables and returns its activation.

    Each element (each slice along the class axis for `Categorical`) is one random variable X with
    distribution `P(X | parents) = f(X, e)`, where `e` is its natural parameter, an affine function
    of the parents' statistics. Outside cgjax's procedures this *is* `family.activation(e)`: the
    same values, gradients and compiled code.

    Args:
        family: the node family, for example `cgjax.nodes.ReLU()`.
        e: the natural parameter, floating point, features last after any number of batch axes.
        name: the node's name within its scopes; unnamed nodes are called `family_k`.

    Returns:
        The activation, of e's shape and dtype.

    Raises:
        TypeError: if `family` is no node family, or one of noise; if `e` is not floating point; if
            the name is no string.
        ValueError: if the family does not fit e's shape, or the name holds one of `/ # * ? [`.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> cg.node(cg.nodes.ReLU(), jnp.array([-1.0, 2.0]), name="hidden")
        Array([0., 2.], dtype=float32)

    Source: [A] Eq. 7-9.
    """
    return _marked(family, e, "node", name)


def noise(
    family: Family,
    e: Float[Array, "*shape"],
    *,
    name: str | None = None,
    like: Array | None = None,
) -> Array:
    """Marks an auxiliary random variable: one that training samples and prediction marginalises.

    Feed-forward replaces it by its mean; `forward_sample` samples it, and so does `pcff` at any
    rate, zero included. Dropout is such a variable ([A] Eq. 12-13).

    Args:
        family: the family, for example `cgjax.nodes.BernoulliMask()`.
        e: its parameter (for masks the keep probability), floating point, of the noise's shape.
        name: the node's name within its scopes.
        like: an array whose mapped axes the noise gets too. Under `jax.vmap` inside the network, a
            noise whose `e` does not depend on the mapped axis is shared by all rows, as a draw of
            `jax.random` would be; with `like=x` every row of x has its own.

    Returns:
        The noise's mean, of e's shape and dtype.

    Raises:
        TypeError, ValueError: as `node`.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> def drop(x):
        ...     keep = jnp.full(x.shape, 0.5)
        ...     return x * cg.noise(cg.nodes.BernoulliMask(), keep, name="drop") / keep
        >>> drop(jnp.ones(4))
        Array([1., 1., 1., 1.], dtype=float32)
        >>> cg.forward_sample(drop)(jax.random.key(0), jnp.ones(4)).shape
        (4,)

    Source: [A] section 4.3.1.
    """
    return _marked(family, e, "noise", name, like)


def observe(
    x: Float[Array, "*shape"],
    low: float = 0.0,
    high: float = 1.0,
    *,
    name: str | None = None,
) -> Array:
    """Soft clamping: reads an input in [low, high] as the expected value of binary nodes.

    Returns x unchanged. The nodes take the values `low` and `high`, with the probabilities that
    make x their mean. They are sampled only by a procedure that names them, as
    `pcff(net, {"pixels": 1.0})` does with a node called "pixels".

    Args:
        x: the input, of any shape.
        low: the lower of the two values.
        high: the higher of the two values.
        name: the node's name within its scopes.

    Returns:
        x, unchanged.

    Raises:
        ValueError: if x is known and leaves [low, high], or if `low < high` does not hold.
        TypeError: if x is not floating point.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> cg.observe(jnp.array([0.0, 0.25]), name="pixels")
        Array([0.  , 0.25], dtype=float32)

    Source: [A] section 2.3.
    """
    family = SoftClamp(low, high)
    x = jnp.asarray(x)
    if not _static.is_traced(x) and x.size:
        smallest, largest = float(x.min()), float(x.max())
        if not (low <= smallest and largest <= high):
            raise ValueError(
                f"observe needs values in [{low}, {high}], got values in [{smallest}, {largest}]. "
                "Rescale the input, or pass the range it really has as `low` and `high`."
            )
    return _marked(family, x, "observe", name)


@contextmanager
def scope(name: str) -> Iterator[None]:
    """Puts a prefix before the names of all nodes marked inside: `block/hidden`.

    Args:
        name: the prefix, without a slash; scopes nest.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> def net(x):
        ...     with cg.scope("block"):
        ...         return 2 * cg.node(cg.nodes.Spin(), x, name="hidden")
        >>> cg.with_nodes(cg.feed_forward(net))(jnp.zeros(2))[1]
        {'block/hidden': Array([0., 0.], dtype=float32)}
    """
    check_name("scope", name)
    with jax.named_scope(SCOPE_PREFIX + name):
        yield

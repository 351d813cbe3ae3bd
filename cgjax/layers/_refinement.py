"""Residual blocks as refinement modules ([A] section 4.1)."""

from collections.abc import Callable, Sequence
from typing import Literal

import jax
import jax.numpy as jnp
from flax import nnx
from jax.core import eval_jaxpr
from jaxtyping import Array, ArrayLike, Float

from cgjax._component import component, is_tracing_a_network
from cgjax._functional import functional
from cgjax._node import scope
from cgjax._static import Tree
from cgjax.layers._node import Node
from cgjax.nodes import Family, ReLU

_SAMPLES = ("independent", "shared")


class Refinement(nnx.Module):
    """A base submodule from X_i to X_o, refined through a side chain: a residual block.

        copy:   X~_o ~ f(e~),   e~ = base(x_i)
        refine: e = base(x_i) + refine(T(x~_o)),   X_o ~ f(e)

    The side chain begins with a copy of the base submodule and ends with the refining submodule.
    Feed-forward it computes `base(x) + refine(activation(base(x)))`: a pre-activation residual
    block. The base may itself be a refinement, which gives a sequence of them.

    What comes back is the natural parameter of X_o, so that the module that follows says what X_o
    is: `cg.node(family, refinement(x))`, or the next refinement. It has to be of X~_o's family; of
    these two only a refinement that is the base, or ends it, can be checked.

    The copy has the base's weights, but its nodes are random variables of their own. Where nodes
    are sampled, those of a base with nodes are therefore drawn twice, independently, and the number
    of nodes doubles with each level of recursion: so says the construction. Feed-forward and
    training without sampling evaluate the base once, `pcff` that samples no node of it likewise.
    With `samples="shared"` the copy's natural parameter is the base's in every procedure: one set
    of nodes, and a cost linear in the depth of recursion, as in usual code of residual networks.

    Args:
        base: from the statistics of X_i to a natural parameter: an affine map, a chain of
            components that ends with one, or a `Refinement`.
        refine: from the statistics of X~_o to a natural parameter of the same shape: an affine
            map, or a chain of any structure (bottleneck, grouped) that ends with one.
        node: the family of X~_o and of X_o; or a module from the natural parameter to the
            statistic, such as `Node(family, normalise)`.
        copy: the copy of the base submodule, if it is to have weights of its own.
        samples: "independent" or "shared"; without effect on a copy with weights of its own.
        name: the name of X~_o, in the scope "copy".

    Raises:
        ValueError: for another value of `samples`; if base is or ends with a refinement with nodes
            of another family; when called, if the refining submodule or the copy returns another
            shape or dtype than the base.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> from flax import nnx
        >>> rngs = nnx.Rngs(0)
        >>> block = cg.layers.Refinement(nnx.Linear(2, 3, rngs=rngs), nnx.Linear(3, 3, rngs=rngs))
        >>> block(jnp.ones((5, 2))).shape
        (5, 3)
        >>> cg.pcff(block, 1.0)(jax.random.key(0), jnp.ones((5, 2))).shape
        (5, 3)

    Source: [A] section 4.1, Figure 2.
    """

    def __init__(
        self,
        base: Callable[[Tree], Array],
        refine: Callable[[Tree], Array],
        *,
        node: Family | Callable[[Tree], Array] | None = None,
        copy: Callable[[Tree], Array] | None = None,
        samples: Literal["independent", "shared"] = "independent",
        name: str | None = None,
    ):
        if samples not in _SAMPLES:
            raise ValueError(f"samples is one of {', '.join(_SAMPLES)}, got {samples!r}.")
        node = ReLU() if node is None else node
        self.node = Node(node, name=name) if isinstance(node, Family) else node
        family, inner = _family(self), _family(base)
        if family is not None and inner is not None and family != inner:
            raise ValueError(
                f"A refinement leaves the type of its node unchanged, but the base's is {inner} "
                f"and this one's {family}. Pass `node={inner}`."
            )
        self.base = base
        self.refine = refine
        self.copy = copy
        self.samples = samples

    def __call__(self, x: Tree) -> Float[Array, "*batch features"]:
        """The natural parameter of X_o.

        Args:
            x: the statistics of X_i, as the base takes them.

        Returns:
            An array of the shape and dtype that the base returns.

        Raises:
            ValueError: if the refining submodule or the copy returns another shape or dtype.
        """
        direct = jnp.asarray(self.base(x))
        with scope("copy"):
            refined = self.refine(self.node(self._copied(x, direct)))
        _check_same("refining submodule", refined, direct)
        return direct + refined

    def _copied(self, x: Tree, direct: Array) -> Array:
        if self.copy is not None:
            copied = self.copy(x)
            _check_same("copy", copied, direct)
            return copied
        if self.samples == "shared" or not is_tracing_a_network():
            return direct
        if not isinstance(self.base, nnx.Module):
            return jnp.asarray(self.base(x))
        # What is not sampled is the same in both, and computed once: else every level of recursion
        # would double it. What the copy changes of running statistics is dropped.
        f, params, state = functional(self.base)
        # Traced once, wherever it is called from: `jit` caches, and leaves a call. The arrays that
        # functions inside close over become arguments.
        args = params, state, x
        program = jax.make_jaxpr(lambda *args: jnp.asarray(jax.jit(f)(*args)[0]))(*args)

        def evaluate(direct: Array, arrays: Sequence[Array], *args: Tree) -> Array:
            return eval_jaxpr(program.jaxpr, arrays, *jax.tree.leaves(args))[0]

        again = component(
            evaluate,
            feed_forward=lambda direct, *_: direct,
            moments=lambda nodes, direct, *_: direct,
        )
        return again(direct, program.consts, *args)


def _family(module: object) -> Family | None:
    """The family of a refinement's nodes, where it is known; that of the last module of a chain."""
    if isinstance(module, nnx.Sequential) and len(module.layers):
        return _family(module.layers[-1])
    return getattr(module.node, "family", None) if isinstance(module, Refinement) else None


def _check_same(what: str, got: ArrayLike, expected: Array) -> None:
    got = jnp.asarray(got)
    if (got.shape, got.dtype) != (expected.shape, expected.dtype):
        raise ValueError(
            f"A refinement leaves the type of its node unchanged, but the {what} returned "
            f"{got.dtype}{list(got.shape)} and the base {expected.dtype}{list(expected.shape)}."
        )

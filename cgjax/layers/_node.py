"""A node as a module, for chains such as `nnx.Sequential`."""

from collections.abc import Callable

import jax
from flax import nnx
from jaxtyping import Array, Float

from cgjax._node import check_name, node
from cgjax.nodes import Family


class Node(nnx.Module):
    """Marks its input, or what a normalisation makes of it, as the natural parameter of nodes.

        X ~ f(normalise(e))

    Batch, layer and group normalisation are reparametrisations of the natural parameter: the node
    family stays what it is.

    Args:
        family: the node family.
        normalise: from arrays of e's shape to arrays of e's shape, `nnx.BatchNorm` for example;
            none: the identity.
        name: the nodes' name.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> from flax import nnx
        >>> rngs = nnx.Rngs(0)
        >>> net = nnx.Sequential(
        ...     nnx.Linear(2, 3, rngs=rngs),
        ...     cg.layers.Node(cg.nodes.ReLU(), nnx.LayerNorm(3, rngs=rngs), name="hidden"),
        ...     nnx.Linear(3, 1, rngs=rngs),
        ... )
        >>> [component.name for component in cg.chain_graph(net)(jnp.ones(2))]
        ['hidden']

    Source: [A] section 3.
    """

    def __init__(
        self,
        family: Family,
        normalise: Callable[[Array], Array] | None = None,
        *,
        name: str | None = None,
    ):
        if name is not None:
            check_name("node", name)
        # Arrays in a family, such as the scale of a Gaussian, are part of the module's state.
        self.family = nnx.data(family) if jax.tree.leaves(family) else family
        self.normalise = normalise
        self.name = name

    def __call__(self, e: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        """The nodes' statistics, of e's shape; see `cgjax.node`."""
        if self.normalise is not None:
            e = self.normalise(e)
        return node(self.family, e, name=self.name)

"""What procedures for weights share: networks of explicit parameters, and results that are beliefs.

    procedure(f)(key, posterior, *args) -> Belief

f is a network whose first argument is its tree of parameters; the posterior is such a tree with a
distribution for some of its leaves. Where f comes from `cgjax.functional`, the new state comes back
too, as it does from f.
"""

import jax
import jax.numpy as jnp
from jaxtyping import ArrayLike

from cgjax._functional import ModuleProcedure
from cgjax._modules import holds_parameters
from cgjax._procedure import Network, check_network
from cgjax._static import Leaf, Tree
from cgjax.nodes import Belief


def explicit(f: Leaf) -> Network:
    """A network of explicit parameters, which have the distributions."""
    if isinstance(f, type) or not callable(f):
        check_network(f, "a procedure for weights")
    if isinstance(f, ModuleProcedure) or holds_parameters(f):
        raise TypeError(
            f"{type(f).__name__} holds its parameters, which a posterior replaces here. Split it: "
            "`f, params, state = cgjax.functional(module)`, and `procedure(f)(key, posterior, "
            "state, *args)`."
        )
    return f


def known(out: Tree) -> Tree:
    """A result with a `Belief` of variance 0 in place of each floating-point array."""

    def one(x: ArrayLike) -> Leaf:
        x = jnp.asarray(x)
        return Belief(x, jnp.zeros_like(x)) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(one, out)


def is_belief(x: object) -> bool:
    return isinstance(x, Belief)

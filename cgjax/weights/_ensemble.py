"""Ensembles: several networks of one architecture, and their mean and variance."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from cgjax._procedure import Network
from cgjax._static import Function, Leaf, Tree
from cgjax.nodes import Belief
from cgjax.weights._explicit import explicit, is_belief


def ensemble(f: Network) -> Function:
    """Mean and variance over the members of an ensemble.

    Args:
        f: a network `f(params, *args)`, or a function of posteriors that returns beliefs, such as
            `lambda posterior, x: deterministic(net)(None, posterior, x)`: a mixture of Gaussians,
            whose variance is the average variance of the members and the variance of their means.

    Returns:
        `procedure(key, members, *args) -> Belief`. `members` is a tree of parameters with a leading
        axis of members, as `jax.vmap` of an initialiser or of a training step makes it; the key is
        not used, and may be None. The state of a function of `cgjax.functional` has that axis too.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> f = lambda params, x: x @ params
        >>> members = jnp.array([[1.0, 0.0], [3.0, 0.0]])
        >>> print(cg.weights.ensemble(f)(None, members, jnp.ones(2)))
        Belief(mean=Array(2., dtype=float32), variance=Array(1., dtype=float32))

    Source: Lakshminarayanan, Pritzel and Blundell 2017.
    """
    return _Ensemble(explicit(f))


@dataclass(frozen=True)
class _Ensemble:
    net: Network

    def __call__(self, key: object, members: Tree, *args: Tree, **kwargs: Tree) -> Tree:
        stateful = getattr(self.net, "returns_state", False)
        axes = (0, *((0,) if stateful else ()))
        axes = (*axes, *(None,) * (1 + len(args) - len(axes)))
        out = jax.vmap(lambda *a: self.net(*a, **kwargs), in_axes=axes)(members, *args)
        out, *state = out if stateful else (out,)

        def one(x: Leaf) -> Leaf:
            if isinstance(x, Belief):  # of each member: the law of total variance
                return Belief(x.mean.mean(0), x.variance.mean(0) + x.mean.var(0))
            if not jnp.issubdtype(x.dtype, jnp.floating):
                return x
            return Belief(x.mean(0), x.var(0))

        out = jax.tree.map(one, out, is_leaf=is_belief)
        return (out, *state) if stateful else out

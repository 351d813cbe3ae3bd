"""Propagation of beliefs about weights, without sampling ([B] section 2, Algorithm 1)."""

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar, Literal

import jax

from cgjax._of_beliefs import Moments, OfBeliefs, checked_options
from cgjax._procedure import Arrays, Network, Result, intern, method
from cgjax._program import Program
from cgjax._static import Function, Leaf, Tree
from cgjax.nodes import Belief
from cgjax.weights._explicit import explicit, is_belief


@method
class Deterministic(Moments):
    """Options of `deterministic`."""

    lead: ClassVar[str | None] = "unused"

    jacobian: Literal["exact", "frozen"] = "exact"

    def run(self, program: Program, lead: Tree, arrays: Arrays, capture: bool) -> Result:
        out = super().run(program, lead, arrays, capture)
        if self.jacobian == "exact":
            return out
        # The same numbers again, whose variances depend on variances alone. The compiler sees that
        # they are the same.
        constant = [
            Belief(jax.lax.stop_gradient(x.mean), x.variance)
            if isinstance(x, Belief)
            else jax.lax.stop_gradient(x)
            for x in arrays
        ]
        frozen = super().run(program, lead, constant, capture)
        return jax.tree.map(_mean_and_variance, out, frozen, is_leaf=is_belief)


def _mean_and_variance(first: Leaf, second: Leaf) -> Leaf:
    return Belief(first.mean, second.variance) if isinstance(first, Belief) else first


def check_jacobian(jacobian: str, order: int) -> None:
    """Raises unless the option has a meaning."""
    if jacobian not in ("exact", "frozen"):
        raise ValueError(f'jacobian is "exact" or "frozen", got {jacobian!r}.')
    if jacobian == "frozen" and order != 1:
        raise ValueError(
            'jacobian="frozen" holds the Jacobians of the first-order recursion constant, and '
            "matched moments have none: it needs order=1."
        )


def deterministic(
    f: Network,
    *,
    nodes: Literal["collapsed", "random"] = "collapsed",
    order: Literal[1, 2] = 2,
    positions: bool = True,
    first_order: Iterable[str] = (),
    jacobian: Literal["exact", "frozen"] = "exact",
) -> Function:
    """Means and variances of the outputs by propagation, without sampling: `moments` of f.

    Args:
        f: a network `f(params, *args)`.
        nodes, order, positions, first_order: as for `cgjax.moments`.
        jacobian: what derivatives see. "exact" is the derivative of the result. "frozen" takes the
            Jacobians in the variances of `order=1` as constants, as [B] Eq. 7-8 do: variances then
            have no derivative by means. The values are the same.

    Returns:
        `procedure(key, posterior, *args) -> Belief`. The key is not used, and may be None.

    Raises:
        ValueError: another value of `jacobian`; "frozen" with `order=2`; and as `cgjax.moments`.
        TypeError: as `cgjax.moments`.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> f = lambda params, x: jnp.tanh(x @ params["w"])
        >>> posterior = cg.weights.mean_field({"w": jnp.ones(2)}, 0.25)
        >>> y = cg.weights.deterministic(f)(None, posterior, jnp.ones((1, 2)))
        >>> print(y.mean.round(2), y.variance.round(2))
        [0.92] [0.02]

    Source: [B] section 2, Algorithm 1.
    """
    check_jacobian(jacobian, order)
    options = checked_options(nodes, order, positions, first_order, Deterministic)
    return intern(OfBeliefs(explicit(f), replace(options, jacobian=jacobian)))

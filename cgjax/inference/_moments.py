"""Means and variances through any function, deterministically ([B] section 2)."""

from collections.abc import Callable, Iterable
from typing import Literal, TypeVar

from jax.extend.core import Primitive

from cgjax import _beliefs as beliefs
from cgjax._of_beliefs import OfBeliefs, checked_options
from cgjax._procedure import Network, Procedure, intern
from cgjax._static import Function

RuleT = TypeVar("RuleT", bound=Function)


def moments(
    net: Network,
    *,
    nodes: Literal["collapsed", "random"] = "collapsed",
    order: Literal[1, 2] = 2,
    positions: bool = True,
    first_order: Iterable[str] = (),
) -> Procedure:
    """Mean and variance of a network's results, given beliefs about its arguments.

    Any array among the arguments (an input, a parameter, any leaf of a tree of them) may be a
    `Belief(mean, variance)`, or a `weights.Normal`, of independent Gaussian elements. Every
    operation of the network then computes means and variances in place of values, in one pass and
    without sampling. Each result of a matrix product or sum of independent elements,

        mean = m1 . m2,    variance = m1^2 . v2 + v1 . m2^2 + v1 . v2,

    is taken as Gaussian and independent of the others; element-wise functions of one Gaussian, and
    functions of it and of its sums over an axis, however they are composed, are integrated as one.

    Args:
        net: a function or module of arrays. Functions without nodes are networks too.
        nodes: "collapsed" takes a node for its activation, a function of its natural parameter
            ([B]); "random" adds the noise of the node itself, by the law of total variance ([A]).
        order: 2 matches moments; 1 linearises every operation at the mean, the first-order
            recursion of [B] Algorithm 1.
        positions: whether to follow what the positions of an image, or the steps of a sequence,
            have in common because the same uncertain weights are applied to them (the leading axis
            holds examples, which are independent). Without it, sums over positions have variances
            that are too small. Derivatives take these correlations as constants.
        first_order: names of primitives without a rule that may be linearised, element by element
            of their operands: exact to first order, and slow for large ones.

    Returns:
        `procedure(*args)`, the network's result with a `Belief` in place of each floating-point
        array, of variance 0 where nothing is uncertain. Of a function made by `functional`, the new
        state comes back at its mean. With `with_nodes`, the beliefs of the nodes' statistics.

    Raises:
        ValueError: an option has another value; a variance does not fit its mean.
        TypeError: a belief about integers; when called, a primitive has no rule: the message names
            it, the line that uses it, and the ways out.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> net = lambda w, x: jnp.maximum(x @ w, 0)
        >>> w = cg.Belief(jnp.array([1.0, -1.0]), jnp.array([0.5, 0.5]))
        >>> y = cg.moments(net)(w, jnp.array([1.0, 1.0]))
        >>> print(y.mean.round(4), y.variance.round(4))
        0.3989 0.3408

    Source: [B] section 2, Eq. 3-5, Algorithm 1.
    """
    return intern(OfBeliefs(net, checked_options(nodes, order, positions, first_order)))


def moment_rule(target: Primitive | Function | str) -> Callable[[RuleT], RuleT]:
    """Registers how `moments` computes a primitive or a function.

    Args:
        target: a primitive, or its name; or a function that a trace keeps: one under `jax.jit`, or
            with a custom derivative. A rule for a function is used in place of the rules of the
            operations inside it, wherever that very function is called (of others with its name,
            it is told by where it was written, and by what it computes).

    Returns:
        A decorator for `rule(*operands, **parameters)`. Operands are arrays, or a `Belief` where
        they are uncertain, at least one; parameters are those of the primitive (none for a
        function, whose operands are its flat array arguments). It returns a `Belief`, or an array
        where the result is certain, for each result.

    A rule takes effect at once, in what is compiled already too: JAX then traces everything anew.
    A later rule for the same target replaces an earlier one.

    Raises:
        TypeError: the target is none of these, or leaves no name in a trace; the rule is not
            callable; when called, a function cannot be told from others of its name and place.
        ValueError: JAX has no primitive of that name.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> @jax.jit
        ... def halved_beyond_one(x):
        ...     return jnp.where(jnp.abs(x) > 1, x / 2, x)
        >>> @cg.moment_rule(halved_beyond_one)
        ... def rule(x):
        ...     return cg.Belief(x.mean / 2, x.variance / 4)
        >>> print(cg.moments(halved_beyond_one)(cg.Belief(jnp.array(4.0), jnp.array(1.0))))
        Belief(mean=Array(2., dtype=float32), variance=Array(0.25, dtype=float32))
    """
    beliefs.key_of(target)  # raises here, where the mistake is

    def register(rule: RuleT) -> RuleT:
        beliefs.register(target, rule)
        return rule

    return register

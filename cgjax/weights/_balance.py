"""Gains of layers that keep the size of activations at initialisation, by means and variances.

Data-dependent initialisations draw weights, run a batch, and divide each layer by the deviation
that they see. Here the deviation is what `moments` computes: of drawn weights, or of their law
before any is drawn, on examples, or on a belief about them.
"""

import warnings
from collections.abc import Iterable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from cgjax import _beliefs, _static
from cgjax._gaussian.belief import Belief, Normal, checked
from cgjax._of_beliefs import checked_options, is_belief, means
from cgjax._procedure import Network
from cgjax._program import Meetings, meetings, trace
from cgjax._static import Leaf, Tree
from cgjax.weights._explicit import explicit
from cgjax.weights._posterior import PerParameter, is_uncertain, names, not_positive, per_parameter


def balance(
    f: Network,
    posterior: Tree,
    *args: Tree,
    target: PerParameter = 1.0,
    nodes: Literal["collapsed", "random"] = "collapsed",
    order: Literal[1, 2] = 2,
    positions: bool = True,
    first_order: Iterable[str] = (),
) -> Tree:
    """Scales each layer so that its products have a given variance: initialisation by moments.

    A layer is a parameter (a leaf of the tree) that meets data in a product: a matrix product or a
    convolution, however it is written, with the constants that it is multiplied by. Its gain
    multiplies the parameter, mean and deviation:

        g_l = sqrt(target / V_l),    V_l = Var[product of layer l],

    V_l the variance of an element picked at random, over elements, examples and the posterior, by
    the law of total variance

        V_l = average(variance_l) + average(mean_l^2) - average(mean_l)^2

    of the beliefs that `moments` has about the product, with the gains of the layers before it. So
    they are set in the network's order, each once: V_l is proportional to g_l^2 as long as the
    layer's input does not depend on it.

    - For a posterior that is the weights' law before they are drawn, means 0 and variances v, the
      gains follow from the architecture alone: of ReLU layers they give He's variances 2/n.
    - For drawn weights of small variance they are what sampling gives (LSUV), with the part of the
      posterior's own variance counted, too.
    - An argument may be a belief: `Belief(mean, variance)` of the data, one row, in place of a
      batch.

    Biases, and scales that multiply element by element, stay as they are. So do parameters that
    meet data inside a loop or a branch only, and those that meet it through a function that is not
    linear in them, such as a standardised kernel.

    Args:
        f: a network `f(params, *args)`, or the function of `cgjax.functional`.
        posterior: its parameters, with distributions for some leaves, or for none.
        args: its other arguments; the leading axis holds examples.
        target: the variance of each layer's products: one number for all, or numbers by patterns of
            names, as for `mean_field`; layers that no pattern matches stay as they are.
        nodes, order, positions, first_order: as for `cgjax.moments`.

    Returns:
        The posterior with scaled leaves, of its structure and dtypes. It costs a pass of moments
        for each layer, in a loop that is compiled once.

    Warns:
        UserWarning: a parameter meets data in products inside a loop or a branch alone.

    Raises:
        ValueError: a target is not positive, or its pattern matches no parameter or none that meets
            data in a product; a layer's variance is 0 or not finite; an option has another value.
        TypeError: as `cgjax.moments`.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> f = lambda params, x: jax.nn.relu(x @ params["first"]) @ params["second"]
        >>> law = {"first": cg.Belief(jnp.zeros((8, 16)), jnp.ones((8, 16))),
        ...        "second": cg.Belief(jnp.zeros((16, 4)), jnp.ones((16, 4)))}
        >>> law = cg.weights.balance(f, law, cg.Belief(jnp.zeros((1, 8)), jnp.ones((1, 8))))
        >>> print(law["first"].variance[0, 0], law["second"].variance[0, 0])  # 1/8, 2/16
        0.125 0.125

    Source: the criterion of Mishkin and Matas, "All you need is a good init", 2016 (arXiv
    1511.06422), computed by [B] Algorithm 1 in place of samples.
    """
    layers = _Layers(f, posterior, args, checked_options(nodes, order, positions, first_order))
    targets = layers.targets(target)
    if layers.inside:
        warnings.warn(
            f"weights.balance leaves {', '.join(map(repr, layers.inside))} as they are: they meet "
            "data inside a loop or a branch alone, where a product has no variance of its own. "
            "Write the loop out, or set their sizes before.",
            stacklevel=2,
        )

    def set_one(k: Array, gains: Float[Array, "layers"]) -> Float[Array, "layers"]:
        variance = layers.variances(gains)[k]
        gain = gains[k] * jnp.sqrt(jnp.asarray(targets)[k] / variance)
        wanted = jnp.isfinite(jnp.asarray(targets)[k])
        return gains.at[k].set(jnp.where(wanted, gain, gains[k]))

    number = len(layers.names)
    gains = lax.fori_loop(0, number, set_one, jnp.ones(number))
    layers.check(gains)
    return layers.scaled(gains)


def layer_variances(
    f: Network,
    posterior: Tree,
    *args: Tree,
    nodes: Literal["collapsed", "random"] = "collapsed",
    order: Literal[1, 2] = 2,
    positions: bool = True,
    first_order: Iterable[str] = (),
) -> dict[str, Float[Array, ""]]:
    """The variances of the products of a network's layers, which `balance` sets.

    Args:
        f, posterior, args, nodes, order, positions, first_order: as for `balance`.

    Returns:
        V_l of each layer by the name of its parameter, in the network's order.

    Raises:
        ValueError: no parameter meets data in a product.
        TypeError: as `cgjax.moments`.

    Example:
        >>> import jax.numpy as jnp, cgjax as cg
        >>> f = lambda params, x: jnp.tanh(x @ params["a"]) @ params["b"]
        >>> params = {"a": jnp.eye(2), "b": 3 * jnp.eye(2)}
        >>> variances = cg.weights.layer_variances(f, params, jnp.array([[1.0, -1.0]]))
        >>> {name: round(float(v), 2) for name, v in variances.items()}
        {'a': 1.0, 'b': 5.22}
    """
    layers = _Layers(f, posterior, args, checked_options(nodes, order, positions, first_order))
    variances = layers.variances(jnp.ones(len(layers.names)))
    return dict(zip(layers.names, variances, strict=True))


class _Layers:
    """The layers of a network, and the variances of their products as functions of gains.

    Attributes:
        names: of the layers' parameters, in the network's order.
    """

    def __init__(self, f: Network, posterior: Tree, args: tuple[Tree, ...], options: Leaf):
        f = explicit(f)
        leaves = jax.tree.leaves((posterior, *args), is_leaf=is_belief)
        known = [checked(x) if is_belief(x) else x for x in leaves]
        is_traced = [is_belief(x) or _static.is_array(x) or _static.is_number(x) for x in leaves]
        self.posterior = posterior
        self.parameters = names(posterior)
        # Of each leaf of the posterior, its number among the arrays that the program takes.
        flat = np.cumsum([0, *is_traced])[:-1]
        floating = [
            k
            for k in range(len(self.parameters))
            if is_traced[k] and jnp.issubdtype(_dtype(known[k]), jnp.floating)
        ]
        leaf_of = {int(flat[k]): k for k in floating}
        self.arrays = [x for x, traced in zip(known, is_traced, strict=True) if traced]
        program = trace(f, means((posterior, *args)), {})
        self.met: Meetings = meetings(program, leaf_of.keys())
        self.leaves = [leaf_of[k] for k in self.met.parameters]
        self.names = [self.parameters[k] for k in self.leaves]
        self.options = options
        self.inside = [self.parameters[leaf_of[k]] for k in self.met.inside]
        if not self.leaves:
            raise ValueError(
                "No parameter of the network meets data in a matrix product or a convolution, "
                f"outside loops; its parameters are {', '.join(map(repr, self.parameters))}."
            )

    def targets(self, target: PerParameter) -> list[float]:
        """The target of each layer; infinite where it has none."""
        numbers = per_parameter("target", target, self.posterior)
        chosen = dict(zip(self.parameters, numbers, strict=True))
        for name, number in chosen.items():
            if number is not None and not_positive(number):
                raise ValueError(f"A target is a positive variance, got {number} for {name!r}.")
        found = [chosen[name] for name in self.names]
        if all(number is None for number in found):
            raise ValueError(
                f"No pattern of the target {target} matches a layer; the layers are "
                f"{', '.join(map(repr, self.names))}."
            )
        return [np.inf if number is None else number for number in found]

    def variances(self, gains: Float[Array, "layers"]) -> Float[Array, "layers"]:
        """V_l of each layer, whose parameters are multiplied by these gains."""
        arrays = list(self.arrays)
        for k, gain in zip(self.met.parameters, gains, strict=True):
            arrays[k] = _times(arrays[k], gain)
        o = self.options
        visitor = _beliefs.Beliefs(
            False,
            implementation=None if o.order == 1 else "moments",
            nodes=o.nodes,
            order=o.order,
            positions=o.positions,
            first_order=o.first_order,
        )
        products, _ = _beliefs.propagate(self.met.values, visitor, arrays)
        return jnp.stack([_total(x) for x in products])

    def check(self, gains: Float[Array, "layers"]) -> None:
        """Raises where a gain is known, and no number above 0."""
        if _static.is_traced(gains):
            return
        for name, gain in zip(self.names, np.asarray(gains), strict=True):
            if not 0 < gain < np.inf:
                raise ValueError(
                    f"The products of {name!r} have a variance of 0, or none that is finite, which "
                    "no gain changes: look for a scale of 0 or inputs that are all equal before "
                    "it, or leave this layer out by patterns of `target`."
                )

    def scaled(self, gains: Float[Array, "layers"]) -> Tree:
        """The posterior with gains on the layers' parameters."""
        leaves, structure = jax.tree.flatten(self.posterior, is_leaf=is_uncertain)
        for k, gain in zip(self.leaves, gains, strict=True):
            leaves[k] = _times(leaves[k], gain)
        return jax.tree.unflatten(structure, leaves)


def _dtype(leaf: Leaf) -> Leaf:
    return jnp.result_type(leaf.mean if isinstance(leaf, Belief | Normal) else leaf)


def _times(leaf: Leaf, gain: Float[Array, ""]) -> Leaf:
    """A parameter times a gain, in its own dtype."""
    if isinstance(leaf, Normal):
        log_gain = jnp.log(gain)
        mean = (leaf.mean * gain).astype(leaf.mean.dtype)
        log_variance = leaf.log_variance + 2 * log_gain
        return Normal(mean, log_variance.astype(leaf.log_variance.dtype))
    if isinstance(leaf, Belief):
        mean = (leaf.mean * gain).astype(leaf.mean.dtype)
        return Belief(mean, (leaf.variance * gain**2).astype(leaf.variance.dtype))
    leaf = jnp.asarray(leaf)
    return (leaf * gain).astype(leaf.dtype)


def _total(product: Leaf) -> Float[Array, ""]:
    """The variance of an element picked at random, by the law of total variance."""
    if not isinstance(product, Belief):
        return jnp.var(jnp.asarray(product, jnp.float32))
    mean, variance = (v.astype(jnp.promote_types(v.dtype, jnp.float32)) for v in product)
    return jnp.mean(variance) + jnp.var(mean)

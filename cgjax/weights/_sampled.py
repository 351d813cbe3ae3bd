"""Samples of weights, or of what they do to the data: three procedures of one signature."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from cgjax import _weight_noise
from cgjax._of_beliefs import OfBeliefs
from cgjax._procedure import Arrays, Method, Network, Result, as_key, intern, method, own_key
from cgjax._program import Program
from cgjax._static import Function, Leaf, Tree
from cgjax._walk import Visitor, walk
from cgjax.nodes import Belief
from cgjax.weights import _posterior
from cgjax.weights._explicit import explicit, known


@method
class WeightSample(Method):
    """Options of `weight_sample`: none."""

    lead: ClassVar[str | None] = "key"

    def run(self, program: Program, lead: Tree, arrays: Arrays, capture: bool) -> Result:
        key = own_key(lead)
        drawn = [
            _posterior.draw(jax.random.fold_in(key, i), x) if isinstance(x, Belief) else x
            for i, x in enumerate(arrays)
        ]
        out, records = walk(program, Visitor(capture), drawn)
        return known(out), records


def weight_sample(
    f: Network,
    *,
    per: Literal["batch", "example"] = "batch",
    in_axes: int | None | Sequence[int | None] = 0,
) -> Function:
    """One network drawn from the posterior: Bayes by backprop.

    Args:
        f: a network `f(params, *args)`.
        per: "batch" draws one set of weights for all examples; "example" one for each, which costs
            the memory of as many networks. f then sees batches of one example.
        in_axes: with `per="example"`, the axis of examples of each argument after the posterior,
            as for `jax.vmap`. The state of a function of `cgjax.functional` has none, and what
            comes back of it is averaged.

    Returns:
        `procedure(key, posterior, *args) -> Belief`, of variance 0. Gradients are pathwise.

    Raises:
        ValueError: another value of `per`.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> f = lambda params, x: x @ params["w"]
        >>> posterior = cg.weights.mean_field({"w": jnp.ones(2)}, 0.25)
        >>> sample = cg.weights.weight_sample(f)
        >>> y = sample(jax.random.key(0), posterior, jnp.ones((3, 2)))
        >>> print(jnp.unique(y.mean).size, jnp.abs(y.variance).max())
        1 0.0

    Source: Blundell et al. 2015; [B] section 4.
    """
    if per not in ("batch", "example"):
        raise ValueError(f'per is "batch" or "example", got {per!r}.')
    one = intern(OfBeliefs(explicit(f), WeightSample()))
    if per == "batch":
        return one
    axes = in_axes if in_axes is None or isinstance(in_axes, int) else tuple(in_axes)
    return _PerExample(one, axes)


@dataclass(frozen=True)
class _PerExample:
    """A sampling procedure, called with a key of its own for each example."""

    one: OfBeliefs
    in_axes: int | None | tuple[int | None, ...]

    def __call__(self, key: Leaf, posterior: Tree, *args: Tree) -> Tree:
        stateful = getattr(self.one.net, "returns_state", False)
        if isinstance(self.in_axes, tuple):
            axes = self.in_axes
        else:
            axes = (self.in_axes,) * (len(args) - stateful)
        axes = (None, *axes) if stateful and len(axes) < len(args) else axes
        if len(axes) != len(args):
            raise ValueError(
                f"in_axes has {len(axes)} entries for {len(args)} arguments after the posterior."
            )
        sizes = {
            leaf.shape[axis]
            for arg, axis in zip(args, axes, strict=True)
            if axis is not None
            for leaf in jax.tree.leaves(arg)
        }
        if len(sizes) != 1:
            raise ValueError(
                f"The arguments have {sorted(sizes) or 'no'} examples along their axes {axes}; "
                "one number is needed."
            )

        def example(key: Leaf, *args: Tree) -> Tree:
            alone = [
                arg if axis is None else jax.tree.map(lambda a, k=axis: jnp.expand_dims(a, k), arg)
                for arg, axis in zip(args, axes, strict=True)
            ]
            return self.one(key, posterior, *alone)

        keys = jax.random.split(as_key(key), sizes.pop())
        out = jax.vmap(example, in_axes=(0, *axes))(keys, *args)
        if not stateful:
            return _joined(out)
        return _joined(out[0]), jax.tree.map(_average, out[1])


def _joined(out: Tree) -> Tree:
    """Results of batches of one example, as those of one batch."""
    return jax.tree.map(lambda a: a[:, 0] if a.ndim > 1 and a.shape[1] == 1 else a, out)


def _average(a: Array) -> Array:
    return a.mean(0) if jnp.issubdtype(a.dtype, jnp.floating) else a[0]


@method
class LocalReparameterization(Method):
    """Options of `local_reparameterization`: none."""

    lead: ClassVar[str | None] = "key"

    def run(self, program: Program, lead: Tree, arrays: Arrays, capture: bool) -> Result:
        out, records = _weight_noise.local_noise(program, capture, own_key(lead), arrays)
        return known(out), records


def local_reparameterization(f: Network) -> Function:
    """Samples the results of matrix products and convolutions in place of the weights.

    For weights w ~ N(m, v), each element of x @ w is drawn from N(x @ m, x^2 @ v), with noise that
    differs between examples: the same distribution for each example, and gradients of a smaller
    variance. At the positions of an image or the steps of a sequence, which share a weight, the
    noise is drawn anew: an approximation, as is any weight that is used more than once. Parameters
    of nodes whose elements touch, such as the transitions of a chain, are drawn once for each
    example: all positions of one node share them.

    Args:
        f: a network `f(params, *args)`. No special layers are needed: wherever an uncertain leaf
            meets data in a product, the product is sampled.

    Returns:
        `procedure(key, posterior, *args) -> Belief`, of variance 0.

    Warns:
        UserWarning: a weight is used more than once; or its noise is drawn once for all examples,
            since it meets no data in a product, a sum or a scaling.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> f = lambda params, x: x @ params["w"]
        >>> posterior = cg.weights.mean_field({"w": jnp.ones(2)}, 0.25)
        >>> sample = cg.weights.local_reparameterization(f)
        >>> y = sample(jax.random.key(0), posterior, jnp.ones((3, 2)))
        >>> print(jnp.unique(y.mean).size)
        3

    Source: Kingma, Salimans and Welling 2015; [B] section 4.
    """
    return intern(OfBeliefs(explicit(f), LocalReparameterization()))


@method
class Flipout(Method):
    """Options of `flipout`: none."""

    lead: ClassVar[str | None] = "key"

    def run(self, program: Program, lead: Tree, arrays: Arrays, capture: bool) -> Result:
        out, records = _weight_noise.flipout(program, capture, own_key(lead), arrays)
        return known(out), records


def flipout(f: Network) -> Function:
    """One perturbation of the weights for all examples, with random signs for each.

    With one draw dw of the noise, example n sees the weights w = m + dw * (r_n s_n^T) for random
    signs r_n and s_n along the inputs and outputs, so that x @ w = x @ m + ((x * r) @ dw) * s.
    Examples are then uncorrelated given dw. The leading axis of data holds the examples; signs are
    those of a weight, the same at all steps of a sequence, and for the parameters of nodes whose
    elements touch, such as the transitions of a chain.

    Args:
        f: a network `f(params, *args)`.

    Returns:
        `procedure(key, posterior, *args) -> Belief`, of variance 0.

    Warns:
        UserWarning: the noise of a weight is drawn once for all examples, since it meets no data in
            a product, a sum or a scaling, or a product sums over the examples.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> f = lambda params, x: x @ params["w"]
        >>> posterior = cg.weights.mean_field({"w": jnp.ones((2, 1))}, 0.25)
        >>> y = cg.weights.flipout(f)(jax.random.key(0), posterior, jnp.ones((8, 2)))
        >>> print(y.mean.shape, jnp.unique(y.mean.round(4)).size > 1)
        (8, 1) True

    Source: Wen et al. 2018; [B] section 4.
    """
    return intern(OfBeliefs(explicit(f), Flipout()))

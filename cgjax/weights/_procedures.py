"""Procedures for networks whose weights are random variables: one signature for all.

    procedure(f)(key, posterior, *args) -> Belief

f is a network whose first argument is its tree of parameters; the posterior is such a tree with a
distribution for some of its leaves. Where f comes from `cgjax.functional`, the new state comes back
too, as it does from f.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from flax import nnx

from cgjax import _weight_noise
from cgjax._functional import ModuleProcedure
from cgjax._procedure import Method, Network, as_key, check_network, intern, method, own_key
from cgjax._program import Program
from cgjax._walk import Records, Visitor, walk
from cgjax.inference._moments import Moments, OfBeliefs, checked_options
from cgjax.nodes import Belief
from cgjax.weights import _posterior


@method
class Deterministic(Moments):
    """Options of `deterministic`."""

    lead: ClassVar[str | None] = "unused"

    jacobian: Literal["exact", "frozen"] = "exact"

    def run(self, program: Program, lead: Any, arrays: Any, capture: bool) -> tuple[Any, Records]:
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
        return jax.tree.map(_mean_and_variance, out, frozen, is_leaf=_is_belief)


def _is_belief(x: Any) -> bool:
    return isinstance(x, Belief)


def _mean_and_variance(first: Any, second: Any) -> Any:
    return Belief(first.mean, second.variance) if isinstance(first, Belief) else first


def check_jacobian(jacobian: Any, order: int) -> None:
    """Raises unless the option has a meaning."""
    if jacobian not in ("exact", "frozen"):
        raise ValueError(f'jacobian is "exact" or "frozen", got {jacobian!r}.')
    if jacobian == "frozen" and order != 1:
        raise ValueError(
            'jacobian="frozen" holds the Jacobians of the first-order recursion constant, and '
            "matched moments have none: it needs order=1."
        )


@method
class WeightSample(Method):
    """Options of `weight_sample`: none."""

    lead: ClassVar[str | None] = "key"

    def run(self, program: Program, lead: Any, arrays: Any, capture: bool) -> tuple[Any, Records]:
        key = own_key(lead)
        drawn = [
            _posterior.draw(jax.random.fold_in(key, i), x) if isinstance(x, Belief) else x
            for i, x in enumerate(arrays)
        ]
        out, records = walk(program, Visitor(capture), drawn)
        return known(out), records


@method
class LocalReparameterization(Method):
    """Options of `local_reparameterization`: none."""

    lead: ClassVar[str | None] = "key"

    def run(self, program: Program, lead: Any, arrays: Any, capture: bool) -> tuple[Any, Records]:
        out, records = _weight_noise.local_noise(program, capture, own_key(lead), arrays)
        return known(out), records


@method
class Flipout(Method):
    """Options of `flipout`: none."""

    lead: ClassVar[str | None] = "key"

    def run(self, program: Program, lead: Any, arrays: Any, capture: bool) -> tuple[Any, Records]:
        out, records = _weight_noise.flipout(program, capture, own_key(lead), arrays)
        return known(out), records


def known(out: Any) -> Any:
    """A result with a `Belief` of variance 0 in place of each floating-point array."""

    def one(x: Any) -> Any:
        x = jnp.asarray(x)
        return Belief(x, jnp.zeros_like(x)) if jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(one, out)


def _function(f: Any) -> Any:
    """A network of explicit parameters, which have the distributions."""
    if isinstance(f, type) or not callable(f):
        check_network(f, "a procedure for weights")
    if isinstance(f, nnx.Module | ModuleProcedure):
        raise TypeError(
            f"{type(f).__name__} holds its parameters, which a posterior replaces here. Split it: "
            "`f, params, state = cgjax.functional(module)`, and `procedure(f)(key, posterior, "
            "state, *args)`."
        )
    return f


def deterministic(
    f: Network,
    *,
    nodes: Literal["collapsed", "random"] = "collapsed",
    order: Literal[1, 2] = 2,
    positions: bool = True,
    first_order: Iterable[str] = (),
    jacobian: Literal["exact", "frozen"] = "exact",
) -> Callable[..., Any]:
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
        As `cgjax.moments`.
        ValueError: another value of `jacobian`; "frozen" with `order=2`.

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
    return intern(OfBeliefs(_function(f), replace(options, jacobian=jacobian)))


def weight_sample(
    f: Network,
    *,
    per: Literal["batch", "example"] = "batch",
    in_axes: int | None | Sequence[int | None] = 0,
) -> Callable[..., Any]:
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
    one = intern(OfBeliefs(_function(f), WeightSample()))
    if per == "batch":
        return one
    axes = in_axes if in_axes is None or isinstance(in_axes, int) else tuple(in_axes)
    return _PerExample(one, axes)


@dataclass(frozen=True)
class _PerExample:
    """A sampling procedure, called with a key of its own for each example."""

    one: OfBeliefs
    in_axes: int | None | tuple[int | None, ...]

    def __call__(self, key: Any, posterior: Any, *args: Any) -> Any:
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

        def example(key: Any, *args: Any) -> Any:
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


def _joined(out: Any) -> Any:
    """Results of batches of one example, as those of one batch."""
    return jax.tree.map(lambda a: a[:, 0] if a.ndim > 1 and a.shape[1] == 1 else a, out)


def _average(a: Any) -> Any:
    return a.mean(0) if jnp.issubdtype(a.dtype, jnp.floating) else a[0]


def local_reparameterization(f: Network) -> Callable[..., Any]:
    """Samples the results of matrix products and convolutions in place of the weights.

    For weights w ~ N(m, v), each element of x @ w is drawn from N(x @ m, x^2 @ v), with noise that
    differs between examples: the same distribution for each example, and gradients of a smaller
    variance. At the positions of an image or the steps of a sequence, which share a weight, the
    noise is drawn anew: an approximation, as is any weight that is used more than once.

    Args:
        f: a network `f(params, *args)`. No special layers are needed: wherever an uncertain leaf
            meets data in a product, the product is sampled.

    Returns:
        `procedure(key, posterior, *args) -> Belief`, of variance 0.

    Warns:
        UserWarning: a weight is used more than once.

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
    return intern(OfBeliefs(_function(f), LocalReparameterization()))


def flipout(f: Network) -> Callable[..., Any]:
    """One perturbation of the weights for all examples, with random signs for each.

    With one draw dw of the noise, example n sees the weights w = m + dw * (r_n s_n^T) for random
    signs r_n and s_n along the inputs and outputs, so that x @ w = x @ m + ((x * r) @ dw) * s.
    Examples are then uncorrelated given dw. The leading axis of data holds the examples; signs are
    those of a weight, the same at all steps of a sequence.

    Args:
        f: a network `f(params, *args)`.

    Returns:
        `procedure(key, posterior, *args) -> Belief`, of variance 0.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> f = lambda params, x: x @ params["w"]
        >>> posterior = cg.weights.mean_field({"w": jnp.ones((2, 1))}, 0.25)
        >>> y = cg.weights.flipout(f)(jax.random.key(0), posterior, jnp.ones((8, 2)))
        >>> print(y.mean.shape, jnp.unique(y.mean.round(4)).size > 1)
        (8, 1) True

    Source: Wen et al. 2018; [B] section 4.
    """
    return intern(OfBeliefs(_function(f), Flipout()))


def ensemble(f: Network) -> Callable[..., Any]:
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
    return _Ensemble(_function(f))


@dataclass(frozen=True)
class _Ensemble:
    net: Network

    def __call__(self, key: Any, members: Any, *args: Any, **kwargs: Any) -> Any:
        stateful = getattr(self.net, "returns_state", False)
        axes = (0, *((0,) if stateful else ()))
        axes = (*axes, *(None,) * (1 + len(args) - len(axes)))
        out = jax.vmap(lambda *a: self.net(*a, **kwargs), in_axes=axes)(members, *args)
        out, *state = out if stateful else (out,)

        def one(x: Any) -> Any:
            if isinstance(x, Belief):  # of each member: the law of total variance
                return Belief(x.mean.mean(0), x.variance.mean(0) + x.mean.var(0))
            if not jnp.issubdtype(x.dtype, jnp.floating):
                return x
            return Belief(x.mean(0), x.var(0))

        out = jax.tree.map(one, out, is_leaf=_is_belief)
        return (out, *state) if stateful else out

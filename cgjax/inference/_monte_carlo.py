"""Monte Carlo: averages of a sampling procedure, with their standard errors."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from cgjax._interpret import Program, Records, Visitor, walk
from cgjax.inference._procedure import Method, Procedure, as_key, intern, method, own_key


class Estimate(NamedTuple):
    """A Monte Carlo estimate.

    Attributes:
        mean: the average of the samples, of the result's shape.
        standard_error: the standard error of that average, of the same shape.
    """

    mean: Any
    standard_error: Any


class _Moments(NamedTuple):
    """Running moments of samples: their number, mean, and sum of squared deviations."""

    count: Any
    mean: Any
    deviations: Any


def _merge(a: _Moments, b: _Moments) -> _Moments:
    """Moments of the union of two samples (the pairwise update, which does not cancel)."""
    total = a.count + b.count
    share = b.count / total

    def mean(x: Any, y: Any) -> Any:
        return x + (y - x) * share

    def deviations(x: Any, y: Any, s: Any, t: Any) -> Any:
        return s + t + (y - x) ** 2 * (a.count * share)

    return _Moments(
        total,
        jax.tree.map(mean, a.mean, b.mean),
        jax.tree.map(deviations, a.mean, b.mean, a.deviations, b.deviations),
    )


@method
class MonteCarlo(Method):
    """Options of `monte_carlo`."""

    num_samples: int
    batch_size: int

    def run(self, program: Program, lead: Any, arrays: Any, capture: bool) -> tuple[Any, Records]:
        # The sampler was traced with its key as the first array; it has no nodes any more.
        key, *rest = arrays

        def moments(keys: Any) -> _Moments:
            out = jax.vmap(lambda k: walk(program, Visitor(), [k, *rest])[0])(keys)
            out = jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), out)
            mean = jax.tree.map(lambda x: x.mean(0), out)
            deviations = jax.tree.map(lambda x, m: ((x - m[None]) ** 2).sum(0), out, mean)
            return _Moments(jnp.float32(keys.shape[0]), mean, deviations)

        size = min(self.batch_size, self.num_samples)
        keys = jax.random.split(own_key(key), self.num_samples)
        batches, left = divmod(self.num_samples, size)
        total = moments(keys[:size])
        if batches > 1:
            later = keys[size : batches * size].reshape(batches - 1, size)
            total = lax.scan(lambda t, k: (_merge(t, moments(k)), None), total, later)[0]
        if left:
            total = _merge(total, moments(keys[batches * size :]))
        # A float: the product outgrows 32-bit integers.
        pairs = float(self.num_samples * (self.num_samples - 1))
        error = jax.tree.map(lambda d: jnp.sqrt(d / pairs), total.deviations)
        return Estimate(total.mean, error), {}


@dataclass(frozen=True, eq=False)
class _MonteCarloProcedure(Procedure):
    """Its network is the sampler, traced together with the key."""

    def with_nodes(self) -> Any:
        from cgjax.inference._procedure import with_nodes

        averaged = intern(replace(self, net=with_nodes(self.net)))

        def procedure(key: Any, *args: Any, **kwargs: Any) -> Any:
            (out, nodes), (out_error, nodes_error) = averaged(key, *args, **kwargs)
            estimates = {name: Estimate(nodes[name], nodes_error[name]) for name in nodes}
            return Estimate(out, out_error), estimates

        return procedure

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if args:
            args = (as_key(args[0]), *args[1:])
        return super().__call__(*args, **kwargs)


def monte_carlo(
    sampler: Callable[..., Any], num_samples: int, *, batch_size: int = 64
) -> _MonteCarloProcedure:
    """Averages a sampling procedure over independent keys.

    With `forward_sample` the mean is an unbiased estimate of the exact expectation of the network's
    output; with dropout or `pcff` it is the test-time average of that procedure.

        mean = 1/S sum_s out_s,    standard_error = sqrt(sum_s (out_s - mean)^2 / (S (S - 1)))

    Args:
        sampler: a function `sampler(key, *args)`, for example `forward_sample(net)`; its results
            are arrays or pytrees of them.
        num_samples: the number S of samples, at least 2.
        batch_size: how many samples are computed at a time; more need more memory.

    Returns:
        `procedure(key, *args) -> Estimate(mean, standard_error)`, in at least float32. Under
        `with_nodes` every node's statistic is averaged likewise.

    Raises:
        ValueError: for fewer than 2 samples, or a batch size below 1.
        TypeError: if the first argument is no key.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> net = lambda e: cg.node(cg.nodes.Bernoulli(), e)
        >>> average = cg.monte_carlo(cg.forward_sample(net), num_samples=1000)
        >>> estimate = average(jax.random.key(0), jnp.zeros(()))
        >>> bool(abs(estimate.mean - 0.5) < 5 * estimate.standard_error)
        True

    Source: [A] section 5.
    """
    if not callable(sampler):
        raise TypeError(
            "monte_carlo takes a sampling procedure, such as `cgjax.forward_sample(net)`, got "
            f"{sampler!r}."
        )
    if num_samples < 2:
        raise ValueError(f"A standard error needs at least 2 samples, got {num_samples}.")
    if batch_size < 1:
        raise ValueError(f"batch_size is at least 1, got {batch_size}.")
    return intern(_MonteCarloProcedure(sampler, MonteCarlo(num_samples, batch_size)))

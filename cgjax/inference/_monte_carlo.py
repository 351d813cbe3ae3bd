"""Monte Carlo: averages of a sampling procedure, with their standard errors."""

import inspect
import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, NoReturn

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from cgjax import _static
from cgjax._gaussian.numerics import root
from cgjax._procedure import (
    Arrays,
    Method,
    Network,
    Procedure,
    Result,
    check_capture,
    intern,
    method,
    named,
    own_key,
    split_lead,
)
from cgjax._program import Program
from cgjax._static import Function, Leaf, Tree
from cgjax._walk import Visitor, walk


class Estimate(NamedTuple):
    """A Monte Carlo estimate.

    Attributes:
        mean: the average of the samples, of the result's shape.
        standard_error: the standard error of that average, of the same shape; of complex samples
            a real number, from |out_s - mean|^2.
    """

    mean: Tree
    standard_error: Tree


class _Moments(NamedTuple):
    """Running moments of samples: their number, mean, and sum of squared deviations."""

    number: Array
    mean: Tree
    deviations: Tree


def _merge(a: _Moments, b: _Moments) -> _Moments:
    """Moments of the union of two samples (the pairwise update, which does not cancel)."""
    total = a.number + b.number
    share = b.number / total

    def mean(x: Array, y: Array) -> Array:
        return x + (y - x) * share.astype(x.dtype)

    def deviations(x: Array, y: Array, s: Array, t: Array) -> Array:
        return s + t + _square(y - x) * (a.number * share).astype(s.dtype)

    return _Moments(
        total,
        jax.tree.map(mean, a.mean, b.mean),
        jax.tree.map(deviations, a.mean, b.mean, a.deviations, b.deviations),
    )


def _square(z: Array) -> Array:
    """|z|^2, a real number for complex z too."""
    return z.real**2 + z.imag**2 if jnp.iscomplexobj(z) else z**2


def _average(
    sample: Callable[[Array], Tree], key: Array, num_samples: int, batch_size: int
) -> Estimate:
    def moments(keys: Array) -> _Moments:
        out = jax.vmap(sample)(keys)
        out = jax.tree.map(lambda x: x.astype(jnp.promote_types(x.dtype, jnp.float32)), out)
        mean = jax.tree.map(lambda x: x.mean(0), out)
        deviations = jax.tree.map(lambda x, m: _square(x - m[None]).sum(0), out, mean)
        # In the widest dtype there is, so that the shares are exact enough for every result.
        return _Moments(jnp.asarray(float(keys.shape[0])), mean, deviations)

    size = min(batch_size, num_samples)
    keys = jax.random.split(own_key(key), num_samples)
    batches, left = divmod(num_samples, size)
    total = moments(keys[:size])
    if batches > 1:
        later = keys[size : batches * size].reshape(batches - 1, size)
        total = lax.scan(lambda t, k: (_merge(t, moments(k)), None), total, later)[0]
    if left:
        total = _merge(total, moments(keys[batches * size :]))
    # A float: the product outgrows 32-bit integers.
    pairs = float(num_samples * (num_samples - 1))
    error = jax.tree.map(lambda d: root(d / pairs), total.deviations)
    return Estimate(total.mean, error)


@method
class MonteCarlo(Method):
    """Options of `monte_carlo` for a procedure: what it does to the network, and how often.

    `captures` says whether each sample comes with the statistics of the nodes.
    """

    sampler: Method
    captures: bool
    num_samples: int
    batch_size: int
    lead = "key"

    def check(self, net: Network, program: Program) -> None:
        self.sampler.check(net, program)

    def run(self, program: Program, lead: Tree, arrays: Arrays, capture: bool) -> Result:
        if self.captures:
            check_capture(program)

        def sample(key: Array) -> Tree:
            out, records = self.sampler.run(program, key, arrays, self.captures)
            return (out, named(program, records)) if self.captures else out

        return _average(sample, lead, self.num_samples, self.batch_size), {}


@method
class MonteCarloOfFunction(Method):
    """Options of `monte_carlo` for a function that samples; its key is its first argument."""

    num_samples: int
    batch_size: int

    @classmethod
    def procedure(cls) -> str:
        return "monte_carlo"

    def check(self, net: Network, program: Program) -> None:
        if program.sites:
            names = ", ".join(repr(site.name) for site in program.sites)
            raise TypeError(
                f"monte_carlo was given a network, whose nodes ({names}) nothing samples. Average "
                "a procedure on it: `monte_carlo(cgjax.forward_sample(net), num_samples)`."
            )

    def run(self, program: Program, lead: Tree, arrays: Arrays, capture: bool) -> Result:
        key, *rest = arrays

        def sample(key: Array) -> Tree:
            return walk(program, Visitor(), [key, *rest])[0]

        return _average(sample, key, self.num_samples, self.batch_size), {}


@dataclass(frozen=True, eq=False)
class _Average(Procedure):
    """The average of a procedure on a network."""

    method: MonteCarlo

    def with_nodes(self) -> Function:
        averaged = intern(replace(self, method=replace(self.method, captures=True)))

        def procedure(*args: Tree, **kwargs: Tree) -> Tree:
            (out, nodes), (out_error, nodes_error) = averaged(*args, **kwargs)
            estimates = {name: Estimate(nodes[name], nodes_error[name]) for name in nodes}
            return Estimate(out, out_error), estimates

        return procedure


@dataclass(frozen=True, eq=False)
class _AverageOfFunction(Procedure):
    """The average of a function that samples, which is traced together with its key."""

    def with_nodes(self) -> NoReturn:
        raise TypeError(
            "monte_carlo was given a function, whose nodes it does not see. Return their "
            "statistics from the function, by `with_nodes` inside it; they are averaged too."
        )

    def __post_init__(self) -> None:
        # The average of an average is one of functions, too: it takes a key.
        if not isinstance(self.net, Procedure):
            super().__post_init__()

    def __call__(self, *args: Tree, **kwargs: Tree) -> Tree:
        (key,), args = split_lead("key", args)
        try:
            inspect.signature(self.net).bind(key, *args, **kwargs)
        except TypeError as error:
            raise TypeError(
                "monte_carlo averages a function that samples, `sampler(key, *args)`, and this one "
                f"does not take a key and the arguments: {error}. Of a network, average a "
                "procedure: `monte_carlo(cgjax.forward_sample(net), num_samples)`."
            ) from error
        except ValueError:  # it has no signature
            pass
        return super().__call__(key, *args, **kwargs)


def whole(name: str, number: Leaf) -> int:
    try:
        return operator.index(number)
    except TypeError:
        got = _static.described(number)
        raise TypeError(f"{name} is a whole number, known when it is built; got {got}.") from None


def monte_carlo(sampler: Function, num_samples: int, *, batch_size: int = 64) -> Procedure:
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
        TypeError: if the sampler is a procedure without a key, or a number is no integer; when
            called, if the first argument is no key.

    Example:
        >>> import jax, jax.numpy as jnp, cgjax as cg
        >>> net = lambda e: cg.node(cg.nodes.Bernoulli(), e)
        >>> average = cg.monte_carlo(cg.forward_sample(net), num_samples=1000)
        >>> estimate = average(jax.random.key(0), jnp.zeros(()))
        >>> bool(abs(estimate.mean - 0.5) < 5 * estimate.standard_error)
        True

    Source: [A] section 5.
    """
    if not callable(sampler) or isinstance(sampler, type):
        raise TypeError(
            "monte_carlo takes a sampling procedure, such as `cgjax.forward_sample(net)`, got "
            f"{_static.described(sampler)}."
        )
    num_samples = whole("num_samples", num_samples)
    batch_size = whole("batch_size", batch_size)
    if num_samples < 2:
        raise ValueError(f"A standard error needs at least 2 samples, got {num_samples}.")
    if batch_size < 1:
        raise ValueError(f"batch_size is at least 1, got {batch_size}.")
    if not isinstance(sampler, Procedure) or isinstance(sampler, _AverageOfFunction):
        return intern(_AverageOfFunction(sampler, MonteCarloOfFunction(num_samples, batch_size)))
    if sampler.method.lead != "key":
        raise TypeError(
            "monte_carlo takes a procedure that samples a network, such as "
            f"`cgjax.forward_sample(net)`, got one of {type(sampler.method).__name__}."
        )
    options = MonteCarlo(sampler.method, sampler.capture, num_samples, batch_size)
    return intern(_Average(sampler.net, options))

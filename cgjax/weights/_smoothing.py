"""The linear algebra of smoothing, and what it asks of a network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array

from cgjax._gaussian.numerics import wide
from cgjax._program import Site
from cgjax._static import Tree
from cgjax._walk import Visitor
from cgjax._walk.visitor import Draw, Handed
from cgjax.nodes import Belief, Family
from cgjax.weights._heads import Head


@dataclass(frozen=True)
class Shifted(Visitor):
    """Adds what is given to the activation, and records the statistic with its own variance."""

    random: bool = False

    def changes(self, site: Site) -> bool:
        return self.random and site.kind != "observe"

    def visit(
        self, site: Site, family: Family, activation: Array, e: Array, draw: Draw, given: Handed
    ) -> tuple[Array, tuple[Array, Array]]:
        value = activation if given is None else activation + given
        return value, (value, family.variance(e))


def belief_like(like: Array | Belief, mean: Array, variance: Array) -> Belief:
    dtype = (like.mean if isinstance(like, Belief) else like).dtype
    return Belief(jnp.asarray(mean, dtype), jnp.asarray(variance, dtype))


def check_floating(dtype: np.dtype) -> None:
    """Raises unless the outputs are floating point."""
    if not jnp.issubdtype(dtype, jnp.floating):
        raise TypeError(f"smooth takes a network with floating-point outputs, got {dtype}.")


def check_examples(sites: Sequence[Site], shape: tuple[int, ...]) -> None:
    """Raises unless the outputs and all nodes have a leading axis of the same examples."""
    if not shape:
        raise ValueError(
            "smooth takes a batch: the outputs need a leading axis of examples, got one number. "
            'Add an axis (`x[None]`), or use `covariance="full"`, which takes one example.'
        )
    for site in sites:
        if site.shape[:1] != shape[:1]:
            raise ValueError(
                f"The node {site.name!r} of shape {site.shape} ({site.source}) has no leading axis "
                f"of the {shape[0]} examples that the outputs have (shape {shape}). Call smooth "
                'on a batch, with `x[None]` for one example, or use `covariance="full"`.'
            )


def half_information(head: Head, mean: Array) -> Array:
    """G^T for each example, with G G^T the Fisher information: (examples, outputs, outputs)."""
    shape = mean.shape[1:]
    number = mean[0].size
    basis = wide(jnp.eye(number, dtype=mean.dtype)).reshape(number, *shape)

    def one(f: Array) -> Array:
        columns = jax.vmap(lambda tangent: head.half_information(f, tangent))(basis)
        return columns.reshape(number, number).T

    return jax.vmap(one)(wide(mean))


def kept_variance(half: Array, loading: Array, spread: Array) -> Array:
    """The share of its variance that each element keeps once the outputs' targets are seen.

    For independent elements h = P^1/2 z and outputs A h + (what other variables add). The latter
    is taken as independent: what is left of the outputs' variance, if anything.

    Args:
        half: G^T of each example, (examples, outputs, outputs).
        loading: A P^1/2, (examples, outputs, elements).
        spread: the variances of the outputs, (examples, outputs).
    """
    eye = jnp.eye(half.shape[-1], dtype=loading.dtype)[None]
    rest = jnp.maximum(spread - (loading**2).sum(-1), 0)
    noise = eye + (half * rest[:, None, :]) @ half.mT
    scaled = solve_triangular(jnp.linalg.cholesky(noise), half @ loading, lower=True)
    square = scaled @ scaled.mT
    lower = jnp.linalg.cholesky(eye + square)
    inner = solve_triangular(lower, scaled, lower=True)
    inner = solve_triangular(lower + eye, inner, lower=True, trans=1)
    # The squared length of a row of T = I - B^T inner, its own entry apart.
    own = (scaled * inner).sum(1)
    others = jnp.maximum((inner * (square @ inner)).sum(1) - own**2, 0)
    return (1 - own) ** 2 + others


def derivatives(function: Callable[[Tree], Sequence[Array]], at: Tree) -> list[Array]:
    """For each result its derivatives by all numbers in `at`: (size of the result, numbers)."""
    flat, unflatten = ravel_pytree(at)

    def of_flat(flat: Array) -> list[Array]:
        return [wide(x).reshape(-1) for x in function(unflatten(flat))]

    sizes = jax.eval_shape(of_flat, flat)
    if not flat.size:  # nothing is uncertain
        return [jnp.zeros((x.size, 0), x.dtype) for x in sizes]
    rows = sum(x.size for x in sizes)
    derivative = jax.jacrev if rows <= flat.size else jax.jacfwd
    return derivative(of_flat)(flat)

"""What no program can be faster than: the arithmetic and the memory traffic of a training step, and
the rates of the device at which it could do them.

Rates are measured: of a large matrix product in each dtype, and of adding 1 to a large array.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import cgjax as cg
from benchmarks.timing import called, interleaved


class Work(NamedTuple):
    """What a forward pass of one image takes."""

    multiply_adds: int
    first_multiply_adds: int  # of the first convolution
    convolution_elements: int  # read and written by convolutions
    nodes: int
    parameters: int  # of the network


def work(f: Callable[..., Any], params: Any, state: Any, x: Any) -> Work:
    """Counted from the program of a convolutional network `f(params, state, x) -> (logits, state)`,
    which nothing executes: only shapes and dtypes count, those of one image."""
    convolutions, elements, rest = [], 0, 0
    for equation in equations(jax.make_jaxpr(f)(params, state, x).jaxpr):
        if equation.primitive.name not in ("conv_general_dilated", "dot_general"):
            continue
        left, right = (v.aval.shape for v in equation.invars)
        out = math.prod(equation.outvars[0].aval.shape)
        if equation.primitive.name == "dot_general":  # the last layer's
            rest += out * left[-1]
            continue
        convolutions.append(out * math.prod(right[:-1]))
        elements += math.prod(left) + out
    graph = cg.chain_graph(lambda x, params, state: f(params, state, x)[0])(x, params, state)
    return Work(
        multiply_adds=sum(convolutions) + rest,
        first_multiply_adds=convolutions[0],
        convolution_elements=elements,
        nodes=sum(math.prod(component.shape) for component in graph),
        parameters=sum(math.prod(p.shape) for p in jax.tree.leaves(params)),
    )


def equations(jaxpr: Any) -> Iterator[Any]:
    """Of a program and the programs in it, in order."""
    for equation in jaxpr.eqns:
        yield equation
        inner = jax.tree.leaves([*equation.params.values()], is_leaf=lambda p: hasattr(p, "eqns"))
        for program in (getattr(p, "jaxpr", p) for p in inner):
            yield from equations(program) if hasattr(program, "eqns") else ()


def operations(work: Work, images: int) -> int:
    """Floating-point operations of a training step on so many images.

    2 (3 M - M_1) for each, with M multiply-adds of a forward pass and M_1 of the first convolution,
    by whose input nobody differentiates.
    """
    return 2 * (3 * work.multiply_adds - work.first_multiply_adds) * images


def traffic(work: Work, images: int, runs: int, element_bytes: int) -> int:
    """Bytes that a training step on so many images, of all runs, reads and writes.

    3 sum_c (x_c + y_c) + 8 sum_n e_n elements of each image, for convolutions of x_c inputs and y_c
    outputs and e_n nodes: a convolution reads and writes both in the forward pass and in each of
    its two derivatives; normalisation and ReLU read e for the moments, read e and write h, read h's
    gradient and e twice, and write e's gradient. And 24 bytes of each parameter of each run, whose
    weight, momentum and gradient the optimiser reads and writes.
    """
    elements = 3 * work.convolution_elements + 8 * work.nodes
    return images * elements * element_bytes + 24 * runs * work.parameters


def rates(product: int, copy: int, rounds: int, dtypes: Sequence[str]) -> dict[str, float]:
    """What the device does in a second: operations of each dtype by name, in products of so many
    rows and columns, and "bytes", of an array of so many to which 1 is added."""
    multiply = jax.jit(lambda a: a @ a)
    functions = {dtype: called(multiply, jnp.ones((product, product), dtype)) for dtype in dtypes}
    functions["bytes"] = called(jax.jit(lambda a: a + 1), jnp.ones(copy // 4))
    # On an accelerator so many calls that their dispatch does not count.
    calls = 1 if jax.default_backend() == "cpu" else 10
    timings = interleaved(functions, rounds=rounds, calls=calls)
    work = dict.fromkeys(dtypes, 2 * product**3) | {"bytes": 2 * copy}
    return {name: amount / timings[name].seconds for name, amount in work.items()}


def bandwidth(copy: int = 2**28, rounds: int = 8) -> float:
    """Bytes a second that adding 1 to an array of so many bytes reads and writes."""
    return rates(1, copy, rounds, [])["bytes"]

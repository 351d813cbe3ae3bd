"""Times several functions against each other: interleaved, so that all see the same machine."""

import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.records import Timing

Name = TypeVar("Name")
Steps = Callable[[int], None]  # makes a number of steps or calls, and waits for what they give
Facts = dict[str, Any]  # figures by name
Prepared = tuple[Steps, Facts]  # what is timed, and what is known of it before
Clock = Callable[[], float] | None


def repeated(step: Callable[..., Any], carry: Any, *data: Any) -> Steps:
    """Steps `carry = step(*carry, *data)`, which may donate what they carry, each from where the
    last one ended; the first is given a copy."""
    carry = jax.tree.map(jnp.copy, carry)

    def steps(calls: int) -> None:
        nonlocal carry
        for _ in range(calls):
            carry = step(*carry, *data)
        jax.block_until_ready(carry)

    return steps


def compiled(program: Any, *arguments: Any) -> tuple[Any, Facts]:
    """A jitted function, compiled; the seconds that this took, and the bytes of intermediates."""
    begin = time.perf_counter()
    made = program.lower(*arguments).compile()
    seconds, memory = time.perf_counter() - begin, made.memory_analysis()
    temporary = memory.temp_size_in_bytes if memory else None
    return made, {"compile_seconds": seconds, "temporary_bytes": temporary}


def descent(
    loss: Callable[..., Any], params: Any, state: Any, x: Any, y: Any, rate: float
) -> Prepared:
    """Steps of stochastic gradient descent with momentum on one batch, and what `compiled` tells,
    for `loss(params, key, state, x, y) -> (value, state)`."""
    optimiser = optax.sgd(rate, momentum=0.9)

    def step(params: Any, state: Any, moments: Any, key: Any, x: Any, y: Any) -> Any:
        key, own = jax.random.split(key)
        gradients, state = jax.grad(loss, has_aux=True)(params, own, state, x, y)
        updates, moments = optimiser.update(gradients, moments)
        return optax.apply_updates(params, updates), state, moments, key

    carry = (params, state, optimiser.init(params), jax.random.key(0))
    made, facts = compiled(jax.jit(step, donate_argnums=(0, 1, 2, 3)), *carry, x, y)
    return repeated(made, carry, x, y), facts


def batch(size: int, shape: tuple[int, ...], classes: int = 10) -> tuple[jax.Array, jax.Array]:
    """Random inputs in [0, 1) and labels."""
    generator = np.random.default_rng(0)
    x = jnp.asarray(generator.random((size, *shape), dtype=np.float32))
    return x, jnp.asarray(generator.integers(0, classes, size))


def called(function: Callable[..., Any], *arguments: Any) -> Steps:
    """Calls with the same arguments.

    An accelerator makes them one after the other, each dispatched while the one before computes, so
    that they are waited for once, at the end. A CPU might compute several at once: there each is
    waited for.
    """
    each = jax.default_backend() == "cpu"

    def calls(number: int) -> None:
        result = None
        for _ in range(number):
            result = function(*arguments)
            if each:
                jax.block_until_ready(result)
        jax.block_until_ready(result)

    return calls


def interleaved(
    functions: Mapping[Name, Steps], rounds: int, calls: int, pause: float = 0, clock: Clock = None
) -> dict[Name, Timing]:
    """Times functions in rounds; each round runs every function, in an order that rotates.

    Args:
        functions: by name.
        rounds, calls: how many rounds, and how many calls of a function in each.
        pause: seconds to wait before each function's turn. Threads of PyTorch's keep a core busy
            for a while after their work is done, which would slow down whatever comes next.
        clock: the time in seconds, by default `time.perf_counter`; `time.process_time` counts what
            this process computes, on a machine that others use too.
    """
    clock = clock or time.perf_counter
    names = list(functions)
    for name in names:
        functions[name](2)
    seconds: dict[Name, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            time.sleep(pause)
            start = clock()
            functions[name](calls)
            seconds[name].append((clock() - start) / calls)
    return {name: Timing(np.array(seconds[name])) for name in names}


def compared(
    prepared: dict[str, Prepared], baseline: str, rounds: int, calls: int, images: int = 0
) -> dict[str, Facts]:
    """The figures of interleaved functions of so many images a call, relative to one of them, with
    what was known of each."""
    functions = {name: steps for name, (steps, _) in prepared.items()}
    timings = interleaved(functions, rounds=rounds, calls=calls)
    return {
        name: timing.figures(timings[baseline], images=images) | prepared[name][1]
        for name, timing in timings.items()
    }

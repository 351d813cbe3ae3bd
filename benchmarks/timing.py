"""Times several functions against each other: interleaved, so that all see the same machine."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


class Ratio(NamedTuple):
    """How long one function takes relative to another: quartiles over the rounds, and the ratio of
    the fastest rounds, which other work on the machine disturbs least."""

    median: float
    low: float
    high: float
    fastest: float


class Timing(NamedTuple):
    """The times of one function."""

    each: np.ndarray  # float64[rounds], seconds of one call

    @property
    def seconds(self) -> float:
        """The median over the rounds."""
        return float(np.median(self.each))

    def ratio(self, baseline: "Timing") -> Ratio:
        """Relative to another function in the same rounds."""
        low, median, high = np.percentile(self.each / baseline.each, [25, 50, 75])
        fastest = self.each.min() / baseline.each.min()
        return Ratio(float(median), float(low), float(high), float(fastest))


def repeated(step: Callable[..., Any], carry: Any, *data: Any) -> Callable[[int], None]:
    """A function that makes a number of steps, each from where the last one ended.

    Args:
        step: `carry = step(*carry, *data)`; it may donate what it carries.
        carry: of the first step; it is copied.
        data: the same in all steps.
    """
    carry = jax.tree.map(jnp.copy, carry)

    def steps(calls: int) -> None:
        nonlocal carry
        for _ in range(calls):
            carry = step(*carry, *data)
        jax.block_until_ready(carry)

    return steps


def called(function: Callable[..., Any], *arguments: Any) -> Callable[[int], None]:
    """A function that makes a number of calls with the same arguments.

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
    functions: Mapping[str, Callable[[int], None]],
    *,
    rounds: int,
    calls: int,
    pause: float = 0.0,
    clock: Callable[[], float] | None = None,
) -> dict[str, Timing]:
    """Times functions in rounds; each round runs every function, in an order that rotates.

    Args:
        functions: by name. Each takes a number of calls, makes them, and returns when their
            results are there.
        rounds: how many rounds.
        calls: how many calls a function makes in a round.
        pause: seconds to wait before each function's turn. Threads of PyTorch's keep a core busy
            for a while after their work is done, which would slow down whatever comes next.
        clock: the time in seconds, by default `time.perf_counter`; `time.process_time` counts what
            this process computes, on a machine that others use too.
    """
    clock = clock or time.perf_counter
    names = list(functions)
    for name in names:
        functions[name](2)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            time.sleep(pause)
            start = clock()
            functions[name](calls)
            seconds[name].append((clock() - start) / calls)
    return {name: Timing(np.array(seconds[name])) for name in names}

"""Times several functions against each other: interleaved, so that all see the same machine."""

import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np


class Timing(NamedTuple):
    """What came of one function.

    Attributes:
        seconds: median time of one call.
        ratio: median over the rounds of its time relative to the baseline's in the same round.
        low: the ratio's lower quartile over the rounds.
        high: its upper quartile.
    """

    seconds: float
    ratio: float
    low: float
    high: float


def interleaved(
    functions: Mapping[str, Callable[[int], None]], *, rounds: int, calls: int
) -> dict[str, Timing]:
    """Times functions in rounds; each round runs every function, in an order that rotates.

    Args:
        functions: by name; the first is the baseline. Each takes a number of calls, makes them, and
            returns when their results are there.
        rounds: how many rounds.
        calls: how many calls a function makes in a round.
    """
    names = list(functions)
    for name in names:
        functions[name](2)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            start = time.perf_counter()
            functions[name](calls)
            seconds[name].append((time.perf_counter() - start) / calls)
    baseline = np.array(seconds[names[0]])
    found = {}
    for name in names:
        ratios = np.array(seconds[name]) / baseline
        low, ratio, high = np.percentile(ratios, [25, 50, 75])
        found[name] = Timing(float(np.median(seconds[name])), float(ratio), float(low), float(high))
    return found

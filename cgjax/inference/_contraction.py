"""The order of contractions: in which pairs the factors of a sum of products are multiplied.

    sum_x prod_f F_f(x_f)

Several heuristics are tried, and the order with the least work is taken: the greedy ones of
`opt_einsum`, and the elimination of one variable after the other. All look at the factors alone,
not at the order in which the network was written. This file only counts.
"""

import heapq
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from opt_einsum.path_random import RandomGreedy
from opt_einsum.paths import ssa_greedy_optimize

Set = frozenset[int]
# Pairs of tables: the factors come first, then the results of the pairs, in order.
Path = Sequence[tuple[int, ...]]

# Work above which random variations of the greedy order are tried, and how many.
_MUCH = 1 << 18
_REPEATS = 24


class Contraction(NamedTuple):
    """Two tables are multiplied, and what nobody needs is summed out.

    Attributes:
        left, right: the numbers of the tables.
        result: the variables that are kept.
        summed: those that are summed out.
        table: the number of entries of the result.
        terms: how many products are summed.
    """

    left: int
    right: int
    result: Set
    summed: Set
    table: int
    terms: int


class Order(NamedTuple):
    """Contractions that leave one table without variables.

    Attributes:
        steps: the contractions, in order.
        peak: the largest number of entries of a table.
        work: how many products are summed in all.
    """

    steps: tuple[Contraction, ...]
    peak: int
    work: int


def product(variables: Set, sizes: Mapping[int, int]) -> int:
    """The number of joint states of variables."""
    return math.prod(sizes[v] for v in variables)


def contractions(scopes: Sequence[Set], path: Path, sizes: Mapping[int, int]) -> Order:
    """What is done along a path, where every variable goes as soon as nobody needs it."""
    live = dict(enumerate(scopes))
    uses: dict[int, int] = {}
    for scope in scopes:
        for v in scope:
            uses[v] = uses.get(v, 0) + 1
    steps = []
    for left, right in path:
        a, b = live.pop(left), live.pop(right)
        for v in a:
            uses[v] -= 1
        for v in b:
            uses[v] -= 1
        joined = a | b
        result = frozenset(v for v in joined if uses[v])
        for v in result:
            uses[v] += 1
        # What only one of the two has, and nobody else, is summed out of it before.
        alone = joined - result - (a & b)
        terms = product(joined - alone, sizes) + product(a, sizes) + product(b, sizes)
        number = len(scopes) + len(steps)
        live[number] = result
        size = product(result, sizes)
        steps.append(Contraction(left, right, result, joined - result, size, terms))
    peak = max((s.table for s in steps), default=1)
    return Order(tuple(steps), peak, sum(s.terms for s in steps))


def order(scopes: Sequence[Set], sizes: Mapping[int, int]) -> Order:
    """The best order of contractions that is found.

    Args:
        scopes: the variables of each factor.
        sizes: the number of states of each variable.
    """
    if len(scopes) < 2:
        return Order((), 1, 0)
    found = [contractions(scopes, path, sizes) for path in _paths(scopes, sizes)]
    best = min(found, key=_cost)
    if best.work > _MUCH:
        path = _random(scopes, sizes)
        best = min([best, contractions(scopes, path, sizes)], key=_cost)
    return best


def _cost(found: Order) -> int | float:
    # Writing a number down costs more than adding one up.
    return found.work + 16 * sum(s.table for s in found.steps)


def _paths(scopes: Sequence[Set], sizes: Mapping[int, int]) -> Iterator[Path]:
    greedy: Callable[..., Any] = ssa_greedy_optimize  # its variables need not be letters
    yield _pairs(greedy(list(scopes), frozenset(), dict(sizes)), len(scopes))
    for by_fill in (False, True):
        yield _eliminated(scopes, sizes, _variables(scopes, sizes, by_fill=by_fill))


def _random(scopes: Sequence[Set], sizes: Mapping[int, int]) -> Path:
    # It seeds the generator that all of Python shares.
    state = random.getstate()
    try:
        optimiser: Any = RandomGreedy(max_repeats=_REPEATS, parallel=False)
        optimiser(list(scopes), frozenset(), dict(sizes))
        return _pairs(optimiser.best["ssa_path"], len(scopes))
    finally:
        random.setstate(state)


def _pairs(path: Path, count: int) -> Path:
    assert len(path) == count - 1 and all(len(pair) == 2 for pair in path)
    return path


def _variables(scopes: Sequence[Set], sizes: Mapping[int, int], *, by_fill: bool) -> Iterator[int]:
    """The variables, each time one whose elimination makes the smallest table or links fewest."""
    near: dict[int, set[int]] = {}
    for scope in scopes:
        for v in scope:
            near.setdefault(v, set()).update(scope)
    for v, others in near.items():
        others.discard(v)

    def cost(v: int) -> tuple[int | float, ...]:
        size = math.log2(sizes[v]) + sum(math.log2(sizes[u]) for u in near[v])
        if not by_fill:
            return size, v
        missing = sum(len(near[v] - near[u]) - 1 for u in near[v])
        return missing, size, v

    heap = [(cost(v), v) for v in near]
    heapq.heapify(heap)
    while heap:
        known, v = heapq.heappop(heap)
        if v not in near:
            continue
        if (new := cost(v)) != known:
            heapq.heappush(heap, (new, v))
            continue
        others = near.pop(v)
        for u in others:
            near[u] |= others
            near[u] -= {u, v}
        for u in others:
            heapq.heappush(heap, (cost(u), u))
        yield v


def _eliminated(scopes: Sequence[Set], sizes: Mapping[int, int], variables: Iterator[int]) -> Path:
    """A path that sums one variable out after the other."""
    live = dict(enumerate(scopes))
    users: dict[int, set[int]] = {}
    for number, scope in live.items():
        for v in scope:
            users.setdefault(v, set()).add(number)
    path: list[tuple[int, int]] = []

    def contract(left: int, right: int) -> int:
        number = len(scopes) + len(path)
        path.append((left, right))
        joined = live.pop(left) | live.pop(right)
        for v in joined:
            users[v] -= {left, right}
        live[number] = frozenset(v for v in joined if users[v])
        for v in live[number]:
            users[v].add(number)
        return number

    for v in variables:
        while len(users.get(v, ())) > 1:
            smallest = heapq.nsmallest(2, users[v], key=lambda n: (product(live[n], sizes), n))
            contract(min(smallest), max(smallest))
    rest = sorted(live)
    while len(rest) > 1:
        rest.append(contract(rest.pop(0), rest.pop(0)))
    return path

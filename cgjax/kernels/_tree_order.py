"""In which order the nodes of a tree are computed.

A level of the tree is one step of a loop. So that a deep level costs no more than a wide one, wide
levels are several steps, and short ones are filled up: a tree of N nodes and D levels has at most
2 D steps of N / D nodes. A step reads and writes the few nodes whose children are not done.
"""

from typing import NamedTuple

import numpy as np


class Order(NamedTuple):
    """In which order messages pass from the leaves to the roots: steps first.

    Attributes:
        nodes: of each step, the number of nodes where there is none, (S, W).
        own: where each node's place is, `places` for leaves, (S, W).
        above: where its parent's place is, `places` for roots.
        places: how many nodes are open at a time.
        steps: where each node stands among all steps, (N,).
    """

    nodes: np.ndarray
    own: np.ndarray
    above: np.ndarray
    places: int
    steps: np.ndarray


def levels(parents: tuple[int, ...]) -> list[list[int]]:
    """The nodes of a forest by their distance to a root; those on cycles are in none.

    Args:
        parents: of each node, -1 for roots.

    Example:
        >>> levels((-1, 0, 0, 1))
        [[0], [1, 2], [3]]
    """
    children = [[] for _ in range(len(parents) + 1)]
    for node, parent in enumerate(parents):
        children[parent].append(node)
    found = [children[-1]]
    while found[-1]:
        found.append([child for node in found[-1] for child in children[node]])
    return found[:-1]


def order_of(parents: tuple[int, ...]) -> Order:
    """The steps of a forest.

    Args:
        parents: of each node, -1 for roots.

    Example:
        >>> print(order_of((-1, 0, 0, 1)).nodes)  # four where there is none
        [[3 4]
         [1 2]
         [0 4]]
    """
    by_level, size = levels(parents), len(parents)
    width = -(-size // len(by_level))
    steps = [x[k : k + width] for x in by_level[::-1] for k in range(0, len(x), width)]
    place: dict[int, int] = {}
    free: list[int] = []
    own, above, places = [], [], 0
    for step in steps:
        own.append([place.get(node, -1) for node in step])
        free += [at for at in own[-1] if at >= 0]
        for parent in (parents[node] for node in step):
            if parent >= 0 and parent not in place:
                if not free:
                    free.append(places)
                    places += 1
                place[parent] = free.pop()
        above.append([place.get(parents[node], -1) for node in step])

    def filled(rows: list[list[int]], nothing: int) -> np.ndarray:
        padded = np.array([row + [-1] * (width - len(row)) for row in rows], np.int32)
        return np.where(padded < 0, nothing, padded)

    nodes = filled(steps, size)
    where = np.argsort(nodes.ravel(), kind="stable")[:size]
    places = max(places, 1)
    return Order(nodes, filled(own, places), filled(above, places), places, where)

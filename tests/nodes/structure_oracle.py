"""Trees and segmentations by listing all their values, in float64."""

import itertools
from typing import Any, NamedTuple

import numpy as np

# A forest in no order: node 2 is the root of 3, 0 and 1, node 4 is alone. Two rows.
PARENTS, K, DURATIONS = (3, 3, -1, 2, -1), 2, 3
LENGTHS = (4, 3)


class Listed(NamedTuple):
    """All values of one row, by what they are and by their scores.

    Attributes:
        values: of the statistic, (number, *shape of e).
        scores: -inf for what is forbidden.
        pairs: as `pair_marginals` has them, (number, ...).
    """

    values: np.ndarray
    scores: np.ndarray
    pairs: np.ndarray

    @property
    def log_partition(self) -> float:
        largest = self.scores.max()
        return float(np.log(np.exp(self.scores - largest).sum()) + largest)

    @property
    def log_p(self) -> np.ndarray:
        return self.scores - self.log_partition

    @property
    def p(self) -> np.ndarray:
        return np.exp(self.log_p)

    @property
    def marginals(self) -> np.ndarray:
        return np.tensordot(self.p, self.values, 1)

    @property
    def covariance(self) -> np.ndarray:
        centred = (self.values - self.marginals).reshape(len(self.p), -1)
        return np.einsum("p,pi,pj->ij", self.p, centred, centred)

    @property
    def entropy(self) -> float:
        possible = self.p > 0
        return float(-(self.p[possible] * self.log_p[possible]).sum())


def listed_tree(parameters: dict[str, Any], e: Any, row: int) -> Listed:
    transitions = np.asarray(parameters["transitions"], np.float64)
    e = np.asarray(e, np.float64)
    n = len(PARENTS)
    matrices = np.broadcast_to(transitions, (n, K, K))
    states = np.array(list(itertools.product(range(K), repeat=n)))
    scores, pairs = e[range(n), states].sum(1), np.zeros((len(states), n, K, K))
    for node, parent in enumerate(PARENTS):
        if parent >= 0:
            scores = scores + matrices[node][states[:, parent], states[:, node]]
            pairs[range(len(states)), node, states[:, parent], states[:, node]] = 1
    return Listed(np.eye(K)[states], scores, pairs)


def listed_segments(parameters: dict[str, Any], e: Any, row: int) -> Listed:
    start, end, step = (
        np.asarray(parameters[name], np.float64) for name in ("start", "end", "transitions")
    )
    e, length = np.asarray(e, np.float64), LENGTHS[row]

    def from_(t: int) -> Any:
        if t == length:
            yield []
        for d, k in itertools.product(range(min(e.shape[1], length - t)), range(K)):
            yield from ([(t, d, k), *rest] for rest in from_(t + d + 1))

    found = list(from_(0))
    values, pairs = np.zeros((len(found), *e.shape)), np.zeros((len(found), e.shape[0] - 1, K, K))
    scores = np.zeros(len(found))
    for number, segments in enumerate(found):
        labels = [k for _, _, k in segments]
        scores[number] = start[labels[0]] + end[labels[-1]] + sum(e[at] for at in segments)
        for at in segments:
            values[number][at] = 1
        for (t, _, k), before in zip(segments[1:], labels, strict=False):
            scores[number] += step[before, k]
            pairs[number, t - 1, before, k] = 1
    return Listed(values, scores, pairs)

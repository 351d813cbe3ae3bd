"""Linear chains by enumeration of all their paths, and by forward-backward, in NumPy."""

import itertools
from typing import Any, NamedTuple

import numpy as np


class Enumerated(NamedTuple):
    """One chain; what follows from its list of paths.

    Attributes:
        paths: numbers of states, (number of paths, positions that take part).
        where: these positions.
        scores: of the paths.
        log_partition: log sum exp of the scores.
        probabilities: of the paths.
        statistics: the paths as one-hot rows, 0 at masked positions, (number of paths, T, K).
        pairs: the steps of the paths, by the position they lead to, (number of paths, T - 1, K, K).
    """

    paths: np.ndarray
    where: list[int]
    scores: np.ndarray
    log_partition: float
    probabilities: np.ndarray
    statistics: np.ndarray
    pairs: np.ndarray

    @property
    def marginals(self) -> np.ndarray:
        return np.tensordot(self.probabilities, self.statistics, 1)

    @property
    def pair_marginals(self) -> np.ndarray:
        return np.tensordot(self.probabilities, self.pairs, 1)

    @property
    def entropy(self) -> float:
        p = self.probabilities[self.probabilities > 0]
        return float(-(p * np.log(p)).sum())

    @property
    def covariance(self) -> np.ndarray:
        """Of the statistics, (T, K, T, K)."""
        centred = self.statistics - self.marginals
        return np.einsum("p,pik,pjl->ikjl", self.probabilities, centred, centred)


def enumerated(
    e: Any, transitions: Any, mask: Any = None, start: Any = None, end: Any = None
) -> Enumerated:
    """Lists all paths of one chain: e (T, K), transitions (K, K) or (T - 1, K, K)."""
    e, transitions = np.asarray(e, np.float64), np.asarray(transitions, np.float64)
    length, k = e.shape
    matrices = np.broadcast_to(transitions, (max(length - 1, 0), k, k))
    where = [t for t in range(length) if mask is None or mask[t]]
    paths = np.array(list(itertools.product(range(k), repeat=len(where))), int)
    scores = np.zeros(len(paths))
    statistics = np.zeros((len(paths), length, k))
    pairs = np.zeros((len(paths), max(length - 1, 0), k, k))
    rows = np.arange(len(paths))
    for n, t in enumerate(where):
        scores += e[t, paths[:, n]]
        statistics[rows, t, paths[:, n]] = 1
        if n:
            scores += matrices[t - 1, paths[:, n - 1], paths[:, n]]
            pairs[rows, t - 1, paths[:, n - 1], paths[:, n]] = 1
    if where and start is not None:
        scores += np.asarray(start, np.float64)[paths[:, 0]]
    if where and end is not None:
        scores += np.asarray(end, np.float64)[paths[:, -1]]
    largest = scores.max()
    if largest == -np.inf:
        nothing = np.zeros(len(paths))
        return Enumerated(paths, where, scores, -np.inf, nothing, statistics, pairs)
    weights = np.exp(scores - largest)
    log_partition = float(np.log(weights.sum()) + largest)
    return Enumerated(
        paths, where, scores, log_partition, weights / weights.sum(), statistics, pairs
    )


def forward_backward(e: Any, transitions: Any, start: Any, mask: Any) -> tuple[Any, Any]:
    """P(z_t | past) and P(z_t | all) of one chain, (T, K), in products of probabilities; 0 at
    masked positions. `transitions` (T, K, K) lead to t. Of complex potentials it is holomorphic."""
    where = [t for t in range(len(e)) if mask is None or mask[t]]
    forward, backward = np.zeros(e.shape, e.dtype), np.ones(e.shape, e.dtype)
    for n, t in enumerate(where):
        into = forward[where[n - 1]] @ np.exp(transitions[t]) if n else np.exp(start)
        forward[t] = into * np.exp(e[t])
        forward[t] = forward[t] / forward[t].sum()
    for t, u in zip(where[-2::-1], where[:0:-1], strict=True):
        backward[t] = np.exp(transitions[u]) @ (np.exp(e[u]) * backward[u])
    both = forward * backward
    both[where] /= both[where].sum(1, keepdims=True)
    return forward, both

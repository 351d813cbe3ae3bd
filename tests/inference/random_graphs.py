"""Random directed graphs of discrete components, as cgjax networks and by brute force in NumPy.

The brute force shares no code with the library: it lists every configuration of all nodes and
multiplies the probabilities of [A] Eq. 1-3 out, in float64.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import cgjax as cg

# family: (statistics of one node, families in cgjax)
STATES = {
    "bernoulli": np.array([0.0, 1.0]),
    "spin": np.array([-1.0, 1.0]),
    "binary": np.array([-0.5, 2.0]),
    "mask": np.array([0.0, 1.0]),
}
NUM_CLASSES = 3


@dataclass(frozen=True)
class Part:
    """One component: `num_nodes` nodes whose e is bias + sum over parents f(statistic) @ weight."""

    name: str
    family: str
    num_nodes: int
    bias: np.ndarray
    parents: dict[str, np.ndarray]

    @property
    def states(self) -> list[np.ndarray]:
        """All values of the statistic, flattened."""
        if self.family == "categorical":
            rows = itertools.product(np.eye(NUM_CLASSES), repeat=self.num_nodes)
            return [np.concatenate(r) for r in rows]
        return [np.array(v) for v in itertools.product(STATES[self.family], repeat=self.num_nodes)]


@dataclass(frozen=True)
class RandomGraph:
    """A graph, a nonlinear readout of several components, and a linear one."""

    parts: tuple[Part, ...]
    readout: dict[str, np.ndarray]

    def configurations(self, x: np.ndarray) -> Iterator[tuple[float, dict[str, np.ndarray]]]:
        """The probability of every configuration, and its statistics."""
        for values in itertools.product(*(part.states for part in self.parts)):
            configuration = {p.name: v for p, v in zip(self.parts, values, strict=True)}
            probability = 1.0
            for part in self.parts:
                e = natural_parameter(np, part, configuration, x)
                probability *= probability_of(part, configuration[part.name], e)
            yield probability, configuration

    def expectations(self, x: np.ndarray) -> tuple[Any, dict[str, np.ndarray]]:
        """The exact expectation of the output and of each component's statistic."""
        totals: list[Any] = [0.0] * 3
        means = {part.name: np.zeros_like(part.states[0]) for part in self.parts}
        for probability, configuration in self.configurations(x):
            for k, out in enumerate(self.outputs(np, configuration)):
                totals[k] = totals[k] + probability * out
            for name, value in configuration.items():
                means[name] = means[name] + probability * value
        return tuple(totals), means

    def outputs(self, xp: Any, configuration: dict[str, Any]) -> tuple[Any, Any, Any]:
        """A nonlinear function of several components, an affine one, and the last statistic."""
        parts = [configuration[name] @ xp.asarray(w) for name, w in self.readout.items()]
        last = configuration[self.parts[-1].name]
        return xp.tanh(sum(parts)), sum(parts) + 3.0, last

    def network(self) -> Callable[[Any], Any]:
        """The same as a cgjax network."""

        def net(x: Any) -> Any:
            configuration: dict[str, Any] = {}
            for part in self.parts:
                e = natural_parameter(jnp, part, configuration, x)
                if part.family == "categorical":
                    e = e.reshape(part.num_nodes, NUM_CLASSES)
                    value = cg.node(cg.nodes.Categorical(), e, name=part.name).reshape(-1)
                elif part.family == "mask":
                    value = cg.noise(cg.nodes.BernoulliMask(), jax.nn.sigmoid(e), name=part.name)
                else:
                    family = {
                        "bernoulli": cg.nodes.Bernoulli(),
                        "spin": cg.nodes.Spin(),
                        "binary": cg.nodes.Binary(-0.5, 2.0),
                    }[part.family]
                    value = cg.node(family, e, name=part.name)
                configuration[part.name] = value
            return self.outputs(jnp, configuration)

        return net

    def shaped(self, name: str, value: np.ndarray) -> np.ndarray:
        """A flat statistic in the shape that the network has it in."""
        part = next(p for p in self.parts if p.name == name)
        return value.reshape(-1, NUM_CLASSES) if part.family == "categorical" else value


def natural_parameter(xp: Any, part: Part, configuration: dict[str, Any], x: Any) -> Any:
    """bias + x + sum of nonlinear functions of the parents."""
    e = xp.asarray(part.bias) + 0.3 * xp.sum(x)
    for name, weight in part.parents.items():
        value = configuration[name]
        e = e + (value + 0.5 * xp.sin(3 * value)) @ xp.asarray(weight) + 0.2 * value.prod()
    return e


def probability_of(part: Part, value: np.ndarray, e: np.ndarray) -> float:
    """P(value | e), as the papers define it."""
    if part.family == "categorical":
        e = e.reshape(part.num_nodes, NUM_CLASSES)
        e = e - e.max(-1, keepdims=True)
        p = np.exp(e) / np.exp(e).sum(-1, keepdims=True)
        return float(np.prod((p * value.reshape(p.shape)).sum(-1)))
    low, high = STATES[part.family]
    if part.family == "mask":
        keep = 1 / (1 + np.exp(-e))
        return float(np.prod(np.where(value == 1, keep, 1 - keep)))
    with np.errstate(over="ignore"):  # the exponential of a large number: probability 0
        return float(np.prod(1 / (1 + np.exp(-(2 * value - (low + high)) * e))))


def random_graph(seed: int, *, scale: float = 1.0, max_bits: int = 11) -> RandomGraph:
    """A graph with skips, branches and mixed families, of at most 2^max_bits states."""
    rng = np.random.default_rng(seed)
    parts: list[Part] = []
    bits = 0.0
    for k in range(int(rng.integers(3, 7))):
        family = str(rng.choice(["bernoulli", "spin", "binary", "mask", "categorical"]))
        per_node = np.log2(NUM_CLASSES) if family == "categorical" else 1.0
        left = int((max_bits - bits) // per_node)
        if left < 1:
            break
        num_nodes = int(rng.integers(1, min(3, left) + 1))
        bits += num_nodes * per_node
        size = num_nodes * (NUM_CLASSES if family == "categorical" else 1)
        chosen = [p for p in parts if rng.random() < 0.6]
        weights = {
            p.name: scale * rng.normal(size=(p.states[0].size, size)) / 2**0.5 for p in chosen
        }
        parts.append(Part(f"c{k}", family, num_nodes, rng.normal(size=size), weights))
    names = [p for p in parts if rng.random() < 0.6] or parts[-1:]
    return RandomGraph(tuple(parts), {p.name: rng.normal(size=p.states[0].size) for p in names})

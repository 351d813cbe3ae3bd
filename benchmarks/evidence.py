"""How fast is exact inference with evidence, beside pyAgrum and beside messages?

The distributions of all nodes of Bayesian networks, given what was seen of some of them: the first
call, with tracing and compiling; a further call; and 1,000 queries with different evidence, in one
mapped call and in pyAgrum's loop. By default the networks are made from a seed, in the sizes of
three well-known ones: nodes, arcs, most parents, most states; with --data-dir those in the BIF
files of a folder. Loopy belief propagation stands beside, with its error. Then graphs of cgjax's
own kind, of spins: a chain, a binary tree of which the top is a function of two leaves, an encoder
and decoder with nested skips, whose treewidth is 2, and dense layers, wide and deep. pyAgrum is
measured where it is installed, on the same tables. "error" is the largest difference from the exact
probabilities (of spins, means), that of "exact" from pyAgrum's.

    python -m benchmarks.evidence                      # about 4 minutes on 2 cores
    python -m benchmarks.evidence --quick --no-write
    python -m benchmarks.evidence --data-dir FOLDER    # of BIF files: alarm.bif, win95pts.bif, ...
    pip install pyagrum                                # for its rows

Targets, on a CPU, first and further calls: 1.5 s and 1 ms for 37 nodes, 4 s and 3 ms for 76 nodes,
30 s and 30 ms for the encoder and decoder of 600 nodes, 10 s for the tree; and 1,000 queries of 37
nodes 20 times as fast as pyAgrum's loop.
"""

from benchmarks import command

OPTIONS = command.read(
    __name__,
    __doc__,
    data_dir={"help": "a folder with BIF files, in place of generated networks", "default": ""},
)

import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import cgjax as cg
from benchmarks.records import Table, Timing
from benchmarks.timing import called, interleaved
from train.data.bayesian_networks import Variable, read_bif
from train.models.bayesian_network import network, tables

EVERY = 5  # one of so many nodes is seen
QUERIES = 1000


class Size(NamedTuple):
    """How large a generated network is: numbers of nodes and arcs, most parents, most states."""

    nodes: int
    arcs: int
    parents: int
    states: int


SIZES = {
    "as asia": Size(8, 8, 2, 2),
    "as alarm": Size(37, 46, 4, 4),
    "as win95pts": Size(76, 112, 5, 2),
}
# Nodes have their parents among so many before them, which bounds the treewidth.
NEAR = 6


def generated(size: Size, seed: int = 0) -> tuple[Variable, ...]:
    """A random network: nodes in order, with parents nearby and tables drawn uniformly."""
    rng = np.random.default_rng(seed)
    counts = np.zeros(size.nodes, int)
    while counts.sum() < size.arcs:
        k = int(rng.integers(1, size.nodes))
        counts[k] += counts[k] < min(k, size.parents)
    found: list[Variable] = []
    for k, count in enumerate(counts):
        near = range(max(0, k - NEAR), k)
        parents = sorted(map(int, rng.choice(near, count, replace=False))) if count else []
        states = int(rng.integers(2, size.states + 1))
        shape = [len(found[p].states) for p in parents]
        found.append(
            Variable(
                f"x{k}",
                tuple(map(str, range(states))),
                tuple(f"x{p}" for p in parents),
                rng.dirichlet(np.ones(states), shape or None),
            )
        )
    return tuple(found)


def networks(quick: bool, folder: str) -> dict[str, tuple[Variable, ...]]:
    """The networks by name."""
    if folder:
        paths = sorted(Path(folder).glob("*.bif"))
        if not paths:
            raise SystemExit(f"error: {folder} holds no file NAME.bif.")
        return {path.stem: read_bif(path) for path in paths[: 1 if quick else None]}
    return {
        name: generated(size) for name, size in itertools.islice(SIZES.items(), 1 if quick else 3)
    }


def drawn(variables: Sequence[Variable], count: int) -> dict[str, np.ndarray]:
    """Samples of all variables, by the numbers of their states."""
    rng = np.random.default_rng(1)
    found: dict[str, np.ndarray] = {}
    for v in variables:
        rows = v.table[tuple(found[p] for p in v.parents)]
        sums = np.broadcast_to(rows.cumsum(-1), (count, len(v.states)))
        found[v.name] = (rng.random((count, 1)) > sums[:, :-1]).sum(1)
    return found


class PyAgrum:
    """The same network in pyAgrum, with its engine for exact inference."""

    def __init__(self, variables: Sequence[Variable]):
        import pyagrum  # pyright: ignore[reportMissingImports]

        self.variables, model = variables, pyagrum.BayesNet()
        for v in variables:
            model.add(pyagrum.LabelizedVariable(v.name, v.name, list(v.states)))
        for v in variables:
            for parent in v.parents:
                model.addArc(parent, v.name)
            # Of its tables the first variable, the node itself, varies fastest.
            axes = [*reversed(range(len(v.parents))), len(v.parents)]
            model.cpt(v.name).fillWith(list(map(float, v.table.transpose(axes).reshape(-1))))
        self.engine = pyagrum.LazyPropagation(model)

    def __call__(self, evidence: Mapping[str, int]) -> dict[str, np.ndarray]:
        """The distributions of all variables."""
        self.engine.setEvidence(dict(evidence))
        self.engine.makeInference()
        return {v.name: self.engine.posterior(v.name).toarray() for v in self.variables}


def seconds_of(function: Callable[[], Any]) -> tuple[float, Any]:
    """How long a call takes, and what it returns."""
    begin = time.perf_counter()
    found = jax.block_until_ready(function())
    return time.perf_counter() - begin, found


def largest(a: Any, b: Any) -> float:
    """The largest difference of two trees of arrays."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return max(float(np.abs(np.asarray(x) - np.asarray(y)).max()) for x, y in pairs)


def has_pyagrum() -> bool:
    """Whether pyAgrum is installed, which is said where it is not."""
    found = find_spec("pyagrum") is not None
    if not found:
        print("pyAgrum is not installed (pip install pyagrum): its rows are left out.", flush=True)
    return found


def queried(
    name: str, variables: Sequence[Variable], beside: bool, rounds: int, queries: int
) -> list[dict[str, Any]]:
    """The figures of one Bayesian network, by implementation."""
    net, parameters = network(variables), tables(variables)
    samples = drawn(variables, queries)
    seen = {v.name: samples[v.name] for v in variables[EVERY - 1 :: EVERY]}
    one_hot = {
        v.name: jax.nn.one_hot(samples[v.name], len(v.states)) for v in variables if v.name in seen
    }
    first_query = {n: x[0] for n, x in one_hot.items()}

    def exact(evidence: Any, parameters: Any) -> Any:
        return cg.exact_marginals(cg.condition(net, evidence))(parameters)

    def messages(evidence: Any, parameters: Any) -> Any:
        return cg.belief_propagation(cg.condition(net, evidence))(parameters)

    compiled: dict[str, Callable[..., Any]] = {
        "exact": jax.jit(exact),
        "messages": jax.jit(messages),
    }
    mapped = jax.jit(jax.vmap(exact, (0, None)))
    first, steps, found = {}, {}, {}
    for key, function in compiled.items():
        first[key], found[key] = seconds_of(lambda f=function: f(first_query, parameters))
        steps["call", key] = called(function, first_query, parameters)
    jax.block_until_ready(mapped(one_hot, parameters))
    steps["queries", "exact"] = called(mapped, one_hot, parameters)
    errors = {"messages": largest(found["messages"].mean, found["exact"])}
    if beside:
        rows = [{n: int(x[k]) for n, x in seen.items()} for k in range(queries)]
        begin = time.perf_counter()
        engine = PyAgrum(variables)
        found["pyAgrum"] = engine(rows[0])
        first["pyAgrum"] = time.perf_counter() - begin
        errors["exact"] = largest(found["exact"], found["pyAgrum"])

        def loop(count: int) -> None:
            for _ in range(count):
                for row in rows:
                    engine(row)

        def alone(count: int) -> None:
            for k in range(count):
                engine(rows[k % 2])  # it keeps the answer to the question that it answered last

        steps["call", "pyAgrum"], steps["queries", "pyAgrum"] = alone, loop
    timings: dict[Any, Timing] = {}
    for part, calls in (("call", 10), ("queries", 1)):
        own = {key: step for key, step in steps.items() if key[0] == part}
        timings |= interleaved(own, rounds=rounds, calls=calls)
    return [
        {
            "network": name,
            "nodes": len(variables),
            "implementation": key,
            "first_seconds": first[key],
            **figures_of(timings, key),
            "error": errors.get(key),
            "rounds": int(found[key].iterations) if key == "messages" else None,
        }
        for key in first
    ]


def figures_of(timings: Mapping[Any, Timing], key: str) -> dict[str, Any]:
    """The times of one implementation, and how many times as fast as pyAgrum it is."""
    found: dict[str, Any] = {"milliseconds": 1e3 * timings["call", key].seconds}
    if timing := timings.get(("queries", key)):
        found["queries_milliseconds"] = 1e3 * timing.seconds
        if other := timings.get(("queries", "pyAgrum")):
            found |= other.ratio(timing).figures("speedup")
    return found


# -- graphs of spins


def chain(length: int) -> Callable[..., Any]:
    """A chain."""

    def net(x: Any) -> Any:
        h = x
        for _ in range(length):
            h = cg.node(cg.nodes.Spin(), 0.9 * h + 0.1)
        return h

    return net


def tree(nodes: int) -> Callable[..., Any]:
    """A binary tree; the result is the last leaf and the first."""

    def net(x: Any) -> Any:
        values = [cg.node(cg.nodes.Spin(), x)]
        for k in range(1, nodes):
            values.append(cg.node(cg.nodes.Spin(), 0.8 * values[(k - 1) // 2] + 0.1))
        return values[nodes // 2] + values[-1]

    return net


def encoder_decoder(steps: int) -> Callable[..., Any]:
    """An encoder, and a decoder each step of which reads the step of the encoder at its level."""

    def net(x: Any) -> Any:
        skips, h = [], x
        for _ in range(steps):
            h = cg.node(cg.nodes.Spin(), 0.7 * h)
            skips.append(h)
        for skip in reversed(skips):
            h = cg.node(cg.nodes.Spin(), 0.5 * h + 0.4 * skip)
        return h

    return net


def dense(width: int, depth: int) -> Callable[..., Any]:
    """Dense layers."""
    weights = np.random.default_rng(2).normal(size=(depth, width, width)) / width**0.5
    layers = [jnp.asarray(w, jnp.float32) for w in weights]

    def net(x: Any) -> Any:
        h = x * jnp.linspace(-1.0, 1.0, width)
        for w in layers:
            h = cg.node(cg.nodes.Spin(), h @ w)
        return h

    return net


GRAPHS = {
    "chain of 80": (80, lambda: chain(80)),
    "tree of 255": (255, lambda: tree(255)),
    "encoder and decoder": (600, lambda: encoder_decoder(300)),
    "dense 14 x 3": (42, lambda: dense(14, 3)),
    "dense 10 x 10": (100, lambda: dense(10, 10)),
}
QUICK = {
    "chain of 6": (6, lambda: chain(6)),
    "tree of 7": (7, lambda: tree(7)),
    "encoder and decoder": (6, lambda: encoder_decoder(3)),
    "dense 3 x 2": (6, lambda: dense(3, 2)),
}


def of_graph(name: str, nodes: int, net: Callable[..., Any], rounds: int) -> list[dict[str, Any]]:
    """The figures of one graph of spins."""
    x = jnp.float32(0.3)
    procedures = {"exact": cg.exact_marginals(net), "messages": cg.belief_propagation(net)}
    first, steps, found = {}, {}, {}
    for key, procedure in procedures.items():
        function = jax.jit(procedure)
        first[key], found[key] = seconds_of(lambda f=function: f(x))
        steps[key] = called(function, x)
    timings = interleaved(steps, rounds=rounds, calls=2)
    return [
        {
            "network": name,
            "nodes": nodes,
            "implementation": key,
            "first_seconds": first[key],
            "milliseconds": 1e3 * timings[key].seconds,
            "error": largest(found[key].mean, found["exact"]) if key == "messages" else None,
            "rounds": int(found[key].iterations) if key == "messages" else None,
        }
        for key in procedures
    ]


def measure(quick: bool, data_dir: str = "") -> Iterator[dict[str, Any]]:
    """All figures so far, after each network."""
    rows: list[dict[str, Any]] = []
    beside, rounds, queries = has_pyagrum(), 2 if quick else 7, 20 if quick else QUERIES
    for name, variables in networks(quick, data_dir).items():
        rows += queried(name, variables, beside, rounds, queries)
        print(name, "measured", flush=True)
        yield {"queries": queries, "rows": rows}
    for name, (nodes, make) in (QUICK if quick else GRAPHS).items():
        rows += of_graph(name, nodes, make(), rounds)
        print(name, "measured", flush=True)
        yield {"queries": queries, "rows": rows}


TABLES = [
    Table(
        "rows",
        "network {network} | nodes {nodes} | implementation {implementation} | "
        "first call, s {first_seconds:.2f} | further, ms {milliseconds:.3f} | "
        "all queries, ms {queries_milliseconds:.1f} | times as fast as pyAgrum {speedup~1} | "
        "rounds {rounds:d} | error {error:.1e}",
        faster=("speedup",),
    )
]


if __name__ == "__main__":
    command.run(OPTIONS, measure, TABLES)

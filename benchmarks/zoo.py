"""What becomes of networks that were written without cgjax: each model of the zoo in tests/zoo.

For each: how many of its activations become nodes; whether the lifted network is the network, to
the last bit; which procedures run, and what the others say; means and variances by `moments`,
with uncertain weights, with uncertain inputs, and with nodes that are random, relative to those of
samples; and how long it takes to trace and compile a procedure, relative to the network itself.

    taskset -c 0 python -m benchmarks.zoo                   # about 20 minutes of one core
    python -m benchmarks.zoo --only resnet-nnx --no-write
    python -m benchmarks.zoo --quick --no-write
"""

from benchmarks import command

OPTIONS = command.read(
    __name__, __doc__, only={"help": "patterns of models", "nargs": "+", "default": ["*"]}
)

import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from fnmatch import fnmatchcase
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import cgjax as cg
from benchmarks.records import Row, Table
from benchmarks.timing import Facts
from tests.zoo.example import Example, Parts
from tests.zoo.models import ZOO

KEY = jax.random.key(0)
DRAWS = 2000
LIBRARIES = ("flax", "equinox", "dm-haiku", "keras", "diffrax")
SHARE = 0.01  # of the mean square of an array, its variance where it is uncertain
RATE = 0.5
# Each program runs once: most of the time would go into compiling it.
FAST: dict[str, str | bool] = {"xla_backend_optimization_level": "0"}
Called = tuple[Callable[..., Any], tuple[Any, ...]]  # a function, and its arguments


class Case(NamedTuple):
    """A model, and what procedures need of it."""

    parts: Parts
    posterior: Any  # beliefs about the parameters
    belief: cg.Belief  # about the first input

    @property
    def f(self) -> Callable[..., Any]:
        return self.parts.f

    @property
    def lifted(self) -> Any:
        return cg.lift(self.parts.f)

    @property
    def args(self) -> tuple[Any, ...]:
        return (self.parts.params, *self.parts.inputs)

    @property
    def uncertain_inputs(self) -> tuple[Any, ...]:
        return (self.parts.params, self.belief, *self.parts.inputs[1:])

    @property
    def uncertain_weights(self) -> tuple[Any, ...]:
        return (self.posterior, *self.parts.inputs)


def uncertain(array: jax.Array) -> Any:
    """A belief about an array of numbers; other arrays as they are."""
    if not jnp.issubdtype(array.dtype, jnp.floating):
        return array
    return cg.Belief(array, jnp.full_like(array, SHARE) * jnp.mean(array**2))


def case(parts: Parts) -> Case:
    """With beliefs about all parameters, and about the first input."""
    return Case(parts, jax.tree.map(uncertain, parts.params), uncertain(parts.inputs[0]))


def log_joint(case: Case) -> Called:
    """Of a sample of the nodes."""

    def f(key: jax.Array, *args: Any) -> Any:
        _, values = cg.with_nodes(cg.forward_sample(case.lifted))(key, *args)
        return cg.log_joint(case.lifted)(values, *args)

    return f, (KEY, *case.args)


def everything(case: Case) -> Called:
    """Moments, where weights, the first input and nodes are uncertain at once."""
    moments = cg.moments(case.lifted, nodes="random")
    return moments, (case.posterior, case.belief, *case.parts.inputs[1:])


# By name; all can be compiled but the graph.
PROCEDURES: dict[str, Callable[[Case], Called]] = {
    "feed_forward": lambda c: (cg.feed_forward(c.lifted), c.args),
    "forward_sample": lambda c: (cg.forward_sample(c.lifted), (KEY, *c.args)),
    "pcff": lambda c: (cg.pcff(c.lifted, RATE), (KEY, *c.args)),
    "pcff, all lifted": lambda c: (cg.pcff(cg.lift(c.f, include="*"), RATE), (KEY, *c.args)),
    "monte_carlo": lambda c: (cg.monte_carlo(cg.forward_sample(c.lifted), 4), (KEY, *c.args)),
    "log_joint": log_joint,
    "moments": everything,
    "local_reparameterization": lambda c: (
        cg.weights.local_reparameterization(c.f),
        (KEY, *c.uncertain_weights),
    ),
    "flipout": lambda c: (cg.weights.flipout(c.f), (KEY, *c.uncertain_weights)),
    "weight_sample": lambda c: (cg.weights.weight_sample(c.f), (KEY, *c.uncertain_weights)),
    "chain_graph": lambda c: (cg.chain_graph(c.lifted), c.args),
}
GRAPH = "chain_graph"
# Of which the time until they are compiled is told.
TIMED = {"pcff": "pcff", "local": "local_reparameterization", "flipout": "flipout"}


def procedures(example: Example) -> list[str]:
    """Those that a model has."""
    return [name for name in PROCEDURES if name != "pcff, all lifted" or example.optional]


def fails(example: Example, name: str, case: Case) -> str:
    """Traces a procedure: what goes wrong that was not expected, or nothing.

    A warning is an error too. What is expected and does not happen is wrong as well.
    """
    expected = example.errors.get(name)
    try:
        function, args = PROCEDURES[name](case)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            if name == GRAPH:
                function(*args)
            else:
                jax.eval_shape(function, *args)
    except Exception as error:  # whatever a model makes a procedure say is to be told
        told = f"{type(error).__name__}: {error}"
        return "" if expected and expected in told else told
    return f"runs, and should say {expected!r}" if expected else ""


def values(case: Case) -> Facts:
    """Whether the lifted network, compiled, returns what the network does to the last bit; and the
    largest difference of `feed_forward` of it, relative to the largest result."""
    networks = (case.f, case.lifted, cg.feed_forward(case.lifted))
    plain, lifted, walked = (
        [np.asarray(a) for a in jax.tree.leaves(jax.jit(f, compiler_options=FAST)(*case.args))]
        for f in networks
    )
    same = all(a.tobytes() == b.tobytes() for a, b in zip(plain, lifted, strict=True))
    off = [np.abs(a - b).max() / np.abs(a).max() for a, b in zip(plain, walked, strict=True)]
    return {"same_bits": same, "rounding": float(max(off))}


def compared(belief: Any, samples: Any, draws: int) -> Facts:
    """A tree of beliefs relative to an estimate from so many draws.

    Returns:
        The error of the mean in standard deviations, as a root mean square over outputs (with the
        noise of the estimate, the square root of its number of draws); the variance of all outputs
        together, relative to that of the samples; and the median of that ratio over outputs.
    """
    beliefs = jax.tree.leaves(belief, is_leaf=lambda x: isinstance(x, cg.Belief))
    beliefs = [(b.mean, b.variance) for b in beliefs if isinstance(b, cg.Belief)]
    estimates = [
        (mean, draws * error**2)
        for mean, error in zip(*map(jax.tree.leaves, samples), strict=True)
        if jnp.issubdtype(mean.dtype, jnp.floating)
    ]
    (mean, variance), (mean0, variance0) = map(_flat, (beliefs, estimates))
    varies = variance0 > 1e-10 * variance0.max()
    distance = (mean - mean0)[varies] / np.sqrt(variance0[varies])
    return {
        "mean_error": float(np.sqrt(np.mean(distance**2))),
        "variance": float(variance.sum() / variance0.sum()),
        "median": float(np.median(variance[varies] / variance0[varies])),
    }


def _flat(pairs: list[tuple[Any, Any]]) -> list[np.ndarray]:
    """All means, and all variances."""
    return [
        np.concatenate([np.asarray(a, np.float64).ravel() for a in of])
        for of in zip(*pairs, strict=True)
    ]


def compiled(function: Callable[..., Any], *args: Any) -> tuple[Any, float]:
    """A function, traced and compiled with few optimisations; the seconds of this process."""
    jax.clear_caches()
    begin = time.process_time()
    made = jax.jit(function).lower(*args).compile(FAST)
    return made, time.process_time() - begin


def moments(case: Case, plain: float, draws: int) -> Facts:
    """Beliefs relative to samples of weights, of inputs and of nodes, or what they say instead; the
    time until they are compiled, relative to the plain network's."""

    def draw(key: jax.Array, *args: Any) -> Any:
        return case.f(*cg.weights.sample(key, args))

    nodes = cg.moments(case.lifted, nodes="random"), cg.forward_sample(case.lifted), case.args
    uncertain = cg.moments(case.f), draw
    found: Facts = {}
    for name, (procedure, sampler, args) in {
        "weights": (*uncertain, case.uncertain_weights),
        "inputs": (*uncertain, case.uncertain_inputs),
        "nodes": nodes,
    }.items():
        try:
            made, seconds = compiled(procedure, *args)
        except (TypeError, ValueError) as error:
            found[name] = {"error": str(error)}
            continue
        if name == "nodes" and not case.lifted.report(*case.args).lifted:
            continue  # nothing varies: there is no ratio
        average = jax.jit(cg.monte_carlo(sampler, draws), compiler_options=FAST)
        found[name] = compared(made(*args), average(KEY, *args), draws)
        found[name]["compilation"] = seconds / plain
    return found


def row(example: Example, draws: int) -> Facts:
    """All figures of a model."""
    model = case(example.make())
    report = model.lifted.report(*model.args)
    told = {name: fails(example, name, model) for name in procedures(example)}
    said = {name: text for name, text in told.items() if text}
    _, plain = compiled(model.f, *model.args)
    found: Facts = {"model": example.name, "library": example.library, "kind": example.kind}
    found["activations"] = example.activations
    found["lifted"] = len(report.lifted)
    found["optional"] = sum(entry.optional for entry in report.skipped)
    found |= values(model)
    found |= {"procedures": len(told), "unexpected": said, "errors": dict(example.errors)}
    found["seconds"] = plain
    for name, procedure in TIMED.items():
        if procedure not in example.errors and procedure not in said:
            function, args = PROCEDURES[procedure](model)
            found[name] = {"compilation": compiled(function, *args)[1] / plain}
    return found | moments(model, plain, draws)


def measure(quick: bool, only: list[str]) -> Iterator[Facts]:
    """A row for each model; those whose library is missing are named."""
    rows, missing = [], []
    draws = 100 if quick else DRAWS
    for example in ZOO:
        if not any(fnmatchcase(str(example), pattern) for pattern in only):
            continue
        begin = time.process_time()
        try:
            rows.append(row(example, draws))
        except ImportError as error:
            missing.append(f"{example}: {error}")
        print(f"{example}: {time.process_time() - begin:.0f} s", flush=True)
        yield {"share": SHARE, "draws": draws, "libraries": _versions(), "rows": rows} | (
            {"missing": missing} if missing else {}
        )


def _versions() -> dict[str, str]:
    return {name: version(name) for name in LIBRARIES if find_spec(name.replace("dm-", ""))}


def shown(row: Row) -> Row:
    """A row with what is shown in words."""
    asked = f" + {row['optional']}" if row["optional"] else ""
    fine = row["procedures"] - len(row["errors"]) - len(row["unexpected"])
    return dict(row) | {
        "found": f"{row['lifted']}{asked} of {row['activations']}",
        "same": "yes" if row["same_bits"] else "no",
        "ran": f"{fine} of {row['procedures']}",
    }


MOMENTS = "{@[variance]:.2f} ({@[median]:.2f})"
TABLES = [
    Table(
        "rows",
        "model {model} | library {library} | nodes {found} | same bits {same} | "
        "procedures {ran} | "
        + " | ".join(
            f"variance, {name} {MOMENTS.replace('@', name)}"
            for name in ("weights", "inputs", "nodes")
        ),
        more=shown,
        names="model library",
    ),
    Table(
        "rows",
        "model {model} | library {library} | seconds {seconds:.2f} | "
        + " | ".join(
            f"{heading} {{{name}[compilation]:.1f}}"
            for heading, name in {
                "PCFF": "pcff",
                "local reparameterisation": "local",
                "flipout": "flipout",
                "moments, weights": "weights",
                "moments, inputs": "inputs",
                "moments, nodes": "nodes",
            }.items()
        ),
        title="Seconds to trace and compile the network, and the ratio to them of procedures:",
        names="model library",
    ),
]


def reached(rows: Iterable[Row]) -> list[str]:
    """In how many cases what is to hold does."""
    rows = [*rows]
    activations = sum(row["activations"] for row in rows)
    lifted, optional = (sum(row[name] for row in rows) for name in ("lifted", "optional"))
    total = sum(row["procedures"] for row in rows)
    unexpected = sum(len(row["unexpected"]) for row in rows)
    errors = sum(len(row["errors"]) for row in rows)
    return [
        f"Activations that are nodes, or are if asked for: {lifted + optional} of {activations}.",
        f"Models with the same bits: {sum(row['same_bits'] for row in rows)} of {len(rows)}; the "
        f"largest rounding of `feed_forward`: {max(row['rounding'] for row in rows):.0e}.",
        f"Procedures that run: {total - errors - unexpected} of {total}; that say why they do not, "
        f"as is expected: {errors}.",
    ]


def said(rows: Iterable[Row]) -> list[str]:
    """What procedures that do not run say, and what libraries are missing."""
    return [
        f"{row['model']} ({row['library']}): {name}: {text}"
        for row in rows
        for name, text in (row["errors"] | row["unexpected"]).items()
    ]


def notes(result: Row) -> list[str]:
    """Below the tables."""
    rows = result["rows"]
    return [*reached(rows), *said(rows), *result.get("missing", [])]


if __name__ == "__main__":
    command.run(OPTIONS, measure, TABLES, notes)

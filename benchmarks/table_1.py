"""The networks of [B] Table 1 without normalisation: are their variances right, and at what cost?

Variances: a small network of each of the five kinds on 8 x 8 images, one of them with standardised
kernels, and the three smaller networks that stand in for those of the table, each with weights
whose variance is 0.1 of their layer's mean square: the total variance of the logits by `moments`,
following what positions share or not, and the deviation of their means, relative to 10,000 sampled
networks.

Steps: stochastic gradient descent on the negative ELBO by `weights.deterministic`, with and without
rematerialisation of its forward pass, relative to a step of the plain network; temporary memory is
what the compiled program asks for.

    taskset -c 0 python -m benchmarks.table_1               # of one core
    python -m benchmarks.table_1 --only "*mixer*" --part variances --no-write
    python -m benchmarks.table_1 --quick --no-write
"""

from benchmarks import command

DRAWS = {"help": "samples of a network", "type": int, "default": 10_000}
ONLY = {"help": "patterns of networks", "nargs": "+", "default": ["*"]}
PART = {"help": "what to measure", "choices": ["both", "variances", "steps"]}
OPTIONS = command.read(__name__, __doc__, draws=DRAWS, only=ONLY, part=PART)

from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import cgjax as cg
from benchmarks.moments_accuracy import FAST
from benchmarks.moments_networks import sampler
from benchmarks.records import Table
from benchmarks.timing import Prepared, batch, compared, descent
from cgjax import weights
from train.models import table_1
from train.models.densenet import DenseNetBC
from train.models.efficientnet import EfficientNet, Stage
from train.models.mixer import Mixer
from train.models.parts import Parts
from train.models.residual import PreActivationResNet, ResNet18

SHARE = 0.1


class Case(NamedTuple):
    """A network without normalisation.

    Attributes:
        build: makes it, of `parts`.
        side: the rows and columns of its images where variances are compared.
        small: whether it is a small network of its kind, rather than one of `table_1.NETWORKS`.
        standardised: whether its kernels are.
    """

    build: Callable[..., nnx.Module]
    side: int = 8
    small: bool = True
    standardised: bool = False


STAGES = Stage(1, 3, 1, 8, 2), Stage(4, 5, 2, 12, 2)
CASES = {
    "DenseNet-BC, 2 layers a block": Case(partial(DenseNetBC, 16, 8)),
    "pre-activation, 2 blocks": Case(partial(PreActivationResNet, (2,), (16,))),
    "pre-activation, standardised kernels": Case(
        partial(PreActivationResNet, (2,), (16,)), standardised=True
    ),
    "ResNet-18, 4 channels": Case(partial(ResNet18, width=4)),
    "EfficientNet, 4 blocks": Case(partial(EfficientNet, STAGES, first=8, head=32, first_stride=1)),
    "MLP-Mixer, 2 layers": Case(partial(Mixer, 2, 32, 16, 64, 2)),
} | {
    name: Case(partial(table_1.network, name), side, small=False)
    for name, side in (("densenet-bc-40-12", 8), ("wrn-16-4", 8), ("mixer-nano", 32))
}


def pure(case: Case, seed: int) -> tuple[Callable[..., Any], Any]:
    """`f(params, x)`, and its first parameters."""
    parts = Parts(nnx.Rngs(seed), "none", case.standardised, side=case.side)
    f, params, state = cg.functional(case.build(parts=parts))
    return lambda params, x: f(params, state, x)[0], params


def posterior(params: Any) -> Any:
    """Beliefs: the variance of an array is a share of its mean square."""

    def about(mean: jax.Array) -> cg.Belief:
        return cg.Belief(mean, jnp.full_like(mean, SHARE) * (mean**2).mean())

    return jax.tree.map(about, params)


def images(case: Case, seed: int, number: int = 2) -> jax.Array:
    """One of white noise, and one whose neighbours are alike."""
    shape = (number, case.side, case.side, 3)
    x = jax.random.normal(jax.random.key(100 + seed), shape)
    smooth = jax.image.resize(x[:, ::4, ::4], shape, "cubic")
    return jnp.where((jnp.arange(number) % 2 == 0).reshape(-1, 1, 1, 1), x, smooth)


def variances(name: str, seeds: range, draws: int) -> dict[str, Any]:
    """Moments of random networks of a kind, relative to those of samples."""
    case = CASES[name]
    f, _ = pure(case, 0)
    ours = jax.jit(cg.moments(f), compiler_options=FAST)
    diagonal = jax.jit(cg.moments(f, positions=False), compiler_options=FAST)
    theirs, plain = sampler(f, draws), jax.jit(f, compiler_options=FAST)
    found: dict[str, list[float]] = {"total": [], "diagonal": [], "off": [], "plain_off": []}
    for seed in seeds:
        params = pure(case, seed)[1]
        about, x = posterior(params), images(case, seed)
        reference = theirs(jax.random.key(1000 + seed), about, x)
        mean, variance = reference.mean, reference.variance
        belief, apart = ours(about, x), diagonal(about, x)
        deviation = np.sqrt(variance.sum())
        found["total"].append(float(belief.variance.sum() / variance.sum()))
        found["diagonal"].append(float(apart.variance.sum() / variance.sum()))
        found["off"].append(float(jnp.linalg.norm(belief.mean - mean) / deviation))
        found["plain_off"].append(float(jnp.linalg.norm(plain(params, x) - mean) / deviation))
    return {"network": name} | found


def prepare(name: str, procedure: str, size: int) -> Prepared:
    """Steps of a network in training, and what is known of them before they are timed."""
    case = CASES[name]
    f, params = pure(case, 0)
    if procedure == "moments, rematerialised":
        f = jax.checkpoint(f)
    side = case.side if case.small else 32

    def loss(params: Any, key: Any, state: Any, x: Any, y: Any) -> Any:
        if procedure == "plain":
            logits = f(params, x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), state
        apply = weights.deterministic(f)
        terms = weights.elbo(weights.CategoricalHead(), apply(key, params, x), y, params)
        return terms.per_example(50_000), state

    start = params if procedure == "plain" else weights.mean_field(params, 1e-4)
    steps, facts = descent(loss, start, (), *batch(size, (side, side, 3)), rate=1e-4)
    return steps, facts | {"batch_size": size}


PROCEDURES = ("plain", "moments", "moments, rematerialised")


def measure(quick: bool, draws: int, only: list[str], part: str) -> Iterator[dict[str, Any]]:
    """All networks of which a pattern is given."""
    chosen = [name for name in CASES if any(fnmatchcase(name, pattern) for pattern in only)]
    seeds, draws = (range(1), 200) if quick else (range(3), draws)
    result: dict[str, Any] = {"variances": [], "steps": []}
    result |= {"draws": draws, "seeds": list(seeds), "share": SHARE}
    rounds, calls = (2, 1) if quick else (11, 1)
    for name in chosen:
        if part != "steps":
            result["variances"].append(variances(name, seeds, draws))
            yield result
        if part != "variances":
            size = 4 if quick else 16
            prepared = {p: prepare(name, p, size) for p in PROCEDURES}
            figures = compared(prepared, "plain", rounds=rounds, calls=calls)
            plain = figures["plain"]["temporary_bytes"]
            for p, facts in figures.items():
                memory = {"memory_ratio": facts["temporary_bytes"] / plain}
                result["steps"].append({"network": name, "procedure": p} | facts | memory)
            yield result


def summary(row: Any) -> dict[str, Any]:
    """The means over seeds, and the least and the most total."""
    means = {f"{name}_mean": np.mean(row[name]) for name in row if name != "network"}
    return {**row, **means, "least": min(row["total"]), "most": max(row["total"])}


TABLES = [
    Table(
        "variances",
        "network {network} | total {total_mean:.2f} ({least:.2f}-{most:.2f}) | "
        "positions apart {diagonal_mean:.2f} | means off, deviations {off_mean:.3f} | "
        "the plain network's {plain_off_mean:.3f}",
        more=summary,
    ),
    Table(
        "steps",
        "network {network} | training step {procedure} | batch {batch_size} | "
        "ms {milliseconds:.1f} | ratio (quartiles) {ratio~2} | compile s {compile_seconds:.1f} | "
        "temporary MB {temporary_bytes/1e6:.1f} | of plain {memory_ratio:.2f}",
        title="Steps of training:",
    ),
]

if __name__ == "__main__":
    command.run(OPTIONS, measure, TABLES)

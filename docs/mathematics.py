"""Measures the equations of [B], as printed and as corrected: the tables of docs/mathematics.md.

    python -m docs.mathematics       # writes results/mathematics/result.json

Part 1: random Gaussian-linear networks in float64. For every equation the residual
max |left - right| / max |right| of the printed and of the corrected form, against the joint
Gaussian of all variables, or the derivative of -log p(y). Part 2: the optimum of each objective on
linear regression with a conjugate prior. Cost: about two minutes on 2 CPU cores.
"""

import csv
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cgjax import weights
from docs.equations import SIZES, network, residuals
from docs.figures.pages import ROOT, write
from train.report.claims import ABSENT, FAILS, HOLDS, Claim

NETWORKS = 20
EXAMPLES, DATA_SETS, NOISE = (5, 20, 100, 1000), 20, 0.3


# Of each equation its place in [B], the verdict on the print, and the correct form.
_LIST = (ROOT / "docs" / "equations.csv").read_text(encoding="utf-8").splitlines()
ROWS = {row.pop("name"): row for row in csv.DictReader(_LIST)}


def claims(results: pathlib.Path) -> list[Claim]:
    """That of [B] about its equations, by their verdicts."""
    right = [row["verdict"] for row in ROWS.values()].count("holds")
    verdict, evidence = ABSENT, "-"
    if (results / "mathematics" / "result.json").exists():
        verdict = HOLDS if right == len(ROWS) else FAILS
        evidence = (
            f"{right} of {len(ROWS)} are right in print; all, once corrected "
            "([equations of the papers](mathematics.md))"
        )
    text = "The equations of sections 2 and 3, Theorems 1 and 2 hold as they are printed"
    command = "python -m docs.mathematics"
    return [Claim("[B] sections 2 and 3: equations", text, verdict, evidence, command)]


def equations() -> dict[str, Any]:
    """For each equation the median residuals of the print and of the correction, and the worst."""
    found: dict[str, list[tuple[str, float | None, float]]] = {name: [] for name in ROWS}
    for shape in SIZES:
        for seed in range(NETWORKS):
            for name, printed, corrected in residuals(*network(shape, seed)):
                found[name].append((shape, printed, corrected))
    out = {}
    for name, triples in found.items():
        printed = [a for shape, a, _ in triples if shape == "square" and a is not None]
        corrected = [b for _, _, b in triples]
        out[name] = {
            "printed": float(np.median(printed)) if printed else None,
            "corrected": float(np.median(corrected)),
            "worst": float(np.max(corrected)),
        }
    return out


def regression(key: Any, number: int) -> tuple[Any, Any, Any]:
    """Inputs, targets, and the exact variances of the weights, with the prior N(0, 1)."""
    a, b, c = jax.random.split(key, 3)
    x = jax.random.normal(a, (number, 3)) * jnp.array([[1.0, 2.0, 0.5]])
    y = x @ jax.random.normal(b, (3,)) + NOISE**0.5 * jax.random.normal(c, (number,))
    return x, y, jnp.diag(jnp.linalg.inv(x.T @ x / NOISE + jnp.eye(3)))


HEAD = weights.GaussianHead(float(np.log(NOISE)))
PREDICTED = weights.deterministic(lambda params, x: x @ params["w"])


def _updated(optimiser: Any, loss: Callable[..., Any], posterior: Any, state: Any) -> Any:
    updates, state = optimiser.update(jax.grad(loss)(posterior), state, posterior)
    return optax.apply_updates(posterior, updates), state


def _descended(objective: Any, temperature: float, optimiser: Any, steps: int) -> Callable:
    def run(x: Any, y: Any) -> Any:
        def loss(posterior: Any) -> Any:
            parts = objective(HEAD, PREDICTED(None, posterior, x), y, posterior)
            return parts.per_example(len(y), temperature)

        own, start = optimiser(len(y)), weights.mean_field({"w": jnp.zeros(3)}, 0.1)
        step = lambda carry, _: (_updated(own, loss, *carry), None)  # noqa: E731
        return jax.lax.scan(step, (start, own.init(start)), None, steps)[0][0]["w"].variance

    return run


def _one_pass(x: Any, y: Any) -> Any:
    optimiser = weights.assumed_density()

    def step(posterior: Any, example: Any) -> Any:
        def loss(posterior: Any) -> Any:
            output = PREDICTED(None, posterior, example[0][None])
            return HEAD.marginal_nll(output, example[1][None])[0]

        return _updated(optimiser, loss, posterior, optimiser.init(posterior))[0], None

    start = weights.mean_field({"w": jnp.zeros(3)}, 1.0)
    return jax.lax.scan(step, start, (x, y))[0]["w"].variance


def _natural(number: int) -> Any:
    return weights.natural_gradient(0.3, number_of_examples=number, momentum=0.0)


WAYS = {
    "elbo": _descended(weights.elbo, 1.0, _natural, 300),
    "marginal": _descended(weights.marginal, 1.0, lambda _: optax.adam(0.02), 12_000),
    "marginal without KL": _descended(weights.marginal, 0.0, lambda _: optax.adam(0.02), 12_000),
    "assumed_density": _one_pass,
}


def objectives() -> list[dict[str, Any]]:
    """Median variance at the optimum, relative to the exact posterior's, by objective and size."""
    rows = []
    for number in EXAMPLES:
        keys = jax.random.split(jax.random.key(number), DATA_SETS)
        x, y, exact = jax.vmap(lambda key, n=number: regression(key, n))(keys)
        for way, run in WAYS.items():
            ratio = np.asarray(jax.jit(jax.vmap(run))(x, y) / exact)
            figures = {"median": np.median(ratio), "least": ratio.min(), "most": ratio.max()}
            told = {name: float(value) for name, value in figures.items()}
            rows.append({"examples": number, "objective": way, **told})
    return rows


if __name__ == "__main__":
    settings = {"sizes": SIZES, "networks": NETWORKS, "data sets": DATA_SETS, "noise": NOISE}
    with jax.enable_x64(True):
        measured = {"settings": settings, "equations": equations()}
    write("mathematics", "mathematics", "mathematics", measured | {"objectives": objectives()})

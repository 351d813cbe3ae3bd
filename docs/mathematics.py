"""Measures the equations of [B], as printed and as corrected: the tables of docs/mathematics.md.

    python -m docs.mathematics       # writes results/mathematics/result.json

Part 1: random Gaussian-linear networks in float64. For every equation the residual
max |left - right| / max |right| of the printed and of the corrected form, against the joint
Gaussian of all variables, or the derivative of -log p(y). Part 2: the optimum of each objective on
linear regression with a conjugate prior. Cost: about two minutes on 2 CPU cores.
"""

import json
import pathlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cgjax import weights
from docs.equations import SIZES, network, residuals
from train.report import machine
from train.report.files import write_atomic

ROOT = pathlib.Path(__file__).parent.parent
RESULT = ROOT / "results" / "mathematics" / "result.json"
NETWORKS = 20
EXAMPLES, DATA_SETS, NOISE = (5, 20, 100, 1000), 20, 0.3


class Row(NamedTuple):
    """One equation: its place in [B], the verdict on the print, and the correct form."""

    place: str
    verdict: str
    correct: str


ROWS = {
    "delta": Row("section 2, δ_l and ∇W_l", "holds", "∇W_l = δ_l x_{l-1}ᵀ"),
    "P": Row("Eq. 5, P_l and S_L", "holds", "F P Fᵀ + B Q Bᵀ"),
    "mean": Row("Eq. 6, mean, any l", "index: only for l = L", "x_l + P_l H_lᵀ S⁻¹ (y − ŷ)"),
    "variance": Row("Eq. 6, variance", "transpose, index", "P_l − K_l S K_lᵀ"),
    "G": Row("gain G_l", "wrong covariance", "P_l Fᵀ P_{l+1}⁻¹"),
    "P_smoothed": Row("P_{l|L}", "sign", "P_l + G (P_{l+1|L} − P_{l+1}) Gᵀ"),
    "G_W": Row("gain G_W", "wrong covariance", "Q Bᵀ P_l⁻¹"),
    "P_W": Row("P_{W|L}", "sign", "Q + G_W (P_{l|L} − P_l) G_Wᵀ"),
    "W_gradient": Row("weights by gradients", "not in print", "Q − 2 Q g_Q Q − (Q g)(Q g)ᵀ"),
    "thm1-1": Row("Theorem 1 (1), θ_l", "holds", "−E_γ ∇ log α"),
    "thm1-1W": Row("Theorem 1 (1), θ_W", "holds", "−E_γ ∇ log p(x_l | x_{l−1})"),
    "thm1-2": Row("Theorem 1 (2), ∇_θ J", "sign, for exp(θ·T − A)", "μ_l − μ_{l|L}"),
    "thm1-2chain": Row("Theorem 1 (2), chain of four", "holds", "with minimal parameters"),
    "eq7-mean": Row("Eq. 7, ∇_x", "holds", "−P_l⁻¹ (x_{l|L} − x_l)"),
    "eq7-variance": Row("Eq. 7, ∇_P", "holds", "−½ P⁻¹ (ΔP + Δx Δxᵀ) P⁻¹"),
    "thm1-3x": Row("Theorem 1 (3), ∇_x recursion", "gain", "Fᵀ ∇_x J_{l+1}"),
    "thm1-3P": Row("Theorem 1 (3), ∇_P recursion", "transpose, gain", "Fᵀ ∇_P J_{l+1} F"),
    "eq8-W": Row("Eq. 8, ∇_W", "gain", "Bᵀ ∇_x J_l"),
    "eq8-variance": Row("Eq. 8, ∇_σ²", "transpose, gain", "diag(Bᵀ ∇_P J_l B)"),
    "eta": Row("∇_η recursion", "gain", "G ∇_η J_{l+1}"),
    "Lambda": Row(
        "∇_Λ recursion",
        "sign, gain, terms missing",
        "G g_Λ Gᵀ + b (G g_η)ᵀ + (G g_η) bᵀ, b = x_l − G x_{l+1}",
    ),
    "thm2-1": Row("Theorem 2 (1), score", "sign", "(∇T)ᵀ (θ_{l|L} − θ_l)"),
    "thm2-1proj": Row("Theorem 2 (1), projection", "false", "(E[∇T ∇Tᵀ])⁺ E[∇T ∇ log p]"),
    "thm2-2score": Row("Theorem 2 (2), score, Hessian", "holds", "P⁻¹ − P_{l|L}⁻¹"),
    "thm2-2mean": Row("Theorem 2 (2), ∇_x", "holds", "E_γ ∇ log p(y | x_l)"),
    "thm2-2P": Row("Theorem 2 (2), ∇_P", "factor ½ missing", "½ (Hessian + E_γ[g gᵀ])"),
    "drift": Row("Theorem 2, drift to γ", "prior score missing", "∇ log p(y | x_l) + ∇ log α"),
}


def equations() -> dict[str, Any]:
    """For each equation the median residuals of the print and of the correction, and the worst."""
    found: dict[str, dict[str, list[Any]]] = {name: {} for name in ROWS}
    for shape in SIZES:
        for seed in range(NETWORKS):
            for name, pairs in residuals(*network(shape, seed)).items():
                found[name].setdefault(shape, []).extend(pairs)
    out = {}
    for name, shapes in found.items():
        printed = [a for a, _ in shapes["square"] if a is not None]
        corrected = [b for pairs in shapes.values() for _, b in pairs]
        out[name] = {
            "printed": float(np.median(printed)) if printed else None,
            "corrected": float(np.median(corrected)),
            "worst": float(np.max(corrected)),
        }
    return out


# -- the optima of objectives


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
            figures = map(float, (np.median(ratio), ratio.min(), ratio.max()))
            named = zip(("median", "least", "most"), figures, strict=True)
            rows.append({"examples": number, "objective": way, **dict(named)})
    return rows


def main() -> int:
    """Measures, and writes the JSON."""
    result = {
        "command": "python -m docs.mathematics",
        "commit": machine.commit(),
        "machine": machine.identity("mathematics"),
        "settings": {"sizes": SIZES, "networks": NETWORKS, "data sets": DATA_SETS, "noise": NOISE},
    }
    with jax.enable_x64(True):
        result["equations"] = equations()
    result["objectives"] = objectives()
    write_atomic(RESULT, (json.dumps(result, indent=1) + "\n").encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())

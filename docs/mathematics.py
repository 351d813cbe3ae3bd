"""Measures the equations of [B], as printed and as corrected: the tables of docs/mathematics.md.

    python -m docs.mathematics       # writes results/mathematics/result.json

Part 1: random Gaussian-linear networks in float64. For every equation the residual
max |left - right| / max |right| of the printed and of the corrected form, against the joint
Gaussian of all variables, or the derivative of -log p(y). Part 2: the optimum of each objective on
linear regression with a conjugate prior. Cost: about two minutes on 2 CPU cores.
"""

import functools
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
from cgjax.weights import LinearGaussian, Moments
from train.report import machine

ROOT = pathlib.Path(__file__).parent.parent
RESULT = ROOT / "results" / "mathematics" / "result.json"
# With all sizes equal every printed formula can be evaluated; the last size is that of y.
SIZES = {"square": (3, 3, 3, 3, 3), "rectangular": (2, 4, 3, 5, 2)}
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


def network(name: str, seed: int) -> tuple[LinearGaussian, Any]:
    """A random Gaussian-linear network with diagonal weight covariances, and an observation."""
    generator = np.random.default_rng([seed, len(name)])
    *sizes, m = SIZES[name]
    normal: Any = generator.normal
    diagonal: Any = np.diag

    def covariance(n: int) -> Any:
        root = normal(size=(n, n + 2))
        return root @ root.T / n

    pairs = list(zip(sizes[:-1], sizes[1:], strict=True))
    extra = name != "square"
    net = LinearGaussian(
        [normal(size=(n, k)) / k**0.5 for k, n in pairs],
        [normal(size=(n, n + extra)) for _, n in pairs],
        [
            Moments(normal(size=n + extra), diagonal(generator.gamma(2, 0.5, size=n + extra)))
            for _, n in pairs
        ],
        Moments(normal(size=sizes[0]), covariance(sizes[0])),
        normal(size=(m, sizes[-1])),
        covariance(m),
    )
    return jax.tree.map(jnp.asarray, net), jnp.asarray(normal(size=m))


def dense(net: LinearGaussian, y: Any) -> tuple[list[Moments], list[Moments], list[Any], Any]:
    """Posterior of layers and weights, the layers' maps, and the posterior of all roots.

    By conditioning the joint Gaussian of all roots (inputs and weights) on y: no recursion.
    """
    roots = [net.inputs, *net.weights]
    mean: Any = np.concatenate([r.mean for r in roots])
    ends = np.cumsum([0] + [len(r.mean) for r in roots])
    picks: list[Any] = [np.eye(len(mean))[a:b] for a, b in zip(ends[:-1], ends[1:], strict=True)]
    joint: Any = sum(p.T @ np.asarray(r.covariance) @ p for p, r in zip(picks, roots, strict=True))
    maps: list[Any] = [picks[0]]
    for f, b, pick in zip(net.transitions, net.loadings, picks[1:], strict=True):
        maps.append(np.asarray(f) @ maps[-1] + np.asarray(b) @ pick)
    seen = np.asarray(net.readout) @ maps[-1]
    gain = joint @ seen.T @ np.linalg.inv(seen @ joint @ seen.T + np.asarray(net.noise))
    after = Moments(mean + gain @ (np.asarray(y) - seen @ mean), joint - gain @ seen @ joint)

    def of(a: Any) -> Moments:
        return Moments(a @ after.mean, a @ after.covariance @ a.T)

    return [of(a) for a in maps], [of(a) for a in picks[1:]], maps, Moments(mean, joint)


@jax.jit
def gradients(net: LinearGaussian, y: Any) -> Any:
    """dJ by mean and covariance, and by canonical parameters, of each layer; dJ by weights."""

    def symmetric(g: Any) -> Any:
        return (g + g.T) / 2

    of_layers, canonical = [], []
    for layer, start in enumerate(net.filtered()):
        by = jax.grad(lambda s, layer=layer: net.loss(y, layer, s))(start)
        of_layers.append(Moments(by.mean, symmetric(by.covariance)))
        precision = jnp.linalg.inv(start.covariance)

        def by_natural(eta: Any, bend: Any, layer: int = layer) -> Any:
            p = jnp.linalg.inv(-(bend + bend.T))
            return net.loss(y, layer, Moments(p @ eta, p))

        eta, bend = jax.grad(by_natural, (0, 1))(precision @ start.mean, -precision / 2)
        canonical.append((eta, symmetric(bend)))
    by = jax.grad(lambda w: net._replace(weights=w).loss(y))(net.weights)
    return of_layers, canonical, [Moments(w.mean, symmetric(w.covariance)) for w in by]


def residuals(net: LinearGaussian, y: Any) -> dict[str, list[tuple[float | None, float]]]:
    """For each equation and layer the residuals of the printed and of the corrected form."""
    layers, of_weights, maps, roots = dense(net, y)
    by_layer, canonical, by_weights = jax.tree.map(np.asarray, gradients(net, y))
    net, y = jax.tree.map(np.asarray, (net, y))
    x = [Moments(a @ roots.mean, a @ roots.covariance @ a.T) for a in maps]
    inv, last = np.linalg.inv, len(net.transitions)
    h, square = net.readout, len({len(m.mean) for m in x} | {len(y)}) == 1
    s = h @ x[-1].covariance @ h.T + net.noise
    innovation = y - h @ x[-1].mean
    out: dict[str, list[tuple[float | None, float]]] = {name: [] for name in ROWS}

    def note(name: str, expected: Any, corrected: Any, printed: Any = None) -> None:
        def off(value: Any) -> float:
            return float(np.abs(value - expected).max() / np.abs(expected).max())

        usable = printed is not None and np.shape(printed) == np.shape(expected)
        out[name].append((off(printed) if usable else None, off(corrected)))

    filtered = jax.tree.map(np.asarray, LinearGaussian(*net).filtered())
    heads = [h]
    for f in net.transitions[::-1]:
        heads.insert(0, heads[0] @ f)
    for i, (before, after) in enumerate(zip(x, layers, strict=True)):
        p, ps, dx = before.covariance, after.covariance, after.mean - before.mean
        pi, psi, g = inv(p), inv(ps), by_layer[i]
        dp = ps - p
        note("P", p, filtered[i].covariance)
        k = p @ heads[i].T @ inv(s)
        print_k = x[-1].covariance @ h.T @ inv(s) if square else None
        wrong = None if print_k is None else before.mean + print_k @ innovation
        note("mean", after.mean, before.mean + k @ innovation, wrong if i < last else None)
        wrong = None if print_k is None else p - print_k @ s @ print_k
        note("variance", ps, p - k @ s @ k.T, wrong)
        # -E_gamma of the derivatives of log N(x; m, P), from gamma's first two moments.
        note("thm1-1", g.mean, -pi @ dx)
        expected = (pi - pi @ (ps + np.outer(dx, dx)) @ pi) / 2
        note("thm1-1", g.covariance, expected)
        eta, bend = canonical[i]
        note("thm1-2", eta, -dx, dx)
        second = [m.covariance + np.outer(m.mean, m.mean) for m in (before, after)]
        note("thm1-2", bend, second[0] - second[1], second[1] - second[0])
        note("eq7-mean", g.mean, -pi @ dx)
        note("eq7-variance", g.covariance, -pi @ (dp + np.outer(dx, dx)) @ pi / 2)
        # log p(y | x_l) = -1/2 (y - H_l x - c)^T R_l^-1 (…): its score and Hessian.
        noise = s - heads[i] @ p @ heads[i].T
        point = before.mean + 0.3
        off = innovation - heads[i] @ (point - before.mean)
        score, hessian = heads[i].T @ inv(noise) @ off, -heads[i].T @ inv(noise) @ heads[i]
        both = psi @ after.mean - pi @ before.mean - (psi - pi) @ point
        note("thm2-1", score, both, -both)
        note("thm2-2score", score, pi @ (point - before.mean) - psi @ (point - after.mean))
        note("thm2-2score", hessian, pi - psi)
        at_mean = score + hessian @ (after.mean - point)
        note("thm2-2mean", -g.mean, at_mean)
        moment = hessian + hessian @ ps @ hessian + np.outer(at_mean, at_mean)
        note("thm2-2P", -g.covariance, moment / 2, moment)
        drift = -psi @ (point - after.mean)
        note("drift", drift, score - pi @ (point - before.mean), score)
        note("thm2-1proj", *_projection(before, after, score, hessian, point))
    for i, (f, b, w) in enumerate(zip(net.transitions, net.loadings, net.weights, strict=True)):
        (p, ps), (pn, pns) = ((x[j].covariance, layers[j].covariance) for j in (i, i + 1))
        q, g, gn = w.covariance, by_layer[i], by_layer[i + 1]
        dx, dxn = (layers[j].mean - x[j].mean for j in (i, i + 1))
        gain, wrong = p @ f.T @ inv(pn), p @ f.T @ inv(pns)
        note("G", layers[i].mean, x[i].mean + gain @ dxn, x[i].mean + wrong @ dxn)
        note("P_smoothed", ps, p + gain @ (pns - pn) @ gain.T, p - wrong @ (pns - pn) @ wrong.T)
        gw, wrong_w = q @ b.T @ inv(pn), q @ b.T @ inv(pns)
        note("G_W", of_weights[i].mean, w.mean + gw @ dxn, w.mean + wrong_w @ dxn)
        cov = of_weights[i].covariance
        note("P_W", cov, q + gw @ (pns - pn) @ gw.T, q - wrong_w @ (pns - pn) @ wrong_w.T)
        gq, step = by_weights[i], q @ by_weights[i].mean
        note("W_gradient", of_weights[i].mean, w.mean - step)
        note("W_gradient", cov, q - 2 * q @ gq.covariance @ q - np.outer(step, step))
        note("thm1-1W", gq.mean, *_transition_score(net, i, maps, roots, y))
        carry, bad = (inv(p) @ k @ pn for k in (gain, wrong))
        note("thm1-3x", g.mean, f.T @ gn.mean, bad @ gn.mean)
        wrong_p = bad @ gn.covariance @ bad if square else None
        if square:
            wrong_p = bad @ gn.covariance @ pn @ wrong @ inv(p)
        note("thm1-3P", g.covariance, carry @ gn.covariance @ carry.T, wrong_p)
        note("eq8-W", gq.mean, b.T @ gn.mean, inv(q) @ wrong_w @ pn @ gn.mean)
        variances = np.diag(q)
        wrong_v = None
        if square:
            inner = wrong_w @ pn @ gn.covariance @ pn @ wrong_w
            wrong_v = np.diag(inner) / variances**2
        note("eq8-variance", np.diag(gq.covariance), np.diag(b.T @ gn.covariance @ b), wrong_v)
        (eta, bend), (eta_n, bend_n) = canonical[i], canonical[i + 1]
        note("eta", eta, gain @ eta_n, wrong @ eta_n)
        rest = x[i].mean - gain @ x[i + 1].mean
        cross = np.outer(rest, gain @ eta_n)
        wrong_c = np.outer(x[i].mean, wrong @ eta_n)
        note(
            "Lambda",
            bend,
            gain @ bend_n @ gain.T + cross + cross.T,
            wrong @ bend_n @ wrong.T - wrong_c - wrong_c.T,
        )
        chain = _chain_of_four(x[i], x[i + 1], f, b, w, _upper(eta_n, bend_n))
        note("thm1-2chain", _upper(eta, bend), np.asarray(chain))
    # Certain weights: the printed delta recursion, against the derivative of the squared error.
    certain = [w.mean for w in net.weights]
    off = -np.linalg.solve(net.noise, y - h @ x[-1].mean)
    delta = h.T @ off
    for i in reversed(range(last)):

        def error(value: Any, i: int = i) -> Any:
            return _error(net, certain, y, i, value)

        note("delta", np.asarray(jax.grad(error)(certain[i])), net.loadings[i].T @ delta)
        delta = net.transitions[i].T @ delta
    return out


def _error(net: LinearGaussian, certain: list[Any], y: Any, i: int, value: Any) -> Any:
    x = net.inputs.mean
    for j, (f, b) in enumerate(zip(net.transitions, net.loadings, strict=True)):
        x = f @ x + b @ (value if j == i else certain[j])
    off = y - net.readout @ x
    return off @ np.linalg.inv(net.noise) @ off / 2


def _projection(before: Moments, after: Moments, score: Any, hessian: Any, point: Any) -> Any:
    """theta_{l|L} - theta_l in minimal form, by second moments of grad T, and as printed."""
    size = len(before.mean)
    root = np.linalg.cholesky(before.covariance) * size**0.5
    # A Gaussian's moments up to the third are those of these points, and more is not needed.
    points = np.concatenate([before.mean + root.T, before.mean - root.T])
    first, second = np.triu_indices(size)

    def statistics(v: Any) -> Any:
        """The derivatives of (x, x x^T) in minimal form: (statistics, size)."""
        eye = np.eye(size)
        return np.concatenate([eye, eye[first] * v[second, None] + v[first, None] * eye[second]])

    jacobians = np.stack([statistics(v) for v in points])
    scores = np.stack([score + hessian @ (v - point) for v in points])
    left = np.einsum("psd,ptd->st", jacobians, jacobians) / len(points)
    right = np.einsum("psd,pd->s", jacobians, scores) / len(points)
    pi, psi = (np.linalg.inv(m.covariance) for m in (before, after))
    eta = psi @ after.mean - pi @ before.mean
    expected = _minimal(eta, -(psi - pi) / 2)
    printed = np.linalg.pinv(jacobians.mean(0)).T @ scores.mean(0)
    return expected, np.linalg.pinv(left) @ right, printed


def _minimal(eta: Any, bend: Any) -> Any:
    """A vector and a symmetric matrix without repeats: an entry off the diagonal counts twice."""
    size = len(eta)
    both = bend * (2 - np.eye(size))
    return np.concatenate([eta, both[np.triu_indices(size)]])


def _upper(vector: Any, matrix: Any) -> Any:
    """The same for moments, and for derivatives by minimal parameters: without the factor."""
    return np.concatenate([vector, matrix[np.triu_indices(len(vector))]])


def _transition_score(net: Any, i: int, maps: Any, roots: Moments, y: Any) -> Any:
    """-E_gamma of the derivative of log p(x_l | x_{l-1}) by the weights' mean."""
    seen = net.readout @ maps[-1]
    gain = roots.covariance @ seen.T @ np.linalg.inv(seen @ roots.covariance @ seen.T + net.noise)
    mean = roots.mean + gain @ (y - seen @ roots.mean)
    b, w = net.loadings[i], net.weights[i]
    spread = b @ w.covariance @ b.T
    off = (maps[i + 1] - net.transitions[i] @ maps[i]) @ mean - b @ w.mean
    return (-b.T @ np.linalg.inv(spread) @ off,)


@jax.jit
def _chain_of_four(x: Any, after: Any, f: Any, b: Any, w: Any, by_theta: Any) -> Any:
    """dJ/dtheta_l = (dmu_l/dtheta_l)(dmu_{l+1}/dmu_l)(dtheta_{l+1}/dmu_{l+1}) dJ/dtheta_{l+1}."""
    n, m = len(x.mean), len(after.mean)

    def pack(v: Any, a: Any, size: int, double: bool) -> Any:
        factor = 2 - jnp.eye(size) if double else jnp.ones((size, size))
        return jnp.concatenate([v, (a * factor)[jnp.triu_indices(size)]])

    def unpack(z: Any, size: int, double: bool) -> tuple[Any, Any]:
        upper = jnp.zeros((size, size)).at[jnp.triu_indices(size)].set(z[size:])
        whole = upper + upper.T - jnp.diag(jnp.diag(upper))
        return z[:size], whole / (2 - jnp.eye(size)) if double else whole

    def means(theta: Any) -> Any:
        e, a = unpack(theta, n, True)
        p = jnp.linalg.inv(-2 * a)
        v = p @ e
        return pack(v, p + jnp.outer(v, v), n, False)

    def onward(mu: Any) -> Any:
        v, second = unpack(mu, n, False)
        out = f @ v + b @ w.mean
        p = f @ (second - jnp.outer(v, v)) @ f.T + b @ w.covariance @ b.T
        return pack(out, p + jnp.outer(out, out), m, False)

    def natural(mu: Any) -> Any:
        v, second = unpack(mu, m, False)
        pi = jnp.linalg.inv(second - jnp.outer(v, v))
        return pack(pi @ v, -pi / 2, m, True)

    pi = jnp.linalg.inv(x.covariance)
    theta = pack(pi @ x.mean, -pi / 2, n, True)
    mu = means(theta)
    mu_next = onward(mu)
    chain = jax.jacobian(means)(theta).T @ jax.jacobian(onward)(mu).T
    return chain @ jax.jacobian(natural)(mu_next).T @ by_theta


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


def linear(params: Any, x: Any) -> Any:
    """The model of the regression."""
    return x @ params["w"]


def regression(key: Any, number: int) -> tuple[Any, Any, Any]:
    """Inputs, targets, and the exact variances of the weights, with the prior N(0, 1)."""
    a, b, c = jax.random.split(key, 3)
    x = jax.random.normal(a, (number, 3)) * jnp.array([[1.0, 2.0, 0.5]])
    y = x @ jax.random.normal(b, (3,)) + NOISE**0.5 * jax.random.normal(c, (number,))
    return x, y, jnp.diag(jnp.linalg.inv(x.T @ x / NOISE + jnp.eye(3)))


def _descended(objective: Any, temperature: float, optimiser: Any, steps: int) -> Callable:
    def run(x: Any, y: Any) -> Any:
        def loss(posterior: Any) -> Any:
            output = weights.deterministic(linear)(None, posterior, x)
            parts = objective(HEAD, output, y, posterior)
            return parts.per_example(len(y), temperature)

        def step(carry: Any, _: Any) -> Any:
            posterior, state = carry
            updates, state = optimiser(len(y)).update(jax.grad(loss)(posterior), state, posterior)
            return (optax.apply_updates(posterior, updates), state), None

        start = weights.mean_field({"w": jnp.zeros(3)}, 0.1)
        state = optimiser(len(y)).init(start)
        return jax.lax.scan(step, (start, state), None, steps)[0][0]["w"].variance

    return run


def _one_pass(x: Any, y: Any) -> Any:
    optimiser = weights.assumed_density()

    def step(posterior: Any, example: Any) -> Any:
        def loss(posterior: Any) -> Any:
            output = weights.deterministic(linear)(None, posterior, example[0][None])
            return HEAD.marginal_nll(output, example[1][None])[0]

        gradient = jax.grad(loss)(posterior)
        updates, _ = optimiser.update(gradient, optimiser.init(posterior), posterior)
        return optax.apply_updates(posterior, updates), None

    start = weights.mean_field({"w": jnp.zeros(3)}, 1.0)
    return jax.lax.scan(step, start, (x, y))[0]["w"].variance


HEAD = weights.GaussianHead(float(np.log(NOISE)))


@functools.cache
def _adam(_: int) -> Any:
    return optax.adam(0.02)


@functools.cache
def _natural(number: int) -> Any:
    return weights.natural_gradient(0.3, number_of_examples=number, momentum=0.0)


WAYS = {
    "elbo": _descended(weights.elbo, 1.0, _natural, 300),
    "marginal": _descended(weights.marginal, 1.0, _adam, 12_000),
    "marginal without KL": _descended(weights.marginal, 0.0, _adam, 12_000),
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
            rows.append(
                {
                    "examples": number,
                    "objective": way,
                    "median": float(np.median(ratio)),
                    "least": float(ratio.min()),
                    "most": float(ratio.max()),
                }
            )
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
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

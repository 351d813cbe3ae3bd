"""The equations of [B], as printed and as corrected, on random Gaussian-linear networks.

Each is compared with the joint Gaussian of all variables, or the derivative of -log p(y): neither
knows of a recursion. The names are those of `docs.mathematics.ROWS`.
"""

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from cgjax.weights import LinearGaussian, Moments

# With all sizes equal every printed formula can be evaluated; the last size is that of y.
SIZES = {"square": (3, 3, 3, 3, 3), "rectangular": (2, 4, 3, 5, 2)}


def network(name: str, seed: int) -> tuple[LinearGaussian, Any]:
    """A random Gaussian-linear network with diagonal weight covariances, and an observation."""
    generator: Any = np.random.default_rng([seed, len(name)])
    *sizes, m = SIZES[name]
    normal, gamma = generator.normal, generator.gamma

    def covariance(n: int) -> Any:
        root = normal(size=(n, n + 2))
        return root @ root.T / n

    pairs, extra = [*itertools.pairwise(sizes)], name != "square"
    roots = [n + extra for n in sizes[1:]]
    net = LinearGaussian(
        [normal(size=(n, k)) / k**0.5 for k, n in pairs],
        [normal(size=(n, n + extra)) for n in sizes[1:]],
        [Moments(normal(size=n), jnp.diag(gamma(2, 0.5, size=n))) for n in roots],
        Moments(normal(size=sizes[0]), covariance(sizes[0])),
        normal(size=(m, sizes[-1])),
        covariance(m),
    )
    return jax.tree.map(jnp.asarray, net), jnp.asarray(normal(size=m))


class Known(NamedTuple):
    """What is known of a network and an observation y, without any recursion. J = -log p(y)."""

    net: LinearGaussian
    before: list[Moments]  # of each layer
    after: list[Moments]  # of each layer, given y
    weights: list[Moments]  # of each layer, given y
    maps: list[Any]  # from all roots (inputs and weights) to each layer
    roots: Any  # their mean, given y
    off: Any  # y - y_hat
    spread: Any  # S, the covariance of y
    heads: list[Any]  # from each layer to y
    by_layer: list[Moments]  # dJ by the mean and covariance of each layer
    canonical: list[tuple[Any, Any]]  # dJ by its canonical parameters
    by_weights: list[Moments]  # dJ by means and covariances of weights


def known(net: LinearGaussian, y: Any) -> Known:
    """By conditioning the joint Gaussian of all roots on y."""
    derivatives = jax.tree.map(np.asarray, gradients(net, y))
    net, y = jax.tree.map(np.asarray, (net, y))
    roots = [net.inputs, *net.weights]
    mean: Any = np.concatenate([r.mean for r in roots])
    ends = np.cumsum([0] + [len(r.mean) for r in roots])
    picks: list[Any] = [np.eye(len(mean))[a:b] for a, b in itertools.pairwise(ends)]
    joint: Any = sum(p.T @ r.covariance @ p for p, r in zip(picks, roots, strict=True))
    maps, heads = [picks[0]], [net.readout]
    for f, b, pick in zip(net.transitions, net.loadings, picks[1:], strict=True):
        maps.append(f @ maps[-1] + b @ pick)
    for f in net.transitions[::-1]:
        heads.insert(0, heads[0] @ f)
    seen = net.readout @ maps[-1]
    spread, off = seen @ joint @ seen.T + net.noise, y - seen @ mean
    gain = joint @ seen.T @ np.linalg.inv(spread)
    posterior = Moments(mean + gain @ off, joint - gain @ seen @ joint)

    def of(parts: list[Any], belief: Moments) -> list[Moments]:
        return [Moments(a @ belief.mean, a @ belief.covariance @ a.T) for a in parts]

    beliefs = of(maps, Moments(mean, joint)), of(maps, posterior), of(picks[1:], posterior)
    return Known(net, *beliefs, maps, posterior.mean, off, spread, heads, *derivatives)


def _symmetric(matrix: Any) -> Any:
    return (matrix + matrix.T) / 2


@jax.jit
def gradients(net: LinearGaussian, y: Any) -> Any:
    """dJ by mean and covariance, and by canonical parameters, of each layer; dJ by weights."""
    of_layers, canonical = [], []
    for layer, start in enumerate(net.filtered()):
        by = jax.grad(lambda s, layer=layer: net.loss(y, layer, s))(start)
        of_layers.append(Moments(by.mean, _symmetric(by.covariance)))
        precision = jnp.linalg.inv(start.covariance)

        def by_natural(eta: Any, bend: Any, layer: int = layer) -> Any:
            p = jnp.linalg.inv(-2 * _symmetric(bend))
            return net.loss(y, layer, Moments(p @ eta, p))

        eta, bend = jax.grad(by_natural, (0, 1))(precision @ start.mean, -precision / 2)
        canonical.append((eta, _symmetric(bend)))
    by = jax.grad(lambda w: net._replace(weights=w).loss(y))(net.weights)
    return of_layers, canonical, [Moments(w.mean, _symmetric(w.covariance)) for w in by]


Residual = tuple[str, float | None, float]  # of an equation, as printed and as corrected
inv = np.linalg.inv


def residuals(net: LinearGaussian, y: Any) -> Iterator[Residual]:
    """The residuals of the printed and of the corrected form, for each layer."""
    all_known = known(net, y)
    filtered = jax.tree.map(np.asarray, net.filtered())
    layers = range(len(filtered))
    for layer in layers:
        yield _off("P", all_known.before[layer].covariance, filtered[layer].covariance)
        yield from _of_layer(all_known, layer)
        yield from _of_likelihood(all_known, layer)
    for layer in layers[:-1]:
        yield from _of_beliefs(all_known, layer)
        yield from _of_gradients(all_known, layer)
    yield from _of_certain_weights(all_known, y)


def _off(name: str, expected: Any, corrected: Any, printed: Any = None) -> Residual:
    """Of values; the printed one is a function, and may not exist where sizes differ."""

    def off(value: Any) -> float:
        return float(np.abs(value - expected).max() / np.abs(expected).max())

    try:
        return name, printed and off(printed()), off(corrected)
    except ValueError:
        return name, None, off(corrected)


def _of_layer(k: Known, i: int) -> Iterator[Residual]:
    """Eq. 6 and 7, and Theorem 1 (1) and (2), of one layer."""
    before, after, g, h = k.before[i], k.after[i], k.by_layer[i], k.net.readout
    p, ps, dx = before.covariance, after.covariance, after.mean - before.mean
    pi, s = inv(p), k.spread
    gain, print_gain = p @ k.heads[i].T @ inv(s), k.before[-1].covariance @ h.T @ inv(s)
    last = i == len(k.before) - 1
    wrong = None if last else lambda: before.mean + print_gain @ k.off
    yield _off("mean", after.mean, before.mean + gain @ k.off, wrong)
    yield _off("variance", ps, p - gain @ s @ gain.T, lambda: p - print_gain @ s @ print_gain)
    # -E_gamma of the derivatives of log N(x; m, P), from gamma's first two moments.
    yield _off("thm1-1", g.mean, -pi @ dx)
    yield _off("thm1-1", g.covariance, (pi - pi @ (ps + np.outer(dx, dx)) @ pi) / 2)
    eta, bend = k.canonical[i]
    yield _off("thm1-2", eta, -dx, lambda: dx)
    second = [m.covariance + np.outer(m.mean, m.mean) for m in (before, after)]
    yield _off("thm1-2", bend, second[0] - second[1], lambda: second[1] - second[0])
    yield _off("eq7-mean", g.mean, -pi @ dx)
    yield _off("eq7-variance", g.covariance, -pi @ (ps - p + np.outer(dx, dx)) @ pi / 2)


def _of_likelihood(k: Known, i: int) -> Iterator[Residual]:
    """Theorem 2. log p(y | x_l) = -1/2 (y - H_l x - c)^T R_l^-1 (…): its score and Hessian."""
    before, after, g, head = k.before[i], k.after[i], k.by_layer[i], k.heads[i]
    ps, pi, psi = after.covariance, inv(before.covariance), inv(after.covariance)
    precision = inv(k.spread - head @ before.covariance @ head.T)
    point = before.mean + 0.3
    score = head.T @ precision @ (k.off - head @ (point - before.mean))
    hessian = -head.T @ precision @ head
    both = psi @ after.mean - pi @ before.mean - (psi - pi) @ point
    yield _off("thm2-1", score, both, lambda: -both)
    yield _off("thm2-2score", score, pi @ (point - before.mean) - psi @ (point - after.mean))
    yield _off("thm2-2score", hessian, pi - psi)
    at_mean = score + hessian @ (after.mean - point)
    yield _off("thm2-2mean", -g.mean, at_mean)
    # hessian + hessian P hessian, with hessian = P_l^-1 - P^-1 (above): so nothing cancels.
    moment = hessian @ ps @ pi + np.outer(at_mean, at_mean)
    yield _off("thm2-2P", -g.covariance, moment / 2, lambda: moment)
    drift = -psi @ (point - after.mean)
    yield _off("drift", drift, score - pi @ (point - before.mean), lambda: score)
    # theta_{l|L} - theta_l in minimal form, by second moments of grad T, and as printed.
    left, right, printed = _projected(before, score - hessian @ point, hessian)
    expected = _packed(psi @ after.mean - pi @ before.mean, -(psi - pi) / 2)
    yield _off("thm2-1proj", expected, np.linalg.pinv(left) @ right, lambda: printed)


def _projected(before: Moments, constant: Any, hessian: Any) -> tuple[Any, Any, Any]:
    """E[grad T grad T^T], E[grad T score] and the printed projection, of the score at x, constant +
    Hessian x."""
    size = len(before.mean)
    root = np.linalg.cholesky(before.covariance) * size**0.5
    # A Gaussian's moments up to the third are those of these points, and more is not needed.
    points = np.concatenate([before.mean + root.T, before.mean - root.T])
    (first, second), eye = np.triu_indices(size), np.eye(size)
    # The derivatives of (x, x x^T) in minimal form: (points, statistics, size).
    squares = [eye[first] * v[second, None] + v[first, None] * eye[second] for v in points]
    jacobians = np.stack([np.concatenate([eye, square]) for square in squares])
    scores = constant + points @ hessian
    left = np.einsum("psd,ptd->st", jacobians, jacobians) / len(points)
    right = np.einsum("psd,pd->s", jacobians, scores) / len(points)
    return left, right, np.linalg.pinv(jacobians.mean(0)).T @ scores.mean(0)


def _step(k: Known, i: int) -> tuple[Any, ...]:
    """P_l, P_{l+1} and P_{l+1|L}; the gain and the printed one, of a layer and of weights."""
    f, b, q = k.net.transitions[i], k.net.loadings[i], k.net.weights[i].covariance
    p, pn, pns = (m.covariance for m in (k.before[i], k.before[i + 1], k.after[i + 1]))
    return p, pn, pns, *(a @ inv(c) for a in (p @ f.T, q @ b.T) for c in (pn, pns))


def _of_beliefs(k: Known, i: int) -> Iterator[Residual]:
    """The gains, and what follows from them for a layer and the weights of the next."""
    _, pn, pns, *gains = _step(k, i)
    dxn, less = k.after[i + 1].mean - k.before[i + 1].mean, pns - pn
    for names, prior, posterior, gain, wrong in (
        (("G", "P_smoothed"), k.before[i], k.after[i], *gains[:2]),
        (("G_W", "P_W"), k.net.weights[i], k.weights[i], *gains[2:]),
    ):
        mean, p = prior
        printed = [mean + wrong @ dxn, p - wrong @ less @ wrong.T]
        yield _off(names[0], posterior.mean, mean + gain @ dxn, lambda a=printed[0]: a)
        smoothed = p + gain @ less @ gain.T
        yield _off(names[1], posterior.covariance, smoothed, lambda a=printed[1]: a)
    (w, q), by = k.net.weights[i], k.by_weights[i]
    step = q @ by.mean
    yield _off("W_gradient", k.weights[i].mean, w - step)
    narrowed = q - 2 * q @ by.covariance @ q - np.outer(step, step)
    yield _off("W_gradient", k.weights[i].covariance, narrowed)


def _of_gradients(k: Known, i: int) -> Iterator[Residual]:
    """The recursions of derivatives, from the next layer to one and its weights."""
    p, pn, _, gain, wrong, _, wrong_w = _step(k, i)
    f, b, (w, q) = k.net.transitions[i], k.net.loadings[i], k.net.weights[i]
    g, gn, gq = k.by_layer[i], k.by_layer[i + 1], k.by_weights[i]
    # -E_gamma of the derivative of log p(x_l | x_{l-1}) by the weights' mean.
    rest = (k.maps[i + 1] - f @ k.maps[i]) @ k.roots - b @ w
    yield _off("thm1-1W", gq.mean, -b.T @ inv(b @ q @ b.T) @ rest)
    carry, bad = (inv(p) @ a @ pn for a in (gain, wrong))
    yield _off("thm1-3x", g.mean, f.T @ gn.mean, lambda: bad @ gn.mean)
    print_p = lambda: bad @ gn.covariance @ pn @ wrong @ inv(p)  # noqa: E731
    yield _off("thm1-3P", g.covariance, carry @ gn.covariance @ carry.T, print_p)
    yield _off("eq8-W", gq.mean, b.T @ gn.mean, lambda: inv(q) @ wrong_w @ pn @ gn.mean)
    corrected = np.diag(b.T @ gn.covariance @ b)
    inner = lambda: wrong_w @ pn @ gn.covariance @ pn @ wrong_w  # noqa: E731
    print_v = lambda: np.diag(inner()) / np.diag(q) ** 2  # noqa: E731
    yield _off("eq8-variance", np.diag(gq.covariance), corrected, print_v)
    (eta, bend), (eta_n, bend_n) = k.canonical[i], k.canonical[i + 1]
    yield _off("eta", eta, gain @ eta_n, lambda: wrong @ eta_n)
    cross = np.outer(k.before[i].mean - gain @ k.before[i + 1].mean, gain @ eta_n)
    cross_print = np.outer(k.before[i].mean, wrong @ eta_n)
    print_l = lambda: wrong @ bend_n @ wrong.T - cross_print - cross_print.T  # noqa: E731
    yield _off("Lambda", bend, gain @ bend_n @ gain.T + cross + cross.T, print_l)
    onward = f, b @ w, b @ q @ b.T
    chain = _chain_of_four(k.before[i], onward, (eta_n, bend_n))
    yield _off("thm1-2chain", np.append(eta, bend), np.append(*chain))


def _of_certain_weights(k: Known, y: Any) -> Iterator[Residual]:
    """The printed delta recursion, against the derivative of the squared error."""
    net, certain = k.net, [w.mean for w in k.net.weights]

    def error(values: list[Any]) -> Any:
        x = net.inputs.mean
        for f, b, value in zip(net.transitions, net.loadings, values, strict=True):
            x = f @ x + b @ value
        off = y - net.readout @ x
        return off @ inv(net.noise) @ off / 2

    delta = net.readout.T @ -np.linalg.solve(net.noise, k.off)
    for i, by in reversed([*enumerate(jax.grad(error)(certain))]):
        yield _off("delta", by, net.loadings[i].T @ delta)
        delta = net.transitions[i].T @ delta


def _packed(vector: Any, matrix: Any) -> Any:
    """Parameters in minimal form: the entries off the diagonal of a symmetric matrix once, and
    twice as large."""
    upper = np.triu_indices(len(vector))
    return np.concatenate([vector, (matrix * (2 - np.eye(len(vector))))[upper]])


@jax.jit
def _chain_of_four(x: Moments, onward: Any, by_theta: Any) -> Any:
    """dJ/dtheta_l = (dmu_l/dtheta_l)(dmu_{l+1}/dmu_l)(dtheta_{l+1}/dmu_{l+1}) dJ/dtheta_{l+1}, for
    symmetric matrices."""
    f, mean, noise = onward

    def moments(mean: Any, p: Any) -> Any:
        return mean, p + jnp.outer(mean, mean)

    def covariance(v: Any, second: Any) -> Any:
        return _symmetric(second) - jnp.outer(v, v)

    def means(eta: Any, bend: Any) -> Any:
        p = jnp.linalg.inv(-2 * _symmetric(bend))
        return moments(p @ eta, p)

    def next_means(v: Any, second: Any) -> Any:
        return moments(f @ v + mean, f @ covariance(v, second) @ f.T + noise)

    def natural(v: Any, second: Any) -> Any:
        pi = jnp.linalg.inv(covariance(v, second))
        return pi @ v, -pi / 2

    theta = natural(*moments(*x))
    _, pull = jax.vjp(lambda *theta: natural(*next_means(*means(*theta))), *theta)
    return pull(by_theta)

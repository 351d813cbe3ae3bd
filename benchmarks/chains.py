"""How fast are linear chains, next to a plain scan and to other libraries?

log Z of a batch of chains and its gradients by unary potentials and by transitions; marginals,
samples and best paths; and the same loss through `cg.node` and `cg.log_joint` against the functions
that it calls. Every form of `cgjax.kernels.chains` is measured, and "default" is the one that is
taken unless another is asked for; the baseline is the scan that
tutorials have: `logsumexp` at each step, differentiated by JAX. Other libraries are measured where
they are installed: dynamax's and distrax's filters of hidden Markov models, which take normalised
transitions only, so that all get such ones; SynJax's chain; and pytorch-crf, with as many threads,
whose loss has the score of a path besides. Interleaved rounds of one run; "speed-up" is that of the
scan's median, "of fastest" that of the fastest rounds, which other work on the machine disturbs
least, and "error" the largest distance of gradients from those of the scan in float64.

What no implementation can go below are the parts "bounds": the products of states and transitions
in both directions and the sum over pairs, in the order in which they depend on each other
("products in turn"); as many multiplications in one large product of matrices ("one large
product"); and reading the potentials and writing as many marginals ("memory"). Of a sample, the
filter and the random bits alone.

    python -m benchmarks.chains                     # about 5 minutes on 2 cores
    python -m benchmarks.chains --quick --no-write
    pip install dynamax distrax pytorch-crf         # for their rows; SynJax: from its repository

Targets, on a CPU: 1.5 times as fast as dynamax, and 2, 3.5 and 10 times as fast as the scan at 9,
17 and 50 states; 2 times as fast as distrax, 10 times as SynJax and 50 times as pytorch-crf, whose
best paths are to take 30 times as long; marginals in 1.1 and samples in 1.5 times the time of loss
and gradients, and the network in 1.15 times that of the functions.
"""

from benchmarks import command

OPTIONS = command.read(__name__, __doc__)

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import cgjax as cg
from benchmarks.records import Table, Timing
from benchmarks.timing import called, interleaved
from cgjax.kernels import chains, random_words
from cgjax.kernels.chains import Chain, _chain, _lanes
from cgjax.nodes import LinearChain

# (chains, positions, states)
SIZES = [(32, 40, 9), (32, 40, 17), (32, 40, 50), (8, 1000, 17)]
# On CPUs, those that are worth their time.
FORMS = ("two_passes", "lanes", "both_at_once", "tree")
SLOW = {"tree": 60_000}  # the most positions times states that this form is measured with
Functions = dict[str, Callable[..., Any]]


def scan(e: Any, a: Any) -> Any:
    """log Z as one writes it."""

    def step(alpha: Any, e: Any) -> Any:
        return jax.nn.logsumexp(alpha[:, :, None] + a[None], 1) + e, None

    steps = jnp.moveaxis(e, 1, 0)
    return jax.nn.logsumexp(lax.scan(step, steps[0], steps[1:])[0], 1)


def kernel(form: Any) -> Callable[..., Any]:
    """log Z by a form of the library."""
    return lambda e, a: chains.log_partition(Chain(e, a[None, None]), form)


def dynamax(e: Any, a: Any) -> Any:
    """log Z as the likelihood of a hidden Markov model."""
    from dynamax.hidden_markov_model import hmm_filter  # pyright: ignore[reportMissingImports]

    k = e.shape[2]
    first = jnp.full(k, 1 / k)
    each = jax.vmap(lambda e: hmm_filter(first, jnp.exp(a), e).marginal_loglik)
    return each(e) + jnp.log(k)


def distrax(e: Any, a: Any) -> Any:
    """log Z as the likelihood of a hidden Markov model, whose observations are likelihoods."""
    import distrax  # pyright: ignore[reportMissingImports]

    k = e.shape[2]

    class Emission(distrax.Distribution):
        batch_shape, event_shape = (k,), (k,)

        def log_prob(self, value: Any) -> Any:
            return value

        def _sample_n(self, key: Any, n: int) -> Any:
            # distrax has this method be there; what runs forward does not draw observations.
            raise TypeError("these emissions are likelihoods, of which there are no samples")

    first, steps = distrax.Categorical(logits=jnp.zeros(k)), distrax.Categorical(logits=a)
    model = distrax.HMM(init_dist=first, trans_dist=steps, obs_dist=Emission())
    return jax.vmap(lambda e: model.forward(e)[0])(e) + jnp.log(k)


def synjax(e: Any, a: Any) -> Any:
    """log Z by potentials of all steps; those of the first come from state 0."""
    from synjax import LinearChainCRF  # pyright: ignore[reportMissingImports]

    first = jnp.arange(e.shape[1])[:, None, None] == 0
    return LinearChainCRF(e[:, :, None] + jnp.where(first, 0, a)).log_partition()


def losses() -> Functions:
    """log Z by everything that is installed, the baseline first."""
    found: Functions = {"scan": scan, "default": kernel(None)}
    found |= {form: kernel(form) for form in FORMS}
    for name, function in (("dynamax", dynamax), ("distrax", distrax), ("synjax", synjax)):
        if find_spec(name):
            found[name] = function
        else:
            print(f"{name} is not installed: its rows are left out.", flush=True)
    return found


def with_gradients(log_z: Callable[..., Any]) -> Callable[..., Any]:
    """The mean of log Z, and its gradients by both arguments."""
    return jax.value_and_grad(lambda e, a: log_z(e, a).mean(), (0, 1))


def network(e: Any, a: Any, path: Any) -> Any:
    """The loss of a tagger, through nodes."""
    net = lambda e, a: cg.node(LinearChain(a), e, name="tags")  # noqa: E731
    return -cg.log_joint(net, batch_axes=0)({"tags": path}, e, a) / len(e)


def functions(e: Any, a: Any, path: Any) -> Any:
    """The same loss by the functions that it comes to."""
    chain = Chain(e, a[None, None])
    return (chains.log_partition(chain) - chains.score(chain, path)).mean()


def pytorch(e: Any, a: Any, path: Any) -> dict[str, Callable[[], Any]]:
    """What pytorch-crf has: loss and gradients, and the best paths. None without it."""
    if not find_spec("torchcrf"):
        print("pytorch-crf is not installed: its rows are left out.", flush=True)
        return {}
    import torch  # pyright: ignore[reportMissingImports]
    from torchcrf import CRF  # pyright: ignore[reportMissingImports]

    model = CRF(e.shape[2], batch_first=True)
    with torch.no_grad():
        model.transitions.copy_(torch.from_numpy(np.array(a)))
        model.start_transitions.zero_()
        model.end_transitions.zero_()
    unary = torch.from_numpy(np.array(e)).requires_grad_()
    tags = torch.from_numpy(np.array(path).argmax(2))

    def loss() -> Any:
        unary.grad = model.transitions.grad = None
        (-model(unary, tags, reduction="mean")).backward()
        return unary.grad

    def decode() -> Any:
        with torch.no_grad():
            return model.decode(unary)

    return {"loss and gradients": loss, "best path": decode}


def products(e: Any, a: Any) -> Any:
    """The multiplications of log Z and its gradients, those of a step after those before it."""
    k = e.shape[2]
    rows = jnp.moveaxis(e, 1, 0)
    if _chain.batch_last(Chain(e, a[None, None])):
        both = jnp.stack([a, a.T])[..., None]
        step = lambda state, _: (_lanes.times(state, both), None)  # noqa: E731
        start = jnp.stack([e[:, 0].T, e[:, -1].T])
        last = lax.scan(step, start, None, length=e.shape[1])[0]
    else:
        step = lambda state, _: ((state[0] @ a, state[1] @ a.T), None)  # noqa: E731
        last = lax.scan(step, (e[:, 0], e[:, -1]), None, length=e.shape[1])[0]
    return last, rows.reshape(-1, k).T @ rows[::-1].reshape(-1, k)


def bounds(size: tuple[int, ...], e: Any, a: Any) -> dict[tuple[str, str], Any]:
    """Functions that do a part of what is measured, with their arguments."""
    batch, length, k = size
    width = 256
    rows = jnp.ones((max(3 * batch * length * k**2 // width**2, 1), width))
    filtering = lambda e, a: chains.filtered(Chain(e, a[None, None]))  # noqa: E731
    return {
        ("bounds", "products in turn"): (products, e, a),
        ("bounds", "one large product"): (jnp.matmul, rows, jnp.ones((width, width))),
        ("bounds", "memory"): (lambda e: e + 1, e),
        ("bounds of a sample", "filter"): (filtering, e, a),
        ("bounds of a sample", "random bits"): (
            lambda key: random_words(key, size[:2])[1],
            jax.random.key(2),
        ),
    }


def repeatedly(function: Callable[[], Any]) -> Callable[[int], None]:
    """A function of PyTorch's as `interleaved` takes it."""

    def calls(number: int) -> None:
        for _ in range(number):
            function()

    return calls


def problem(size: tuple[int, ...]) -> tuple[Any, Any, Any, Any]:
    """Unary potentials, normalised transitions, paths and random words."""
    generator = np.random.default_rng(0)
    batch, length, k = size
    e = jnp.asarray(generator.normal(size=size), jnp.float32)
    a = jax.nn.log_softmax(jnp.asarray(generator.normal(size=(k, k)), jnp.float32))
    path = jax.nn.one_hot(generator.integers(0, k, (batch, length)), k)
    return e, a, path, random_words(jax.random.key(1), size)[1]


def measure(quick: bool, sizes: Any = None, clock: Any = None) -> Iterator[dict[str, Any]]:
    """All figures so far, after each size."""
    rows: list[dict[str, Any]] = []
    for size in sizes or ([(4, 8, 3)] if quick else SIZES):
        e, a, path, words = problem(size)
        family = LinearChain(a)
        compiled: dict[tuple[str, str], Callable[[int], None]] = {}
        errors: dict[str, float] = {}
        with jax.enable_x64(True):
            wide = (jnp.asarray(np.asarray(x, np.float64)) for x in (e, a))
            exact = jax.tree.map(np.asarray, jax.jit(with_gradients(scan))(*wide)[1])
        for name, log_z in losses().items():
            if size[1] * size[2] ** 2 > SLOW.get(name, np.inf):
                continue
            run = jax.jit(with_gradients(log_z)).lower(e, a).compile()
            # distrax normalises transitions again, so that its derivative by them is another one.
            gaps = [
                np.abs(np.asarray(got) - own) for got, own in zip(run(e, a)[1], exact, strict=True)
            ]
            errors[name] = max(float(gap.max()) for gap in gaps[: 1 if name == "distrax" else 2])
            compiled["loss and gradients", name] = called(run, e, a)
        own = {
            ("loss of a path", "functions"): (jax.value_and_grad(functions, (0, 1)), e, a, path),
            ("loss of a path", "network"): (jax.value_and_grad(network, (0, 1)), e, a, path),
            ("marginals", "cgjax"): (family.mean, e),
            ("sample", "cgjax"): (family.from_words, words, e),
            ("best path", "cgjax"): (family.mode, e),
            **bounds(size, e, a),
        }
        for key, (function, *arguments) in own.items():
            compiled[key] = called(jax.jit(function).lower(*arguments).compile(), *arguments)
        timings = interleaved(
            compiled, rounds=2 if quick else 15, calls=1 if quick else 5, clock=clock
        )
        # Apart, since its threads disturb what comes next.
        torch = {(part, "pytorch-crf"): repeatedly(f) for part, f in pytorch(e, a, path).items()}
        if torch:
            timings |= interleaved(torch, rounds=2 if quick else 3, calls=1, pause=0.2, clock=clock)
        rows += rows_of(size, timings, errors)
        print(*size, "measured", flush=True)
        yield {"rows": rows}


def rows_of(
    size: Any, timings: dict[Any, Timing], errors: dict[str, float]
) -> list[dict[str, Any]]:
    """The figures of one size, by part and implementation."""
    plain, ours = (timings["loss and gradients", name] for name in ("scan", "two_passes"))
    rows = []
    for (part, name), timing in timings.items():
        # PyTorch has rounds of its own.
        same = plain.each.shape == timing.each.shape
        base = plain if same else Timing(np.full(timing.each.shape, plain.seconds))
        rows.append(
            {
                "size": list(size),
                "part": part,
                "implementation": name,
                "milliseconds": 1e3 * timing.seconds,
                **base.ratio(timing).figures("speedup"),
                "times_two_passes": float(timing.each.min() / ours.each.min()),
                "error": errors.get(name) if part == "loss and gradients" else None,
            }
        )
    return rows


TABLES = [
    Table(
        "rows",
        "size {size} | part {part} | implementation {implementation} | ms {milliseconds:.3f} | "
        "speed-up (quartiles) {speedup~2} | of fastest {speedup_of_fastest:.2f} | "
        "times two passes {times_two_passes:.2f} | error {error:.1e}",
        faster=("speedup",),
    )
]


if __name__ == "__main__":
    command.run(OPTIONS, measure, TABLES)

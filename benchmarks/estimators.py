"""Does `BayesianRegressor` reach what `python -m train.uci` reaches, and hold its intervals?

The nine regression tables of [B] Table 2 with their standard splits (without --data-dir
scikit-learn's diabetes alone), the estimator with its defaults, but for 100 hidden units on protein
as in the experiment. Beside it the experiment's rows of the same splits, moments with Adam and
noise that varies, from results/uci; differences split by split, with their standard error. Of test
rows: RMSE and log-likelihood in the units of the table, and the share within 90 % and 95 %
intervals.

*Without scaling*: the share of rows within 95 % intervals if the table goes as it is into the code
of docs/tutorials/bayesian_in_three_lines.md, 2,000 steps on the first 500 training rows.

    python -m benchmarks.estimators --data-dir FOLDER        # the nine files; 10 minutes of a core
    python -m benchmarks.estimators --quick --no-write       # diabetes, one split
"""

from pathlib import Path

from benchmarks import command

OPTIONS = command.read(
    __name__,
    __doc__,
    data_dir={"help": "the folder with the nine files, NAME.npz", "default": ""},
    splits={"help": "how many of each table, from the first", "default": 5, "type": int},
)

import json
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import cgjax as cg
from benchmarks.records import Row, Table
from cgjax import metrics, weights
from cgjax.estimators import BayesianRegressor
from train.data.uci import Table as Data
from train.data.uci import load_table
from train.report.statistics import mean, paired

# Small ones first.
SETS = ("yacht", "boston", "energy", "concrete", "wine", "kin8nm", "power", "naval", "protein")
HIDDEN = {"protein": (100,)}
EXPERIMENT = "moments_adam-heteroscedastic"
UCI = Path(__file__).parent.parent / "results" / "uci"
FIGURES = ("rmse", "log likelihood")
UNSCALED_ROWS, UNSCALED_STEPS = 500, 2000


def fitted(data: Data, split: int, **options: Any) -> dict[str, Any]:
    """Figures of one split."""
    train, test = data.train[split], data.test[split]
    x, y = data.x[test], data.y[test]
    start = time.perf_counter()
    model = BayesianRegressor(random_state=split, **options).fit(data.x[train], data.y[train])
    seconds = time.perf_counter() - start

    def covered(level: float) -> float:
        low, high = model.predict_interval(x, level)
        return float(np.mean((low <= y) & (y <= high)))

    return {
        "rmse": float(np.sqrt(np.mean((model.predict(x) - y) ** 2))),
        "log likelihood": float(model.log_prob(x, y).mean()),
        "90": covered(0.9),
        "95": covered(0.95),
        "seconds": seconds,
        "epochs": model.n_iter_,
    }


def unscaled(data: Data, split: int, steps: int) -> float:
    """The share of test rows within 95 % intervals of the network and the training of the tutorial,
    which get the table as it is."""
    train, test = data.train[split][:UNSCALED_ROWS], data.test[split]
    x, y = (jnp.asarray(array[train], jnp.float32) for array in (data.x, data.y))

    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs):
            self.hidden = nnx.Linear(x.shape[1], 50, rngs=rngs)
            self.output = nnx.Linear(50, 1, rngs=rngs)

        def __call__(self, x: Any) -> Any:
            return self.output(nnx.relu(self.hidden(x)))[..., 0]

    f, params, state = cg.functional(Net(nnx.Rngs(0)))
    predict = weights.deterministic(f)
    parameters: Any = {"weights": weights.mean_field(params, 1e-3), "log_noise": jnp.float32(-1)}
    optimiser = optax.adam(optax.cosine_decay_schedule(0.01, steps))

    def loss(parameters: Any, share: Any) -> jax.Array:
        output, _ = predict(None, parameters["weights"], state, x)
        head = weights.GaussianHead(parameters["log_noise"])
        terms = weights.elbo(head, output, y, parameters["weights"], prior=1.0)
        return terms.per_example(len(x), temperature=share)

    def step(carry: Any, number: Any) -> tuple[Any, None]:
        parameters, opt_state = carry
        gradient = jax.grad(loss)(parameters, jnp.minimum(1, (number + 1) / (0.9 * steps)))
        updates, opt_state = optimiser.update(gradient, opt_state, parameters)
        return (optax.apply_updates(parameters, updates), opt_state), None

    run = jax.jit(lambda p: jax.lax.scan(step, (p, optimiser.init(p)), jnp.arange(steps))[0][0])
    trained = run(parameters)
    output, _ = predict(None, trained["weights"], state, jnp.asarray(data.x[test], jnp.float32))
    made = weights.GaussianHead(trained["log_noise"]).predict(output)
    targets = jnp.asarray(data.y[test], jnp.float32)
    return float(metrics.coverage(made.mean, made.variance, targets, 0.95))


def experiment(name: str) -> list[Row]:
    """The splits of `python -m train.uci`; none of a table that it has no result of."""
    path = UCI / name / f"{EXPERIMENT}.json"
    return json.loads(path.read_text())["splits"] if path.exists() else []


def measure(quick: bool, data_dir: str = "", splits: int = 5) -> Iterator[dict[str, Any]]:
    """Figures of all splits, table by table."""
    rows: list[dict[str, Any]] = []
    options: dict[str, Any] = {"max_epochs": 20} if quick else {}
    for name in SETS if data_dir else ("diabetes",):
        data = load_table(name, data_dir or None)
        count = 1 if quick else min(splits, len(data.train))
        hidden = HIDDEN.get(name, (50,))
        each = [fitted(data, split, hidden=hidden, **options) for split in range(count)]
        others = [
            {figure: split[figure] for figure in FIGURES} for split in experiment(name)[:count]
        ]
        raw = unscaled(data, 0, 20 if quick else UNSCALED_STEPS)
        rows.append({"data": name, "splits": each, "experiment": others, "unscaled": raw})
        yield {"sets": rows}


def told(row: Row) -> Row:
    """Means over splits, differences from the experiment's, and the time without compiling."""
    each, others = row["splits"], row["experiment"]
    found: dict[str, Any] = {"count": len(each)}
    for figure in (*FIGURES, "90", "95"):
        found[figure] = mean([split[figure] for split in each]).value
    seconds = [split["seconds"] for split in each]
    found["first"], found["later"] = seconds[0], float(np.median(seconds[1:] or seconds))
    for figure in FIGURES:
        mine, its = (dict(enumerate(s[figure] for s in all_)) for all_ in (each, others))
        if len(its) > 1:
            gain = paired(mine, its)
            found[f"{figure} there"] = float(np.mean(list(its.values())))
            found[f"{figure} gain"], found[f"{figure} error"] = gain.value, gain.standard_error
    return dict(row) | found


TABLES = [
    Table(
        "sets",
        "table {data} | splits {count} | RMSE {rmse:.4g} | train.uci {rmse there:.4g} | "
        "difference {rmse gain:+.2g} ± {rmse error:.2g} | log-likelihood {log likelihood:.3f} | "
        "train.uci {log likelihood there:.3f} | "
        "difference {log likelihood gain:+.3f} ± {log likelihood error:.3f} | "
        "in 90 % intervals {90:.3f} | in 95 % {95:.3f} | without scaling {unscaled:.3f} | "
        "seconds of a fit {later:.1f} | of the first {first:.1f}",
        title="Means over splits; differences are those from train.uci, split by split:",
        more=told,
        names="data",
    ),
]

if __name__ == "__main__":
    command.run(OPTIONS, measure, TABLES)

"""What sweeps leave behind: dropout and PCFF together, commits, times, and data in another form."""

import dataclasses
import json
import pathlib
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tyro
from flax import nnx

import cgjax as cg
from train import data
from train.engine import sweep
from train.engine.checkpoint import CheckpointError
from train.engine.progress import Display, Progress
from train.engine.recipes import PlateauRecipe
from train.engine.settings import Rates, Run, Settings
from train.indrnn import experiment as indrnn
from train.report import machine, sweep_figure
from train.report import tables as report
from train.resnet import experiment as resnet

ROOT = pathlib.Path(__file__).parents[2]


class Small(nnx.Module):
    """A layer of four nodes with dropout."""

    def __init__(self, rngs: nnx.Rngs):
        self.first = nnx.Linear(64, 4, rngs=rngs)
        self.last = nnx.Linear(4, 10, rngs=rngs)

    def __call__(self, x: Any, drop_rate: Any) -> Any:
        h = cg.node(cg.nodes.ReLU(), self.first(x), name="hidden")
        if drop_rate is not None:
            h = cg.layers.Dropout(drop_rate, name="dropout")(h)
        return self.last(h)


@dataclasses.dataclass(frozen=True)
class Config(Settings):
    seeds: tuple[int, ...] = (0,)
    mode: Any = "vmap"
    save_seconds: float = 0.0
    data: str = "digits"


NETWORK = sweep.network(Small)
DIGITS = data.load("digits")


def whole(x: Any) -> Any:
    return x


def experiment(config: Config, dataset: Any = DIGITS) -> sweep.Experiment:
    return sweep.Experiment(
        title="small networks",
        source="nowhere",
        settings=config,
        recipe=PlateauRecipe(batch_size=540, epochs=3),
        dataset=dataset,
        networks={"": NETWORK},
        learner_of=lambda net, known: sweep.learner(net, whole, known),
        prepare=whole,
    )


class Told(Display):
    """Remembers messages, and stands for a key pressed during an epoch."""

    def __init__(self, until: int | None = None):
        self.messages: list[str] = []
        self.until = until

    def message(self, text: str) -> None:
        self.messages.append(text)

    def update(self, progress: Progress) -> None:
        if progress.epoch == self.until:
            raise KeyboardInterrupt


def test_dropout_and_pcff_together(tmp_path, monkeypatch):
    config = Config(dropout=(0.3,), pcff=(0.5, 1.0), both=((0.3, 0.5), (0.3, 1.0)))
    made = experiment(config)
    result = sweep.tested(made, sweep.trained(made, None), "command", tmp_path)
    assert result == json.loads((tmp_path / "result.json").read_text())
    assert [(run["regulariser"], run["rate"]) for run in result["runs"]] == [
        *(("none", 0.0), ("dropout", 0.3), ("pcff", 0.5), ("pcff", 1.0)),
        *(("both", "0.3 + 0.5"), ("both", "0.3 + 1")),
    ]
    losses = {run["history"]["train_loss"][-1] for run in result["runs"]}
    assert len(losses) == 6  # other runs are other
    assert "| digits | both | 0.3 + 0.5 |" in report.markdown([result])
    apart = [{**result, "runs": [run]} for run in result["runs"]]
    assert len(report.merged(apart)[0]["runs"]) == 6

    from matplotlib import pyplot

    figure, panel = pyplot.subplots()
    sweep_figure._panel(panel, result)
    drawn = dict(zip(*reversed(panel.get_legend_handles_labels()), strict=True))
    assert set(drawn) == {"none", "dropout", "PCFF", "dropout 0.3 + PCFF"}
    points = drawn["dropout 0.3 + PCFF"].lines[0].get_xydata()
    errors = [100 * run["test"]["error"] for run in result["runs"][-2:]]
    np.testing.assert_allclose(points, list(zip([0.5, 1.0], errors, strict=True)))
    pyplot.close(figure)

    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    from docs.tables import sweeps

    (tmp_path / "resnet" / "small").mkdir(parents=True)
    (tmp_path / "result.json").rename(tmp_path / "resnet" / "small" / "result.json")
    table = sweeps.residual_networks(tmp_path)
    assert "| dropout + PCFF | 0.3 + 1 |" in table and "| none |  |" in table


def test_known_rates_of_both_are_those_given():
    x, y = jax.random.uniform(jax.random.key(0), (6, 64)), jnp.arange(6)
    variables = NETWORK.init(jax.random.key(1))

    def loss(known: Rates | None, given: Rates | None) -> float:
        learner = sweep.learner(NETWORK, whole, known)
        return float(learner.loss(variables, jax.random.key(2), given, x, y)[0])

    both = Run("both", Rates(0.5, 0.7), 0).rates
    alone = [loss(None, Rates(*rates)) for rates in ((0.5, 0.0), (0.0, 0.7), (0.0, 0.0))]
    assert loss(both, None) == pytest.approx(loss(None, both), rel=1e-6)  # float32
    assert min(abs(loss(both, None) - other) for other in alone) > 1e-4


def test_both_on_the_command_line():
    for config in (resnet.Config, indrnn.Config):
        # Tuples of pairs are told in turn.
        words = "--both .1 .3 .5 1".split()
        found = tyro.cli(config, args=words, config=(tyro.conf.OmitArgPrefixes,))
        assert found.both == ((0.1, 0.3), (0.5, 1.0))
        names = [run.name for run in found.runs]
        assert names[-6:-3] == [f"both 0.1 + 0.3 {seed}" for seed in range(3)]
        assert found.facts()["both"] == [[0.1, 0.3], [0.5, 1.0]]


@pytest.mark.parametrize("both", [((0.1, 0.0),), ((1.1, 0.5),), ((0.1, 0.5), (0.1, 0.5))])
def test_impossible_pairs_are_named(both):
    with pytest.raises(ValueError, match="^both is .*; expected"):
        Settings(both=both)


def test_a_sweep_continues_with_the_same_data_from_other_files_and_tells_commits(
    tmp_path, monkeypatch
):
    config = Config(pcff=(0.5,))
    monkeypatch.setattr(machine, "commit", lambda: "first")
    made = experiment(config)
    expected = sweep.tested(made, sweep.trained(made, None), "command", tmp_path / "alone")
    with pytest.raises(KeyboardInterrupt):
        sweep.trained(made, tmp_path / "c", Told(until=2))
    pixels = DIGITS.train_x.copy()
    pixels[7, 9] ^= 1
    with pytest.raises(CheckpointError, match="data digest: "):
        sweep.trained(experiment(config, DIGITS._replace(train_x=pixels)), tmp_path / "c")
    monkeypatch.setattr(machine, "commit", lambda: "second")
    display, other = Told(), experiment(config, DIGITS._replace(source="elsewhere"))
    result = sweep.tested(other, sweep.trained(other, tmp_path / "c", display), "command", tmp_path)
    assert "the code has changed: first there, second now" in display.messages
    changed = {"commit": "second", "earlier commits": ["first"], "data": "elsewhere"}
    assert result == expected | changed and "earlier commits" not in expected


def test_times_are_told_apart_from_what_is_reproducible(tmp_path):
    made = experiment(Config(pcff=(0.5,)))
    finished = sweep.trained(made, None)
    sweep.tested(made, finished, "command", tmp_path / "a")
    sweep.tested(made, sweep.trained(made, None), "command", tmp_path / "b")
    a, b = ((tmp_path / folder / "result.json").read_bytes() for folder in ("a", "b"))
    assert a == b
    assert json.loads(a)["updates per epoch"] == 1088 // 540
    timing = json.loads((tmp_path / "a" / "timing.json").read_text())
    assert (timing["runs"], timing["epochs"], timing["updates per epoch"]) == (2, 3, 2)
    log = finished[0].log._replace(seconds=12.34, rates=(1.0, 9.0, 2.0))
    others = [run._replace(log=log) for run in finished]
    sweep.tested(made, others, "command", tmp_path / "c")
    timing = json.loads((tmp_path / "c" / "timing.json").read_text())
    assert timing["seconds of training"] == 12.3 and timing["training images per second"] == 2.0

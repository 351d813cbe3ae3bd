"""Results as experiments write them: made up, or left behind by a command."""

import json
import pathlib
import re
from collections.abc import Callable
from typing import Any

from train.indrnn import settings as indrnn
from train.resnet import settings as resnet

ROOT = pathlib.Path(__file__).parents[2]
NONE = ("none", 0.0)


def left_behind(out: pathlib.Path) -> Any:
    """The result that a command left in a folder, after checking that it is one, with a figure."""
    result = json.loads((out / "result.json").read_text())
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert {"command", "commit", "machine", "settings", "data"} <= result.keys()
    return result


def refused(cli: Callable[..., int], words: str, out: pathlib.Path, capsys: Any) -> str:
    """What a command says, in one line, that does not take its settings and leaves nothing."""
    try:
        status = cli([*words.split(), "--out", str(out)])
    except SystemExit as ended:
        status = ended.code
    assert status != 0 and not (out / "result.json").exists()
    return " ".join(re.sub("[│╭╮╰╯─]", " ", "".join(capsys.readouterr())).split())


def write_sweep(
    results: pathlib.Path,
    experiment: str,
    deltas: dict[tuple[str, float], float],
    *,
    seeds: tuple[int, ...] = (0, 1, 2),
    ended: str = "stopped early",
    folder: str = "made-up",
    spread: float = 0.02,
    level: float = 0.1,
    **settings: Any,
) -> pathlib.Path:
    """A result with test errors of `level`, more for later seeds, and `deltas` away from it."""
    known = json.loads((ROOT / "results" / "benchmarks" / "recurrence.json").read_text())
    config = resnet.Config() if experiment == "resnet" else indrnn.Config()
    facts: dict[str, Any] = config.facts() | settings | {"seeds": list(seeds)}
    epochs = facts["recipe"].get("length", 4)
    runs = [
        {
            "regulariser": regulariser,
            "rate": rate,
            "seed": seed,
            "status": ended,
            "epochs": epochs,
            "history": {
                name: [0.5 / (epoch + 1) for epoch in range(epochs)]
                for name in ("train_error", "validation_error")
            },
            "test": {
                "error": level + 0.001 * seed + delta * (1 + spread * (seed % 3)),
                "nll": 1.0,
                "ece": 0.1,
            },
            "monte carlo": None,
        }
        for (regulariser, rate), delta in deltas.items()
        for seed in seeds
    ]
    result = {key: known[key] for key in ("command", "commit", "machine")}
    title = {"resnet": "residual networks", "indrnn": "independently recurrent networks"}[
        experiment
    ]
    result |= {"experiment": title, "labels": ["regulariser", "rate"], "data": "made up"}
    path = results / experiment / folder / "result.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result | {"settings": facts, "runs": runs}))
    return path


def write_dense(
    results: pathlib.Path,
    points: dict[str, dict[tuple[str, str], float]],
    seeds: int,
    ended: tuple[str, int] = ("stopped early", 40),
) -> None:
    """Dense results by regulariser, data and nodes: test errors of so many points more than 2 %."""
    for data in ("mnist", "fashion_mnist"):
        runs = [
            {
                "nodes": nodes,
                "regulariser": regulariser,
                "seed": seed,
                "status": ended[0],
                "epochs": ended[1],
                "test": {"error": 0.02 + more[data, nodes] / 100 + 0.001 * seed},
                "monte carlo": None,
            }
            for nodes in ("tanh", "relu")
            for regulariser, more in points.items()
            for seed in range(seeds)
        ]
        path = results / "dense" / data / "result.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"settings": {"data": data}, "runs": runs}))

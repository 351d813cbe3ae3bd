"""What the programs for the figures of the pages share: one command line, and where results lie."""

import argparse
import json
import pathlib
import re
from collections.abc import Callable
from typing import Any

from train.report import machine
from train.report.files import write_atomic

ROOT = pathlib.Path(__file__).parent.parent.parent
Measure = Callable[[], dict[str, Any]]
RED, BLUE, GREY = "#d1495b", "#00304a", "#9aa5b1"


def run(
    name: str, description: str | None, draw: Callable[..., None], measure: Measure | None = None
) -> None:
    """The command line of a figure: measures unless told to draw only, and draws.

    Args:
        name: of the module in docs/figures/, and of the picture.
        description: its docstring; `--help` says the first line of it.
        draw: `draw(path)`, or `draw(measured, path)`; the suffix of the path says the format.
        measure: what is measured, if anything, which JSON can hold.
    """
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    folder = ROOT / "docs" / "figures"
    parser.add_argument("--output", type=pathlib.Path, default=folder, help="folder of the figure")
    if measure:
        text = "draw from the JSON, measure nothing"
        parser.add_argument("--draw", action="store_true", help=text)
    chosen = parser.parse_args()
    path = chosen.output / f"{name}.svg"
    if measure is None:
        draw(path)
    else:
        if not chosen.draw:
            write(f"figures.{name}", name, "figure", measure())
        draw(json.loads(_result(name).read_text()), path)
    print(f"wrote {path}")


def executed(page: str) -> dict[str, Any]:
    """The names that the code of a page defines; the page by its path below docs/."""
    text, names = (ROOT / "docs" / page).read_text(), {}
    for block in re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        exec(block, names)
    return names


def write(module: str, name: str, mode: str, figures: dict[str, Any]) -> None:
    """Leaves what a module of docs/ has measured, and where it comes from, in results/."""
    origin = {"command": f"python -m docs.{module}", "commit": machine.commit()}
    result = origin | {"machine": machine.identity(mode)} | figures
    write_atomic(_result(name), (json.dumps(result, indent=1) + "\n").encode())


def _result(name: str) -> pathlib.Path:
    return ROOT / "results" / name / "result.json"

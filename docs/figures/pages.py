"""What the programs for the figures of the pages share: one command line."""

import argparse
import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any


def measure_and_draw(
    description: str,
    measure: Callable[[], Mapping[str, Any]],
    draw: Callable[[Mapping[str, Any], pathlib.Path], None],
    result: pathlib.Path,
    figure: pathlib.Path,
) -> None:
    """The command line of a figure: measures unless told to draw only, and draws.

    Args:
        description: what `--help` says: the first line of it.
        measure: what is measured, which JSON can hold.
        draw: `draw(measured, path)`.
        result, figure: the files.
    """
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--draw", action="store_true", help="draw from the JSON, measure nothing")
    if not parser.parse_args().draw:
        result.parent.mkdir(parents=True, exist_ok=True)
        result.write_text(json.dumps(measure(), indent=1) + "\n")
    draw(json.loads(result.read_text()), figure)

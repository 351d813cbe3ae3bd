"""The command line that the benchmarks share."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from train.report import machine
from train.report.files import write_atomic

FOLDER = Path(__file__).parent.parent / "results" / "benchmarks"


def run(
    name: str,
    question: str,
    measure: Callable[..., dict[str, Any] | Iterable[dict[str, Any]]],
    show: Callable[[Any], None],
    required: Mapping[str, str] | None = None,
    choices: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Measures, prints, and writes a JSON.

    Args:
        name: of the benchmark's module.
        question: which it answers.
        measure: `measure(quick) -> figures`, which JSON can hold; the options below come as
            further arguments. One that takes long yields all figures so far instead, several times,
            and each time they are written: a measurement that is cut short leaves those behind.
        show: prints the result: the figures, with the command, commit, machine and versions that
            they come from.
        required: further options that must be given, each with what it is.
        choices: further options that may be given, each with its values, the default first.
    """
    required, choices = required or {}, choices or {}
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=question)
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that it works")
    parser.add_argument("--no-write", action="store_true", help="write no JSON")
    parser.add_argument("--output", type=Path, default=FOLDER / f"{name}.json")
    for option, meaning in required.items():
        parser.add_argument(f"--{option}", required=True, metavar=option.upper(), help=meaning)
    for option, values in choices.items():
        parser.add_argument(f"--{option}", choices=values, default=values[0])
    options = parser.parse_args()
    machine.keep_memory()
    hidden = {getattr(options, option): option.upper() for option in required}
    origin = {
        # Where somebody's interpreter lies says nothing about the figures.
        "command": " ".join(
            [parser.prog, *(hidden.get(argument, argument) for argument in sys.argv[1:])]
        ),
        "commit": machine.commit(),
        "machine": machine.identity("benchmark"),
        "torch": version("torch") if find_spec("torch") else None,
    }
    print(f"{origin['machine']['device kind']}, jax {origin['machine']['jax']}", end="")
    print(f", torch {origin['torch']}\n" if origin["torch"] else "\n", flush=True)
    found = measure(options.quick, *(getattr(options, name) for name in (*required, *choices)))
    result = origin
    for figures in [found] if isinstance(found, dict) else found:
        result = origin | figures
        if not options.no_write:
            write_atomic(options.output, (json.dumps(result, indent=1) + "\n").encode())
    show(result)
    if not options.no_write:
        print(f"\n{options.output}")

"""The command line that the benchmarks share.

A benchmark reads its options before it imports JAX, so that a mistyped one is refused at once, and
runs what it defines at its end:

    OPTIONS = command.read(__name__, __doc__, dtype=command.DTYPE)
    import jax
    ...
    if __name__ == "__main__":
        command.run(OPTIONS, measure, TABLES)
"""

import argparse
import functools
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from benchmarks import history
from benchmarks.records import Table
from train.report.files import DataFileError, held, write_atomic

FOLDER = Path(__file__).parent.parent / "results" / "benchmarks"
FIRST = (
    "No earlier run of these options on this kind of machine ({device kind}, {threads} threads)."
)
DTYPES = ("float32", "bfloat16")


# An option, in the words of `add_argument`. Of choices the first is the default; one that must be
# given says nothing about the figures.
DTYPE: dict[str, Any] = {"help": "of convolutions and nodes", "choices": DTYPES}


class _Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Descriptions as they are written, and defaults behind what options mean."""


def read(
    module: str, description: str | None, output: Path | None = FOLDER, **others: dict[str, Any]
) -> argparse.Namespace | None:
    """Reads the options of the process, if a benchmark is what it runs.

    Args:
        module: the benchmark's `__name__`.
        description: its docstring: the question, example commands, units.
        output: the folder where its result goes unless another file is given; none: nowhere.
        others: its own options, each as `DTYPE`.

    Returns:
        What was typed, the benchmark's own options in `others`; its `name`; its `command`; and its
        `kind`, the options that change what is measured, one text for one meaning. None, if the
        module is imported by another.
    """
    if module != "__main__":
        return None
    name, words = Path(sys.argv[0]).stem, sys.argv[1:]
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{name}", description=description, formatter_class=_Formatter
    )
    parser.add_argument("--quick", action="store_true", help="few rounds, to see that it works")
    parser.add_argument("--no-write", action="store_true", help="write no result and no history")
    path = output and output / f"{name}.json"
    parser.add_argument("--output", type=Path, default=path, help="JSON; history/ is beside it")
    for option, how in others.items():
        default = {"default": how["choices"][0]} if "choices" in how else {}
        parser.add_argument(_flag(option), **how, **default)
    chosen = parser.parse_args(words)
    kind, hidden = ["--quick"] * chosen.quick, {}
    chosen.others = {option: getattr(chosen, option) for option in others}
    for option, value in chosen.others.items():
        if (default := parser.get_default(option)) is None:
            hidden[value] = option.upper()
        elif value != default:
            kind += [_flag(option), *map(str, value if isinstance(value, list) else [value])]
    chosen.name, chosen.kind = name, " ".join(kind)
    chosen.command = " ".join([parser.prog, *(hidden.get(word, word) for word in words)])
    return chosen


def _flag(option: str) -> str:
    """An option as it is typed."""
    return f"--{option.replace('_', '-')}"


def run(
    options: argparse.Namespace | None,
    measure: Callable[..., dict[str, Any] | Iterable[dict[str, Any]]],
    tables: Sequence[Table],
    notes: Callable[[dict[str, Any]], Sequence[str]] = lambda result: (),
) -> dict[str, Any]:
    """Measures, prints, writes a JSON and a line of the history, and compares with the last run.

    Args:
        options: what `read` returned.
        measure: `measure(quick, **others) -> figures`, which JSON can hold. One that takes long
            yields all figures so far instead, several times, and each time they are written: a
            measurement that is cut short leaves those behind, and nothing in the history.
        tables: how the figures are shown.
        notes: what is said below the tables of the result: the figures, with the command, commit,
            machine and versions that they come from.

    Returns:
        The result.
    """
    from train.report import machine  # imports JAX

    assert options is not None
    machine.keep_memory()
    identity = machine.identity("benchmark")
    torch = version("torch") if find_spec("torch") else None
    origin: dict[str, Any] = {"command": options.command, "commit": machine.commit()}
    origin |= {"machine": identity, "torch": torch}
    told = f", torch {torch}" if torch else ""
    print(f"{identity['device kind']}, jax {identity['jax']}{told}\n", flush=True)
    output = None if options.no_write else options.output
    if output:
        try:
            with held(output.parent):
                pass
        except DataFileError as error:  # before all is measured
            sys.exit(f"error: {error}")
    found: Any = measure(options.quick, **options.others)
    result = origin
    for figures in [found] if isinstance(found, dict) else found:
        result = origin | figures
        if output:
            write_atomic(output, (json.dumps(result, indent=1) + "\n").encode())
    print(*shown(tables, result), *notes(result), "", sep="\n")
    new = history.record(options.name, options.kind, tables, result)
    print(*_remembered(output, tables, new), sep="\n")
    return result


@functools.cache
def has_torch() -> bool:
    """Whether PyTorch is installed, which is said where it is not."""
    found = find_spec("torch") is not None
    if not found:
        print("PyTorch is not installed (pip install torch): its rows are left out.\n", flush=True)
    return found


def shown(tables: Sequence[Table], result: dict[str, Any]) -> list[str]:
    """The tables that have rows, with an empty line behind each."""
    return [f"{text}\n" for text in (table.told(result) for table in tables) if text]


def _remembered(output: Path | None, tables: Sequence[Table], new: history.Record) -> list[str]:
    """Compares with the last run of the repository's history or of that beside the output, to which
    it then adds this one; the sentences about both."""
    known = FOLDER / f"{new['benchmark']}.json"
    paths = [path.parent / "history" / f"{path.stem}.jsonl" for path in (known, output or known)]
    found = [history.read(path) for path in dict.fromkeys(paths)]
    lines = [sentence for _, wrong in found for sentence in wrong]
    before = history.last([record for records, _ in found for record in records], new)
    lines += history.compared(tables, before, new) if before else [FIRST.format(**new["machine"])]
    if output:
        history.append(paths[1], new)
        lines += ["", str(output), str(paths[1])]
    return lines

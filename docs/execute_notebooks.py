"""Executes notebooks, which are kept as text without outputs, for the documentation.

    python -m docs.execute_notebooks docs/notebooks/NAME.py ... [--output FOLDER]

Each runs in a kernel of its own, from top to bottom; an error in a cell ends the program. What it
showed is left in FOLDER/NAME.ipynb, of which docs/hooks.py makes a page.
"""

import argparse
import os
import pathlib
import time

import jupytext
import nbformat
from nbclient import NotebookClient
from traitlets.config import Config

ROOT = pathlib.Path(__file__).parent.parent
SECONDS = 300  # that a cell may take, on a machine that does other things too


def execute(source: pathlib.Path) -> nbformat.NotebookNode:
    """The notebook of a text file, with outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: if a cell raises.
    """
    notebook = jupytext.read(source, fmt="py:percent")
    notebook.metadata.kernelspec = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    client = NotebookClient(
        notebook,
        timeout=SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(ROOT)}},
        config=Config({"KernelManager": {"transport": "ipc"}}),
        extra_arguments=["--InlineBackend.figure_formats=svg"],
    )
    return client.execute()


def main() -> None:
    """Executes what the command line names."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("sources", nargs="+", type=pathlib.Path)
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "build" / "notebooks")
    chosen = parser.parse_args()
    # Of the kernel, which inherits them: how figures look, and where `cgjax` and `train` are.
    os.environ["MATPLOTLIBRC"] = str(ROOT / "docs" / "notebooks" / "matplotlibrc")
    known = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *([known] if known else [])])
    chosen.output.mkdir(parents=True, exist_ok=True)
    for source in chosen.sources:
        start = time.perf_counter()
        made = chosen.output / f"{source.stem}.ipynb"
        unfinished = made.with_suffix(".part")
        nbformat.write(execute(source), unfinished)
        unfinished.replace(made)
        print(f"{source}: {time.perf_counter() - start:.0f} s, {made}")


if __name__ == "__main__":
    main()

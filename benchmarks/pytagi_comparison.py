"""How long does a training step on means and variances take here, and in pyTAGI?

pyTAGI (Nguyen and Goulet) trains networks of Gaussian weights by closed-form updates in C++. Its
step of the ReLU network 784-1024-1024-10 at batch 128, interleaved with the step of
`benchmarks.moments` (moments, their gradient, the update), both on one core. The two algorithms
differ: this compares the cost of a step, not what a step achieves.

pyTAGI needs an interpreter of its own, in which `import pytagi` works (`pip install pytagi numpy`;
version 0.2.1 also needs Open MPI 4 with its C++ library, and NCCL, on a machine without a GPU too):

    python -m benchmarks.pytagi_comparison --pytagi OTHER/bin/python      # about 5 minutes
    python -m benchmarks.pytagi_comparison --pytagi OTHER/bin/python --quick --no-write
"""

from benchmarks import command

PYTAGI = {"help": "the Python interpreter that has pyTAGI", "required": True}
OPTIONS = command.read(__name__, __doc__, pytagi=PYTAGI)

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import moments
from benchmarks.records import Table
from benchmarks.timing import interleaved

BATCH = 128
MISSING = (
    "{python}: pyTAGI does not run in this interpreter ({reason}). Make an environment for it, "
    "`python -m venv NAME && NAME/bin/pip install pytagi numpy`, with Open MPI 4 and NCCL where "
    "the loader finds them, and give `--pytagi NAME/bin/python`."
)


class Steps:
    """A process that makes training steps of pyTAGI."""

    def __init__(self, python: str):
        script = Path(__file__).with_name("pytagi_steps.py")
        arguments = [python, str(script), json.dumps([list(moments.SIZES), BATCH])]
        pipes: Any = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        try:
            self.process = subprocess.Popen(arguments, text=True, **pipes)
        except OSError as error:
            sys.exit(MISSING.format(python=python, reason=error))
        self.python = python
        self.hits = 0.0
        self.read("ready")

    def read(self, expected: str) -> str:
        """The next line that ends as expected; what the library itself prints comes before it."""
        assert self.process.stdout is not None and self.process.stderr is not None
        for line in self.process.stdout:
            if line.rstrip().endswith(expected):
                return line
        reason = self.process.stderr.read().strip().splitlines() or ["it ended"]
        sys.exit(MISSING.format(python=self.python, reason=reason[-1]))

    def __call__(self, calls: int) -> None:
        """Makes a number of steps."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{calls}\n")
        self.process.stdin.flush()
        self.hits = float(self.read("cpu").split()[0])


def measure(quick: bool, pytagi: str) -> dict[str, Any]:
    """Steps of both, in one interleaved run on one core."""
    # Before the compiler makes its threads; the other process inherits it.
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    theirs = Steps(pytagi)
    ours, _ = moments.prepare("dense", "ReLU", "moments")
    functions: Any = {"cgjax": ours, "pyTAGI": theirs}
    timings = interleaved(functions, rounds=2 if quick else 21, calls=1)
    theirs.process.communicate()  # ends it
    code = "from importlib.metadata import version; print(version('pytagi'))"
    version = subprocess.run([pytagi, "-c", code], capture_output=True, text=True).stdout.strip()
    return {
        "pytagi": version,
        "network": list(moments.SIZES),
        "batch_size": BATCH,
        "milliseconds": {name: 1e3 * timing.seconds for name, timing in timings.items()},
        **timings["pyTAGI"].ratio(timings["cgjax"]).figures(),
        "pytagi_hits": theirs.hits,  # a network that did not learn would be right in 0.1
    }


TABLES = [
    Table(
        "",
        "cgjax, ms {milliseconds[cgjax]:.2f} | pyTAGI, ms {milliseconds[pyTAGI]:.2f} | "
        "pyTAGI / cgjax (quartiles) {ratio~1} | of the fastest {ratio_of_fastest:.1f} | "
        "pyTAGI is right in {pytagi_hits:.2f}",
        faster=("ratio",),
    )
]

if __name__ == "__main__":
    command.run(OPTIONS, measure, TABLES, lambda result: [f"pyTAGI {result['pytagi']}"])

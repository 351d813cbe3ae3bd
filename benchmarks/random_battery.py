"""Do the library's random words pass a standard battery? Pipes them to dieharder's stdin.

The stream is word 0, word 1 of counter 0, 1, 2, ... under one key, then under the next key derived
by `fold_in`, as a network's nodes draw them. Needs the program `dieharder` (Debian's package of
that name). One core, about two minutes for each number of rounds:

    nice -n 19 python -m benchmarks.random_battery --output results/random_bits/dieharder.json

A p-value below 1e-6 or above 1 - 1e-6 fails. Of about 55 values for each number of rounds, one in a
hundred below 0.005 or above 0.995 (what dieharder calls WEAK) is expected of a perfect generator.
"""

from benchmarks import command

# All of dieharder's tests that it rates "Good" and that end within half a minute on one core.
TESTS = [0, 2, 3, 4, 8, 9, 10, 11, 12, 13, 15, 16, 100, 101, 102, 203, 204, 205, 206, 207, 208, 209]
NUMBERS = {"type": int, "nargs": "+"}
OPTIONS = command.read(
    __name__,
    __doc__,
    output=None,
    rounds=NUMBERS | {"help": "0: dieharder's own mt19937, a control", "default": [20, 13]},
    tests=NUMBERS | {"help": "dieharder's numbers of tests", "default": TESTS},
    seeds=NUMBERS | {"help": "one stream each", "default": [0]},
)

import contextlib
import itertools
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.records import Table
from cgjax.kernels.random_bits import random_words

WORDS_PER_KEY = 2**20
FAILURE = 1e-6
CONTROL = 0


def chunks(rounds: int, seed: int) -> Iterator[bytes]:
    """The endless stream, in pieces of one key each."""

    @jax.jit
    def chunk(number):
        key = jax.random.fold_in(jax.random.key(seed), number)
        return jnp.stack(random_words(key, (WORDS_PER_KEY,), rounds=rounds), axis=-1)

    for number in itertools.count():
        yield np.asarray(chunk(number)).tobytes()


def run_test(test: int, rounds: int, seed: int) -> list[dict[str, Any]]:
    """The assessments of one dieharder test, fed with a stream of its own (or of the control)."""
    # Flag 504 prints name, n-tuple, samples, repetitions, p-value and assessment, without header.
    call = ["dieharder", "-d", str(test), "-D", "504"]
    if rounds == CONTROL:
        # dieharder's own Mersenne twister; its seed 0 would mean one from the clock.
        own = [*call, "-g", "13", "-S", str(seed + 1)]
        return parse(subprocess.run(own, capture_output=True, text=True, check=True).stdout)
    pipes: Any = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    with subprocess.Popen([*call, "-g", "200"], **pipes) as process:
        assert process.stdin is not None and process.stdout is not None
        with contextlib.suppress(BrokenPipeError), process.stdin as pipe:
            for piece in chunks(rounds, seed=1000 * seed + test):
                pipe.write(piece)  # until dieharder has read enough
        return parse(process.stdout.read().decode())


def parse(output: str) -> list[dict[str, Any]]:
    lines = ([field.strip() for field in line.split("|")] for line in output.splitlines())
    found = [line for line in lines if line[5:6] in (["PASSED"], ["WEAK"], ["FAILED"])]
    if not found:
        raise RuntimeError(f"dieharder gave no result: {output!r}")
    return [{"name": each[0], "ntuple": int(each[1]), "p": float(each[4])} for each in found]


def measure(quick: bool, rounds: list[int], tests: list[int], seeds: list[int]) -> dict[str, Any]:
    """The p-values of all tests (if quick, of the first), for each number of rounds."""
    if shutil.which("dieharder") is None:
        print("dieharder is not installed (Debian and Ubuntu: apt-get install dieharder).")
        sys.exit(2)
    runs = [_run(number, tests[: 1 if quick else None], seeds) for number in rounds]
    banner = subprocess.run(["dieharder", "-l"], capture_output=True, text=True).stdout
    version = re.search(r"version ([0-9.]+)", banner)
    return {"dieharder": version[1] if version else "unknown", "runs": runs}


def _run(rounds: int, tests: list[int], seeds: list[int]) -> dict[str, Any]:
    start, results = time.time(), []
    for test, seed in itertools.product(tests, seeds):
        for result in run_test(test, rounds, seed):
            results.append({"test": test, "seed": seed, **result})
            print(f"{rounds} rounds  {result['name']:24s} {result['p']:.6f}", flush=True)
    values = [result["p"] for result in results]
    failures = [r for r in results if not FAILURE < r["p"] < 1 - FAILURE]
    found: dict[str, Any] = {"rounds": rounds, "values": len(values), "smallest": min(values)}
    found |= {"largest": max(values), "weak": sum(not 0.005 < p < 0.995 for p in values)}
    found |= {"failures": failures, "failed": len(failures), "seconds": round(time.time() - start)}
    return found | {"results": results}


TABLES = [
    Table(
        "runs",
        "rounds {rounds} | p-values {values:.0f} | smallest {smallest:.2g} | "
        "largest {largest:.6f} | weak {weak:.0f} | failed {failed:.0f} | s {seconds:.0f}",
    )
]

if __name__ == "__main__":
    result = command.run(OPTIONS, measure, TABLES)
    sys.exit(any(run["failures"] for run in result["runs"]))

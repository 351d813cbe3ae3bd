"""Do the library's random words pass a standard battery? Pipes them to dieharder's stdin.

The stream is word 0, word 1 of counter 0, 1, 2, ... under one key, then under the next key derived
by `fold_in`, as a network's nodes draw them. Needs the program `dieharder` (Debian's package of
that name). One core, about two minutes for each number of rounds:

    nice -n 19 python -m benchmarks.random_battery --output results/random_bits/dieharder.json

A p-value below 1e-6 or above 1 - 1e-6 fails. Of about 55 values for each number of rounds, one in a
hundred below 0.005 or above 0.995 (what dieharder calls WEAK) is expected of a perfect generator.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cgjax.kernels.random_bits import random_words

# All of dieharder's tests that it rates "Good" and that end within half a minute on one core.
TESTS = [0, 2, 3, 4, 8, 9, 10, 11, 12, 13, 15, 16, 100, 101, 102, 203, 204, 205, 206, 207, 208, 209]
WORDS_PER_KEY = 2**20
FAILURE = 1e-6
CONTROL = 0


def chunks(rounds: int, seed: int) -> Iterator[bytes]:
    """The endless stream, in pieces of one key each."""

    @jax.jit
    def chunk(number):
        key = jax.random.fold_in(jax.random.key(seed), number)
        return jnp.stack(random_words(key, (WORDS_PER_KEY,), rounds=rounds), axis=-1)

    number = 0
    while True:
        yield np.asarray(chunk(number)).tobytes()
        number += 1


def run_test(test: int, rounds: int, seed: int) -> list[dict[str, Any]]:
    """The assessments of one dieharder test, fed with a stream of its own (or of the control)."""
    # Flag 504 prints name, n-tuple, samples, repetitions, p-value and assessment, without header.
    command = ["dieharder", "-d", str(test), "-D", "504"]
    if rounds == CONTROL:
        # dieharder's own Mersenne twister; its seed 0 would mean one from the clock.
        own = [*command, "-g", "13", "-S", str(seed + 1)]
        return parse(subprocess.run(own, capture_output=True, text=True, check=True).stdout)
    feeder_read, feeder_write = os.pipe()
    with subprocess.Popen(
        [*command, "-g", "200"], stdin=feeder_read, stdout=subprocess.PIPE, text=True
    ) as process:
        os.close(feeder_read)
        try:
            with os.fdopen(feeder_write, "wb") as pipe:
                for piece in chunks(rounds, seed=1000 * seed + test):
                    pipe.write(piece)
        except BrokenPipeError:
            pass  # dieharder has read enough
        assert process.stdout is not None
        return parse(process.stdout.read())


def parse(output: str) -> list[dict[str, Any]]:
    results = []
    for line in output.splitlines():
        fields = [field.strip() for field in line.split("|")]
        if len(fields) >= 6 and fields[5] in ("PASSED", "WEAK", "FAILED"):
            results.append({"name": fields[0], "ntuple": int(fields[1]), "p": float(fields[4])})
    if not results:
        raise RuntimeError(f"dieharder gave no result: {output!r}")
    return results


def program_version() -> str:
    banner = subprocess.run(["dieharder", "-l"], capture_output=True, text=True).stdout
    found = re.search(r"version ([0-9.]+)", banner)
    return found[1] if found else "unknown"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "--rounds",
        type=int,
        nargs="+",
        default=[20, 13],
        help="0: dieharder's own mt19937, a control",
    )
    parser.add_argument("--tests", type=int, nargs="+", default=TESTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--output", type=Path, help="JSON file to write")
    options = parser.parse_args()
    if shutil.which("dieharder") is None:
        print("dieharder is not installed (Debian and Ubuntu: apt-get install dieharder).")
        return 2
    runs, failed = [], False
    for rounds in options.rounds:
        start, results = time.time(), []
        for test in options.tests:
            for seed in options.seeds:
                for result in run_test(test, rounds, seed):
                    results.append({"test": test, "seed": seed, **result})
                    print(f"{rounds} rounds  {result['name']:24s} {result['p']:.6f}", flush=True)
        values = [result["p"] for result in results]
        failures = [r for r in results if not FAILURE < r["p"] < 1 - FAILURE]
        failed |= bool(failures)
        runs.append(
            {
                "rounds": rounds,
                "values": len(values),
                "smallest": min(values),
                "largest": max(values),
                "weak": sum(not 0.005 < p < 0.995 for p in values),
                "failures": failures,
                "seconds": round(time.time() - start),
                "results": results,
            }
        )
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True)
    report = {
        "command": "python -m benchmarks.random_battery " + " ".join(sys.argv[1:]),
        "commit": commit.stdout.strip(),
        "dieharder": program_version(),
        "versions": {name: version(name) for name in ("jax", "jaxlib", "numpy")},
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {platform.system()}, {os.cpu_count()} cores",
        "runs": runs,
    }
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(report, indent=1) + "\n")
    for run in runs:
        print(
            f"{run['rounds']} rounds: {run['values']} p-values from {run['smallest']:.2g} to "
            f"{run['largest']:.6f}, {run['weak']} weak, {len(run['failures'])} failed"
        )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

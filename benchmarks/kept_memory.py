"""What does it cost that the C library gives large blocks of memory back at once?

XLA on a CPU allocates the results of a program, whether intermediate or not, anew in each call.
Here a program writes one array, and lets it go: in a process that gives its memory back and in one
that keeps it, by turns.

    python -m benchmarks.kept_memory      # about 30 seconds
    python -m benchmarks.kept_memory --quick --no-write
"""

from benchmarks import command

OPTIONS = command.read(__name__, __doc__)

import json
import statistics
import subprocess
import sys
from typing import Any

import numpy as np

from benchmarks.records import Table, Timing

MEGABYTES = (16, 40, 200)
ROUNDS = 5
UNMEASURED = 2  # calls of a process, which find memory that nobody has used in either case

# Run with the megabytes of an array, how many times to write it, and "keep" or "return"; prints, of
# each call, the milliseconds and how many pages the operating system had to hand out.
WRITES = """
import json, resource, sys, time
import jax, jax.numpy as jnp
from train.report import machine

megabytes, calls, what = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
assert what == "return" or machine.keep_memory()

def pages():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

write = jax.jit(lambda x: jnp.full(megabytes * 2**18, x))
value = jnp.float32(1.0)
measured = []
for _ in range(calls):
    before, start = pages(), time.perf_counter()
    write(value).block_until_ready()
    measured.append([1e3 * (time.perf_counter() - start), pages() - before])
print(json.dumps(measured))
"""


def writes(megabytes: int, calls: int, what: str) -> list[list[float]]:
    """[milliseconds, pages] of each of the calls of a process of their own."""
    call = [sys.executable, "-c", WRITES, str(megabytes), str(calls), what]
    return json.loads(subprocess.run(call, check=True, capture_output=True, text=True).stdout)


def measure(quick: bool) -> dict[str, Any]:
    """Medians over all calls of all rounds, by the size of the array."""
    rounds, calls = (1, 5) if quick else (ROUNDS, 22)
    sizes = []
    for megabytes in MEGABYTES:
        found: dict[str, list[list[float]]] = {"return": [], "keep": []}
        for what in [*found] * rounds:
            found[what] += writes(megabytes, calls, what)[UNMEASURED:]
        row: dict[str, Any] = {"megabytes": megabytes}
        for what, measured in found.items():
            milliseconds, pages = map(statistics.median, zip(*measured, strict=True))
            row[what] = {"milliseconds": milliseconds, "pages": pages}
        returned, kept = (Timing(np.array(measured)[:, 0]) for measured in found.values())
        sizes.append(row | kept.ratio(returned).figures())
    return {"sizes": sizes}


TABLES = [
    Table(
        "sizes",
        "array {megabytes} MB | "
        "given back: ms (pages) {return[milliseconds]:.1f} ({return[pages]:.0f}) | "
        "kept: ms (pages) {keep[milliseconds]:.1f} ({keep[pages]:.0f}) | "
        "+kept / given back (quartiles) {ratio~2}",
    )
]

if __name__ == "__main__":
    command.run(OPTIONS, measure, TABLES)

"""What was aimed at on a GPU, and whether rows of figures of one device reach it."""

from collections.abc import Callable, Iterable
from typing import Any

Row = dict[str, Any]
SAID = "targets, which are for GPUs:"

# Times as fast as a plain `lax.scan`, at (time, batch, units), and a share of the bound.
RECURRENCE = 20, [784, 32, 128]
RECURRENCE_BOUND = 0.5, [784, 512, 512]
# Times as many images per second as a sweep of one run, or else a share of the bound.
SWEEP, SWEEP_BOUND = 8, 0.5
# The most that a step with PCFF may take, relative to the plain one.
COST = 1.10


def _verdict(met: bool) -> str:
    return "met" if met else "not met"


def _groups(rows: Iterable[Row], *names: str) -> list[list[Row]]:
    """Rows that agree in some of their entries."""
    found: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(row[name] for name in names), []).append(row)
    return list(found.values())


def recurrence(rows: list[Row]) -> list[str]:
    """Of `benchmarks.recurrence`: one sentence for each dtype and kind of noise, of the best
    implementation, forward and backward."""

    def best(size: list[int], figure: str) -> Iterable[Row]:
        both = [r for r in rows if r["part"] == "forward and backward" and r["size"] == size]
        for group in _groups(both, "dtype", "noise"):
            known = [r for r in group if r[figure] is not None and not r["baseline"]]
            if known:
                yield max(known, key=lambda r: r[figure])

    def said(row: Row) -> str:
        shape, noise = tuple(row["size"]), "" if row["noise"] == "none" else f", {row['noise']}"
        return f"{shape}, forward and backward, {row['dtype']}{noise}: {row['implementation']}"

    least, size = RECURRENCE
    share, large = RECURRENCE_BOUND
    return [
        f"{said(row)} is {row['speedup']:.1f} times as fast as a scan; at least {least} times: "
        f"{_verdict(row['speedup'] >= least)}."
        for row in best(size, "speedup")
    ] + [
        f"{said(row)} reaches {row['share_of_bound']:.0%} of the memory-traffic bound; at least "
        f"{share:.0%}: {_verdict(row['share_of_bound'] >= share)}."
        for row in best(large, "share_of_bound")
    ]


def sweep(rows: list[Row]) -> list[str]:
    """Of `benchmarks.sweep`: one sentence for each dtype, of the longest sweeps' best form."""
    sweeps = [row for row in rows if row["procedure"] == "sweep"]
    return [said for group in _groups(sweeps, "dtype") for said in _of_dtype(group)]


def _of_dtype(rows: list[Row]) -> list[str]:
    longest = max(row["runs"] for row in rows)
    single = {row["form"]: row for row in rows if row["runs"] == 1}
    images: Callable[[Row], float] = lambda row: row["images_per_second"]  # noqa: E731
    candidates = [row for row in rows if row["runs"] == longest and row["form"] in single]
    if longest == 1 or not candidates:
        return []
    best = max(candidates, key=images)
    alone, fastest = images(single[best["form"]]), max(map(images, single.values()))
    bound = images(best) / best["share_of_memory_bound"]
    required, of_bound = SWEEP * alone, SWEEP_BOUND * bound
    binding = (
        f"{SWEEP} times one run, {required:.0f} images/s, which is less than {SWEEP_BOUND:g} of "
        f"the bound, {of_bound:.0f}"
        if required <= of_bound
        else f"{SWEEP_BOUND:g} of the bound, {of_bound:.0f} images/s, which is less than {SWEEP} "
        f"times one run, {required:.0f}"
    )
    return [
        f"{best['dtype']}, {longest} runs: fastest as {best['form']}, {images(best):.0f} images/s, "
        f"{images(best) / longest:.0f} of a run: {images(best) / alone:.1f} times a sweep of one "
        f"run in that form, {images(best) / fastest:.1f} times the fastest of one run, "
        f"{best['share_of_memory_bound']:.0%} of the memory-traffic bound. "
        f"Required: {binding}: {_verdict(images(best) >= min(required, of_bound))}."
    ]


def cost(rows: list[Row]) -> list[str]:
    """Of `benchmarks.resnet_cost`: a sentence for each dtype."""
    return [
        f"{row['dtype']}: a step with {row['training']} takes {row['ratio']:.3f} times the plain "
        f"step; at most {COST:.2f} times: {_verdict(row['ratio'] <= COST)}."
        for row in rows
        if row["training"] == "PCFF .3"
    ]

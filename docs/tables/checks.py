"""Tables of what was computed to check the papers' equations and claims."""

import pathlib
from typing import Any

from docs import mathematics
from docs.tables.parts import columns, from_file, table
from train.report.claims import ABSENT, FAILS, HOLDS, Claim


def claims(results: pathlib.Path) -> list[Claim]:
    """That of [B] about its equations, by their verdicts in `docs.mathematics`."""
    path = results / "mathematics" / "result.json"
    right = [name for name, row in mathematics.ROWS.items() if row.verdict == "holds"]
    verdict, evidence = ABSENT, "-"
    if path.exists():
        verdict = HOLDS if len(right) == len(mathematics.ROWS) else FAILS
        evidence = (
            f"{len(right)} of {len(mathematics.ROWS)} are right in print; all, once corrected "
            "([equations of the papers](mathematics.md))"
        )
    text = "The equations of sections 2 and 3, Theorems 1 and 2 hold as they are printed"
    command = "python -m docs.mathematics"
    return [Claim("[B] sections 2 and 3: equations", text, verdict, evidence, command)]


@from_file("feed_forward_accuracy/result.json")
def feed_forward_accuracy(result: dict[str, Any]) -> str:
    """Error of feed-forward, moments and Monte Carlo by size of the weights and depth."""
    methods = ["feed-forward", "moments", "16 samples", "256 samples"]
    errors = {(row["states"], row["scale"], row["method"]): row for row in result["rows"]}
    rows = [
        [states, f"{scale:g}", str(depth)]
        + [
            f"{row['mean'][depth - 1]:.1e} ({row['worst'][depth - 1]:.1e})"
            for row in (errors[states, scale, method] for method in methods)
        ]
        for states, scale in dict.fromkeys(key[:2] for key in errors)
        for depth in (2, 8)
    ]
    return table(["states", "weight size", "layers", *methods], rows)


@from_file("mathematics/result.json")
def equations(result: dict[str, Any]) -> str:
    """Each equation of [B]: the verdict, the correct form, and both residuals."""
    rows = [
        {name: text.replace("|", "&#124;") for name, text in row._asdict().items()}
        | result["equations"][equation]
        for equation, row in mathematics.ROWS.items()
    ]
    return columns(
        rows,
        "in [B] {place} | the print {verdict} | correct form {correct}",
        "residual of the print {printed:.2g} | of the correct form {corrected:.0e}",
        "its worst {worst:.0e}",
    )


@from_file("mathematics/result.json")
def objectives(result: dict[str, Any]) -> str:
    """The variance at each objective's optimum, relative to the exact posterior's."""
    rows: dict[int, dict[str, Any]] = {}
    for row in result["objectives"]:
        rows.setdefault(row["examples"], {"examples": row["examples"]})[row["objective"]] = row
    ways = dict.fromkeys(row["objective"] for row in result["objectives"])
    cells = (
        f"{way.replace('_', ' ')} {{{way}[median]:.2g}} "
        f"({{{way}[least]:.1g}} to {{{way}[most]:.2g}})"
        for way in ways
    )
    return columns(rows.values(), "examples {examples}", *cells)


@from_file("innovations/result.json")
def innovations(result: dict[str, Any]) -> str:
    """How far the label moves each layer, for digits that a network got right and wrong."""
    rows: dict[str, dict[str, Any]] = {}
    for row in result["rows"]:
        rows.setdefault(row["layer"], {"layer": row["layer"]})[row["label"]] = row
    figures = columns(
        rows.values(),
        "layer {layer}",
        "innovation, right {right[median]:.3f} | innovation, wrong {wrong[median]:.3f}",
        "information, right {right[information]:.1e} | information, wrong {wrong[information]:.1e}",
    )
    return f"{figures}\n\nTest error {100 * result['error']:.1f} %."

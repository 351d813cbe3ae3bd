"""Tables of what was computed to check the papers' equations and claims."""

from typing import Any

from docs import mathematics
from docs.tables.parts import from_file, table


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
    return f"{table(['states', 'weight size', 'layers', *methods], rows)}"


@from_file("mathematics/result.json")
def equations(result: dict[str, Any]) -> str:
    """Each equation of [B]: the verdict, the correct form, and both residuals."""
    rows = []
    for name, row in mathematics.ROWS.items():
        measured = result["equations"][name]
        printed = measured["printed"]
        rows.append(
            [
                *(text.replace("|", "&#124;") for text in row),
                "-" if printed is None else f"{printed:.2g}",
                f"{measured['corrected']:.0e}",
                f"{measured['worst']:.0e}",
            ]
        )
    headings = ["in [B]", "the print", "correct form", "residual of the print"]
    headings += ["of the correct form", "its worst"]
    return table(headings, rows)


@from_file("mathematics/result.json")
def objectives(result: dict[str, Any]) -> str:
    """The variance at each objective's optimum, relative to the exact posterior's."""
    cells = {(r["examples"], r["objective"]): r for r in result["objectives"]}
    ways = list(dict.fromkeys(way for _, way in cells))
    rows = [
        [str(number)]
        + [
            f"{r['median']:.2g} ({r['least']:.1g} to {r['most']:.2g})"
            for r in (cells[number, way] for way in ways)
        ]
        for number in dict.fromkeys(number for number, _ in cells)
    ]
    headings = ["examples", *(way.replace("_", " ") for way in ways)]
    return table(headings, rows)


@from_file("innovations/result.json")
def innovations(result: dict[str, Any]) -> str:
    """How far the label moves each layer, for digits that a network got right and wrong."""
    cells = {(r["layer"], r["label"]): r for r in result["rows"]}
    rows = [
        [layer]
        + [f"{cells[layer, label]['median']:.3f}" for label in ("right", "wrong")]
        + [f"{cells[layer, label]['information']:.1e}" for label in ("right", "wrong")]
        for layer in dict.fromkeys(layer for layer, _ in cells)
    ]
    headings = ["layer", "innovation, right", "innovation, wrong"]
    headings += ["information, right", "information, wrong"]
    error = f"Test error {100 * result['error']:.1f} %."
    return f"{table(headings, rows)}\n\n{error}"


TABLES = [feed_forward_accuracy, equations, objectives, innovations]

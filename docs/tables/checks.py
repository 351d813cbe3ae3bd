"""Tables of what was computed to check the papers' equations and claims."""

from docs import mathematics
from docs.tables.parts import Parts, beside, columns, from_file
from train.report.tables import Result


@from_file("feed_forward_accuracy/result.json")
def feed_forward_accuracy(result: Result) -> str:
    """Error of feed-forward, moments and Monte Carlo by size of the weights and depth."""
    rows = [
        row | {"layers": k, "average": row["mean"][k - 1], "largest": row["worst"][k - 1]}
        for row in result["rows"]
        for k in (2, 8)
    ]
    ways = ("feed-forward", "moments", "16 samples", "256 samples")
    cells = (f"{way} {{{way}[average]:.1e}} ({{{way}[largest]:.1e}})" for way in ways)
    named = "states {states} | weight size {scale:g} | layers {layers}"
    return columns(beside(rows, ["states", "scale", "layers"], "method"), named, *cells)


@from_file("mathematics/result.json")
def equations(result: Result) -> str:
    """Each equation of [B]: the verdict, the correct form, and both residuals."""
    rows = [
        {column: text.replace("|", "&#124;") for column, text in row.items()}
        | result["equations"][name]
        for name, row in mathematics.ROWS.items()
    ]
    return columns(
        rows,
        "in [B] {place} | the print {verdict} | correct form {correct}",
        "residual of the print {printed:.2g} | of the correct form {corrected:.0e}",
        "its worst {worst:.0e}",
    )


@from_file("mathematics/result.json")
def objectives(result: Result) -> str:
    """The variance at each objective's optimum, relative to the exact posterior's."""
    rows = result["objectives"]
    cells = (
        f"{way.replace('_', ' ')} {{{way}[median]:.2g}} "
        f"({{{way}[least]:.1g}} to {{{way}[most]:.2g}})"
        for way in dict.fromkeys(row["objective"] for row in rows)
    )
    return columns(beside(rows, ["examples"], "objective"), "examples {examples}", *cells)


@from_file("innovations/result.json")
def innovations(result: Result) -> Parts:
    """How far the label moves each layer, for digits that a network got right and wrong."""
    figures = columns(
        beside(result["rows"], ["layer"], "label"),
        "layer {layer}",
        "innovation, right {right[median]:.3f} | innovation, wrong {wrong[median]:.3f}",
        "information, right {right[information]:.1e} | information, wrong {wrong[information]:.1e}",
    )
    return [figures, f"Test error {100 * result['error']:.1f} %."]


@from_file("balance/result.json")
def balance(result: Result) -> str:
    """Sizes of signals at a few depths, for three ways to set the gains of layers."""
    rows = [
        {
            "gains": row["gains"],
            "layer": k,
            **{way: row[way][k - 1] for way in ("forward", "backward")},
        }
        for row in result["rows"]
        for k in (1, 10, 25, result["settings"]["depth"])
    ]
    ways = dict.fromkeys(row["gains"] for row in rows)
    cells = (f"{way} {{{way}[forward]:.2g}} ({{{way}[backward]:.2g}})" for way in ways)
    return columns(beside(rows, ["layer"], "gains"), "layer {layer}", *cells)

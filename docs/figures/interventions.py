"""Draws interventions.svg: one network with a node seen (`condition`) and with it set (`clamp`).

    python -m docs.figures.interventions [--output FOLDER]

Runs the code of the page "Evidence or intervention": arrows are those of the chain graphs, and
probabilities those that the page computes.
"""

import pathlib
from typing import Any

import cgjax as cg
from docs.figures.pages import BLUE, GREY, RED, executed, run
from train.report.figures import panels, save

PLACES = {"gene": (0.5, 0.82), "smoke": (0.14, 0.2), "cancer": (0.86, 0.2)}


def edges(graph: cg.ChainGraph) -> set[tuple[str, str]]:
    """Parents and children of a chain graph."""
    return {(parent.name, c.name) for c in graph for parent in c.parents}


def network(axes: Any, title: str, probabilities: Any, arrows: Any, cut: Any) -> None:
    """One graph: nodes with their probabilities, arrows, and those that are cut."""
    axes.set(xlim=(-0.12, 1.12), ylim=(0.04, 1.0), title=title)
    axes.set_axis_off()
    for source, target in sorted(arrows | cut):
        gone = (source, target) in cut
        style = {"color": RED if gone else BLUE, "lw": 1.6, "ls": (0, (3, 3)) if gone else "-"}
        style |= {"arrowstyle": "-|>", "mutation_scale": 16, "shrinkA": 38, "shrinkB": 38}
        axes.annotate("", PLACES[target], PLACES[source], arrowprops=style)
        if gone:
            (x, y), (u, v) = PLACES[source], PLACES[target]
            axes.plot((x + u) / 2, (y + v) / 2, marker="x", ms=13, mew=2.5, color=RED)
    for name, (x, y) in PLACES.items():
        known = name not in probabilities
        text = f"{name}\n= 1" if known else f"{name}\n{float(probabilities[name]):.3f}"
        box = {"boxstyle": "round,pad=0.55", "fc": GREY if known else "white", "ec": BLUE}
        axes.text(x, y, text, ha="center", va="center", fontsize=12, bbox=box)


def draw(path: pathlib.Path) -> None:
    """Draws both graphs into a file; the suffix says the format."""
    page = executed("interventions.md")
    whole, smoke = edges(cg.chain_graph(page["people"])()), {"smoke": 1.0}
    left = edges(cg.chain_graph(cg.clamp(page["people"], smoke))())
    cut = {(source, target) for source, target in whole - left if target == "smoke"}
    figure, ((seeing, doing),) = panels(1, 2, (8.6, 3.4))
    kept = {name: p for name, p in page["seen"][1.0].items() if name != "smoke"}
    network(seeing, "condition: smoke is seen\nP(cancer | smoke)", kept, whole, set())
    kept = {name: p for name, p in page["done"][1.0].items() if name != "smoke"}
    network(doing, "clamp: smoke is set\nP(cancer | do(smoke))", kept, whole - cut, cut)
    save(figure, path)


if __name__ == "__main__":
    run("interventions", __doc__, draw)

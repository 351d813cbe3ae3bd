"""Draws tag_a_sentence.svg and tag_a_sentence_graph.svg: the marginals of a sentence's tags, and
the chain graph of the tagger.

    python -m docs.figures.tag_a_sentence [--output FOLDER]

Runs the code of the page "Tag a sentence" and draws what it finds.
"""

import pathlib

import numpy as np

from docs.figures.pages import executed, run
from train.report.figures import panels, save


def draw(path: pathlib.Path) -> None:
    """Draws both figures, the graph beside the marginals; the suffix says the format."""
    page = executed("tutorials/tag_a_sentence.md")
    words, tags = page["asked"], page["TAGS"]
    marginals = np.asarray(page["marginals"], np.float64)[: len(words)].T
    best = np.argmax(page["best"], -1)[: len(words)]
    figure, ((axes,),) = panels(1, 1, (7.5, 2.6))
    axes.imshow(marginals, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    axes.plot(best, color="#d1495b", lw=1, marker="o", ms=3)
    for (row, column), probability in np.ndenumerate(marginals):
        if 0.005 <= probability < 0.995:
            told, colour = f"{probability:.2f}", "white" if probability > 0.5 else "#444444"
            axes.text(column, row + 0.33, told, fontsize=7, ha="center", va="center", color=colour)
    axes.set_xticks(range(len(words)), words)
    axes.set_yticks(range(len(tags)), tags)
    axes.set(xlim=(-0.5, len(words) - 0.5), title="Marginals, and the best path")
    save(figure, path)
    page["graph"].draw(path.with_stem(f"{path.stem}_graph"))


if __name__ == "__main__":
    run("tag_a_sentence", __doc__, draw)

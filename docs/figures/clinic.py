"""Draws clinic.svg: the chain graph of the Bayesian network on the page "Evidence".

    python -m docs.figures.clinic [--output FOLDER]

Runs the code of the page and draws the graph.
"""

import pathlib

from docs.figures.pages import executed, run


def draw(path: pathlib.Path) -> None:
    """Draws the graph into a file; the suffix says the format."""
    executed("evidence.md")["graph"].draw(path)


if __name__ == "__main__":
    run("clinic", __doc__, draw)

"""Draws vae_in_twenty_lines.svg: digits, their reconstructions, and digits that a VAE makes up.

    python -m docs.figures.vae_in_twenty_lines [--output FOLDER]

Runs the code of the page "A VAE in twenty lines" and draws what it finds.
"""

import pathlib

import numpy as np

from docs.figures.pages import executed, run
from train.report.figures import panels, save

ROWS = {
    "shown": "test images",
    "reconstructed": "reconstructed",
    "imagined": "samples, as probabilities",
    "drawn": "samples, pixels drawn",
}


def draw(path: pathlib.Path) -> None:
    """Draws the figure into a file; the suffix says the format."""
    page = executed("tutorials/vae_in_twenty_lines.md")
    figure, axes = panels(len(ROWS), 1, (7.5, 2.9))
    for (row,), (name, title) in zip(axes, ROWS.items(), strict=True):
        images = np.asarray(page[name], np.float64).reshape(-1, 8, 8)
        framed = np.pad(images, ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
        row.imshow(np.concatenate(framed, 1), cmap="gray_r", vmin=0, vmax=1)
        row.set_axis_off()
        row.text(-3, 4.5, title, ha="right", va="center", fontsize=9)
    save(figure, path)


if __name__ == "__main__":
    run("vae_in_twenty_lines", __doc__, draw)

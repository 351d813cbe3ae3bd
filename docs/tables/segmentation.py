"""Tables of pictures that are cleaned by pixels that touch."""

from docs.tables.parts import Parts, from_each
from train.report.tables import Result
from train.segmentation.figure import errors


@from_each("segmentation/*/result.json", origins=True)
def segmentation(result: Result) -> Parts:
    """Wrong pixels and nats a pixel, by how marginals are found."""
    sizes = result["sizes"]
    grid = errors(result)
    title = f"{result['settings']['data']}, {sizes['height']} x {sizes['width']} pixels"
    yield grid._replace(title=f"{title}; {grid.title[0].lower()}{grid.title[1:]}")

"""A drawing as an SVG document, or as a file that Matplotlib writes."""

from __future__ import annotations

from html import escape
from pathlib import Path

from cgjax._drawing.drawing import Curve, Drawing, Point
from cgjax._drawing.layers import HEIGHT, TEXT, TITLE, Box

COLOURS = {  # kind: (fill, border)
    "input": ("#f4f4f4", "#8a8a8a"),
    "result": ("#f4f4f4", "#8a8a8a"),
    "operation": ("#ffffff", "#b0b0b0"),
    "node": ("#e3eefb", "#2f6db5"),
    "noise": ("#fdeed9", "#c9822b"),
    "observe": ("#e4f3e5", "#3f8f46"),
}
_LINE, _TIME = "#4a4a4a", "#b5482f"
_ARROW, _DOT = 7.0, 3.5


def svg(picture: Drawing) -> str:
    """A drawing as an SVG document."""
    width, height = picture.width, picture.height
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="Helvetica, Arial, sans-serif" '
        'text-anchor="middle">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for curve in picture.curves:
        colour = _TIME if curve.through_time else _LINE
        dash = ' stroke-dasharray="5 4"' if curve.through_time else ""
        points, head = _with_arrow(curve)
        words = escape(curve.touching)
        start, *rest = (f"{x:.1f} {y:.1f}" for x, y in points)
        pieces = "".join(f" C {', '.join(rest[k : k + 3])}" for k in range(0, len(rest), 3))
        out.append(
            f'<path d="M {start}{pieces}" fill="none" stroke="{colour}" stroke-width="1.4"{dash}/>'
        )
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in head)
        if head:
            out.append(f'<polygon points="{corners}" fill="{colour}"/>')
        if words:
            x, y = curve.end
            out.append(
                f'<text x="{x:.1f}" y="{y:.1f}" font-size="{TEXT:g}" text-anchor="end" '
                f'fill="#444">{words}</text>'
            )
    out += [
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{_DOT:g}" fill="{_LINE}"/>'
        for x, y in picture.junctions
    ]
    for box, x, y, w, h in picture.boxes:
        fill, border = COLOURS[box.kind]
        title, text = escape(box.title), escape(box.text)
        out.append(
            f'<g><title>{title}: {text}</title><rect x="{x - w / 2:.1f}" y="{y - h / 2:.1f}" '
            f'width="{w:.1f}" height="{h:.1f}" '
            f'rx="{_radius(box)}" fill="{fill}" stroke="{border}" stroke-width="1.4"/>'
        )
        out.append(
            f'<text x="{x:.1f}" y="{y - 4:.1f}" font-size="{TITLE:g}" font-weight="{_weight(box)}" '
            f'fill="#1a1a1a">{title}</text>'
        )
        out.append(
            f'<text x="{x:.1f}" y="{y + 13:.1f}" font-size="{TEXT:g}" fill="#444">{text}</text></g>'
        )
    return "\n".join([*out, "</svg>"]) + "\n"


def _radius(box: Box) -> float:
    return HEIGHT / 2 if box.kind in ("input", "result") else 6.0


def _weight(box: Box) -> str:
    return "normal" if box.kind == "operation" else "bold"


def _with_arrow(curve: Curve) -> tuple[list[Point], list[Point]]:
    """The curve, shortened, and the corners of the arrow head at its end, if it has a direction."""
    if curve.touching or not curve.arrow:
        return list(curve.points), []
    *points, before, (x, y) = curve.points
    dx, dy = x - before[0], y - before[1]
    length = (dx * dx + dy * dy) ** 0.5 or 1.0
    dx, dy = dx / length * _ARROW, dy / length * _ARROW
    base = (x - dx, y - dy)
    wing = (dy * 0.45, -dx * 0.45)
    head = [(x, y), (base[0] + wing[0], base[1] + wing[1]), (base[0] - wing[0], base[1] - wing[1])]
    return [*points, before, base], head


def save(picture: Drawing, path: Path) -> None:
    """Writes a drawing into a file with Matplotlib, whose formats are known by suffix."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon
        from matplotlib.path import Path as Way
    except ImportError as error:
        raise ImportError(
            f"Drawing a {path.suffix!r} file needs Matplotlib (`pip install matplotlib`); "
            "`.svg`, `.mmd` and `.dot` files are written without it."
        ) from error
    figure = Figure(figsize=(picture.width / 72, picture.height / 72), facecolor="white")
    canvas = FigureCanvasAgg(figure)
    suffix = path.suffix.removeprefix(".")
    if suffix not in canvas.get_supported_filetypes():
        raise ValueError(
            f"A graph is drawn into `.svg`, `.mmd`, `.dot`, or one of Matplotlib's formats "
            f"({', '.join(sorted(canvas.get_supported_filetypes()))}); got {str(path)!r}."
        )
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, picture.width)
    axes.set_ylim(picture.height, 0)
    for curve in picture.curves:
        colour = _TIME if curve.through_time else _LINE
        style = (0, (3.5, 2.8)) if curve.through_time else "-"
        points, head = _with_arrow(curve)
        codes = [Way.MOVETO, *[Way.CURVE4] * (len(points) - 1)]
        way = Way(points, codes)
        axes.add_patch(PathPatch(way, fill=False, edgecolor=colour, linewidth=1.4, linestyle=style))
        if head:
            axes.add_patch(Polygon(head, facecolor=colour, edgecolor="none"))
        if curve.touching:
            x, y = curve.end
            axes.text(x, y, curve.touching, size=TEXT, color="#444444", ha="right", va="baseline")
    for centre in picture.junctions:
        axes.add_patch(Circle(centre, _DOT, facecolor=_LINE, edgecolor="none"))
    for box, x, y, w, h in picture.boxes:
        fill, border = COLOURS[box.kind]
        shape = f"round,pad=0,rounding_size={_radius(box) * 0.99}"
        corner = (x - w / 2, y - h / 2)
        axes.add_patch(
            FancyBboxPatch(corner, w, h, boxstyle=shape, facecolor=fill, edgecolor=border, lw=1.4)
        )
        # A font size is in points, and a unit of the drawing is one point wide.
        weight = _weight(box)
        axes.text(x, y - 4, box.title, size=TITLE, weight=weight, ha="center", va="baseline")
        axes.text(x, y + 13, box.text, size=TEXT, color="#444444", ha="center", va="baseline")
    figure.savefig(path, dpi=144)

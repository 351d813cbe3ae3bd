"""Draws the badges of README, licence.svg and python.svg, from what pyproject.toml says.

python -m docs.figures.badges
"""

import pathlib
import tomllib

ROOT = pathlib.Path(__file__).parent.parent.parent
PYTHON = "Programming Language :: Python :: "
CHARACTER, MARGIN, HEIGHT = 6.6, 7, 20  # pixels, of a sans-serif letter at size 11

BADGE = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height}" role="img" \
aria-label="{label}: {value}">
<rect width="{width:.0f}" height="{height}" rx="3" fill="#00304a"/>
<path d="M0 3a3 3 0 0 1 3-3H{left:.0f}v{height}H3a3 3 0 0 1-3-3z" fill="#555"/>
<g fill="#fff" font-family="Verdana,DejaVu Sans,sans-serif" font-size="11" text-anchor="middle">
<text x="{middle:.1f}" y="14">{label}</text>
<text x="{middle_of_value:.1f}" y="14">{value}</text>
</g>
</svg>
"""


def badges() -> dict[str, str]:
    """The pictures, by the names of their files."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = [each.removeprefix(PYTHON) for each in project["classifiers"] if PYTHON in each]
    return {
        "licence.svg": badge("licence", project["license"]),
        "python.svg": badge("Python", f"{known[0]} to {known[-1]}"),
    }


def badge(label: str, value: str) -> str:
    """Two words in two boxes."""
    left, right = (len(text) * CHARACTER + 2 * MARGIN for text in (label, value))
    return BADGE.format(
        label=label,
        value=value,
        left=left,
        width=left + right,
        height=HEIGHT,
        middle=left / 2,
        middle_of_value=left + right / 2,
    )


if __name__ == "__main__":
    for name, text in badges().items():
        (ROOT / "docs" / "figures" / name).write_text(text)
    print(f"wrote {', '.join(badges())}")

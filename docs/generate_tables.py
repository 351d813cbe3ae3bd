"""Writes the tables of README and the site from the JSON files under results/.

    python -m docs.generate_tables            # rewrite the pages
    python -m docs.generate_tables --check    # only say whether they are up to date

A table stands between `<!-- table NAME -->` and `<!-- end NAME -->`; the function of that name is
in docs/tables. What was not measured is said to be so. Figures of results, which say which results
they are of, are drawn again where these are others.
"""

import argparse
import importlib
import pathlib
import re
import sys

from docs.figures import pictures
from docs.tables.parts import TABLES

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [
    "README.md",
    "docs/results.md",
    "docs/procedures/comparison.md",
    "docs/benchmarks.md",
    "docs/tutorials/how_wrong_is_feed_forward.md",
    "docs/mathematics.md",
    "docs/touching.md",
]
for name in "benchmarks checks claims dense gradients regression segmentation sweeps".split():
    importlib.import_module(f"docs.tables.{name}")


def generate(page: str, results: pathlib.Path) -> str:
    """A page with its tables made anew.

    Raises:
        ValueError: for a table that this script does not know.
    """

    def fill(match: re.Match[str]) -> str:
        name = match[1]
        if name not in TABLES:
            raise ValueError(f"no table {name!r}; known: {', '.join(TABLES)}")
        return f"<!-- table {name} -->\n\n{TABLES[name](results)}\n\n<!-- end {name} -->"

    pattern = r"<!-- table ([a-z-]+) -->.*?<!-- end \1 -->"
    return re.sub(pattern, fill, page, flags=re.DOTALL)


def main() -> int:
    """Rewrites or checks pages and pictures; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="change nothing; fail if outdated")
    check = parser.parse_args().check
    pages = {name: generate((ROOT / name).read_text(), ROOT / "results") for name in PAGES}
    pages = {name: text for name, text in pages.items() if text != (ROOT / name).read_text()}
    drawn = pictures.outdated(ROOT)
    if not check:
        for name, text in pages.items():
            (ROOT / name).write_text(text)
        pictures.draw(ROOT, drawn)
    outdated = [*pages, *drawn]
    print(f"{'outdated' if check else 'rewritten'}: {', '.join(outdated) or 'none'}")
    return 1 if check and outdated else 0


if __name__ == "__main__":
    sys.exit(main())

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
import pkgutil
import re
import sys

from docs import tables
from docs.figures import pictures
from docs.tables.parts import TABLES

ROOT = pathlib.Path(__file__).parent.parent
TABLE = re.compile(r"<!-- table ([a-z-]+) -->.*?<!-- end \1 -->", re.DOTALL)
PAGES = [
    str(page.relative_to(ROOT))
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    if TABLE.search(page.read_text())
]
for module in pkgutil.iter_modules(tables.__path__, "docs.tables."):
    importlib.import_module(module.name)


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

    return TABLE.sub(fill, page)


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

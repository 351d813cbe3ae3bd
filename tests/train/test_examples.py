"""The examples in the docstrings of train, benchmarks and tables run, and say what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("train", "benchmarks", "docs")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if ">>> " in path.read_text()
]


def test_some_modules_have_examples():
    assert {"train.report.statistics", "train.report.pixels", "docs.tables.parts"} < {*MODULES}


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    found = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert found.attempted > 0 and found.failed == 0

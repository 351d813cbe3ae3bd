"""The examples in the docstrings of train and of the tables run, and say what they say."""

import doctest
import importlib

import pytest

MODULES = [
    "train.engine.checkpoint",
    "train.data.images",
    "train.data.uci",
    "train.engine.recipes",
    "train.report.settings",
    "train.report.statistics",
    "train.indrnn.published",
    "train.report.tables",
    "train.report.claims",
    "train.uci.experiment",
    "train.uci.published",
    "train.uci.table",
    "train.gan.scores",
    "train.vae.figure",
    "train.vae.table",
    "train.vae.testing",
    "docs.tables.parts",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    found = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert found.attempted > 0 and found.failed == 0

"""The examples in the docstrings of train and of the tables run, and say what they say."""

import doctest
import importlib

import pytest

MODULES = [
    "train.checkpoint",
    "train.data",
    "train.data.cifar",
    "train.data.digits",
    "train.data.idx",
    "train.data.uci",
    "train.decay",
    "train.files",
    "train.indrnn_published",
    "train.report",
    "train.schedule",
    "train.uci",
    "train.uci_claims",
    "train.uci_published",
    "train.uci_table",
    "docs.tables.sweep_claims",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    found = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert found.attempted > 0 and found.failed == 0

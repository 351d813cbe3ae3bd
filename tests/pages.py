"""The code on the pages of the documentation runs, and prints what it says (`make pages`)."""

import contextlib
import importlib.util
import io
import pathlib
import re

import jax
import pytest

from tests.test_docs import FENCE, PAGES, page_name

# Libraries of the extra `zoo`.
OPTIONAL = ("equinox", "haiku", "keras", "diffrax")


def has_code(page: pathlib.Path) -> bool:
    return "```python" in page.read_text()


@pytest.mark.parametrize("page", [page for page in PAGES if has_code(page)], ids=page_name)
def test_code_runs(page: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    """The python blocks of a page run in one namespace, warnings being errors.

    A `text` block that directly follows a python block is what that block prints.
    """
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    shown = [name for name in OPTIONAL if re.search(rf"^import {name}\b", text, re.MULTILINE)]
    for library in shown:
        # Not imported: Keras asks for its backend then.
        if importlib.util.find_spec(library) is None:
            # The newest JAX is tried without these libraries, which may not know it yet.
            pytest.skip(f"{library}, whose networks the page shows, is no part of this environment")
    # Tests raise where an axis is added unasked, as these libraries do with their biases.
    with jax.numpy_rank_promotion("allow" if shown else "raise"):
        run_blocks(page)


def run_blocks(page: pathlib.Path):
    """Runs the python blocks of a page, and compares what they print."""
    text = page.read_text()
    namespace: dict[str, object] = {"__name__": "__main__"}
    blocks = list(FENCE.finditer(text))
    for block, follower in zip(blocks, [*blocks[1:], None], strict=True):
        if block[1] != "python":
            continue
        # Leading newlines give the page's line numbers to a traceback.
        code = "\n" * text.count("\n", 0, block.start(2)) + block[2]
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(page), "exec"), namespace)
        if follower and follower[1] == "text" and not text[block.end() : follower.start()].strip():
            line = text.count("\n", 0, follower.start()) + 1
            assert printed.getvalue().strip() == follower[2].strip(), f"{page_name(page)}:{line}"

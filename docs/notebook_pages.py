"""Makes pages of executed notebooks: figures first, and the code that drew them folded away."""

import base64
import json
import pathlib
from typing import Any, NamedTuple

# What a figure is kept as, the best first, and the suffix of its file.
_FIGURES = {"image/svg+xml": "svg", "image/png": "png"}
_ABOUT = (
    "*This page is a notebook: [`docs/notebooks/{name}.py`]({name}.py.txt) is its text, which "
    "Jupyter opens with Jupytext, and [`{name}.ipynb`]({name}.ipynb) has what it showed.*"
)


class Page(NamedTuple):
    """A page of the documentation.

    Attributes:
        text: what it says, as Markdown.
        figures: the files beside it, by name.
    """

    text: str
    figures: dict[str, bytes]


def page(notebook: dict[str, Any], name: str) -> Page:
    """The page of a notebook.

    Args:
        notebook: an executed notebook, as its JSON says.
        name: of the page and its files.

    Raises:
        ValueError: for a notebook that was not executed or does not begin with a title, a cell that
            raised or wrote warnings, and a figure without a text that says what it shows (`alt` in
            the cell's first line).
    """
    parts: list[str] = []
    figures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = _joined(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            parts.append(source)
            if len(parts) == 1:
                if not source.startswith("# "):
                    raise ValueError(f"{name}: a notebook begins with its title, got {source!r}.")
                parts.append(_ABOUT.format(name=name))
        elif cell["cell_type"] == "code" and source:
            parts += _code(cell, source, name, figures)
    return Page("\n\n".join(parts) + "\n", figures)


def _code(cell: dict[str, Any], source: str, name: str, figures: dict[str, bytes]) -> list[str]:
    """What a page shows of a cell of code; its figures are added to those of the page."""
    if cell["execution_count"] is None:
        raise ValueError(f"{name}: not executed: {source.splitlines()[0]!r}. Run `make notebooks`.")
    shown, printed = [], []
    has_figure = any(
        kind in output.get("data", ()) for output in cell["outputs"] for kind in _FIGURES
    )
    for output in cell["outputs"]:
        if output["output_type"] == "error" or output.get("name") == "stderr":
            said = output.get("evalue") or _joined(output.get("text", ""))
            raise ValueError(f"{name}: the cell {source.splitlines()[0]!r} wrote: {said}")
        data = output.get("data", {"text/plain": output.get("text", "")})
        kind = next((k for k in _FIGURES if k in data), None)
        if kind is None and has_figure and output["output_type"] == "execute_result":
            continue  # what the last call on the figure returned
        if kind is None:
            printed.append(_joined(data.get("text/plain", "")).rstrip())
            continue
        if not (alternative := cell["metadata"].get("alt")):
            raise ValueError(
                f"{name}: a figure needs a text that says what it shows, as in "
                f'`# %% alt="..."`; the cell {source.splitlines()[0]!r} has none.'
            )
        file = f"{name}_{len(figures)}.{_FIGURES[kind]}"
        content = _joined(data[kind])
        figures[file] = base64.b64decode(content) if kind == "image/png" else content.encode()
        shown.append(f"[![{alternative}]({file})]({file})")
    code = f"```python\n{source}\n```"
    if shown:
        summary = "<summary>The code of this figure</summary>"
        code = f'<details markdown="1">{summary}\n\n{code}\n\n</details>'
    said = [f"```text\n{text}\n```" for text in ["\n".join(printed)] if text]
    return [*shown, *said, code] if shown else [code, *said]


def _joined(text: str | list[str]) -> str:
    return text if isinstance(text, str) else "".join(text)


def files(sources: pathlib.Path, executed: pathlib.Path) -> dict[str, bytes]:
    """All pages of notebooks and what belongs to them, by path below docs/.

    Args:
        sources: the folder of the texts.
        executed: the folder of the executed notebooks.

    Raises:
        ValueError: if one was not executed since it was changed.
    """
    made: dict[str, bytes] = {}
    for source in sorted(sources.glob("*.py")):
        name, path = source.stem, executed / f"{source.stem}.ipynb"
        if not path.exists() or path.stat().st_mtime < source.stat().st_mtime:
            raise ValueError(
                f"{source.name} was not executed since it was changed. Run `make notebooks`."
            )
        text = path.read_text()
        one = page(json.loads(text), name)
        made |= {f"{name}.md": one.text.encode(), f"{name}.ipynb": text.encode(), **one.figures}
        made[f"{name}.py.txt"] = source.read_bytes()
    return {f"{sources.name}/{name}": content for name, content in made.items()}

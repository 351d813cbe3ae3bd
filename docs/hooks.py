"""What the site's build does beyond mkdocs: a check of the reference, examples shown as such,
formulas as MathML, and the pages of notebooks.

A public name of cgjax that has no docstring, or no place in the reference, fails the build.
"""

import html
import pathlib
import re
import sys
from typing import Any

import griffe
from latex2mathml import converter
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import notebook_pages  # noqa: E402
import public_names  # noqa: E402

# As arithmatex marks them, and how they are displayed.
FORMULAS = (
    (r'<span class="arithmatex">\\\((.*?)\\\)</span>', "inline"),
    (r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', "block"),
)


def on_config(config):
    """Fail if something public is undocumented."""
    problems = public_names.problems(pathlib.Path(config.docs_dir))
    if problems:
        raise PluginError("Undocumented public names:\n  " + "\n  ".join(problems))
    return config


def on_files(files, config):
    """Add the pages of notebooks, as `make notebooks` has left them."""
    docs = pathlib.Path(config.docs_dir)
    try:
        made = notebook_pages.files(docs / "notebooks", docs.parent / "build" / "notebooks")
    except ValueError as error:
        raise PluginError(str(error)) from error
    for path, content in made.items():
        files.append(File.generated(config, path, content=content))
    return files


def on_page_content(html_text, page, config, files):
    """Turn formulas into MathML, which browsers draw themselves."""
    for pattern, display in FORMULAS:

        def converted(match: re.Match[str], display: str = display) -> str:
            return converter.convert(html.unescape(match[1]), display=display)

        html_text = re.sub(pattern, converted, html_text, flags=re.DOTALL)
    return html_text


class ExampleSections(griffe.Extension):
    """The section "Example:" of a docstring is a doctest, which Griffe calls "Examples:"."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace("Example:\n", "Examples:\n")

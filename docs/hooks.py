"""What the site's build does beyond mkdocs: a check of the reference, examples shown as such,
formulas as MathML, and the pages of notebooks.

A public name of cgjax that has no docstring, or no place in the reference, fails the build; so do
formulas that cannot be converted, and internals of Python in the reference.
"""

import html
import inspect
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

import cgjax  # noqa: E402

# As arithmatex marks them, and how they are displayed.
FORMULAS = (
    (r'<span class="arithmatex">\\\((.*?)\\\)</span>', "inline"),
    (r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', "block"),
)

# Of tuples and arrays, what readers of the reference should not see.
INTERNALS = "_tuplegetter", "Alias for field number", "jaxlib._jax"

# Before the name of a class, where an annotation was evaluated.
MODULES = re.compile(r"\b(?:cgjax|collections|jax|jaxlib|jaxtyping|typing)\.(?:\w+\.)*(?=\w)")


def on_config(config):
    """Fail if something public is undocumented; say the version."""
    problems = public_names.problems(pathlib.Path(config.docs_dir))
    if problems:
        raise PluginError("Undocumented public names:\n  " + "\n  ".join(problems))
    # In the header and in the title of each page.
    config.site_name = f"{config.site_name} {cgjax.__version__}"
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
    """Turn formulas into MathML, which browsers draw themselves.

    Raises:
        PluginError: the converter does not know a command of LaTeX, and would leave it as it is; or
            the page shows how Python or JAX keep what is documented.
    """
    text = re.sub(r"<[^>]+>", "", html_text)
    if shown := [name for name in INTERNALS if name in text]:
        raise PluginError(f"{page.file.src_path} shows {', '.join(shown)}: see `Shown`")
    for pattern, display in FORMULAS:

        def converted(match: re.Match[str], display: str = display) -> str:
            made = converter.convert(html.unescape(match[1]), display=display)
            if unknown := re.search(r">(\\[a-zA-Z]+)<", made):
                raise PluginError(f"{page.file.src_path}: no MathML for {unknown[1]} in {match[1]}")
            # Wide ones scroll (docs/style.css).
            return made if display == "inline" else f'<div class="formula">{made}</div>'

        html_text = re.sub(pattern, converted, html_text, flags=re.DOTALL)
    return html_text


class Shown(griffe.Extension):
    """What pages show of objects: examples, and fields of records without Python's own words."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for every module, class, function and attribute.

        The section "Example:" of a docstring is a doctest, which Griffe calls "Examples:".
        """
        if obj.docstring is not None:
            obj.docstring.value = obj.docstring.value.replace("Example:\n", "Examples:\n")
        if isinstance(obj, griffe.Function):
            obj.returns = without_modules(obj.returns)
            for parameter in obj.parameters:
                parameter.annotation = without_modules(parameter.annotation)
        elif isinstance(obj, griffe.Attribute):
            obj.annotation = without_modules(obj.annotation)

    def on_class_members(self, *, node: Any, cls: griffe.Class, agent: Any, **kwargs: Any) -> None:
        """Called when the members of a class are known: fields of a tuple get their types.

        Python gives them a value, `_tuplegetter`, and a docstring, "Alias for field number 0".
        """
        described = cls.docstring is not None and "Attributes:" in cls.docstring.value
        for attribute in cls.attributes.values():
            if not str(attribute.value).startswith("_tuplegetter("):
                continue
            attribute.value = None
            attribute.labels.clear()
            written = inspect.formatannotation(node.obj.__annotations__[attribute.name])
            attribute.annotation = without_modules(written)
            # The section of attributes describes them already.
            attribute.docstring = None if described else griffe.Docstring("A field.")


def without_modules(annotation: str | griffe.Expr | None) -> str | griffe.Expr | None:
    """As a signature writes it: the names of classes without those of the modules they are from."""
    if annotation is None or not MODULES.search(str(annotation)):
        return annotation
    return MODULES.sub("", str(annotation))

"""What the site's build does beyond mkdocs: a check of the reference, and formulas as MathML.

A public name of cgjax that has no docstring, or no place in the reference, fails the build.
"""

import html
import pathlib
import re
import sys

from latex2mathml import converter
from mkdocs.exceptions import PluginError

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import public_names  # noqa: E402


def on_config(config):
    """Fail if something public is undocumented."""
    problems = public_names.problems(pathlib.Path(config.docs_dir))
    if problems:
        raise PluginError("Undocumented public names:\n  " + "\n  ".join(problems))
    return config


def on_page_content(html_text, page, config, files):
    """Turn the formulas that arithmatex marked into MathML, which browsers draw themselves."""
    html_text = re.sub(
        r'<span class="arithmatex">\\\((.*?)\\\)</span>',
        lambda match: converter.convert(html.unescape(match.group(1))),
        html_text,
        flags=re.DOTALL,
    )
    return re.sub(
        r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>',
        lambda match: converter.convert(html.unescape(match.group(1)), display="block"),
        html_text,
        flags=re.DOTALL,
    )

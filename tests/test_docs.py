"""The documentation is true: its commands and links exist (its code: `tests/pages.py`)."""

import base64
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import pytest

import cgjax
from docs import notebook_pages
from docs.figures import badges
from docs.tables import sweeps
from tests.test_house import FLOORS
from tests.train.made_up import NONE, write_sweep

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```[ ]*$", flags=re.MULTILINE | re.DOTALL)


def page_name(page: pathlib.Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_no_code_block_escapes(page: pathlib.Path):
    """Every python block is one that `tests/pages.py` runs."""
    text = page.read_text()
    run = sum(block[1] == "python" for block in FENCE.finditer(text))
    assert len(re.findall(r"```+ *\{?\.?(?:py|python)\b", text)) == run


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_make_targets_exist(page: pathlib.Path):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)", page.read_text())) <= targets


def test_help_fits_a_terminal():
    """Its first line is the main job, and it names every target."""
    command = ["make", "--no-print-directory", "help"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    lines = text.splitlines()
    assert lines[0].startswith("make train") and max(map(len, lines)) <= 80
    makefile = (ROOT / "Makefile").read_text()
    phony = re.findall(r"^\.PHONY: ((?:.*\\\n)*.*)", makefile, re.MULTILINE)[0]
    internal = {"help", "known-experiment", "newest-environment"}
    assert set(re.findall(r"^make ([a-z-]+)", text, re.MULTILINE)) == (
        set(phony.replace("\\", "").split()) - internal
    )


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_local_links_lead_somewhere(page: pathlib.Path):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", FENCE.sub("", page.read_text()))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_what_differs_between_libraries_is_held_by_scripts():
    """Each row names a script, each script stands once, and the versions are those it installs."""
    rows = re.findall(r"^\| .*\| `(\w+)` \|$", page := _page("differences.md"), re.MULTILINE)
    assert sorted(rows) == sorted(path.stem for path in (ROOT / "findings").iterdir())
    for line in page.splitlines():
        if not (row := re.match(r"\| .*\| `(\w+)` \|$", line)):
            continue
        script = (ROOT / "findings" / f"{row[1]}.sh").read_text()
        versions = re.findall(r"\b([a-z][\w-]*) (\d+(?:\.\d+)+)", line)
        assert versions and [v for v in versions if f"{v[0]}=={v[1]}" not in script] == [], line
        # In the form that the others have.
        assert re.search(r"\n# Package: .+\n(# .*\n)*# Seen: ", script), row[1]
        assert "mktemp -d" in script and "\n# Fails (exit status 1) if " in script, row[1]
        assert "cgjax" not in script, row[1]


def test_every_notebook_is_in_the_navigation_and_links_to_pages():
    navigation = (ROOT / "mkdocs.yml").read_text()
    sources = sorted((ROOT / "docs" / "notebooks").glob("*.py"))
    listed = re.findall(r": notebooks/(\w+)\.md$", navigation, re.MULTILINE)
    assert sorted(listed) == [path.stem for path in sources]
    for source in sources:
        text = source.read_text()
        assert text.startswith("# %% [markdown]\n# # ")
        for link in re.findall(r"\]\(([^)#\s]+)", text):
            page = (source.parent / link).resolve()
            assert page.exists() or (page.parent == source.parent and page.stem in listed), link


def test_a_page_of_a_notebook_shows_figures_first():
    png, svg = base64.b64encode(b"png").decode(), ["<svg>", "</svg>"]
    cells = [
        _cell("markdown", "# A title\n\nWhat it is about."),
        _cell("code", "1 + 1", [{"output_type": "execute_result", "data": {"text/plain": "2"}}]),
        _cell(
            "code",
            "draw()",
            [
                {"output_type": "stream", "name": "stdout", "text": ["drawn\n"]},
                {"output_type": "execute_result", "data": {"text/plain": "[Text(0, 1)]"}},
                {"output_type": "display_data", "data": {"image/png": "no", "image/svg+xml": svg}},
                {"output_type": "display_data", "data": {"image/png": png, "text/plain": "<F>"}},
            ],
            alt="Two figures.",
        ),
        _cell("code", ""),
    ]
    made = notebook_pages.page({"cells": cells}, "one")
    assert made.figures == {"one_0.svg": b"<svg></svg>", "one_1.png": b"png"}
    title, about, *rest = made.text.split("\n\n", 3)
    assert title == "# A title" and "What it is about." in about and "(one.ipynb)" in rest[0]
    figures = "\n\n".join(f"[![Two figures.]({file})]({file})" for file in made.figures)
    assert rest[1] == (
        "```python\n1 + 1\n```\n\n```text\n2\n```\n\n"
        f"{figures}\n\n```text\ndrawn\n```\n\n"
        '<details markdown="1"><summary>The code of this figure</summary>\n\n'
        "```python\ndraw()\n```\n\n</details>\n"
    )


def test_a_page_of_a_notebook_says_what_is_wrong(tmp_path: pathlib.Path):
    image = [{"output_type": "display_data", "data": {"image/png": ""}}]
    warned = [{"output_type": "stream", "name": "stderr", "text": "Warning: old"}]
    raised = [{"output_type": "error", "evalue": "division by zero"}]
    title = _cell("markdown", "# A title")
    for cells, words in (
        ([_cell("markdown", "No title")], "begins with its title, got 'No title'"),
        ([title, _cell("code", "draw()", image)], "a figure needs a text"),
        ([title, _cell("code", "warn()", warned)], "wrote: Warning: old"),
        ([title, _cell("code", "1 / 0", raised)], "wrote: division by zero"),
        ([title, _cell("code", "f()") | {"execution_count": None}], "not executed: 'f()'"),
    ):
        with pytest.raises(ValueError, match=re.escape(words)):
            notebook_pages.page({"cells": cells}, "one")
    sources, executed = tmp_path / "notebooks", tmp_path / "executed"
    sources.mkdir()
    executed.mkdir()
    (sources / "one.py").write_text("# %%\n")
    with pytest.raises(ValueError, match=r"one.py was not executed .* `make notebooks`"):
        notebook_pages.files(sources, executed)
    (executed / "one.ipynb").write_text(json.dumps({"cells": [title]}))
    found = notebook_pages.files(sources, executed)
    assert list(found) == [f"notebooks/one.{suffix}" for suffix in ("md", "ipynb", "py.txt")]
    os.utime(sources / "one.py", (2**31, 2**31))
    with pytest.raises(ValueError, match="since it was changed"):
        notebook_pages.files(sources, executed)


def _page(name: str) -> str:
    return (ROOT / "docs" / name).read_text()


def _cell(kind: str, source: str, outputs: Sequence[dict[str, Any]] = (), **metadata: str):
    """A cell as the JSON of a notebook has it."""
    cell = {"cell_type": kind, "source": source, "metadata": metadata}
    return cell if kind == "markdown" else cell | {"outputs": list(outputs), "execution_count": 1}


def test_a_vae_takes_twenty_lines():
    """As its page says: the model, the guide and the training, in the block of that name."""
    text = (ROOT / "docs" / "tutorials" / "vae_in_twenty_lines.md").read_text()
    block = FENCE.search(text, text.index("## The twenty lines"))
    assert block is not None and "elbo" in block[2]
    lines = [line for line in block[2].splitlines() if line.strip()]
    assert len(lines) == 20 and max(map(len, lines)) <= 100


def test_the_first_screen_shows_what_it_is_for():
    """A picture, an example of at most fifteen lines, and how to install, before any heading."""
    first = (ROOT / "README.md").read_text().split("\n## ")[0]
    assert "one_network.svg" in first and "pip install" in first and "make train" in first
    example = FENCE.search(first)
    assert example is not None and example[1] == "python"
    assert len([line for line in example[2].splitlines() if line.strip()]) <= 15


def test_badges_say_what_the_project_says():
    for name, text in badges.badges().items():
        assert (ROOT / "docs" / "figures" / name).read_text() == text, (
            "python -m docs.figures.badges"
        )


def test_versions_agree():
    """Of the package, the citation, the page that says how to cite, and the newest in CHANGELOG."""
    version = cgjax.__version__
    citation = (ROOT / "CITATION.cff").read_text()
    changes = re.findall(r"^## (\S+) - (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert f"version: {version}\n" in citation
    assert changes[0] == (version, re.findall(r"^date-released: (\S+)$", citation, re.M)[0])
    assert f"version = {{{version}}}" in (ROOT / "docs" / "install.md").read_text()


WORDS = "classification", "standardise", "install", "cite", "evaluate", "checkpoint", "gpu"


@pytest.mark.parametrize("word", WORDS)
def test_headings_have_the_words_that_are_searched_for(word: str):
    """The site's search puts pages first whose titles have them."""
    pages = [FENCE.sub("", page.read_text()).lower() for page in PAGES]
    assert any(re.search(rf"^#+ .*\b{word}", text, re.MULTILINE) for text in pages)


def test_tutorials_say_what_they_need():
    for page in sorted((ROOT / "docs" / "tutorials").glob("*.md")):
        first = page.read_text().split("\n## ")[0]
        assert "pip install" in first, page.name


def test_public_names_are_documented(monkeypatch: pytest.MonkeyPatch):
    """The check that also fails the site's build."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "docs"), *sys.path])
    import public_names  # pyright: ignore[reportMissingImports]

    assert public_names.problems(ROOT / "docs") == []


def test_tables_are_those_of_the_results(monkeypatch: pytest.MonkeyPatch):
    """README and the site show what the JSON files under results/ say."""
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    from docs import generate_tables

    for name in generate_tables.PAGES:
        page = (ROOT / name).read_text()
        assert generate_tables.generate(page, ROOT / "results") == page, name
    assert generate_tables.pictures.outdated(ROOT) == []


def test_what_is_said_about_the_regression_follows_its_results(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
):
    """With one cell made worse, the tables show it and the claims no longer hold."""
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    from docs import generate_tables

    results = tmp_path / "results"
    reached = generate_tables.TABLES["regression-reached"]
    assert reached(results) == "*Not yet measured.*"
    shutil.copytree(ROOT / "results" / "uci", results / "uci")
    names = [name for name in generate_tables.TABLES if name.startswith("regression")]
    before = {name: generate_tables.TABLES[name](results) for name in names}
    cell = results / "uci" / "boston" / "moments_adam-heteroscedastic.json"
    result = json.loads(cell.read_text())
    for split in result["splits"]:
        split["log likelihood"] -= 3
    result["seconds"]["search"] += 1000
    cell.write_text(json.dumps(result))
    after = {name: generate_tables.TABLES[name](results) for name in names}
    same = {name for name in names if before[name] == after[name]}
    others = "rows", "starts", "search", "speed", "outlier"  # of files that were not copied
    assert same == {f"regression-{name}" for name in others}
    first = after["regression-reached"].splitlines()[0]
    assert "does not hold" in first and "missed: boston (-5." in first
    assert "20 of boston by moments, Adam" in after["regression-tails"]
    assert "boston, moments, Adam, heteroscedastic (search 1" in after["regression-time"]


def test_throughputs_follow_their_results(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path):
    """A training below the target is counted, and what was not measured has no figure."""
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    from docs import generate_tables

    made = generate_tables.TABLES["structured-throughput"]
    assert made(tmp_path) == "*Not yet measured.*"
    known = json.loads((ROOT / "results" / "benchmarks" / "recurrence.json").read_text())
    ratio = {"median": 1.25, "low": 1.2, "high": 1.3, "fastest": 1.26}
    rows = [
        {
            "network": "IndRNN",
            "regulariser": "pcff",
            "rate": 0.1,
            "images_per_second": 80.0,
            "plain_scan_images_per_second": 64.0,
            "over_plain_scan": ratio,
        },
        {
            "network": "IndRNN",
            "regulariser": "none",
            "rate": 0.0,
            "images_per_second": 80.0,
            "plain_scan_images_per_second": 80.0,
            "over_plain_scan": ratio | {"median": 1.0},
            "plain_scan_error": 2e-6,
        },
    ]
    origin = {key: known[key] for key in ("command", "commit", "machine")}
    result = origin | {"sizes": {"rounds": 9, "steps": 3}, "trainings": rows}
    path = tmp_path / "benchmarks" / "structured_throughput.json"
    path.parent.mkdir()
    path.write_text(json.dumps(result))
    lines = made(tmp_path).splitlines()
    assert (
        "| IndRNN | PCFF 0.1 | 80.0 | 64.0 | 1.25 (1.20-1.30) | 1.26 | - | - | - | - | - |" in lines
    )
    assert lines[3].endswith("| 2e-06 | - |")
    assert "- At least 1.1 times as fast as a plain scan: 1 of 2 trainings." in lines
    assert "- 9 rounds of 3 training steps." in lines
    assert not any("as PyTorch" in line for line in lines)


def test_every_folder_is_in_tables_and_pictures(tmp_path: pathlib.Path):
    from docs.figures import pictures

    assert pictures.outdated(tmp_path) == []
    results = tmp_path / "results"
    (tmp_path / "docs" / "figures").mkdir(parents=True)
    cases = {NONE: 0.0, ("dropout", 0.1): 0.01}
    write_sweep(results, "indrnn", cases, folder="first", seeds=(0,))
    names = ["docs/figures/indrnn.svg", "docs/figures/indrnn_curves.svg"]
    assert pictures.outdated(tmp_path) == names
    pictures.draw(tmp_path, names)
    assert pictures.outdated(tmp_path) == []
    same = {name: (tmp_path / name).read_bytes() for name in names}
    pictures.draw(tmp_path, names)
    assert same == {name: (tmp_path / name).read_bytes() for name in names}
    # Another order, and a small run beside the whole one.
    write_sweep(results, "indrnn", cases, folder="other", order="permuted", seeds=(0,))
    write_sweep(results, "indrnn", cases, folder="small", images=320, seeds=(0,))
    table = sweeps.recurrent_networks(results)
    assert table.count("MNIST, sequential: all training images, 4 epochs.") == 1
    assert table.count("MNIST, permuted: all training images, 4 epochs.") == 1
    assert table.count("MNIST, sequential: 320 training images, 4 epochs.") == 1
    assert pictures.outdated(tmp_path) == names
    pictures.draw(tmp_path, names)
    for name in names:
        # Matplotlib puts what a text says into a comment beside its outlines.
        text = (tmp_path / name).read_text()
        assert text.count("<!-- mnist, sequential") == 2 and text.count("<!-- mnist, permuted") == 1
    assert sweeps.recurrent_picture(results).count("![") == 2
    assert sweeps.residual_picture(results) == "*Not yet measured.*"


def test_like_is_set_beside_like(tmp_path: pathlib.Path):
    """Our accuracies in training stand beside those logged after as many updates."""
    cases = {("dropout", 0.1): 0.01}
    write_sweep(tmp_path, "indrnn", cases, folder="whole")  # four epochs of 1,700 updates
    write_sweep(tmp_path, "indrnn", cases, folder="small", images=6400, order="permuted")
    write_sweep(tmp_path, "indrnn", {NONE: 0.0}, folder="without", order_seed=1)
    write_sweep(tmp_path, "indrnn", cases, folder="other", features=16)
    small, whole = sweeps.recurrent_training(tmp_path).splitlines()[2:]
    assert "| 0.833 (401-600) | 0.414 (401-500) | 0.833 | - |" in small
    # Of the epochs that both have, the third is the last.
    assert "| 0.833 (3,401-5,100) | 0.833 (3,401-5,100) | 0.833 | 0.897 |" in whole


def test_the_map_of_the_house_is_true():
    """It names every part of the library, in the order in which they may import each other."""
    text = (ROOT / "CONTRIBUTING.md").read_text()
    library = text[text.index("cgjax/\n") :].split("train/")[0]
    parts = re.findall(r"^  (\w+)(?:\.py|/)", library, flags=re.MULTILINE)
    found = {path.stem for path in (ROOT / "cgjax").iterdir() if path.suffix in ("", ".py")}
    assert sorted(parts) == sorted(found - {"__init__", "__pycache__"})
    assert parts == list(FLOORS)

"""The documentation is true: its code runs and prints what it says; commands and links exist."""

import contextlib
import io
import json
import pathlib
import re
import shutil
import sys
from collections.abc import Iterable
from typing import Any

import pytest

from docs.tables import sweep_claims, sweeps
from tests.test_house import FLOORS
from train.indrnn import experiment as indrnn
from train.resnet import experiment as resnet

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```[ ]*$", flags=re.MULTILINE | re.DOTALL)


def page_name(page: pathlib.Path) -> str:
    return str(page.relative_to(ROOT))


def has_code(page: pathlib.Path) -> bool:
    return "```python" in page.read_text()


@pytest.mark.parametrize("page", [page for page in PAGES if has_code(page)], ids=page_name)
def test_code_runs(page: pathlib.Path, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    """The python blocks of a page run in one namespace, warnings being errors.

    A `text` block that directly follows a python block is what that block prints.
    """
    monkeypatch.chdir(tmp_path)
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


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_no_code_block_escapes(page: pathlib.Path):
    """Every python block is one that the test above runs."""
    text = page.read_text()
    run = sum(block[1] == "python" for block in FENCE.finditer(text))
    assert len(re.findall(r"```+ *\{?\.?(?:py|python)\b", text)) == run


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_make_targets_exist(page: pathlib.Path):
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"`make ([a-z]+)", page.read_text())) <= targets


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_local_links_lead_somewhere(page: pathlib.Path):
    links = re.findall(r"\]\(([^)#\s]+)[^)]*\)", FENCE.sub("", page.read_text()))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


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
    assert generate_tables.sweep_pictures.outdated(ROOT) == []


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
    assert same == {"regression-rows"}  # of files that were not copied
    first = after["regression-reached"].splitlines()[0]
    assert "does not hold" in first and "worse on boston, -5." in first
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


# -- the claims on residual and recurrent networks, from results that were made up


def write_sweep(
    results: pathlib.Path,
    experiment: str,
    deltas: dict[tuple[str, float], float],
    *,
    seeds: tuple[int, ...] = (0, 1, 2),
    ended: str = "stopped early",
    folder: str = "made-up",
    spread: float = 0.02,
    level: float = 0.1,
    **settings: Any,
) -> pathlib.Path:
    """A result with test errors of `level`, more for later seeds, and `deltas` away from it."""
    known = json.loads((ROOT / "results" / "benchmarks" / "recurrence.json").read_text())
    config = resnet.Config() if experiment == "resnet" else indrnn.Config()
    facts: dict[str, Any] = config.facts() | settings | {"seeds": list(seeds)}
    epochs = facts["recipe"].get("length", 4)
    runs = [
        {
            "regulariser": regulariser,
            "rate": rate,
            "seed": seed,
            "status": ended,
            "epochs": epochs,
            "history": {
                name: [0.5 / (epoch + 1) for epoch in range(epochs)]
                for name in ("train_error", "validation_error")
            },
            "test": {"error": level + 0.001 * seed + delta * (1 + spread * (seed % 3)), "nll": 1.0},
            "monte carlo": None,
        }
        for (regulariser, rate), delta in deltas.items()
        for seed in seeds
    ]
    result = {key: known[key] for key in ("command", "commit", "machine")}
    result |= {"experiment": experiment, "labels": ["regulariser", "rate"], "data": "made up"}
    path = results / experiment / folder / "result.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result | {"settings": facts, "runs": runs}))
    return path


def verdicts(claims: Iterable[sweep_claims.Claim]) -> list[str]:
    return [claim.verdict for claim in claims]


NONE = ("none", 0.0)
# As [A] has it: errors less those without regulariser.
RESIDUAL = {
    NONE: 0.0,
    ("dropout", 0.1): -0.003,
    ("dropout", 0.3): 0.02,
    ("dropout", 0.5): 0.1,
    ("pcff", 0.1): -0.004,
    ("pcff", 0.3): -0.008,
    ("pcff", 0.5): -0.005,
    ("pcff", 1.0): 0.001,
}
CONTRARY = {case: -delta for case, delta in RESIDUAL.items()}


@pytest.mark.parametrize(
    ("deltas", "options", "expected"),
    [
        (RESIDUAL, {}, ["holds"] * 4),
        (CONTRARY, {}, ["does not hold"] * 4),
        (RESIDUAL, {"seeds": (0, 1)}, ["not decided"] * 4),
        # 4.3 standard errors decide; the spread here makes these 1.7.
        (RESIDUAL, {"spread": 3.0}, ["not decided"] * 4),
        # A range from 0.3 to 1 is wide too; one from 0.1 to 0.3 is not, nor holes in it.
        (RESIDUAL | {("pcff", 0.1): 0.001, ("pcff", 1.0): -0.001}, {}, ["holds"] * 4),
        (
            RESIDUAL | {("pcff", 0.5): 0.001, ("pcff", 0.7): -0.001},
            {},
            ["does not hold", *["holds"] * 3],
        ),
        # The best rate is another.
        (RESIDUAL | {("pcff", 0.5): -0.02}, {}, ["holds", "does not hold", "holds", "holds"]),
        # Dropout helps at 0.3 too; at a large rate it does not hurt.
        (RESIDUAL | {("dropout", 0.3): -0.01}, {}, ["holds", "holds", "does not hold", "holds"]),
        (RESIDUAL | {("dropout", 0.9): -0.01}, {}, [*["holds"] * 2, *["does not hold"] * 2]),
        # Not even at 0.1.
        (RESIDUAL | {("dropout", 0.1): 0.003}, {}, ["holds", "holds", "does not hold", "holds"]),
        # A rate that is asked for is missing.
        (
            {case: delta for case, delta in RESIDUAL.items() if case != ("pcff", 0.1)},
            {},
            ["not decided", "not decided", "holds", "holds"],
        ),
    ],
)
def test_claims_on_residual_networks_follow_results(tmp_path, deltas, options, expected):
    write_sweep(tmp_path, "resnet", deltas, **options)
    assert verdicts(sweep_claims.residual_claims(tmp_path)) == expected


def test_evidence_of_claims(tmp_path: pathlib.Path):
    path = write_sweep(tmp_path, "resnet", RESIDUAL)
    wide, best, _, large = sweep_claims.residual_claims(tmp_path)
    # Seeds differ by 0.02 delta: -0.40, -0.408, -0.416.
    assert wide.evidence.startswith("PCFF − none: -0.41 ± 0.00 at 0.1, -0.82 ± 0.01 at 0.3,")
    assert best.evidence.startswith("lowest mean: 9.28 % at 0.3; less that at 0.3: +0.41 ± 0.00")
    assert "+10.20 ± 0.12 at 0.5" in large.evidence
    # Seeds that were trained apart count together; twice the same is a mistake.
    whole = sweep_claims.residual_claims(tmp_path)
    path.unlink()
    for seed in range(3):
        write_sweep(tmp_path, "resnet", RESIDUAL, seeds=(seed,), folder=f"seed{seed}")
    assert sweep_claims.residual_claims(tmp_path) == whole
    write_sweep(tmp_path, "resnet", RESIDUAL, seeds=(1,), folder="again")
    with pytest.raises(ValueError, match="seed2.*repeats|seed1.*repeats"):
        sweep_claims.residual_claims(tmp_path)


RECIPE = resnet.Config().facts()["recipe"]


@pytest.mark.parametrize(
    "options",
    [
        {"images": 4500},
        {"recipe": RECIPE | {"length": 25}},
        {"shortcut": "pad"},
        {"channels": 8},
    ],
)
def test_other_than_the_whole_schedule_decides_nothing(tmp_path, options):
    assert sweep_claims.residual_claims(tmp_path)[0].evidence == "-"
    write_sweep(tmp_path, "resnet", RESIDUAL, **options)
    claims = sweep_claims.residual_claims(tmp_path)
    assert verdicts(claims) == ["**not yet measured on a GPU**"] * 4
    assert {claim.evidence for claim in claims} == {"small runs below decide nothing"}
    schedules = sweep_claims.structured_schedules(tmp_path)
    assert schedules.count("| **not yet measured on a GPU** |") == 3
    write_sweep(tmp_path, "resnet", RESIDUAL, folder="whole")
    assert verdicts(sweep_claims.residual_claims(tmp_path)) == ["holds"] * 4
    schedules = sweep_claims.structured_schedules(tmp_path)
    assert schedules.count("| **not yet measured on a GPU** |") == 2
    assert "| 24 runs, 3 seeds: " in schedules.splitlines()[2]


# Errors less those without regulariser, and these themselves, as [A] has them.
RECURRENT = {
    "sequential": (0.0149, {("dropout", 0.1): 0.0011, ("pcff", 0.1): -0.0001}),
    "permuted": (0.0945, {("dropout", 0.1): -0.0158, ("pcff", 0.1): -0.01}),
}
OPPOSITE = {
    "sequential": (0.0349, {("dropout", 0.1): -0.0011, ("pcff", 0.1): 0.003}),
    "permuted": (0.045, {("dropout", 0.1): 0.0158, ("pcff", 0.1): -0.01}),
}


@pytest.mark.parametrize(
    ("errors", "options", "expected"),
    [
        (RECURRENT, {}, ["holds"] * 3),
        (OPPOSITE, {}, ["does not hold"] * 3),
        (RECURRENT, {"seeds": (0, 1)}, ["not decided"] * 3),
        (RECURRENT, {"ended": "reached the last epoch"}, ["**not yet measured on a GPU**"] * 3),
        (RECURRENT, {"images": 6400}, ["**not yet measured on a GPU**"] * 3),
    ],
)
def test_claims_on_recurrent_networks_follow_results(tmp_path, errors, options, expected):
    for order, (level, deltas) in errors.items():
        write_sweep(
            tmp_path,
            "indrnn",
            {NONE: 0.0, **deltas},
            level=level,
            order=order,
            folder=order,
            **options,
        )
    assert verdicts(sweep_claims.recurrent_claims(tmp_path)) == expected
    lines = sweep_claims.recurrent_accuracies(tmp_path).splitlines()[2:]
    assert len(lines) == 6
    assert [line.split(" | ")[3] for line in lines] == ["-", "0.9904", "-", "-", "0.9564", "-"]
    # Three seeds that are 0.1 points apart are known to 0.25, less than the half that is asked for.
    assert {line.split(" | ")[-1].removesuffix(" |") for line in lines} == {expected[0]}


def test_accuracies_beside_published_ones(tmp_path: pathlib.Path):
    write_sweep(tmp_path, "indrnn", {NONE: 0.0}, level=0.02, order="permuted")
    line = sweep_claims.recurrent_accuracies(tmp_path).splitlines()[5]
    cells = "0.9045 | - | 0.9790 ± 0.0006 | +7.45 ± 0.06 | does not hold |"
    assert line == f"| permuted MNIST | none | {cells}"


def write_dense(
    results: pathlib.Path,
    both: dict[tuple[str, str], float],
    seeds: int,
    ended: tuple[str, int] = ("stopped early", 40),
) -> None:
    """Dense results with dropout at 2 %, PCFF at 3 %, and both so much from 2 %."""
    for data in ("mnist", "fashion_mnist"):
        runs = [
            {
                "nodes": nodes,
                "regulariser": regulariser,
                "seed": seed,
                "status": ended[0],
                "epochs": ended[1],
                "test": {"error": error + 0.001 * seed},
                "monte carlo": None,
            }
            for nodes in ("tanh", "relu")
            for regulariser, error in (
                ("dropout", 0.02),
                ("pcff", 0.03),
                ("both", 0.02 + both[data, nodes]),
            )
            for seed in range(seeds)
        ]
        path = results / "dense" / data / "result.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"settings": {"data": data}, "runs": runs}))


def test_the_claim_on_dropout_with_pcff_follows_the_dense_results(tmp_path: pathlib.Path):
    assert sweep_claims.combination_claim(tmp_path).verdict == "not yet measured"
    cases = [(data, nodes) for data in ("mnist", "fashion_mnist") for nodes in ("tanh", "relu")]
    worse = dict.fromkeys(cases, 0.005)  # than dropout, though better than PCFF
    early, capped = "stopped early", "reached the last epoch"
    for both, seeds, ended, expected in (
        (worse, 3, (early, 40), "does not hold"),
        (worse | {("mnist", "relu"): -0.005}, 3, (early, 40), "holds"),
        (worse | {("mnist", "relu"): 0.0}, 3, (early, 40), "not decided"),
        (worse | {("mnist", "relu"): -0.005}, 2, (early, 40), "not decided"),
        (worse, 3, (capped, 40), "not yet measured"),
        (worse, 3, (capped, 654), "does not hold"),
    ):
        write_dense(tmp_path, both, seeds, ended)
        assert sweep_claims.combination_claim(tmp_path).verdict == expected
    write_dense(tmp_path, worse | {("mnist", "relu"): -0.005}, 3)
    told = sweep_claims.combination_claim(tmp_path).evidence
    assert "MNIST, ReLU: better than either (-0.50 ± 0.00 against dropout, -1.50" in told
    assert told.count("worse than one (+0.50") == 3


def test_every_folder_is_in_tables_and_pictures(tmp_path: pathlib.Path):
    from docs.figures import sweeps as pictures

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

"""The script that measures on a GPU: what it has programs do, and what it carries."""

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tyro

from train.characters.settings import Config as Characters
from train.gan.settings import Config as Adversarial
from train.images import plan
from train.images.settings import Config as Images
from train.indrnn.settings import Config as Recurrent
from train.resnet.settings import Config as Residual
from train.vae import plan as plan_of_bounds
from train.vae.settings import Config as Autoencoder

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "on_gpu.sh"
# Stands for an interpreter without tyro; "trains" a checkpoint of two steps, the last of 20 MB.
PYTHON = r"""#!/usr/bin/env bash
here=$(dirname "$0")
printf '%s\n' "$@" >>"$here/$2"
case "$1 $2" in
    "-c import tyro") exit 1 ;;
    "-m train."*)
        out=$4
        echo "$PYTHONPATH" >"$here/path"
        mkdir -p "$out"/checkpoint/9/arrays "$out"/checkpoint/10/arrays
        head -c 20000000 /dev/urandom >"$out/checkpoint/10/arrays/0"
        cp "$out/checkpoint/10/arrays/0" "$here/saved"
        ;;
esac
"""


@pytest.fixture
def script(tmp_path):
    """Runs the script; the words that the interpreter had are in files called as its modules."""
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)

    def run(*words, **variables):
        environment = {"PYTHON": str(tmp_path / "python"), "OUT": str(tmp_path / "out")}
        return subprocess.run(
            ["bash", SCRIPT, *words],
            env=os.environ | environment | variables,
            capture_output=True,
            text=True,
        )

    return run


@pytest.mark.parametrize(
    ("words", "module", "config", "expected"),
    [
        (
            "indrnn permuted 20 --implementation mosaic_gpu --seeds 0",
            "train.indrnn",
            Recurrent,
            {"order": "permuted", "implementation": "mosaic_gpu", "seeds": (0,)},
        ),
        (
            "resnet 25 --form products --dtype bfloat16 --width 8",
            "train.resnet",
            Residual,
            {"form": "products", "dtype": "bfloat16", "width": 8},
        ),
        (
            "vae 50 25 --latents gaussian",
            "train.vae",
            Autoencoder,
            {"data": "mnist", "samples": (50,), "latents": ("gaussian",), "test_images": 10000},
        ),
        (
            "vae 5 25 vimco --seeds 1",
            "train.vae",
            Autoencoder,
            {"samples": (5,), "gradients": ("vimco",), "seeds": (1,)},
        ),
        (
            "gan mnist 25 --seeds 0 1",
            "train.gan",
            Adversarial,
            {"data": "mnist", "seeds": (0, 1)},
        ),
        (
            "characters kjv 20 --latent vimco",
            "train.characters",
            Characters,
            {"data": "kjv", "latent": ("vimco",)},
        ),
        (
            "images cifar100 wrn-28-10 moments_natural 2 --epochs 20 --dtype bfloat16",
            "train.images",
            Images,
            {"data": "cifar100", "method": "moments_natural", "seeds": (2,), "dtype": "bfloat16"},
        ),
    ],
)
def test_experiments_run_as_they_do_everywhere(script, tmp_path, words, module, config, expected):
    ended = script(*words.split(), WHEELS="some/wheels", DATA="somewhere")
    assert ended.returncode == 0, ended.stderr
    given = (tmp_path / module).read_text().splitlines()
    assert given[:2] == ["-m", module]
    chosen = tyro.cli(config, args=given[2:], config=(tyro.conf.OmitArgPrefixes,))
    assert {name: getattr(chosen, name) for name in expected} == expected
    assert chosen.budget_seconds == 400 and chosen.earlier is None
    assert str(chosen.data_dir).startswith("somewhere/")
    assert chosen.recipe.last_epoch in (20, 25)
    # Wheels go to a folder of their own, which programs then find.
    installed = (tmp_path / "pip").read_text().splitlines()
    assert {"--no-index", "some/wheels", "tyro", "docstring-parser", "typeguard"} <= {*installed}
    target = installed[installed.index("--target") + 1]
    assert (tmp_path / "path").read_text().startswith(f"{target}:")


def test_every_cell_of_table_1_has_a_command(script, tmp_path):
    listed = plan.cells()
    assert len({*listed}) == len(listed) == 75
    assert [cell.method for cell in listed[:2]] == ["moments_natural", "plain"]
    assert all(plan.calls(cell) >= 1 for cell in listed)
    assert plan.calls(listed[0]) > plan.calls(listed[1])
    words = plan.command(listed[-1]).replace("SEED", "1").split()[1:]
    assert script(*words, DATA="somewhere").returncode == 0
    given = (tmp_path / "train.images").read_text().splitlines()
    chosen = tyro.cli(Images, args=given[2:], config=(tyro.conf.OmitArgPrefixes,))
    assert (chosen.data, chosen.network, chosen.method) == listed[-1]
    assert script("images").returncode == 0
    assert (tmp_path / "train.images.plan").read_text().splitlines() == ["-m", "train.images.plan"]


def test_every_row_of_bounds_has_a_command(script, tmp_path):
    listed = plan_of_bounds.cells()
    assert len({*listed}) == len(listed) == 10
    assert [cell.samples for cell in listed[:4]] == [50, 5, 1, 50]
    assert all(plan_of_bounds.calls(cell) >= 1 for cell in listed)
    words = plan_of_bounds.command(listed[-2]).replace("SEED", "1").split()[1:]
    assert script(*words, DATA="somewhere").returncode == 0
    given = (tmp_path / "train.vae").read_text().splitlines()
    chosen = tyro.cli(Autoencoder, args=given[2:], config=(tyro.conf.OmitArgPrefixes,))
    assert chosen.cells == [listed[-2]] and given[3].endswith(f"vae_5_{listed[-2].gradient}")
    assert script("vae").returncode == 0
    assert (tmp_path / "train.vae.plan").read_text().splitlines() == ["-m", "train.vae.plan"]
    assert script("gan", "ring", "50").returncode == 0  # needs no files
    assert "--data-dir" not in (tmp_path / "train.gan").read_text()


def test_a_checkpoint_travels_in_pieces(script, tmp_path):
    assert script("resnet", "25", PACK="1").returncode == 0
    folder = tmp_path / "out" / "resnet"
    pieces = sorted(folder.glob("checkpoint.tar.*"))
    assert len(pieces) == 2 and max(piece.stat().st_size for piece in pieces) == 15 * 2**20
    assert not (folder / "checkpoint").exists()
    folder.rename(tmp_path / "back")
    (tmp_path / "train.resnet").unlink()
    saved = (tmp_path / "saved").read_bytes()
    assert script("resnet", "25", FROM=str(tmp_path / "back")).returncode == 0
    given = (tmp_path / "train.resnet").read_text().splitlines()
    earlier = Path(given[given.index("--from") + 1])
    assert (earlier / "checkpoint" / "10" / "arrays" / "0").read_bytes() == saved
    assert not (earlier / "checkpoint" / "9").exists()


def test_wheels_are_those_that_are_missing(script, tmp_path):
    script("wheels", WHEELS=str(tmp_path))
    given = (tmp_path / "pip").read_text().splitlines()
    assert given[:3] == ["-m", "pip", "download"] and "3.12" in given
    assert given[-3:] == ["tyro", "docstring-parser", "typeguard"]


def test_the_script_carries_a_file_in_two_parts(tmp_path):
    content = np.random.default_rng(0).bytes(1001)
    (tmp_path / "here").mkdir()
    here = tmp_path / "here" / "a.zip"
    here.write_bytes(content)

    def script(command, path):
        environment = {"OUT": str(tmp_path / "out"), "KEEP": str(tmp_path / "kept")}
        return subprocess.run(
            ["bash", SCRIPT, command, path],
            env=os.environ | environment,
            capture_output=True,
            text=True,
        )

    assert script("split", here).returncode == 0
    parts = [here.with_name(f"a.zip.part{k}") for k in range(2)]
    assert max(part.stat().st_size for part in parts) == 501
    there = tmp_path / "there" / "a.zip"

    def carried(part):
        """The folder as the next call finds it."""
        there.parent.mkdir()
        for path in (here.with_name("a.zip.sha256"), part):
            (there.parent / path.name).write_bytes(path.read_bytes())
        ended = script("data", there)
        whole = there.read_bytes() if there.exists() else None
        for path in there.parent.iterdir():
            path.unlink()
        there.parent.rmdir()
        return ended, whole

    ended, whole = carried(parts[0])
    assert ended.returncode == 0 and "a.zip.part1 is still missing" in ended.stdout
    assert whole is None
    ended, whole = carried(parts[1])
    assert ended.returncode == 0 and "a.zip: OK" in ended.stdout and whole == content
    parts[1].write_bytes(b"-" + parts[1].read_bytes()[1:])
    ended, _ = carried(parts[1])
    assert ended.returncode != 0 and "FAILED" in ended.stdout

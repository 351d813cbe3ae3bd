"""The tables of recurrent and residual networks, of made-up results."""

import json
import pathlib
from typing import Any

import pytest

from docs.generate_tables import TABLES

ROOT = pathlib.Path(__file__).parent.parent.parent
NO_GPU = "*Not yet measured on a GPU.*"


def written(folder: pathlib.Path, name: str, device: str = "a CPU", **figures: Any) -> None:
    """A result of a benchmark on a device."""
    known = json.loads((ROOT / "results" / "benchmarks" / "recurrence.json").read_text())
    origin = {
        "command": f"python -m benchmarks.{pathlib.Path(name).stem}",
        "commit": "0123456789abcdef",
        "machine": known["machine"] | {"device kind": device},
    }
    path = folder / "benchmarks" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(origin | figures))


@pytest.mark.parametrize("table", ["recurrence", "residual-cost"])
def test_what_was_not_measured_on_a_gpu_is_said_to_be_so(table, tmp_path):
    assert TABLES[table](tmp_path) == NO_GPU


RECURRENCE = {
    "size": [784, 32, 128],
    "dtype": "float32",
    "noise": "none",
    "part": "forward and backward",
    "implementation": "mosaic_gpu",
    "baseline": False,
    "milliseconds": 0.5,
    "speedup": 21.0,
    "speedup_low": 20.5,
    "speedup_high": 22.0,
    "share_of_bound": 0.25,
    "compile_seconds": 3.0,
    "error": 1e-6,
}


def test_rows_of_a_gpu_are_merged_over_files_and_told_apart_from_those_of_others(tmp_path):
    own = RECURRENCE | {"share_of_bound": None, "implementation": "scan"}
    written(tmp_path, "recurrence.json", rows=[own], failed=[])
    text = TABLES["recurrence"](tmp_path)
    figures = "0.50 | 21.00 (20.50-22.00) | - | 3.00 | 1e-06"
    line = f"| 784 x 32 x 128 | float32 | none | forward and backward | scan | {figures} |"
    assert line in text.splitlines()
    assert text.endswith(NO_GPU)
    assert "at least 20 times" not in text

    narrow = RECURRENCE | {"dtype": "bfloat16", "speedup": 12.0}
    failed = {"size": [1, 2, 3], "dtype": "bfloat16", "noise": "PCFF", "implementation": "walked"}
    written(tmp_path, "gpu/recurrence_float32.json", "GPU A", rows=[RECURRENCE], failed=[])
    written(
        tmp_path,
        "gpu/recurrence_bfloat16.json",
        "GPU A",
        rows=[narrow],
        failed=[failed | {"message": "too large"}],
    )
    written(tmp_path, "gpu/recurrence_other.json", "GPU B", rows=[RECURRENCE], failed=[])
    written(tmp_path, "gpu/sweep_loop.json", "GPU A", steps=[], failed=[])
    text = TABLES["recurrence"](tmp_path)
    assert NO_GPU not in text
    _, first, second = text.split("\n\nOn GPU ")
    assert first.startswith("A:") and second.startswith("B:")
    assert first.count("| mosaic_gpu |") == 2 and second.count("| mosaic_gpu |") == 1
    assert "float32: mosaic_gpu is 21.0 times as fast as a scan; at least 20 times: met." in first
    assert "bfloat16: mosaic_gpu is 12.0 times" in first and "not met" not in second
    assert "- 1 x 2 x 3, bfloat16, PCFF: walked failed: too large" in first.splitlines()
    assert first.count("`, commit `0123456789ab`, GPU A") == 2
    assert first.count("at JAX's default precision") == 1 and "TF32" in first


def test_the_precision_that_was_asked_for_is_told(tmp_path):
    written(tmp_path, "gpu/recurrence.json", "GPU A", rows=[RECURRENCE], failed=[])
    path = tmp_path / "benchmarks" / "gpu" / "recurrence.json"
    result = json.loads(path.read_text())
    result["machine"]["matrix product precision"] = "highest"
    path.write_text(json.dumps(result))
    text = TABLES["recurrence"](tmp_path)
    assert "- Products and convolutions of float32 at JAX's precision `highest`." in text
    assert "TF32" not in text


def test_sweeps_follow_their_results(tmp_path):
    """Programs that failed are told, and single runs are compared with none."""
    assert TABLES["sweep-forms"](tmp_path) == NO_GPU
    program = {"form": "loop", "dtype": "float32", "procedure": "sweep", "runs": 4}
    step = program | {
        "milliseconds": 20.0,
        "images_per_second": 3200.0,
        "images_per_second_of_a_run": 800.0,
        "speed_up": 1.5,
        "speed_up_low": 1.4,
        "speed_up_high": 1.6,
        "arithmetic_bound_milliseconds": 5.0,
        "memory_bound_milliseconds": 1.0,
        "share_of_memory_bound": 0.05,
        "compile_seconds": 2.0,
        "error": 1e-6,
    }
    single = step | {"runs": 1, "images_per_second": 400.0}
    del single["speed_up"]
    failed = [program | {"form": "grouped", "procedure": "pcff", "message": "out of memory"}]
    written(tmp_path, "sweep.json", steps=[step, single], failed=failed)
    lines = TABLES["sweep-forms"](tmp_path).splitlines()
    figures = "20.0 | 3200 | 800 | 1.50 (1.40-1.60) | - | 5.0 | 1.0 | 5.0% | 2.0 | 1e-06"
    assert lines[2] == f"| loop | float32 | sweep | 4 | {figures} |"
    assert "| 400 | 800 | - | - |" in lines[3]
    assert lines[5] == "- grouped, float32, PCFF .3, 4 runs failed: out of memory"
    assert not any("Required" in line for line in lines)
    written(tmp_path, "gpu/sweep_loop_float32.json", "GPU A", steps=[step, single], failed=[])
    text = TABLES["sweep-forms"](tmp_path)
    assert "4 runs: fastest as loop, 3200 images/s, 800 of a run: 8.0 times" in text
    assert "which is less than 0.5 of the bound, 32000: met." in text


def test_what_pcff_costs(tmp_path):
    plain = {
        "training": "none",
        "dtype": "float32",
        "milliseconds": 2.0,
        "ratio": 1.0,
        "ratio_low": 1.0,
        "ratio_high": 1.0,
        "ratio_of_fastest": 1.0,
        "beside": None,
    }
    ratio = {"ratio": 1.2, "ratio_low": 1.19, "ratio_high": 1.21, "ratio_of_fastest": 1.18}
    part = {"part": 0.25, "part_low": 0.2, "part_high": 0.3, "beside": "none"}
    pcff = plain | ratio | part | {"training": "PCFF .3", "milliseconds": 2.4}
    figures = {
        "steps": [plain, pcff],
        "place": [128, 32, 32, 16],
        "parts": [{"part": "tanh", "microseconds": 12.34}],
    }
    written(tmp_path, "resnet_cost.json", **figures)
    text = TABLES["residual-cost"](tmp_path)
    cells = "2.40 | 1.200 (1.190-1.210) | 1.180 | 0.250 (0.200-0.300): none"
    assert f"| PCFF .3 | float32 | {cells} |" in text.splitlines()
    assert "| tanh | 12.3 |" in text and "One place of 128 x 32 x 32 x 16 nodes" in text
    assert "not met" not in text
    written(tmp_path, "gpu/resnet_cost_float32.json", "GPU A", **figures)
    assert "at most 1.10 times: not met." in TABLES["residual-cost"](tmp_path)

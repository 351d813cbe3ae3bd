"""Whether targets are reached, of made-up rows."""

import pytest

from benchmarks import recurrence, resnet_cost, sweep


def swept(form, runs, images, share, dtype="float32"):
    return {
        "form": form,
        "dtype": dtype,
        "procedure": "sweep",
        "runs": runs,
        "images_per_second": images,
        "share_of_memory_bound": share,
    }


@pytest.mark.parametrize(
    ("images", "share", "required", "verdict"),
    [
        # Of 100 images/s of one run; the bound is images / share.
        (800.0, 0.1, "8 times one run, 800 images/s", "met"),
        (799.0, 0.1, "8 times one run, 800 images/s", "not met"),
        (500.0, 0.5, "0.5 of the bound, 500 images/s", "met"),
        (500.0, 0.4, "0.5 of the bound, 625 images/s", "not met"),
        (900.0, 0.6, "0.5 of the bound, 750 images/s", "met"),
    ],
)
def test_a_sweep_reaches_eight_runs_or_half_of_the_bound(images, share, required, verdict):
    rows = [
        swept("loop", 1, 100.0, 0.01),
        swept("loop", 60, images, share),
        swept("grouped", 1, 150.0, 0.01),
        swept("grouped", 60, 90.0, 0.01),
        swept("products", 60, 9000.0, 0.9),  # with nothing to compare it with
        swept("loop", 1, 70.0, 0.01) | {"procedure": "plain"},
    ]
    (said,) = sweep.reached(rows)
    assert said.startswith(f"float32, 60 runs: fastest as loop, {images:.0f} images/s, ")
    assert f" {images / 60:.0f} of a run: {images / 100:.1f} times a sweep of one run" in said
    assert f" {images / 150:.1f} times the fastest of one run, {share:.0%} of the" in said
    assert f"Required: {required}, which is less than" in said
    assert said.endswith(f": {verdict}.")


def test_dtypes_are_judged_apart_and_single_runs_not_at_all():
    rows = [swept("loop", 1, 1.0, 0.1), swept("loop", 1, 1.0, 0.1, "bfloat16")]
    assert sweep.reached(rows) == []
    rows.append(swept("loop", 4, 9.0, 0.1, "bfloat16"))
    (said,) = sweep.reached(rows)
    assert said.startswith("bfloat16, 4 runs") and said.endswith(": met.")


def recurred(size, implementation, speedup, share, **others):
    row = {
        "size": size,
        "dtype": "float32",
        "noise": "none",
        "part": "forward and backward",
        "implementation": implementation,
        "baseline": implementation in ("plain", "walked"),
        "speedup": speedup,
        "share_of_bound": share,
    }
    return row | others


def test_the_recurrence_reaches_twenty_scans_and_half_of_the_bound():
    small, large = [784, 32, 128], [784, 512, 512]
    rows = [
        recurred(small, "plain", 1.0, 0.01),
        recurred(small, "scan", 2.0, 0.02),
        recurred(small, "mosaic_gpu", 20.0, 0.2),
        recurred(small, "mosaic_gpu", 99.0, 0.2, part="forward"),
        recurred(small, "mosaic_gpu", 19.9, 0.2, noise="PCFF"),
        recurred(large, "plain", 1.0, 0.9),
        recurred(large, "mosaic_gpu", 9.0, 0.49),
        recurred(large, "mosaic_gpu", None, 0.5, dtype="bfloat16"),
    ]
    twenty, pcff, half, narrow = recurrence.reached(rows)
    assert twenty == (
        "(784, 32, 128), forward and backward, float32: mosaic_gpu is 20.0 times as fast as a "
        "scan; at least 20 times: met."
    )
    assert "float32, PCFF: mosaic_gpu is 19.9 times" in pcff and pcff.endswith("not met.")
    assert half == (
        "(784, 512, 512), forward and backward, float32: mosaic_gpu reaches 49% of the "
        "memory-traffic bound; at least 50%: not met."
    )
    assert "bfloat16: mosaic_gpu reaches 50%" in narrow and narrow.endswith(": met.")


@pytest.mark.parametrize(("ratio", "verdict"), [(1.1, ": met."), (1.101, ": not met.")])
def test_the_cost_of_pcff(ratio, verdict):
    rows = [{"training": name, "dtype": "float32", "ratio": ratio} for name in ("none", "PCFF .3")]
    (said,) = resnet_cost.reached(rows)
    assert f"takes {ratio:.3f} times" in said and said.endswith(verdict)

"""The timing helper: every function runs equally often, and ratios are against the first."""

import time

from benchmarks.timing import interleaved


def test_every_function_runs_in_every_round_and_ratios_are_relative_to_the_first():
    calls = {"short": 0, "long": 0}

    def sleeper(name: str, seconds: float):
        def run(count: int) -> None:
            calls[name] += count
            time.sleep(count * seconds)

        return run

    found = interleaved(
        {"short": sleeper("short", 0.002), "long": sleeper("long", 0.02)}, rounds=4, calls=3
    )
    # Two calls to warm up, then three in each of four rounds.
    assert calls == {"short": 14, "long": 14}
    assert found["short"].ratio == found["short"].low == found["short"].high == 1.0
    # Ten times as long by construction; a busy machine delays the short one relatively more.
    assert 1.5 < found["long"].ratio < 40
    assert found["long"].seconds >= 0.02

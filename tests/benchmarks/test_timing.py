"""The timing helper, with a clock that the timed functions move."""

import pytest

from benchmarks import timing


@pytest.mark.parametrize("own", [False, True])
def test_every_function_runs_in_every_round_and_ratios_compare_rounds(monkeypatch, own):
    now = 0.0
    calls = {"short": 0, "long": 0}
    if not own:
        monkeypatch.setattr(timing.time, "perf_counter", lambda: now)

    def function(name: str, seconds: float):
        def run(count: int) -> None:
            nonlocal now
            calls[name] += count
            now += count * seconds

        return run

    functions = {"short": function("short", 0.5), "long": function("long", 2.0)}
    clock = (lambda: now) if own else None
    found = timing.interleaved(functions, rounds=4, calls=3, clock=clock)
    # Two calls to warm up, then three in each of four rounds.
    assert calls == {"short": 14, "long": 14}
    # Exact but for rounding: the clock moves as it is told.
    assert found["short"].seconds == pytest.approx(0.5, rel=1e-12)
    assert found["long"].seconds == pytest.approx(2.0, rel=1e-12)
    assert found["long"].ratio(found["short"]) == pytest.approx((4.0,) * 4, rel=1e-12)
    assert found["short"].ratio(found["long"]) == pytest.approx((0.25,) * 4, rel=1e-12)


@pytest.mark.parametrize(("platform", "waits"), [("cpu", 4), ("gpu", 1)])
def test_a_gpu_is_waited_for_once(monkeypatch, platform, waits):
    waited, made = [], []
    monkeypatch.setattr(timing.jax, "default_backend", lambda: platform)
    monkeypatch.setattr(timing.jax, "block_until_ready", waited.append)
    timing.called(lambda *args: made.append(args), 2, 3)(3)
    assert made == [(2, 3)] * 3
    assert len(waited) == waits

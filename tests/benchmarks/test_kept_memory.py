"""What the benchmark of kept memory counts."""

from benchmarks import kept_memory as benchmark


def test_medians_are_of_the_calls_that_count(monkeypatch):
    def writes(megabytes, calls, what):
        slow = 10 if what == "return" else 1
        first = [[1000.0, 99]] * 2  # memory that nobody has used
        return first + [[slow * megabytes * k, slow * k] for k in range(1, calls - 1)]

    monkeypatch.setattr(benchmark, "writes", writes)
    sizes = benchmark.measure(quick=True)["sizes"]
    assert [size["megabytes"] for size in sizes] == list(benchmark.MEGABYTES)
    # Of 1, 2 and 3.
    assert sizes[1]["return"] == {"milliseconds": 800, "pages": 20}
    assert sizes[1]["keep"] == {"milliseconds": 80, "pages": 2}
    assert sizes[1]["ratio"] == 0.1


def test_calls_are_timed():
    measured = benchmark.writes(1, 3, "return")
    assert len(measured) == 3
    assert all(milliseconds > 0 and pages >= 0 for milliseconds, pages in measured)

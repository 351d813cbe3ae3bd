"""The statistician's job takes ten lines, as its page says."""

from tests.test_docs import FENCE, ROOT


def test_ten_lines():
    text = (ROOT / "docs" / "tutorials" / "uncertainty_for_a_table.md").read_text()
    block = FENCE.search(text, text.index("## The ten lines"))
    assert block is not None
    lines = [line for line in block[2].splitlines() if line.strip()]
    assert len(lines) == 10 and max(map(len, lines)) <= 100
    for part in ("predict(", "predict_interval(", "np.mean(", "save("):
        assert part in block[2]

"""The check of the site in a browser finds what it is for (`docs/browser_check.py`)."""

import pathlib

import pytest

from docs import browser_check

PAGE = "<!doctype html><title>{0}</title><body style='margin: 0'><article>{1}</article>"
WIDE = "<div style='width: 800px; height: 9px'>wide</div>"
PAGES = {
    "good": f"<p>Text.</p><div style='overflow-x: auto'>{WIDE}</div>",
    "wide": WIDE,
    "cut": f"<div style='overflow: hidden'>{WIDE}</div>",
    "console": "<script>console.error('said', 7)</script>",
    "exception": "<script>undefined_name()</script>",
    "missing": "<img src='nothing.png' alt=''>",
    "elsewhere": "<script src='http://elsewhere.example/script.js'></script>",
}


# A browser is no Python package that a test's environment could bring.
@pytest.mark.skipif(
    browser_check.find_browser() is None,
    reason="pages are opened in Chromium or Chrome, and neither is on the PATH",
)
def test_problems_are_found(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]):
    site = tmp_path / "site"
    site.mkdir()
    (site / "favicon.ico").touch()  # browsers ask for it
    for name, text in PAGES.items():
        (site / f"{name}.html").write_text(PAGE.format(name, text))
    pictures = tmp_path / "pictures"
    assert browser_check.main([str(site), "--pictures", str(pictures)]) == 1
    *lines, last = capsys.readouterr().out.splitlines()
    told = {name: [line for line in lines if line.startswith(f"{name}.html")] for name in PAGES}
    assert told["good"] == []
    (wide,) = told["wide"]
    assert wide == 'wide.html: 390 pixels: <div class=""> "wide" ends at 800'
    (cut,) = told["cut"]
    assert cut == 'cut.html: 390 pixels: <div class=""> "wide" cuts off 410 pixels'
    assert told["console"] == ["console.html: console, error: said 7"]
    assert "undefined_name is not defined" in told["exception"][0]
    assert "404" in told["missing"][0] and told["missing"][0].endswith("nothing.png")
    assert "asks another host: http://elsewhere.example/script.js" in told["elsewhere"][0]
    assert last.startswith("7 pages, 1280 and 390 pixels wide: ")
    assert {path.suffix for path in pictures.iterdir()} == {".png"}
    assert (pictures / "good-390.png").read_bytes().startswith(b"\x89PNG")
    # Only the page that is asked for.
    assert browser_check.main([str(site), "--pages", "good.html"]) == 0


def test_what_is_missing_is_named(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(browser_check, "find_browser", lambda: "a browser")
    assert browser_check.main([str(tmp_path)]) == 2
    assert "`make docs`" in capsys.readouterr().out
    monkeypatch.setattr(browser_check, "find_browser", lambda: None)
    assert browser_check.main([str(tmp_path)]) == 2
    assert "apt-get install chromium" in capsys.readouterr().out

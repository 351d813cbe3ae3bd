"""Opens every page of the built site in headless Chromium, as wide as on a desk and on a phone.

    python -m docs.browser_check site                         # after `make docs`
    python -m docs.browser_check site --pages index.html --pictures FOLDER

What is wider than the window or cut off, errors and warnings of the console, and what is missing or
asked of another host are problems; so is a search that finds nothing. The site is served from
localhost, and the browser is spoken to by its DevTools protocol, through a pipe.
"""

import argparse
import base64
import contextlib
import functools
import http.server
import json
import os
import pathlib
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",  # which a container's root has none of; only the site's own pages are opened
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--remote-debugging-pipe",
)
# The protocol's pipe is descriptors 3 and 4, wherever the two ends are now.
WIRE = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for number, end in enumerate(ends, 3):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""
WIDTHS = (1280, 390)
HEIGHT = 900
PATIENCE = 60.0  # seconds for an answer
SOUGHT = "install"

# What sticks out of the window, and what an element of the text cuts off. What scrolls by itself
# may be wider. Elements that are hidden, or for screen readers alone, have no width to speak of.
OVERFLOW = """
(() => {
  const width = document.documentElement.clientWidth, found = [];
  const told = (e) => `<${e.localName} class="${e.getAttribute("class") ?? ""}"> ` +
      `"${(e.textContent ?? "").trim().replace(/\\s+/g, " ").slice(0, 60)}"`;
  const scrolls = (e) => {
    for (e = e.parentElement; e && e !== document.body; e = e.parentElement)
      if (getComputedStyle(e).overflowX !== "visible") return true;
    return false;
  };
  const page = Math.max(document.documentElement.scrollWidth, document.body.scrollWidth);
  const known = new Set();  // with all that is inside
  for (const e of document.querySelectorAll("article, article *")) {
    if (known.has(e.parentElement)) { known.add(e); continue; }
    const before = found.length, box = e.getBoundingClientRect();
    const hides = ["hidden", "clip"].includes(getComputedStyle(e).overflowX);
    if (box.width > 2 && box.right > width + 1 && !scrolls(e))
      found.push(`${told(e)} ends at ${Math.round(box.right)}`);
    if (hides && e.clientWidth > 2 && e.scrollWidth > e.clientWidth + 1)
      found.push(`${told(e)} cuts off ${e.scrollWidth - e.clientWidth} pixels`);
    if (found.length > before && e.localName !== "article") known.add(e);
  }
  if (page > width + 1 && !found.length) found.push(`the page is ${page} pixels wide`);
  return found.slice(0, 5);
})()
"""
HITS = 'document.querySelectorAll(".md-search-result__item").length'


class Browser:
    """Chromium with one tab. `with browser(command) as it:` ends it."""

    def __init__(self, process: subprocess.Popen[bytes], source: int, sink: int):
        self.process, self.source, self.sink = process, source, sink
        self.number = 0
        self.session: str | None = None
        self.unread = b""
        self.events: list[dict[str, Any]] = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        made = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = made["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """The answer to a command. Events that come before it are kept.

        Raises:
            RuntimeError: the browser refuses, ends, or does not answer.
        """
        self.number += 1
        message = {"id": self.number, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.sink, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.receive(method)
            if answer.get("id") != self.number:
                self.events.append(answer)
            elif "error" in answer:
                raise RuntimeError(f"{method}: the browser answered {answer['error']}.")
            else:
                return answer["result"]

    def receive(self, waiting_for: str) -> dict[str, Any]:
        """The next message."""
        end = time.monotonic() + PATIENCE
        while b"\0" not in self.unread:
            ready, _, _ = select.select([self.source], [], [], max(end - time.monotonic(), 0))
            read = os.read(self.source, 1 << 20) if ready else b""
            if not read:
                why = "ended" if ready else f"did not answer within {PATIENCE:g} seconds"
                raise RuntimeError(f"The browser {why}, in {waiting_for}.")
            self.unread += read
        message, self.unread = self.unread.split(b"\0", 1)
        return json.loads(message)

    def open(self, address: str) -> None:
        """Loads a page; its events are kept."""
        self.events = []
        self.call("Page.navigate", url=address)
        while not any(event.get("method") == "Page.loadEventFired" for event in self.events):
            self.events.append(self.receive(f"loading {address}"))

    def evaluate(self, expression: str) -> Any:
        """The value of an expression in the page."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"The check itself fails: {result['exceptionDetails']}")
        return result["result"].get("value")

    def resize(self, width: int, height: int = HEIGHT) -> None:
        """Another window; what is in it is laid out when two frames have been drawn."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        drawn = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        self.call("Runtime.evaluate", expression=drawn, awaitPromise=True)

    def picture(self, path: pathlib.Path) -> None:
        """What the window shows, as PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextlib.contextmanager
def browser(command: str) -> Iterator[Browser]:
    """A browser with a profile of its own, ended afterwards."""
    to_browser, sink = os.pipe()
    source, from_browser = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        ends = str(to_browser), str(from_browser)
        flags = *FLAGS, f"--user-data-dir={profile}", "about:blank"
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", WIRE, *ends, command, *flags],
            pass_fds=(to_browser, from_browser),
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        try:
            yield Browser(process, source, sink)
        finally:
            process.terminate()
            process.wait()
            os.close(sink)
            os.close(source)


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def served(site: pathlib.Path) -> Iterator[str]:
    """The address of a folder on this machine."""
    handler = functools.partial(Quiet, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def reported(events: Sequence[dict[str, Any]], root: str) -> list[str]:
    """What the browser said of a page that it should not have to say."""
    found = []
    for event in events:
        method, told = event.get("method"), event.get("params", {})
        if method == "Runtime.exceptionThrown":
            details = told["exceptionDetails"]
            text = details.get("exception", {}).get("description", details["text"])
            found.append(f"exception: {text.splitlines()[0]}")
        elif method == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning"):
            words = (str(each.get("value", each.get("description"))) for each in told["args"])
            found.append(f"console, {told['type']}: {' '.join(words)}")
        elif method == "Log.entryAdded" and told["entry"]["level"] in ("error", "warning"):
            entry = told["entry"]
            found.append(f"{entry['level']}: {entry['text']} {entry.get('url', '')}")
        elif method == "Network.requestWillBeSent":
            url = told["request"]["url"]
            if not url.startswith((root, "data:", "blob:")):
                found.append(f"asks another host: {url}")
    return found


def problems_of(page: str, root: str, it: Browser, pictures: pathlib.Path | None) -> list[str]:
    """All of a page, at every width."""
    found = []
    it.resize(WIDTHS[0])
    it.open(f"{root}/{page}")
    for width in WIDTHS:
        it.resize(width)
        found += [f"{width} pixels: {each}" for each in it.evaluate(OVERFLOW)]
        if pictures is not None:
            it.picture(pictures / f"{page.replace('/', '-').removesuffix('.html')}-{width}.png")
    return found + reported(it.events, root)


def search_finds(word: str, root: str, it: Browser) -> bool:
    """Whether the site's search has results for a word."""
    it.open(f"{root}/index.html?q={word}")
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        if it.evaluate(HITS):
            return True
        time.sleep(0.1)
    return False


def find_browser() -> str | None:
    """The command of a browser on this machine; CHROMIUM names another."""
    names = (os.environ.get("CHROMIUM"), *BROWSERS)
    return next((path for name in names if name and (path := shutil.which(name))), None)


def main(arguments: Sequence[str] | None = None) -> int:
    """Checks a site; returns the exit status: 1 for problems, 2 where nothing could be checked."""
    parser = argparse.ArgumentParser(description=__doc__ and __doc__.splitlines()[0])
    parser.add_argument("site", type=pathlib.Path, help="the folder that `make docs` builds")
    parser.add_argument("--pages", nargs="+", help="only these, such as api/nodes.html")
    parser.add_argument("--pictures", type=pathlib.Path, help="a folder for pictures of them")
    options = parser.parse_args(arguments)
    command = find_browser()
    if command is None:
        print("No Chromium was found. Install one (Debian: apt-get install chromium), or set")
        print("CHROMIUM to the path of a browser that speaks its protocol.")
        return 2
    pages = options.pages or sorted(
        str(path.relative_to(options.site)) for path in options.site.rglob("*.html")
    )
    if not pages:
        print(f"There is no page in {options.site}: build the site first, by `make docs`.")
        return 2
    if options.pictures is not None:
        options.pictures.mkdir(parents=True, exist_ok=True)
    problems = []
    with served(options.site) as root, browser(command) as it:
        for page in pages:
            found = problems_of(page, root, it, options.pictures)
            problems += [f"{page}: {problem}" for problem in found]
        indexed = (options.site / "search" / "search_index.json").exists()
        if indexed and not search_finds(SOUGHT, root, it):
            problems.append(f"search: nothing found for '{SOUGHT}'")
    print(*problems, sep="\n", end="\n" if problems else "")
    widths = " and ".join(map(str, WIDTHS))
    print(f"{len(pages)} pages, {widths} pixels wide: {len(problems)} problems.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

"""Fetching, from a server on this machine."""

import hashlib
import http.server
import socket
import sys
import threading
import time

import pytest

from tests.helpers import reachable_folder as reachable_folder
from tests.helpers import unwritable
from train import data
from train.data import fetch
from train.data.fetch import RemoteFile
from train.report.files import DataFileError

CONTENT = bytes(range(256)) * 5000  # more than one chunk
REQUESTS: list[str] = []


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        REQUESTS.append(self.path)
        if self.path == "/absent":
            self.send_error(404)
            return
        if self.path == "/babble":
            self.wfile.write(b"this is not HTTP\r\n")
            return
        if self.path == "/chunk":  # breaks off inside one
            self.protocol_version = "HTTP/1.1"
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"fffff\r\n" + CONTENT[:1000])
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        try:
            self.wfile.write(CONTENT[:1000] if self.path == "/broken" else CONTENT)
        except OSError:
            pass  # the probe reads the head only

    def log_message(self, format, *args):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


SHA256 = hashlib.sha256(CONTENT).hexdigest()


def remote(server, name="file", sha256=SHA256):
    return RemoteFile(
        f"http://127.0.0.1:{server.server_port}/{name}", len(CONTENT), sha256, f"{name}.gz"
    )


def registers(monkeypatch, *files):
    monkeypatch.setattr(fetch, "registered", lambda name: list(files))


def test_fetches_once_and_keeps(server, monkeypatch):
    registers(monkeypatch, remote(server))
    folder = fetch.fetch("some_set")
    assert (folder / "file.gz").read_bytes() == CONTENT
    REQUESTS.clear()
    assert fetch.fetch("some_set") == folder
    assert REQUESTS == []  # not even a probe: an offline machine works from what it has


def test_a_damaged_kept_file_is_fetched_again(server, monkeypatch):
    registers(monkeypatch, remote(server))
    path = fetch.fetch("some_set") / "file.gz"
    path.write_bytes(CONTENT[:-1])
    fetch.fetch("some_set")
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize(
    "name, message",
    [
        ("wrong", "expected"),
        ("broken", "SHA-256|failed"),
        ("absent", "404"),
        ("babble", "not HTTP"),
        ("chunk", "failed .Incomplete"),
    ],
)
def test_a_bad_transfer_names_the_address_and_keeps_nothing(server, monkeypatch, name, message):
    sha256 = "0" * 64 if name == "wrong" else SHA256
    file = remote(server, name, sha256)
    folder = fetch.cache_folder("some_set")
    with pytest.raises(DataFileError, match=message) as caught:
        fetch.download(file, folder / file.name)
    assert file.url in str(caught.value)
    assert list(folder.iterdir()) == []


def test_an_address_that_does_not_speak_http_is_an_error(server):
    with pytest.raises(DataFileError, match="cannot be reached .this is not HTTP"):
        fetch.probe(remote(server, "babble").url, "mnist")


def test_a_cache_that_cannot_be_written_is_named(server, monkeypatch, reachable_folder):
    registers(monkeypatch, remote(server))
    cache = reachable_folder / "cache"
    cache.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    with unwritable(cache), pytest.raises(DataFileError, match=f"{cache}.*ermission denied"):
        fetch.fetch("some_set")


def test_a_cache_that_is_a_file_is_named(server, monkeypatch, tmp_path):
    registers(monkeypatch, remote(server))
    (tmp_path / "cache").write_text("")
    with pytest.raises(DataFileError, match="cache"):
        fetch.fetch("some_set")


@pytest.mark.parametrize("how", ["refuses", "never answers", "has no such name"])
def test_an_unreachable_address_is_an_error_within_seconds(monkeypatch, tmp_path, how):
    monkeypatch.setenv("no_proxy", "*")
    for name in ("XDG_CACHE_HOME", "TFDS_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        if how == "never answers":
            listener.listen()  # connections are taken, and nobody speaks
        host = "no-such-host.invalid" if how == "has no such name" else "127.0.0.1"
        url = f"http://{host}:{listener.getsockname()[1]}/file"
        registers(monkeypatch, RemoteFile(url, 1, "0" * 64, "file.gz"))
        start = time.monotonic()
        with pytest.raises(DataFileError) as caught:
            data.load("mnist")
        assert time.monotonic() - start < 4
    message = str(caught.value)
    assert url in message
    # Both ways out.
    assert "--data-dir FOLDER with the four original IDX files" in message
    assert "prepared as array_record" in message


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_registered_files_are_the_four_of_each_set(name):
    pytest.importorskip("tensorflow_datasets")
    files = fetch.registered(name)
    assert {file.name for file in files} == {
        f"{part}-{kind}-ubyte.gz"
        for part in ("train", "t10k")
        for kind in ("images-idx3", "labels-idx1")
    }
    assert all(len(file.sha256) == 64 and file.size > 4000 for file in files)
    assert "tensorflow" not in sys.modules


def test_without_the_package_of_addresses_the_error_names_it(monkeypatch):
    monkeypatch.setattr(fetch.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataFileError, match="tensorflow-datasets, which is not installed"):
        fetch.registered("mnist")

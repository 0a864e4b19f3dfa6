"""Weights: from a path, a cache, or a real https server; verified, locked, whole or absent."""

import hashlib
import http.server
import io
import json
import ssl
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from curation.weights import (
    WeightsSource,
    cache_path,
    fetch,
    lock_path,
    onnx_session,
    pin,
    weights_source,
)
from shards.errors import ShardError, UsageError, VitruvianError

DATA = bytes(range(256)) * 5000
DIGEST = hashlib.sha256(DATA).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `files` over TLS, counts requests; `/cut` stops half way, `/plain` redirects to http."""

    files: dict[str, bytes]
    asked: list[str]
    root: str


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.path == "/plain.onnx":
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_address[1]}/a.onnx")
            self.end_headers()
            return
        data = self.server.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        if self.path.startswith("/slow"):
            time.sleep(1.5)  # long enough for others to ask meanwhile, if nothing held them back
        self.send_response(200)
        if not self.path.startswith("/unsized"):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if self.path.startswith("/cut") else data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate of localhost, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    try:
        subprocess.run(
            [*command, "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", cert],
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    return cert, key


@pytest.fixture
def server(
    certificate: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    """A server that this process trusts, and an empty cache."""
    monkeypatch.setenv("VITRUVIAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("VITRUVIAN_WEIGHTS_LOCK", raising=False)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    server = Server(("localhost", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.files, server.asked = {"/a.onnx": DATA}, []
    server.root = f"https://localhost:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


def test_a_download_is_verified_cached_and_recorded(server: Server) -> None:
    source = WeightsSource(url=f"{server.root}/a.onnx", sha256=DIGEST)
    path = fetch(source)
    assert path.read_bytes() == DATA
    assert path == cache_path(source)
    assert fetch(source) == path
    assert server.asked == ["/a.onnx"]
    assert json.loads(lock_path().read_bytes()) == {source.url: {"sha256": DIGEST, "bytes": len(DATA)}}
    assert visible(path.parent) == sorted([path.name, "weights.lock.json"])


def test_an_unpinned_url_is_trusted_once(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VITRUVIAN_WEIGHTS_LOCK", str(tmp_path / "in git" / "weights.lock.json"))
    source = WeightsSource(url=f"{server.root}/a.onnx")
    assert pin(source).sha256 == DIGEST
    assert lock_path().parent.name == "in git"
    fetch(source).unlink()
    server.files["/a.onnx"] = DATA[::-1]
    with pytest.raises(ShardError, match=r"another version(.|\n)*nothing was kept") as caught:
        fetch(source)
    assert DIGEST in str(caught.value)
    assert str(lock_path()) in str(caught.value)
    assert not cache_path(source).exists()
    changed = source.model_copy(update={"sha256": hashlib.sha256(DATA[::-1]).hexdigest()})
    assert fetch(changed).read_bytes() == DATA[::-1]  # said explicitly: the lock follows
    assert pin(source).sha256 == changed.sha256


def test_wrong_bytes_are_refused_and_leave_nothing(server: Server) -> None:
    source = WeightsSource(url=f"{server.root}/a.onnx", sha256="0" * 64)
    with pytest.raises(ShardError, match="the configuration says 0000"):
        fetch(source)
    assert visible(cache_path(source).parent) == []
    good = source.model_copy(update={"sha256": DIGEST})
    fetch(good).write_bytes(b"damaged")
    with pytest.raises(ShardError, match="damaged or another version; delete it"):
        fetch(good)


def test_digests_may_be_their_first_digits(server: Server) -> None:
    source = WeightsSource(url=f"{server.root}/a.onnx", sha256=DIGEST[:8].upper())
    assert pin(source).sha256 == DIGEST
    with pytest.raises(ShardError):
        fetch(source.model_copy(update={"sha256": "00000000"}))


@pytest.mark.parametrize("name", ["/cut.onnx", "/absent.onnx", "/plain.onnx"])
def test_a_failed_download_says_where_to_put_the_file(server: Server, name: str) -> None:
    server.files["/cut.onnx"] = DATA
    source = WeightsSource(url=f"{server.root}{name}", sha256=DIGEST)
    with pytest.raises(VitruvianError, match="cannot download") as caught:
        fetch(source)
    assert not isinstance(caught.value, UsageError)
    assert str(cache_path(source)) in str(caught.value)
    assert DIGEST in str(caught.value)
    reason = {"/cut.onnx": "of 1280000 bytes", "/absent.onnx": "Not Found", "/plain.onnx": "not https"}[name]
    assert reason in str(caught.value)
    assert visible(cache_path(source).parent) == []
    cache_path(source).write_bytes(DATA)  # what the error says
    assert fetch(source).read_bytes() == DATA


@pytest.mark.parametrize("name", ["/a.onnx", "/unsized.onnx"])
def test_sizes_are_bounded(server: Server, name: str) -> None:
    server.files["/unsized.onnx"] = DATA
    source = WeightsSource(url=f"{server.root}{name}", max_bytes=len(DATA) - 1)
    with pytest.raises(ShardError, match="larger than 1,279,999 bytes"):
        fetch(source)
    assert visible(cache_path(source).parent) == []
    assert fetch(source.model_copy(update={"max_bytes": len(DATA)})).read_bytes() == DATA


def zipped(**members: bytes) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"some/folder/{name}", content)
    return data.getvalue()


def test_a_member_of_an_archive_is_unpacked(server: Server) -> None:
    server.files["/a.zip"] = zipped(**{"end2end.onnx": DATA, "detail.json": b"{}"})
    source = WeightsSource(url=f"{server.root}/a.zip", member="end2end.onnx", sha256=DIGEST)
    assert fetch(source).read_bytes() == DATA
    assert cache_path(source).name.endswith("-end2end.onnx")
    assert list(json.loads(lock_path().read_bytes())) == [f"{server.root}/a.zip#end2end.onnx"]
    for changes, message in (
        ({"member": "other.onnx"}, "0 files of that name"),
        ({"url": f"{server.root}/a.onnx"}, "not a zip archive"),
        ({"url": f"{server.root}/a.zip?", "max_bytes": 20_000}, "larger than 20,000"),
    ):
        server.files["/a.zip?"] = server.files["/a.zip"]
        with pytest.raises(ShardError, match=message):
            fetch(source.model_copy(update=changes))


def test_processes_that_ask_at_once_download_once(server: Server) -> None:
    server.files["/slow.onnx"] = DATA
    code = f"from curation.weights import *; print(fetch(WeightsSource(url={server.root + '/slow.onnx'!r})))"
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    paths = {process.communicate(timeout=60)[0].strip() for process in running}
    assert len(paths) == 1
    assert Path(paths.pop()).read_bytes() == DATA
    assert server.asked == ["/slow.onnx"]


def test_sources_name_one_place() -> None:
    assert weights_source("some/net.onnx") == WeightsSource(path=Path("some/net.onnx"))
    assert weights_source("https://x.org/net.onnx").url == "https://x.org/net.onnx"
    for wrong in (
        {},
        {"path": "a", "url": "https://b"},
        {"url": "http://b"},
        {"path": "a", "member": "b"},
        {"path": "a", "sha256": "xyz"},
    ):
        with pytest.raises(ValidationError):
            WeightsSource.model_validate(wrong)
    one, other = (WeightsSource(url=f"https://x.org/{name}/model.onnx") for name in "ab")
    assert cache_path(one) != cache_path(other)


def test_paths_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with pytest.raises(UsageError, match="no such file of weights"):
        fetch(WeightsSource(path=path))
    path.write_bytes(DATA)
    assert fetch(WeightsSource(path=path)) == path
    assert fetch(WeightsSource(path=path, sha256=DIGEST)) == path
    with pytest.raises(ShardError, match="the configuration says"):
        fetch(WeightsSource(path=path, sha256="0" * 64))


def test_damaged_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"<html>404</html>")
    with pytest.raises(ShardError, match=r"net\.onnx: onnxruntime cannot load it"):
        onnx_session(path)
    monkeypatch.setenv("VITRUVIAN_WEIGHTS_LOCK", str(path))
    monkeypatch.setenv("VITRUVIAN_CACHE", str(tmp_path))
    with pytest.raises(ShardError, match="not a lock of weights"):
        fetch(WeightsSource(url="https://localhost:1/a.onnx"))

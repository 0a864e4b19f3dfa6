"""Weights of networks: a path or an https URL becomes a local file of known sha256, and an ONNX session.

Downloads go to `$VITRUVIAN_CACHE` (default `~/.cache/vitruvian`), folder `weights`. A URL without a pinned
sha256 is trusted once: its digest is written to a lock file beside the weights, and every later use of that
URL must agree with it. Point `$VITRUVIAN_WEIGHTS_LOCK` at a file in git to share that trust between machines.
"""

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import sys
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, Literal
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, urlsplit

from pydantic import Field, field_validator, model_validator

from shards.config import Config
from shards.errors import ShardError, UsageError, VitruvianError
from shards.files import flush, sha256_file, write_atomic

CACHE_VARIABLE, LOCK_VARIABLE = "VITRUVIAN_CACHE", "VITRUVIAN_WEIGHTS_LOCK"
LOCK_NAME = "weights.lock.json"
Provider = Literal["cpu", "cuda", "auto"]
_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
_CHUNK = 1 << 20  # bytes
_TIMEOUT = 60  # seconds without a byte


class WeightsSource(Config):
    """Where a file of weights comes from: exactly one of `path` and `url`. Text stands for either."""

    path: Path | None = Field(default=None, description="a file on this machine")
    url: str | None = Field(default=None, pattern=r"^https://", description="https only")
    sha256: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{8,64}$",
        description="of the file (of the member, when there is one), or its first digits, which guard "
        "against mistakes but not against malice",
    )
    member: str | None = Field(default=None, description="file name inside the zip archive that `url` names")
    licence: str | None = Field(default=None, description="of the weights; for the reader")
    max_bytes: int = Field(default=2 << 30, ge=1, description="larger downloads are refused")

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return ({"url": value} if "://" in value else {"path": value}) if isinstance(value, str) else value

    @field_validator("sha256", mode="before")
    @classmethod
    def _lower(cls, value: Any) -> Any:
        return value.lower() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_place(self) -> "WeightsSource":
        if (self.path is None) == (self.url is None):
            raise ValueError("expected exactly one of path and url")
        if self.member is not None and self.url is None:
            raise ValueError("member: only of a url; unpack the archive and give the path")
        return self

    @property
    def where(self) -> str:
        """The path or URL, as errors and the lock name it."""
        return str(self.path or self.url) + (f"#{self.member}" if self.member else "")


def weights_source(text: str) -> WeightsSource:
    """`https://...` or a path, as the command line and short configurations give it. Raises ValueError."""
    return WeightsSource.model_validate(text)


class OnnxModelConfig(Config):
    """Which ONNX network, and how it is run: what detectors and filters share."""

    weights: WeightsSource = Field(description="an ONNX file: a path, or an https URL with its sha256")
    provider: Provider = Field(default="cpu", description="where it runs; never changed silently")
    threads: int = Field(default=1, ge=1, description="inside an operator; one per worker process is fastest")
    batch: int = Field(
        default=1,
        ge=1,
        description="images per run of the network, when its batch is dynamic; short batches are filled up, "
        "so that an image's neighbours never change the shapes it is computed with",
    )


def cache_folder() -> Path:
    """Where downloaded weights live: `$VITRUVIAN_CACHE/weights`, else `~/.cache/vitruvian/weights`."""
    root = os.environ.get(CACHE_VARIABLE)
    return (Path(root) if root else Path.home() / ".cache" / "vitruvian") / "weights"


def cache_path(source: WeightsSource) -> Path:
    """The file that holds, or would hold, a source's weights. Depends on the URL alone, so that one may be
    put there by hand.
    """
    if source.path is not None:
        return source.path
    name = PurePosixPath(unquote(urlsplit(str(source.url)).path)).name
    digest = hashlib.sha256(source.where.encode()).hexdigest()
    return cache_folder() / f"{digest[:12]}-{source.member or name}"


def fetch(source: WeightsSource) -> Path:
    """The local file of a source, downloaded if need be, its sha256 verified.

    Processes of one machine may ask at once: one downloads, the others wait. Raises UsageError when a path
    does not exist, VitruvianError when the file cannot be had (offline: says where to put it) and ShardError
    when its bytes are not those pinned in the configuration or recorded in the lock.
    """
    if source.path is not None:
        if not source.path.is_file():
            raise UsageError(f"{source.path}: no such file of weights")
        if source.sha256 is not None:
            _verify(source.path, source.sha256, "the configuration")
        return source.path
    target = cache_path(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _exclusive(target.parent):
        expected, said_by = _expected(source)
        if target.is_file():
            digest = _verify(target, expected, said_by)
        else:
            digest = _download(source, target, expected, said_by)
        _record(source, digest, target.stat().st_size)
    return target


def pin(source: WeightsSource) -> WeightsSource:
    """The source with the full sha256 of its bytes, fetched if need be: what workers elsewhere are given."""
    return source.model_copy(update={"sha256": sha256_file(fetch(source))})


def lock_path() -> Path:
    """The file that records first-seen digests: `$VITRUVIAN_WEIGHTS_LOCK`, else beside the weights."""
    chosen = os.environ.get(LOCK_VARIABLE)
    return Path(chosen) if chosen else cache_folder() / LOCK_NAME


def resolve_provider(provider: Provider) -> Literal["cpu", "cuda"]:
    """`auto` is CUDA where this machine's onnxruntime was built with it, else CPU; no device is opened."""
    import onnxruntime

    if provider == "auto":
        return "cuda" if _PROVIDERS["cuda"] in onnxruntime.get_available_providers() else "cpu"
    return provider


def onnx_session(path: Path, provider: Provider = "cpu", threads: int = 1) -> Any:
    """An onnxruntime InferenceSession of `path` on one provider, with `threads` threads inside an operator.

    No silent change of device: UsageError when the provider is not there or refuses to start. ShardError when
    the file is no ONNX network.
    """
    import onnxruntime

    name = _PROVIDERS[resolve_provider(provider)]
    available = onnxruntime.get_available_providers()
    if name not in available:
        raise UsageError(
            f"provider {provider!r}: this onnxruntime {onnxruntime.__version__} has {', '.join(available)}; "
            "install onnxruntime-gpu in place of onnxruntime, or say provider: cpu"
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    # Choosing convolutions by stopwatch, and TF32, would make scores differ from run to run and from CPU.
    settings = {"cudnn_conv_algo_search": "HEURISTIC", "use_tf32": "0"} if name.startswith("CUDA") else {}
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=[(name, settings)])
    except Exception as error:  # onnxruntime's own classes share no base
        raise ShardError(f"{path}: onnxruntime cannot load it: {str(error).strip()[:300]}") from error
    if name not in session.get_providers():
        raise UsageError(
            f"provider {provider!r}: onnxruntime fell back to {session.get_providers()[0]}: CUDA or cuDNN of "
            f"the versions that onnxruntime {onnxruntime.__version__} needs is not on this machine; say "
            "provider: cpu, or install them"
        )
    return session


def _expected(source: WeightsSource) -> tuple[str | None, str]:
    """The digest that the bytes must have (None: not known yet), and who says so."""
    if source.sha256 is not None:
        return source.sha256, "the configuration"
    entry = _read_lock().get(source.where)
    return (entry["sha256"], str(lock_path())) if entry else (None, "")


def _verify(path: Path, expected: str | None, said_by: str) -> str:
    digest = sha256_file(path)
    if expected is not None and not digest.startswith(expected):
        raise ShardError(
            f"{path}: sha256 is {digest}, {said_by} says {expected}: the file is damaged or another version; "
            "delete it to have it fetched again, or change the expected digest if you trust the file"
        )
    return digest


def _download(source: WeightsSource, target: Path, expected: str | None, said_by: str) -> str:
    """Download, unpack, verify, then move into place; nothing is left behind by a failure."""
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}.tmp")
    unpacked = temporary.with_suffix(".member.tmp")
    try:
        try:
            _stream(source, temporary)
        except (URLError, OSError) as error:
            if isinstance(error, HTTPError):
                error.close()
            raise VitruvianError(_offline_message(source, target, error)) from error
        if source.member is not None:
            _extract(temporary, source.member, unpacked, source)
            unpacked.replace(temporary)
        digest = sha256_file(temporary)
        if expected is not None and not digest.startswith(expected):
            raise ShardError(
                f"{source.where}: sha256 is {digest}, {said_by} says {expected}: the server holds another "
                "version, or something on the way changed it; nothing was kept"
            )
        flush(temporary)
        temporary.replace(target)
        flush(target.parent)
    finally:
        temporary.unlink(missing_ok=True)
        unpacked.unlink(missing_ok=True)
    return digest


def _stream(source: WeightsSource, path: Path) -> None:
    opener = urllib.request.build_opener(_HttpsOnly())
    request = urllib.request.Request(str(source.url), headers={"User-Agent": "vitruvian"})
    with opener.open(request, timeout=_TIMEOUT) as response, path.open("wb") as file:
        promised = response.headers.get("Content-Length")
        size = int(promised) if promised and promised.isdigit() else None
        if size is not None and size > source.max_bytes:
            raise _too_large(source)
        received = 0
        with _progress(_file_name(source), size) as advance:
            while chunk := response.read(_CHUNK):
                received += len(chunk)
                if received > source.max_bytes:
                    raise _too_large(source)
                file.write(chunk)
                advance(len(chunk))
        if size is not None and received != size:  # urllib ends quietly when the connection does
            raise OSError(f"the connection ended after {received} of {size} bytes")


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        if urlsplit(newurl).scheme != "https":
            fp.close()
            raise URLError(f"redirected to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _extract(archive: Path, member: str, path: Path, source: WeightsSource) -> None:
    """Copy the one file called `member`, in whatever folder of the archive, never more than `max_bytes`."""
    try:
        with zipfile.ZipFile(archive) as content:
            found = [entry for entry in content.infolist() if PurePosixPath(entry.filename).name == member]
            if len(found) != 1:
                names = ", ".join(sorted(content.namelist())[:20])
                raise ShardError(f"{source.where}: {len(found)} files of that name in the archive: {names}")
            if found[0].file_size > source.max_bytes:
                raise _too_large(source)
            with content.open(found[0]) as packed, path.open("wb") as file:
                shutil.copyfileobj(packed, file, _CHUNK)  # zipfile stops at the size it announced
    except zipfile.BadZipFile as error:
        raise ShardError(f"{source.where}: not a zip archive: {error}") from error


def _too_large(source: WeightsSource) -> ShardError:
    return ShardError(
        f"{source.where}: larger than {source.max_bytes:,} bytes; raise max_bytes if that is right"
    )


def _offline_message(source: WeightsSource, target: Path, error: Exception) -> str:
    reason = getattr(error, "reason", None) or error
    what = f"the file {source.member} out of {source.url}" if source.member else str(source.url)
    digest = f" (sha256 {source.sha256})" if source.sha256 else ""
    return (
        f"cannot download {source.url}: {reason}\n"
        f"Without a network, fetch {what}{digest} elsewhere and put it at\n  {target}\n"
        f"or name a local file: weights: /path/to/{_file_name(source)}. The cache is ${CACHE_VARIABLE} "
        "(default ~/.cache/vitruvian)."
    )


def _file_name(source: WeightsSource) -> str:
    """The file's own name, without the cache's prefix."""
    return source.member or PurePosixPath(unquote(urlsplit(source.where).path)).name


@contextmanager
def _progress(name: str, size: int | None) -> Iterator[Any]:
    """A bar on stderr, when that is a terminal; yields what advances it by bytes."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    parts = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    shown = sys.stderr.isatty()
    with Progress(*parts, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task(name, total=size)
        yield lambda count: bar.update(task, advance=count)


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read_lock() -> dict[str, Any]:
    path = lock_path()
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ShardError(f"{path}: not a lock of weights: {error}") from error
    if not isinstance(content, dict) or not all(
        isinstance(entry, dict) and isinstance(entry.get("sha256"), str) for entry in content.values()
    ):
        raise ShardError(f"{path}: not a lock of weights: expected {{url: {{sha256, bytes}}}}")
    return content


def _record(source: WeightsSource, digest: str, size: int) -> None:
    """Write what was seen to the lock; a recorded digest only changes when the configuration pins another."""
    entry = {"sha256": digest, "bytes": size}
    lock = _read_lock()
    if lock.get(source.where) != entry:
        lock[source.where] = entry
        write_atomic(lock_path(), json.dumps(dict(sorted(lock.items())), indent=1).encode() + b"\n")

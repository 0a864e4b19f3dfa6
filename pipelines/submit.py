"""Jobs on a running Ray cluster through its Jobs API: the same submission runs once, whoever sends it again.

What is sent is the code (the rooms' source, nothing else) and small configuration files; images and outputs
lie on storage that every node sees under the same path.
"""

import asyncio
import hashlib
import logging
import os
import shlex
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipelines.executors.connect import RAY_ENVIRONMENT
from shards.errors import UsageError, VitruvianError
from shards.sample import digest_json
from shards.units import code_digest

ROOMS = ("shards", "annotation", "curation", "render", "train", "pipelines")
SENT = "submitted"  # the folder of configuration files among the code
_SOURCE = Path(__file__).parent.parent
_LOST_S = 60.0  # how long a follower puts up with a head that does not answer


@dataclass(frozen=True)
class Submission:
    """A command to run on a cluster.

    `words`: the `vitruvian` command line, with absolute paths. `files`: configuration to send, name -> bytes;
    `words` name it as `submitted/<name>`. `identity`: what makes it the same submission as another. `out`:
    the folder it writes, which no other running job may have.
    """

    verb: str
    words: tuple[str, ...]
    identity: Mapping[str, Any]
    files: Mapping[str, bytes] = field(default_factory=dict)
    out: str | None = None

    @property
    def base(self) -> str:
        """The submission id of the first attempt, such as `annotate-0f3a5b7c9d1e`."""
        files = {name: hashlib.sha256(data).hexdigest() for name, data in self.files.items()}
        parts = {**self.identity, "files": files, "code": code_digest(*ROOMS), "out": self.out}
        return f"{self.verb}-{digest_json(parts)[:12]}"

    def entrypoint(self, python: str) -> str:
        """The shell command that Ray starts on the head, in the folder of the code."""
        return shlex.join([python, "-m", "pipelines", *self.words])


@dataclass(frozen=True)
class Submitted:
    """A job on the cluster. `fresh`: this call started it; otherwise it was running already."""

    id: str
    fresh: bool


@dataclass(frozen=True)
class Status:
    """What the cluster says about a job. Times in seconds since 1970; `code`: of its command."""

    id: str
    state: str
    message: str
    entrypoint: str
    started: float | None
    ended: float | None
    code: int | None
    out: str | None

    @property
    def over(self) -> bool:
        """Whether the state can change no more."""
        return self.state in ("STOPPED", "SUCCEEDED", "FAILED")


def connect(address: str | None) -> Any:
    """A client of the Jobs API at `http://head:8265` (default: RAY_API_SERVER_ADDRESS, or RAY_ADDRESS if that
    is a URL). Raises UsageError without an address, VitruvianError when nobody answers or the token is wrong.
    """
    found = address or os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS", "")
    if "://" not in found:
        raise UsageError(
            f"address of the cluster's dashboard: expected a URL such as http://head:8265, got {found!r}; "
            "give --address or set RAY_API_SERVER_ADDRESS"
        )
    for name, value in RAY_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from ray.job_submission import JobSubmissionClient

    logging.getLogger("ray").setLevel(logging.WARNING)  # "Uploading package ...", "WebSocket closed ..."
    with _answered(found):
        return JobSubmissionClient(found)


def submit(client: Any, submission: Submission, env: Mapping[str, str], python: str = "python") -> Submitted:
    """Start the job, unless the same submission is running; after its end a further one is `<id>-2`, `-3` ...

    Jobs have no owner but the cluster: two that submit at the same moment get the same id, and one of them
    the job of the other. Raises UsageError when another job that is running writes to the same `out`.
    """
    known = {status.id: status for status in jobs(client)}
    base = submission.base
    for number in count(1):
        name = base if number == 1 else f"{base}-{number}"
        if name in known and not known[name].over:
            return Submitted(name, fresh=False)
        if name not in known:
            break
    _require_free(submission.out, known)
    with staged(submission) as folder:
        try:
            client.submit_job(
                entrypoint=submission.entrypoint(python),
                submission_id=name,
                runtime_env={"working_dir": str(folder), "env_vars": {**RAY_ENVIRONMENT, **env}},
                metadata={"vitruvian": submission.verb, "out": submission.out or ""},
            )
        except RuntimeError as error:
            if name not in {status.id for status in jobs(client)}:
                raise VitruvianError(f"the cluster refused the job {name}: {error}") from error
            return Submitted(name, fresh=False)  # somebody was quicker
    return Submitted(name, fresh=True)


def jobs(client: Any) -> list[Status]:
    """All jobs of the cluster that came through the Jobs API, oldest first."""
    with _answered():
        found = [_status(job) for job in client.list_jobs() if job.submission_id]
    return sorted(found, key=lambda status: (status.started or 0.0, status.id))


def status(client: Any, name: str) -> Status:
    """One job. Raises UsageError when the cluster has none of that id."""
    try:
        with _answered():
            return _status(client.get_job_info(name))
    except RuntimeError as error:
        known = ", ".join(each.id for each in jobs(client)[-5:]) or "none"
        raise UsageError(f"{name}: no such job on this cluster; the latest: {known}") from error


def stop(client: Any, name: str, patience_s: float = 60.0) -> Status:
    """Ask a job to end, and wait until it has: its command gets SIGTERM, then SIGKILL. What is done stays."""
    if (found := status(client, name)).over:
        return found
    client.stop_job(name)
    deadline = time.monotonic() + patience_s
    while not (found := status(client, name)).over and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


def logs(client: Any, name: str) -> str:
    """What the job has written so far."""
    status(client, name)
    with _answered():
        return str(client.get_job_logs(name))


def follow(client: Any, name: str, write: Callable[[str], None]) -> Status:
    """Pass on what the job writes until it has ended; a broken connection is taken up again."""
    printed, lost_since = 0, None
    while True:
        try:
            printed = asyncio.run(_tail(client, name, printed, write))
            if (found := status(client, name)).over:
                return found
            lost_since = None
        except (OSError, RuntimeError, VitruvianError) as error:
            lost_since = lost_since or time.monotonic()
            if time.monotonic() - lost_since > _LOST_S:
                raise VitruvianError(
                    f"lost the cluster while following {name}: {error}; the job may go on"
                ) from error
        time.sleep(1.0)


async def _tail(client: Any, name: str, printed: int, write: Callable[[str], None]) -> int:
    """Write what comes after the first `printed` characters; returns how many there are now."""
    seen = 0
    async for text in client.tail_job_logs(name):
        fresh = text[max(0, printed - seen) :]
        seen += len(text)
        if fresh:
            write(fresh)
            printed = seen
    return printed


@contextmanager
def staged(submission: Submission) -> Iterator[Path]:
    """A temporary folder with what the job needs: the rooms' source, and the files that came along."""
    with TemporaryDirectory(prefix="vitruvian-") as name:
        folder = Path(name)
        for room in ROOMS:
            ignore = shutil.ignore_patterns("__pycache__", "*.pyc", "out", ".*")
            shutil.copytree(_SOURCE / room, folder / room, ignore=ignore)
        (folder / SENT).mkdir()
        for name, data in submission.files.items():
            (folder / SENT / name).write_bytes(data)
        yield folder


def _require_free(out: str | None, known: Mapping[str, Status]) -> None:
    for other in known.values():
        if out and other.out == out and not other.over:
            raise UsageError(
                f"{out}: job {other.id} is writing there; wait for it, or `submit stop` it first"
            )


def _status(job: Any) -> Status:
    metadata = job.metadata or {}
    return Status(
        id=job.submission_id,
        state=str(job.status),
        message=(job.message or "").strip(),
        entrypoint=job.entrypoint,
        started=job.start_time / 1000 if job.start_time else None,
        ended=job.end_time / 1000 if job.end_time else None,
        code=job.driver_exit_code,
        out=metadata.get("out") or None,
    )


@contextmanager
def _answered(address: str = "the cluster") -> Iterator[None]:
    try:
        yield
    except ConnectionError as error:
        raise VitruvianError(f"{address} does not answer: {error}") from error
    except RuntimeError as error:
        if "uthenticat" not in str(error) and "token" not in str(error):
            raise
        raise VitruvianError(
            f"{address} wants a token: set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH) "
            f"to those of the cluster. It said: {error}"
        ) from error

"""What Ray Train's controller does when ranks fail. Import it only once Ray is connected: it imports Ray."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.train import UserCallback

from shards.errors import VitruvianError


class Verdicts(UserCallback):  # type: ignore[misc]
    """Ends the run when the work itself says what is wrong; else notes the lost ranks in a file. The
    controller runs on the driver's node, so the driver can read it.
    """

    def __init__(self, losses: Path) -> None:
        self.losses = losses

    def after_exception(self, run_context: Any, worker_exceptions: Mapping[int, Exception]) -> None:
        causes = {rank: _cause(error) for rank, error in sorted(worker_exceptions.items())}
        for cause in causes.values():
            if isinstance(cause, VitruvianError):
                raise cause  # which the controller takes for final
        lines = (f"rank {rank}: {type(e).__name__}: {first_line(e)}" for rank, e in causes.items())
        with self.losses.open("a", encoding="utf-8") as file:
            file.write("; ".join(lines) + "\n")


def _cause(error: Exception) -> BaseException:
    """What became of a rank, out of Ray Train's (2.60) wrappers: the exception that the work raised, or what
    ended its process.
    """
    cause = getattr(error, "_base_exc", None) or getattr(error, "health_check_failure", None)
    return cause if isinstance(cause, BaseException) else error


def first_line(error: BaseException) -> str:
    """What a message begins with, at most 150 characters."""
    return (str(error).strip() or repr(error)).splitlines()[0][:150]

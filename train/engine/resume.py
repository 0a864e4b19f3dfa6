"""Resumable checkpoints: sharded, asynchronous, whole or absent (torch.distributed.checkpoint).

A save copies the state to the CPU and returns; a thread writes `step-00000500.tmp/`, notes the size of every
file in its commit.json, and renames it. So a folder with the final name was whole when it was named; loading
checks the sizes again, against what disks lose later, and goes back to the newest checkpoint that is whole.
It loads at any number of ranks. At most one save is in flight.
"""

import json
import re
import shutil
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from shards.errors import VitruvianError
from shards.files import flush, write_atomic
from train.engine.distributed import World, background_group

COMMIT = "commit.json"


class Checkpoints:
    """The checkpoints of one run, one writer of them per rank."""

    def __init__(self, folder: Path, world: World, keep_last: int = 2, keep_every: int | None = None) -> None:
        """Every rank must call it. Kept are the last `keep_last`, and for good the first of every
        `keep_every` steps.
        """
        self.folder, self.world, self.keep_last, self.keep_every = folder, world, keep_last, keep_every
        self.group = background_group()
        self.thread = ThreadPoolExecutor(1, "checkpoints")
        self.writing: Future[None] | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Finish what is in flight. Its failure is raised, unless an exception is on its way already."""
        try:
            self.wait()
        except VitruvianError as error:
            if kind is None:
                raise
            print(f"error: {error}", file=sys.stderr, flush=True)
        finally:
            self.thread.shutdown()

    def steps(self) -> list[int]:
        """Steps that have a whole checkpoint, ascending."""
        return [step for step in self._named() if damage(self._path(step)) is None]

    def save(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
        """Begin to save the state after `step` finished steps; every rank must call it.

        Waits for the save before it, and returns once the state is copied: the caller may go on changing it.
        Returns the seconds that this took.
        """
        began = time.perf_counter()
        self.wait()
        temporary = self._path(step).with_suffix(".tmp")
        if self.world.is_main:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._sweep()
        self.world.barrier()
        _expect_one_process()
        written = state_dict_saver.async_save(
            _state(model, optimizer),
            checkpoint_id=temporary,
            process_group=self.group,
            no_dist=self.group is None,
        )
        assert isinstance(written, Future)  # what it returns when told no other stager
        self.writing = self.thread.submit(self._finish, step, written)
        return time.perf_counter() - began

    @property
    def failed(self) -> bool:
        """Whether the save in flight is known to have failed; `wait` says how."""
        return self.writing is not None and self.writing.done() and self.writing.exception() is not None

    def wait(self) -> None:
        """Until nothing is in flight; every rank must call it. Raises VitruvianError, on all ranks, when the
        save could not be written.
        """
        writing, self.writing = self.writing, None
        if writing is not None:
            writing.result()

    def load_latest(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Restore the newest whole checkpoint in place and return its step; 0, with nothing changed, when
        there is none. Damaged ones are named on stderr and passed over; raises VitruvianError when all are
        damaged.
        """
        self.world.barrier()
        found = self.world.from_main(self._newest() if self.world.is_main else 0)
        if isinstance(found, str):
            raise VitruvianError(found)
        if not found:
            return 0
        state = _state(model, optimizer)
        _expect_one_process()
        state_dict_loader.load(
            state, checkpoint_id=self._path(found), process_group=self.group, no_dist=self.group is None
        )
        set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optimizer"])
        return found

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:08d}"

    def _named(self) -> list[int]:
        """Steps of the folders with a final name, ascending."""
        names = (re.fullmatch(r"step-(\d{8})", path.name) for path in self.folder.glob("step-*"))
        return sorted(int(match[1]) for match in names if match)

    def _newest(self) -> int | str:
        """The newest whole checkpoint, 0 when there never was one, or what is wrong with all there are."""
        problems = []
        for step in reversed(self._named()):
            problem = damage(self._path(step))
            if problem is None:
                return step
            problems.append(f"{self._path(step)}: damaged checkpoint: {problem}")
            print(f"warning: {problems[-1]}; trying the one before it", file=sys.stderr, flush=True)
        if not problems:
            return 0
        return "\n  ".join(
            ["no whole checkpoint is left; restore one, or delete them to start anew:", *problems]
        )

    def _finish(self, step: int, written: Future[Any]) -> None:
        """In the thread: await the files of all ranks, then commit them. Fails on every rank or none."""
        try:
            written.result()
        except CheckpointException as error:
            reasons = "; ".join(f"rank {rank}: {cause[0]!r}" for rank, cause in error.failures.items())
            raise VitruvianError(self._unwritten(step, reasons)) from None
        except Exception as error:
            raise VitruvianError(self._unwritten(step, repr(error))) from None
        outcome: list[str | None] = [None]
        if self.world.is_main:
            try:
                self._commit(step)
            except OSError as error:
                outcome = [self._unwritten(step, str(error))]
        if self.group is not None:
            dist.broadcast_object_list(outcome, src=0, group=self.group)
        if outcome[0] is not None:
            raise VitruvianError(outcome[0])

    def _unwritten(self, step: int, reason: str) -> str:
        return f"{self._path(step)}: the checkpoint could not be written ({reason}); those before it are kept"

    def _commit(self, step: int) -> None:
        final = self._path(step)
        temporary = final.with_suffix(".tmp")
        sizes = {path.name: path.stat().st_size for path in sorted(temporary.iterdir())}
        write_atomic(temporary / COMMIT, json.dumps({"step": step, "files": sizes}, indent=2).encode())
        if final.exists():
            _discard(final)  # one found damaged, whose steps were done again
        temporary.rename(final)
        flush(self.folder)
        for old in self._superfluous():
            _discard(self._path(old))

    def _superfluous(self) -> Iterator[int]:
        """Whole checkpoints to delete."""
        steps, kept = self.steps(), 0
        for step in steps[: -self.keep_last]:
            if self.keep_every and step // self.keep_every > kept:
                kept = step // self.keep_every
            else:
                yield step

    def _sweep(self) -> None:
        """Remove what killed saves and deletions have left."""
        for path in [*self.folder.glob("step-*.tmp"), *self.folder.glob("step-*.old")]:
            shutil.rmtree(path)


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint's folder, None when every file has the size it was committed with."""
    try:
        sizes: dict[str, int] = json.loads((folder / COMMIT).read_text())["files"]
    except (OSError, ValueError, KeyError) as error:
        return f"{COMMIT} cannot be read ({error!r})"
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if (found := path.stat().st_size) != size:
            return f"{name} has {found} bytes, not {size}"
    return None


def _discard(folder: Path) -> None:
    """Delete a checkpoint; killed meanwhile, it no longer has a checkpoint's name."""
    old = folder.with_suffix(".old")
    shutil.rmtree(old, ignore_errors=True)
    folder.rename(old)
    shutil.rmtree(old)


def _state(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    weights, moments = get_state_dict(model, optimizer)
    return {"model": weights, "optimizer": moments}


def _expect_one_process() -> None:
    """torch warns of `no_dist` although it was asked for; the warning may come from the writing thread, so
    it is silenced for good.
    """
    warnings.filterwarnings("ignore", "torch.distributed is disabled", UserWarning)

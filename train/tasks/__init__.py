"""The tasks: one file each, with its target, loss, decoding, metric, baseline and picture."""

from typing import Literal

from shards.errors import UsageError
from train.tasks.albedo import AlbedoTask
from train.tasks.alpha import AlphaTask
from train.tasks.base import Evaluator, Task, TaskConfig
from train.tasks.depth import DepthTask
from train.tasks.normal import NormalTask
from train.tasks.parts import PartsTask
from train.tasks.pointmap import PointmapTask
from train.tasks.pose import PoseTask

TaskName = Literal["pose", "parts", "depth", "normal", "pointmap", "albedo", "alpha"]

TASKS: dict[str, type[Task]] = {
    "pose": PoseTask,
    "parts": PartsTask,
    "depth": DepthTask,
    "normal": NormalTask,
    "pointmap": PointmapTask,
    "albedo": AlbedoTask,
    "alpha": AlphaTask,
}

__all__ = ["TASKS", "Evaluator", "Task", "TaskConfig", "TaskName", "make_task"]


def make_task(name: str, config: TaskConfig) -> Task:
    """The task called `name`. Raises UsageError for another name."""
    if name not in TASKS:
        raise UsageError(f"task {name!r}: expected one of {', '.join(TASKS)}")
    return TASKS[name](config)

"""A trained task model as a function of pictures: the windows it sees, batched across pictures and people.

Shape suffixes: B batch, C output channels, H W input pixels, h w output pixels.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, Shaped, UInt8
from pydantic import Field, field_validator
from torch import Tensor, nn

from shards.config import Config
from shards.errors import UsageError
from train.data.view import View
from train.finetune import to_tensor
from train.models.heads import TaskModel
from train.prediction import windows
from train.prediction.picture import Boxes, Picture, Prediction
from train.prediction.windows import Canvas, Layout, Window, decode_in_bands
from train.tasks import Task

RELATIVE = frozenset({"depth"})
"""Tasks whose output has a scale and shift of its own in every window."""


class PredictorConfig(Config):
    """How pictures are seen and the network is run."""

    batch: int = Field(default=8, gt=0)
    """Windows (of one or several pictures) that the network sees at once."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """bf16: weights and activations; the last layer stays float32, so that outputs keep their digits."""
    flip: Literal["on", "off"] = "off"
    """on: average the outputs for the window and its mirror image."""
    compile: Literal["on", "off"] = "off"
    """on: torch.compile, a minute at the start; batches are filled up to one shape."""
    fit: Literal["whole", "letterbox", "person"] = "whole"
    """Dense tasks: the whole picture resized without keeping its aspect (as published), with its aspect and
    margins, or a window around each person. Pose always sees people.
    """
    padding: float = Field(default=1.25, ge=1)
    """`fit: person`: boxes are enlarged by this factor. Pose has its own, from training."""
    tiles: str = "off"
    """Dense tasks: "2x3" (rows x columns) or "auto" (as many as keep every pixel) overlapping windows."""
    overlap: float = Field(default=0.25, gt=0, le=0.5)
    """Of neighbouring tiles, as a share of a tile."""
    device: Literal["auto", "cpu", "cuda"] = "auto"

    @field_validator("tiles")
    @classmethod
    def _check_tiles(cls, tiles: str) -> str:
        if tiles != "off":
            try:
                windows.parse_tiles(tiles)
            except UsageError as error:
                raise ValueError(str(error)) from None
        return tiles


class Predictor:
    """`predictor(image)` for one picture, `predictor.stream(pictures)` for many."""

    def __init__(
        self,
        model: TaskModel,
        task: Task,
        size: tuple[int, int],
        stride: int,
        config: PredictorConfig = PredictorConfig(),  # noqa: B008  # frozen
    ) -> None:
        """`size` (height, width) of the model's input; `stride`: input pixels per output pixel."""
        refuse_contradictions(task, config)
        self.task, self.size, self.stride, self.config = task, size, stride, config
        self.device = choose_device(config.device)
        self._model = prepare_model(model.eval(), config.precision, self.device)
        if config.compile == "on":
            self._model = torch.compile(self._model)  # type: ignore[assignment]

    @property
    def sees_people(self) -> bool:
        """Whether it looks at boxes rather than at whole pictures."""
        return self.task.name == "pose" or self.config.fit == "person"

    def __call__(
        self, image: UInt8[np.ndarray, "height width 3"], boxes: Float[np.ndarray, "people 4"] | None = None
    ) -> Shaped[np.ndarray, "..."]:
        """The prediction for one RGB picture: (height, width) relative depth, part ids; (height, width, 3)
        normals; (people, points, 3) keypoints x px, y px, confidence for each of `boxes` (x0, y0, x1, y1;
        None: the whole picture is one person's).
        """
        found = None if boxes is None else Boxes(boxes.astype(np.float64), np.ones(len(boxes)))
        (prediction,) = self.stream([Picture("image", image, found)])
        return prediction.values

    def stream(self, pictures: Iterable[Picture]) -> Iterator[Prediction]:
        """Predictions in the order of the pictures. Holds about one batch of them at a time."""
        jobs: deque[_Job] = deque()
        queue: list[tuple[_Job, Window]] = []
        for picture in pictures:
            jobs.append(self._plan(picture))
            for window in jobs[-1].layout.windows:
                queue.append((jobs[-1], window))
                if len(queue) == self.config.batch:
                    self._run(queue)
                    queue.clear()
            while jobs and jobs[0].complete:
                yield jobs.popleft().finish()
        if queue:
            self._run(queue)
        while jobs:
            yield jobs.popleft().finish()

    def output(self, images_BCHW: UInt8[Tensor, "B 3 H W"]) -> Float32[Tensor, "B C h w"]:
        """The network's output, flip-averaged if asked; on a full GPU in smaller batches."""
        try:
            with torch.inference_mode():
                if self.config.flip == "on":
                    return self.task.flip_averaged(self._model, images_BCHW)
                output: Tensor = self._model(images_BCHW)
                return output
        except torch.OutOfMemoryError:
            if len(images_BCHW) == 1 or self.config.compile == "on":
                raise UsageError(
                    f"{self.device}: not enough memory for {len(images_BCHW)} windows of "
                    f"{self.size[0]} x {self.size[1]}; try a smaller --batch, --precision bf16, or the CPU"
                ) from None
        torch.cuda.empty_cache()
        half = len(images_BCHW) // 2
        return torch.cat([self.output(images_BCHW[:half]), self.output(images_BCHW[half:])])

    def _run(self, queue: Sequence[tuple["_Job", Window]]) -> None:
        images = torch.stack([to_tensor(window.view.colours(job.picture.image)) for job, window in queue])
        if self.config.compile == "on" and len(images) < self.config.batch:  # another shape: another minute
            images = torch.cat([images, images[-1:].expand(self.config.batch - len(images), -1, -1, -1)])
        outputs = self.output(images.to(self.device))[: len(queue)]
        for (job, window), output in zip(queue, outputs, strict=True):
            job.add(output, window)

    def _plan(self, picture: Picture) -> "_Job":
        boxes = picture.boxes
        if self.task.name == "pose":
            found = boxes if boxes is not None else whole_picture(picture)
            padding = self.task.config.box_padding if boxes is not None else 1.0
            views = [View.around(box, padding, self.size) for box in found.xyxy]
            return _PoseJob(self.task, picture, found, Layout(tuple(Window(view) for view in views)))
        return _DenseJob(self.task, picture, boxes, self._layout(picture))

    def _layout(self, picture: Picture) -> Layout:
        """The windows of a picture in a dense task."""
        size, stride, channels = self.size, self.stride, self.task.channels
        if self.config.tiles != "off":
            grid = windows.parse_tiles(self.config.tiles)
            grid = grid or windows.native_grid(picture.size, size, self.config.overlap)
            guided = self.task.name in RELATIVE and grid != (1, 1)
            return windows.tile_layout(
                picture.size, size, stride, channels, grid, self.config.overlap, guided
            )
        if self.config.fit == "person":
            found = picture.boxes if picture.boxes is not None else whole_picture(picture)
            padding = self.config.padding
            return windows.people_layout(found.xyxy, padding, picture.size, size, stride, channels)
        if self.config.fit == "letterbox":
            return windows.letterbox_layout(picture.size, size, stride, channels)
        return windows.whole_layout(picture.size, size)


def whole_picture(picture: Picture) -> Boxes:
    """The picture as one person's box."""
    height, width = picture.size
    return Boxes(np.array([[0.0, 0.0, width - 1.0, height - 1.0]]), np.ones(1))


@dataclass
class _Job:
    """A picture on its way: what it waits for, and what has come."""

    task: Task
    picture: Picture
    boxes: Boxes | None
    layout: Layout
    done: int = 0

    @property
    def complete(self) -> bool:
        return self.done == len(self.layout.windows)

    def add(self, output_Chw: Float32[Tensor, "C h w"], window: Window) -> None:
        """Take the network's output for a window; they come in order."""
        raise NotImplementedError

    def finish(self) -> Prediction:
        raise NotImplementedError


@dataclass
class _PoseJob(_Job):
    """Decodes at once: heat maps of 308 points are 60 MB a person."""

    people: list[Shaped[np.ndarray, "K 3"]] = field(default_factory=list)

    def add(self, output_Chw: Float32[Tensor, "C h w"], window: Window) -> None:
        self.people.append(self.task.decode(output_Chw, window.view, self.picture.size))
        self.done += 1

    def finish(self) -> Prediction:
        points = np.array(self.people, np.float32).reshape(len(self.people), self.task.channels, 3)
        return Prediction(self.picture, self.boxes, points)


@dataclass
class _DenseJob(_Job):
    """Blends the windows on a canvas; a single whole window is its own."""

    canvas: Canvas | None = None
    only_Chw: Float32[Tensor, "C h w"] | None = None

    def add(self, output_Chw: Float32[Tensor, "C h w"], window: Window) -> None:
        output_Chw = for_the_whole(self.task, output_Chw.cpu(), window.view, self.picture.size)
        self.done += 1
        if self.layout.canvas is None:
            self.only_Chw = output_Chw
            return
        if self.canvas is None:
            self.canvas = Canvas(self.task.channels, self.layout.canvas, self.picture.size)
        if not self.layout.guided:
            self.canvas.add(output_Chw, window)
        elif self.only_Chw is None:
            across = [(np.arange(count) + 0.5) / count for count in self.layout.canvas]
            self.only_Chw = windows.sample(output_Chw, *across)
        else:
            self.canvas.add_aligned(output_Chw, window, self.only_Chw)

    def finish(self) -> Prediction:
        """Zero (background, no surface) where no window reaches."""
        if self.layout.canvas is None:
            assert self.only_Chw is not None
            values = decode_in_bands(self.task, self.only_Chw, self.picture.size)
            return Prediction(self.picture, self.boxes, values)
        canvas = self.canvas or Canvas(self.task.channels, self.layout.canvas, self.picture.size)
        values = decode_in_bands(self.task, canvas.merged(), self.picture.size)
        covered = canvas.covered(self.picture.size)
        if covered is not None:
            values[~covered] = 0
        return Prediction(self.picture, self.boxes, values)


def for_the_whole(
    task: Task, output_Chw: Float32[Tensor, "C h w"], view: View, source: tuple[int, int]
) -> Float32[Tensor, "C h w"]:
    """What the output for a view says about the whole picture: canonical depth (its logarithm) is for a lens
    as long as what is seen is wide.
    """
    return output_Chw + math.log(source[1] / view.width) if task.name == "pointmap" else output_Chw


def refuse_contradictions(task: Task, config: PredictorConfig) -> None:
    """Raises UsageError for settings that have no meaning for the task or together."""
    if task.name == "pose" and (config.tiles != "off" or config.fit == "letterbox"):
        raise UsageError("pose: is top-down, in a window around each person: leave out tiles and fit")
    if config.tiles != "off" and config.fit != "whole":
        raise UsageError(f"tiles {config.tiles} and fit {config.fit}: choose one of them")
    if task.name in RELATIVE and config.fit == "person":
        raise UsageError(
            f"{task.name}: is relative in every window, so that windows around several people have no common "
            "scale: use fit whole or letterbox, or crop the pictures yourself"
        )


def choose_device(name: str) -> torch.device:
    """Raises UsageError when CUDA is asked for and there is none."""
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError("device cuda: torch sees no GPU here; use --device cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def prepare_model(model: TaskModel, precision: Literal["fp32", "bf16"], device: torch.device) -> TaskModel:
    """The model (changed in place) on the device, in the precision; the last layer computes in float32."""
    if precision == "bf16":
        model.to(torch.bfloat16)
        for layer in (model.head.last, model.head.offset):
            if layer is not None:
                layer.float().register_forward_pre_hook(_in_float32)
    return model.to(device)


def _in_float32(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (inputs[0].float(),)

"""A task model as a file for other programs: ONNX, or torch.export. What is written was run and compared.

The exported network takes uint8 RGB images (batch, 3, height, width) of the model's own size, normalises them
itself, and gives the head's float32 output (batch, channels, height / stride, width / stride): what is left
to the program around it is in docs/predict.md.
"""

import contextlib
import importlib.util
import logging
import secrets
import shutil
import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from pydantic import Field
from torch import Tensor

from annotation.codecs import decode_image
from shards.config import Config
from shards.errors import UsageError, VitruvianError
from shards.files import flush
from train.data.view import View
from train.finetune import Description, load_task_model, to_tensor
from train.models.heads import TaskModel
from train.predict import model_path
from train.prediction.sources import list_sources

INPUT, OUTPUT = "images", "output"
_CHECKED_BATCHES = (1, 3)
_TIMED = 5
_EXAMPLE_BATCH = 2  # exporters take a batch of 1 for a constant
_LARGE = 1_500_000_000  # bytes: protobuf ends at 2 GB, weights beyond this go into a file beside the ONNX
Images = UInt8[np.ndarray, "batch 3 height width"]
Outputs = Float32[np.ndarray, "batch channels h w"]
Network = Callable[[Images], Outputs]


class ExportConfig(Config):
    """How to export."""

    format: Literal["onnx", "torch"] = "onnx"
    batch: int = Field(default=0, ge=0)
    """Images at once; 0: any number."""
    tolerance: float = Field(default=1e-3, gt=0)
    """Largest absolute difference of an output between file and model."""
    compile: Literal["on", "off"] = "off"
    """on: time torch.compile beside the others."""


def export(
    checkpoint: Path, out: Path, config: ExportConfig, photographs: Path | None = None
) -> dict[str, Any]:
    """Write the model at `checkpoint` to `out`; what was compared and how long an image takes.

    The file appears under its name only after its outputs agreed with the model's, on noise and on
    `photographs` (a folder). Raises UsageError for a missing package or model, VitruvianError when they
    differ.
    """
    path = model_path(checkpoint)
    model, _, description = load_task_model(path)
    _need(config.format)
    temporary = out.parent / f".{secrets.token_hex(8)}.tmp"
    temporary.mkdir(parents=True)
    try:
        written = temporary / out.name
        (_write_onnx if config.format == "onnx" else _write_torch)(model, description, config.batch, written)
        network = open_network(written, config.format)
        images = probe_images(description.config.image_size, photographs)
        difference, largest = compare(model, network, images, config)
        size = sum(file.stat().st_size for file in temporary.iterdir())
        latency = _latencies(model, network, images, config)
        _publish(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return {
        "file": str(out),
        "task": description.task,
        "format": config.format,
        "input": {"name": INPUT, "shape": [config.batch or "batch", 3, *description.config.image_size]},
        "megabytes": round(size / 1e6, 2),
        "max_abs_difference": difference,
        "max_abs_output": largest,
        "tolerance": config.tolerance,
        "images_compared": len(images),
        "ms_per_image": latency,
        "threads": torch.get_num_threads(),
    }


def table(result: dict[str, Any]) -> str:
    """The result for a terminal."""
    lines = [
        f"{result['file']}: {result['task']}, {result['megabytes']} MB",
        f"largest difference from the model: {result['max_abs_difference']:.2e} of values up to "
        f"{result['max_abs_output']:.3g}, on {result['images_compared']} images "
        f"(accepted: {result['tolerance']:g})",
        f"ms per image, {result['threads']} threads:",
    ]
    for name, times in result["ms_per_image"].items():
        lines.append(f"  {name:16} " + "  ".join(f"batch {n}: {ms:.1f}" for n, ms in times.items()))
    return "\n".join(lines)


def compare(model: TaskModel, network: Network, images: Images, config: ExportConfig) -> tuple[float, float]:
    """(largest absolute difference, largest absolute output), in the batches the file must take.

    Raises VitruvianError when a value differs by more than the tolerance.
    """
    worst, largest = 0.0, 0.0
    for size in (config.batch,) if config.batch else _CHECKED_BATCHES:
        for batch in _batches(images, size):
            with torch.inference_mode():
                expected = model(torch.from_numpy(batch)).numpy()
            difference = float(np.abs(network(batch) - expected).max())
            if not difference <= config.tolerance:
                raise VitruvianError(
                    f"export: the {config.format} file differs from the model by {difference:.3g} at a batch "
                    f"of {size} (accepted: {config.tolerance:g}; outputs up to "
                    f"{np.abs(expected).max():.3g}); nothing was written"
                )
            worst, largest = max(worst, difference), max(largest, float(np.abs(expected).max()))
    return worst, largest


def probe_images(size: tuple[int, int], photographs: Path | None) -> Images:
    """Noise, a ramp, and the photographs of the folder (at most 8), resized without keeping their aspect."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(0, 255, size[1]).astype(np.uint8)
    found = [rng.integers(0, 256, (3, *size), dtype=np.uint8), np.broadcast_to(ramp, (3, *size))]
    for source in list_sources([str(photographs)])[:8] if photographs is not None else []:
        image = decode_image(source.path.read_bytes())
        view = View.whole((image.shape[0], image.shape[1]), size)
        found.append(to_tensor(view.colours(image)).numpy())
    return np.stack([np.ascontiguousarray(image) for image in found])


def open_network(path: Path, format: Literal["onnx", "torch"]) -> Network:
    """The file as a function of arrays: in ONNX Runtime on the CPU, or through torch.export.load."""
    if format == "torch":
        module = torch.export.load(path).module()

        def run_torch(images: Images) -> Outputs:
            with torch.inference_mode():
                output: Tensor = module(torch.from_numpy(images))
            return output.numpy()

        return run_torch
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # as many as the model it is compared with
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run_onnx(images: Images) -> Outputs:
        return np.asarray(session.run([OUTPUT], {INPUT: images})[0])

    return run_onnx


def _write_onnx(model: TaskModel, description: Description, batch: int, path: Path) -> None:
    example, shapes = _example(description, batch)
    large = sum(value.numel() * value.element_size() for value in model.state_dict().values()) > _LARGE
    with _quiet():
        torch.onnx.export(
            model,
            (example,),
            str(path),
            dynamo=True,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes=shapes,
            external_data=large,
            verbose=False,
        )


def _write_torch(model: TaskModel, description: Description, batch: int, path: Path) -> None:
    example, shapes = _example(description, batch)
    with _quiet():
        program = torch.export.export(model, (example,), dynamic_shapes=shapes)
        torch.export.save(program, path)


def _example(description: Description, batch: int) -> tuple[Tensor, Any]:
    """Inputs to trace with, and which of their dimensions stay free."""
    size = description.config.image_size
    example = torch.zeros(batch or _EXAMPLE_BATCH, 3, *size, dtype=torch.uint8)
    if batch:
        return example, None
    return example, ({0: torch.export.Dim("batch", min=1, max=4096)},)


def _latencies(
    model: TaskModel, network: Network, images: Images, config: ExportConfig
) -> dict[str, dict[str, float]]:
    """Name -> batch -> milliseconds an image."""

    def eager(batch: Images) -> Outputs:
        with torch.inference_mode():
            output: Tensor = model(torch.from_numpy(batch))
        return output.numpy()

    exported = "ONNX Runtime" if config.format == "onnx" else "torch.export"
    contenders: dict[str, Network] = {"torch": eager, exported: network}
    if config.compile == "on":
        compiled = torch.compile(model)

        def run_compiled(batch: Images) -> Outputs:
            with torch.inference_mode():
                output: Tensor = compiled(torch.from_numpy(batch))
            return output.numpy()

        contenders["torch.compile"] = run_compiled
    sizes = (config.batch,) if config.batch else (1, 8)
    return {
        name: {str(size): _milliseconds(run, next(_batches(images, size))) for size in sizes}
        for name, run in contenders.items()
    }


def _milliseconds(run: Network, batch: Images) -> float:
    run(batch)
    seconds = []
    for _ in range(_TIMED):
        began = time.perf_counter()
        run(batch)
        seconds.append(time.perf_counter() - began)
    return round(1e3 * statistics.median(seconds) / len(batch), 2)


def _batches(images: Images, size: int) -> Iterator[Images]:
    """All images in batches of exactly `size`, the last one filled up from the start."""
    for start in range(0, len(images), size):
        yield images[np.arange(start, start + size) % len(images)]


def _need(format: Literal["onnx", "torch"]) -> None:
    """Raises UsageError when a package is missing."""
    wanted = ("onnx", "onnxruntime", "onnxscript") if format == "onnx" else ()
    if missing := [name for name in wanted if importlib.util.find_spec(name) is None]:
        raise UsageError(f"export to ONNX needs {', '.join(missing)}: pip install 'vitruvian[export]'")


def _publish(folder: Path, out: Path) -> None:
    """Move the written files to their place; the one called `out` last, since it names the others."""
    for file in sorted(folder.iterdir(), key=lambda file: file.name == out.name):
        flush(file)
        file.replace(out.parent / file.name)
    flush(out.parent)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """torch 2.13's exporters warn of their own use of torch, and log that torchvision is not there."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "`isinstance\\(treespec, LeafSpec\\)`", FutureWarning)
            yield
    finally:
        logger.setLevel(level)

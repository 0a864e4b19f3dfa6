"""Prediction on the CPU: `train.predict.predict` in its CPU settings against the plain loop, and its memory.

    python -P benchmarks/predict.py [--quick] [--task normal]

The plain loop is what the published demos do: read a picture, resize it, run the float32 model on a batch of
one, decode, write the label, one after the other. Ours reads ahead, runs `--batch` windows at once in
`--precision` and writes behind. Both load the same weights (a fresh `small` at 256 x 192: speed does not
depend on what it says), predict the same photographs (synthetic, of mixed sizes, as JPEG) and write the same
PNGs. How the network alone fares by setting is printed first. Memory: resident growth over 500 pictures after
the first 50, in a process of its own. Last printed line: one JSON object; `ratio` is the plain loop's time
over ours (medians of alternating passes).
"""

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch

from annotation.codecs import decode_image, encode_mask, encode_normal
from shards.files import write_atomic
from train.data.view import View
from train.engine.checkpoint import full_state, save_weights
from train.finetune import Description, FinetuneConfig, assemble, load_task_model, to_tensor
from train.models.heads import HeadConfig
from train.models.initial import initialise
from train.models.vit import ViT, ViTConfig
from train.predict import PredictConfig, predict
from train.tasks import TaskConfig, make_task

SIZE = (256, 192)
SIZES = ((480, 640), (640, 480), (720, 540), (900, 1200))
ENCODE = {"normal": encode_normal, "parts": encode_mask}


def make_model(folder: Path, task_name: str, size: str) -> Path:
    """A fresh model as `finetune` leaves it, its head a quarter as wide as the published one."""
    head = HeadConfig(deconv_channels=(192, 192, 192), conv_channels=(192, 192, 192))
    task = make_task(task_name, TaskConfig())
    encoder = ViT(ViTConfig.of(size, SIZE, with_cls=False))
    initialise(encoder, 0)
    model = assemble(task, encoder, head)
    initialise(model.head, 1)
    config = FinetuneConfig(image_size=SIZE, head=head, steps=1, warmup_steps=0)
    folder.mkdir(parents=True)
    header = Description(task_name, config, encoder.config).header()
    save_weights(folder / "model.safetensors", full_state(model), header)
    return folder


def make_photographs(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        height, width = SIZES[number % len(SIZES)]
        coarse = rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)
        image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{number:05d}.jpg"), image)
    return folder


def plain_loop(model_folder: Path, photographs: Path, out: Path, task_name: str) -> float:
    """Seconds for all pictures, one after the other, batch 1, float32, loading the model included."""
    began = time.perf_counter()
    model, task, description = load_task_model(model_folder / "model.safetensors")
    size = description.config.image_size
    out.mkdir(parents=True, exist_ok=True)
    with torch.inference_mode():
        for path in sorted(photographs.iterdir()):
            image = decode_image(path.read_bytes())
            source = (image.shape[0], image.shape[1])
            view = View.whole(source, size)
            output = model(to_tensor(view.colours(image))[None])[0]
            label = ENCODE[task_name](task.decode(output, view, source))
            write_atomic(out / f"{path.name}.png", label)
    return time.perf_counter() - began


def ours(
    model_folder: Path, photographs: Path, out: Path, task_name: str, batch: int, precision: str
) -> float:
    """Seconds of a whole run, loading the model included."""
    config = PredictConfig.model_validate({"batch": batch, "precision": precision, "write": ("png",)})
    began = time.perf_counter()
    result = predict(task_name, model_folder, [str(photographs)], out, config)
    seconds = time.perf_counter() - began
    if result.rejects or result.skipped:
        raise SystemExit(f"expected every picture to be predicted; got {result}")
    return seconds


def kernel_times(model_folder: Path, batch: int, passes: int) -> dict[str, float]:
    """Milliseconds an image of the network alone, by setting (the best of some passes)."""
    found = {}
    for precision in ("fp32", "bf16"):
        for layout in ("contiguous", "channels_last"):
            model = load_task_model(model_folder / "model.safetensors")[0]
            if precision == "bf16":
                model.to(torch.bfloat16)
            if layout == "channels_last":
                model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            for size in (1, batch):
                images = torch.zeros(size, 3, *SIZE, dtype=torch.uint8)
                times = [timed(lambda m=model, x=images: m(x)) for _ in range(passes + 1)]  # type: ignore[misc]
                found[f"{precision} {layout} batch {size}"] = round(1e3 * min(times[1:]) / size, 1)
    return found


def timed(call: Callable[[], object]) -> float:
    with torch.inference_mode():
        began = time.perf_counter()
        call()
        return time.perf_counter() - began


def resident_mib() -> float:
    """Resident memory of this process, MiB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def memory_growth(model_folder: str, photographs: str, out: str, task_name: str, queue: "Queue") -> None:
    """Growth of resident memory from the 50th picture to the last: (MiB, pictures)."""
    torch.set_num_threads(1)
    samples: list[float] = []

    def report(done: int, total: int | None) -> None:
        samples.append(resident_mib())

    config = PredictConfig(batch=4, precision="bf16", write=("png", "npy", "overlay"))
    predict(task_name, Path(model_folder), [photographs], Path(out), config, report=report)
    start = min(50, len(samples) // 2)
    early, late = samples[start : start + 25], samples[-25:]
    queue.put((statistics.median(late) - statistics.median(early), len(samples)))


Queue = multiprocessing.Queue


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer pictures and passes")
    parser.add_argument("--task", choices=sorted(ENCODE), default="normal")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="bf16")
    given = parser.parse_args()
    count, passes, many = (12, 1, 60) if given.quick else (64, 3, 500)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        model = make_model(root / "model", given.task, "small")
        photographs = make_photographs(root / "photos", count)
        for setting, ms in kernel_times(model, given.batch, 1 if given.quick else 3).items():
            print(f"network alone, {setting}: {ms} ms an image", flush=True)
        seconds: dict[str, list[float]] = {"plain": [], "ours": []}
        for number in range(passes):
            seconds["plain"].append(plain_loop(model, photographs, root / f"p{number}", given.task))
            out = root / f"o{number}"
            seconds["ours"].append(ours(model, photographs, out, given.task, given.batch, given.precision))
            times = ", ".join(f"{side} {values[-1]:.2f} s" for side, values in seconds.items())
            print(f"pass {number}: {times}", flush=True)
        tiny = make_model(root / "tiny", given.task, "tiny")
        crowd = make_photographs(root / "many", many)
        context = multiprocessing.get_context("spawn")
        queue = context.Queue()
        arguments = (str(tiny), str(crowd), str(root / "m"), given.task, queue)
        process = context.Process(target=memory_growth, args=arguments)
        process.start()
        growth, pictures = queue.get(timeout=3600)
        process.join()
    median = {side: statistics.median(times) for side, times in seconds.items()}
    figures = {
        "benchmark": "predict",
        "ratio": round(median["plain"] / median["ours"], 3),
        "plain_ms": round(1e3 * median["plain"] / count, 1),
        "ours_ms": round(1e3 * median["ours"] / count, 1),
        "batch": given.batch,
        "precision": given.precision,
        "memory_growth_mib": round(growth, 1),
        "memory_pictures": pictures,
        "threads": torch.get_num_threads(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

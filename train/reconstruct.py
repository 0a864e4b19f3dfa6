"""How well a masked autoencoder fills in held-out pictures, beside predictors that learn nothing, and the
sheet of pictures that shows it (the paper's Fig. 3).

`out` then holds metrics.json, images.csv (losses of each picture), reconstructions.png, config.json and
run.json.
"""

import copy
import csv
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int32, UInt8
from PIL import Image, ImageDraw, ImageFont
from pydantic import Field, field_validator
from torch import Tensor

from annotation.codecs import encode_rgb
from annotation.draw import OUTLINE, WHITE, letterbox, tile
from shards.config import Config, parse_config
from shards.errors import UsageError
from shards.files import sha256_file, write_atomic
from shards.reader import Dataset
from train.data.dataset import sample_generator
from train.data.labelled import IDENTITY
from train.data.photo import central_view, members_to_read, photo
from train.engine.checkpoint import load_mae
from train.engine.distributed import open_world
from train.engine.run import open_run
from train.metrics.reconstruction import Losses, interval, resampled_means
from train.models.mae import MAE, MAEConfig, normalise_patches, patchify, split_patches
from train.models.mae import reconstruct as fill_in
from train.models.vit import normalise_images

Progress = Callable[[int, int], None]
"""Called with (images done, images in all)."""
Picture = UInt8[np.ndarray, "_ _ 3"]

WEIGHTS = "mae.safetensors"
PANEL_HEIGHT, GAP, LABEL_SIZE = 256, 6, 20.0
PROTOCOL = {
    "loss": "mean squared error over the hidden patches, each normalised to mean 0 and variance 1 over its "
    "pixels and colours; the mean over a picture, then over pictures",
    "pictures": "central crops; what is hidden depends on the seed and the picture's key, and a higher ratio "
    "hides more of the same",
    "own_mean": "each hidden patch's own mean, which is given away",
    "best_constant": "the one normalised patch that scores best on these very pictures",
    "neighbours": "the mean of the visible normalised patches, weighted by a Gaussian of their distance, of "
    "the width that scores best on these very pictures",
    "interval": "95 % of bootstrap resamples of the pictures; those of one person are drawn together",
}


class ReconstructConfig(Config):
    """What to hide and how much to show."""

    ratios: tuple[float, ...] = (0.75, 0.85, 0.95)
    """Shares of the patches to hide, whatever share the model was trained with."""
    images: int = Field(default=8, ge=1)
    """Rows of the sheet, evenly spaced over the data set, never chosen by score."""
    seed: int = Field(default=0, ge=0)
    batch: int = Field(default=16, gt=0)

    @field_validator("ratios")
    @classmethod
    def _check(cls, ratios: tuple[float, ...]) -> tuple[float, ...]:
        if not ratios or len(set(ratios)) < len(ratios) or not all(0 < ratio < 1 for ratio in ratios):
            raise ValueError("must be different numbers between 0 and 1, at least one")
        return ratios


@dataclass(frozen=True)
class ReconstructResult:
    """`status`: "finished", or "unchanged" when this very evaluation was found complete. `metrics`:
    metrics.json.
    """

    status: Literal["finished", "unchanged"]
    metrics: dict[str, Any]


def reconstruct(
    config: ReconstructConfig,
    data: Path | str,
    checkpoint: Path,
    out: Path,
    report: Progress = lambda done, total: None,
    *,
    replace: bool = False,
) -> ReconstructResult:
    """Score the autoencoder `checkpoint` (a folder of `pretrain`, or its mae.safetensors) on the pictures of
    `data`.

    Does nothing when `out` holds this finished evaluation. Raises UsageError for a checkpoint that is not
    there, an empty dataset, a mask ratio that hides nothing or everything, or an `out` that holds something
    else (another evaluation is deleted when `replace`); VitruvianError for a file that is no autoencoder.
    """
    path = _find(checkpoint)
    dataset, model = Dataset.open(data), load_mae(path).eval()
    models = [at_ratio(model, ratio) for ratio in config.ratios]
    if not len(dataset):
        raise UsageError(f"{data}: holds no samples; nothing to reconstruct")
    with open_world() as world:
        digests = {"checkpoint": sha256_file(path), "data": dataset.digest}
        settings = config.model_dump(mode="json", exclude={"batch"})
        run = open_run(out, {"reconstruct": settings, **digests}, world, replace=replace)
        if run.result is not None:
            metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
            return ReconstructResult("unchanged", metrics)
        began = time.perf_counter()
        model.to(world.device)
        scoring = Scoring(models, dataset, config, world.device)
        scoring.run(report)
        metrics = {
            "ratios": scoring.summary(),
            "protocol": PROTOCOL,
            "images": len(dataset),
            "image_size": list(model.config.encoder.image_size),
            "trained_at": model.config.mask_ratio,
            "seen_in_training": seen_in_training(path, dataset.digest),
            "data": {"url": str(data), "digest": digests["data"]},
            "checkpoint": {"path": str(checkpoint), "sha256": digests["checkpoint"]},
            "run": {"seconds": time.perf_counter() - began, "torch": torch.__version__},
        }
        write_atomic(out / "images.csv", scoring.table())
        write_atomic(out / "reconstructions.png", encode_rgb(scoring.sheet()))
        write_atomic(out / "metrics.json", (json.dumps(metrics, indent=2) + "\n").encode())
        run.finish({"seconds": metrics["run"]["seconds"]})
        return ReconstructResult("finished", metrics)


def at_ratio(model: MAE, ratio: float) -> MAE:
    """The same weights, shared, hiding another share of the patches. Raises UsageError when that leaves none
    to see or none to predict.
    """
    settings = model.config.model_dump() | {"mask_ratio": ratio}
    other = copy.copy(model)
    other.config = parse_config(settings, MAEConfig, where=f"mask ratio {ratio}")
    return other


class Scoring:
    """A model at several mask ratios over a data set: losses of every picture, panels of the chosen ones."""

    def __init__(
        self, models: Sequence[MAE], data: Dataset, config: ReconstructConfig, device: torch.device
    ) -> None:
        self.models, self.data, self.config, self.device = models, data, config, device
        self.encoder = models[0].config.encoder
        self.losses = [Losses(self.encoder.grid) for _ in models]
        self.keys: list[str] = []
        self.panels: list[Picture] = []

    def run(self, report: Progress) -> None:
        """Score every picture; paint the chosen ones."""
        total, members = len(self.data), members_to_read(self.data)
        shown = set(np.linspace(0, total - 1, min(self.config.images, total)).astype(int).tolist())
        for start in range(0, total, self.config.batch):
            places = range(start, min(start + self.config.batch, total))
            samples = [self.data.read(place, members) for place in places]
            images = torch.stack([central_view(photo(each), self.encoder.image_size) for each in samples])
            noise = torch.stack([self._noise(each.key) for each in samples])
            self.keys += [each.key for each in samples]
            self._score(images.to(self.device), noise.to(self.device))
            for place in shown.intersection(places):
                self._paint(images[place - start].to(self.device), noise[place - start].to(self.device))
            report(places.stop, total)

    def summary(self) -> list[dict[str, Any]]:
        """For each mask ratio: every predictor's loss, and the model's as a share of the others'."""
        found = []
        for model, kept in zip(self.models, self.losses, strict=True):
            losses = kept.of_predictors()
            resamples = resampled_means(losses, people(self.data), self.config.seed)
            means = {name: float(values.mean()) for name, values in losses.items()}
            shares = {
                name: interval(means["model"] / means[name], resamples["model"] / resamples[name])
                for name in losses
                if name != "model"
            }
            found.append(
                {
                    "mask_ratio": model.config.mask_ratio,
                    "hidden_patches": self.encoder.patches - model.config.visible,
                    "patches": self.encoder.patches,
                    "loss": {name: interval(means[name], resamples[name]) for name in losses},
                    "model_as_share_of": shares,
                    "neighbours_width": kept.width(),
                }
            )
        return found

    def table(self) -> bytes:
        """CSV: a line for each picture and mask ratio, the losses of every predictor."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for number, (model, kept) in enumerate(zip(self.models, self.losses, strict=True)):
            losses = kept.of_predictors()
            if number == 0:
                writer.writerow(["key", "mask_ratio", *losses])
            columns = zip(*losses.values(), strict=True)
            for key, values in zip(self.keys, columns, strict=True):
                writer.writerow([key, model.config.mask_ratio, *map(float, values)])
        return text.getvalue().encode()

    def sheet(self) -> Picture:
        """One row per chosen picture: truth, then what was seen and what was made of it at each ratio."""
        names = ["truth"]
        for ratio in self.config.ratios:
            names += [f"masked {ratio:g}", f"reconstruction {ratio:g}"]
        heads = tile([_label(name, self.panels[0].shape[1]) for name in names], columns=len(names), gap=GAP)
        return np.concatenate([heads, tile(self.panels, columns=len(names), gap=GAP)])

    def _noise(self, key: str) -> Int32[Tensor, " n"]:
        order = sample_generator(self.config.seed, 0, key).permutation(self.encoder.patches)
        return torch.from_numpy(order.astype(np.int32))

    @torch.inference_mode()
    def _score(self, images: UInt8[Tensor, "b 3 h w"], noise: Int32[Tensor, "b n"]) -> None:
        patches = normalise_patches(patchify(normalise_images(images), self.encoder.patch_size))
        for model, losses in zip(self.models, self.losses, strict=True):
            visible, _ = split_patches(noise, model.config.visible)
            losses.add(model(images, noise), patches, visible)

    def _paint(self, image: UInt8[Tensor, "3 h w"], noise: Int32[Tensor, " n"]) -> None:
        self.panels.append(_panel(image))
        for model in self.models:
            self.panels += [
                _panel(each[0]) for each in fill_in(model, model.config, image[None], noise[None])
            ]


def _panel(image: UInt8[Tensor, "3 h w"]) -> Picture:
    picture = image.permute(1, 2, 0).cpu().numpy()
    return letterbox(picture, round(PANEL_HEIGHT * picture.shape[1] / picture.shape[0]), PANEL_HEIGHT)


def _label(text: str, width: int) -> Picture:
    """A strip of `width` px with `text`, as large as fits."""
    size = min(LABEL_SIZE, 0.96 * LABEL_SIZE * width / ImageFont.load_default(LABEL_SIZE).getlength(text))
    page = Image.new("RGB", (width, round(1.7 * LABEL_SIZE)), WHITE)
    place = (width / 2, page.height / 2)
    ImageDraw.Draw(page).text(place, text, fill=OUTLINE, font=ImageFont.load_default(size), anchor="mm")
    return np.array(page)


def people(data: Dataset) -> list[str]:
    """Who is in each picture, by position: its (first) person where the index says so, else itself."""
    keys = list(data.keys())
    if IDENTITY not in (table := data.table()).column_names:
        return keys
    named = dict(zip(table["key"].to_pylist(), table[IDENTITY].to_pylist(), strict=True))
    return [str(named[key]) if named[key] is not None else key for key in keys]


def seen_in_training(weights: Path, digest: str) -> bool | None:
    """Whether the model in the file `weights` was trained on the dataset of this digest; None where no run
    lies beside it.
    """
    record = weights.parent / "config.json"
    return digest in record.read_text(encoding="utf-8") if record.is_file() else None


def _find(checkpoint: Path) -> Path:
    path = checkpoint / WEIGHTS if checkpoint.is_dir() else checkpoint
    if not path.is_file():
        raise UsageError(
            f"{path}: no such file; expected a finished folder of `vitruvian pretrain`, or its {WEIGHTS}"
        )
    return path

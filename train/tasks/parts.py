"""Body-part segmentation (paper section 3.4): class-weighted cross-entropy over 20, 28 or 29 classes."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from torch import Tensor
from torch.nn import functional as F

from annotation.draw import colour_parts
from annotation.labels import Labels
from annotation.parts import IGNORE, map_parts, part_vocabulary
from train.data.view import View
from train.metrics.parts import confusion, confusion_scores
from train.metrics.resampling import ImageSums
from train.tasks.base import Evaluator, Target, Task, TaskConfig, enlarge

RARE = 1e-4
"""Frequency below which classes are alike at the start: those the data does not have."""


class PartsTask(Task):
    """Output: one logit per class. Prediction: (height, width) class ids."""

    name = "parts"
    wanted = ("rgb", "parts")
    optional = ("alpha",)
    headline, better = "miou", "higher"
    protocol = (
        "Whole image, resized without keeping its aspect; logits resized to the image bilinearly, "
        "then argmax. One confusion matrix over all pixels whose truth is not 255: mIoU = mean over "
        "the classes present in truth or prediction of TP / (TP + FP + FN), background included; mAcc "
        "= mean over the classes present in the truth; aAcc = share of pixels that are right."
    )

    def __init__(self, config: TaskConfig) -> None:
        super().__init__(config)
        self.vocabulary = part_vocabulary(config.classes)
        weights = self.vocabulary.weights
        self.weights = (
            None
            if weights is None
            else torch.from_numpy((weights**config.class_weight_power).astype(np.float32))
        )

    @property
    def channels(self) -> int:
        return len(self.vocabulary)

    def prepare(self, labels: Labels) -> Labels:
        """The parts of the task's vocabulary."""
        assert labels.parts is not None
        classes = self.config.classes
        parts = map_parts(labels.parts, labels.part_classes, classes)
        return replace(labels, parts=parts, part_classes=classes)

    def target(self, crop: Labels, person: int, size: tuple[int, int]) -> Target:
        assert crop.parts is not None
        return {"parts": torch.from_numpy(crop.parts)}

    def loss(self, output_BChw: Float32[Tensor, "B C h w"], target: Target) -> Float32[Tensor, ""]:
        """Cross-entropy times the true class's published weight, mean over an image's labelled pixels."""
        parts_BHW = target["parts"].long()
        logits = enlarge(output_BChw, parts_BHW.shape[1:])
        weights = None if self.weights is None else self.weights.to(logits.device)
        losses_BHW = F.cross_entropy(logits, parts_BHW, weights, ignore_index=IGNORE, reduction="none")
        labelled = (parts_BHW != IGNORE).sum((1, 2)).clamp(min=1)
        return (losses_BHW.sum((1, 2)) / labelled).mean()

    def decode(
        self, output_Chw: Float32[Tensor, "C h w"], view: View, source: tuple[int, int]
    ) -> UInt8[np.ndarray, "height width"]:
        return enlarge(output_Chw[None], source)[0].argmax(0).to(torch.uint8).cpu().numpy()

    def unmirror(self, output_BChw: Float32[Tensor, "B C h w"]) -> Float32[Tensor, "B C h w"]:
        return output_BChw.flip(3)[:, torch.from_numpy(self.vocabulary.flip.copy())]

    def baselines(self, targets: Iterable[Target]) -> dict[str, Float32[Tensor, "C _ _"]]:
        """The most frequent class, and each pixel's most frequent class; as logits, the frequencies."""
        classes = torch.arange(self.channels, dtype=torch.uint8)[:, None, None]
        counts_CHW = torch.zeros(self.channels, 1, 1).double()
        for target in targets:
            counts_CHW = counts_CHW + (target["parts"] == classes)
        images = counts_CHW.sum(0).clamp(min=1)
        overall = counts_CHW.sum((1, 2)) / counts_CHW.sum().clamp(min=1)
        return {"constant": overall.float()[:, None, None], "majority_map": (counts_CHW / images).float()}

    def start(self, constant: Float32[Tensor, "C _ _"]) -> Float32[Tensor, " C"]:
        """The logits that minimise the weighted loss without looking: of the weighted class frequencies."""
        frequencies = constant.flatten()
        weights = torch.ones(self.channels) if self.weights is None else self.weights
        return (frequencies * weights).clamp(min=RARE).log()

    def evaluator(self) -> Evaluator:
        return PartsEvaluator(self.vocabulary.names)

    def truth(self, labels: Labels, person: int) -> UInt8[np.ndarray, "height width"]:
        assert labels.parts is not None
        return labels.parts

    def draw(
        self, labels: Labels, person: int, prediction: UInt8[np.ndarray, "height width"]
    ) -> UInt8[np.ndarray, "height width 3"]:
        """The vocabulary's palette."""
        return colour_parts(prediction, self.config.classes)


class PartsEvaluator(ImageSums):
    """One confusion matrix."""

    def __init__(self, names: tuple[str, ...]) -> None:
        super().__init__(len(names) ** 2, confusion_scores(names))
        self.names = names

    def add(
        self, key: str, labels: Labels, person: int, prediction: UInt8[np.ndarray, "height width"]
    ) -> dict[str, float]:
        assert labels.parts is not None
        if (labels.parts == IGNORE).all():
            return {}
        counts = confusion(prediction, labels.parts, len(self.names)).reshape(-1).astype(np.float64)
        self.count(key, counts)
        alone = {name: float(values[0]) for name, values in self.scores(counts[None]).items()}
        return {**{name: alone[name] for name in ("miou", "macc", "aacc")}, "pixels": int(counts.sum())}

    def compute(self) -> dict[str, float]:
        """miou, macc, aacc, and iou/<class> of the classes present."""
        return {name: value for name, value in super().compute().items() if not np.isnan(value)}

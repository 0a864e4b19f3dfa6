"""2D pose (paper section 3.3): one heat map per keypoint in the box of one person, mean squared error."""

from collections.abc import Iterable
from dataclasses import replace
from types import MappingProxyType

import numpy as np
import torch
from jaxtyping import Float32, Float64, UInt8
from torch import Tensor

from annotation.draw import draw_keypoints
from annotation.keypoints import keypoint_vocabulary, map_keypoints
from annotation.labels import Labels
from train.data.augment import AugmentConfig
from train.data.view import View
from train.metrics.boxes import detections_of
from train.metrics.pose import SURE
from train.tasks.base import Evaluator, Target, Task, TaskConfig
from train.tasks.heatmaps import decode_heatmaps, encode_heatmaps, unit_scale
from train.tasks.people import annotation_of, corners, has_box, overlap, person_box
from train.tasks.pose_evaluator import PoseEvaluator

HALF_BODY_POINTS = 9
"""Labelled points a person has at least before a half of the body is cut out (published)."""
SMALLEST_HALF = {"upper_body": 2, "lower_body": 3}
"""Labelled points a half has at least to be cut out (published)."""
UPPER_PREFERRED = 0.7
"""How often the upper half is taken where both could be (published)."""
HALF_BODY_PADDING = 1.5
"""Enlargement of the half's box (published)."""


class PoseTask(Task):
    """Output: K heat maps. Prediction: (K, 3): x px, y px in the source image, confidence."""

    name = "pose"
    wanted = ("rgb", "keypoints")
    optional = ("instance", "alpha")
    last_layer = "final_layer"
    spread = 0.001  # from 0.02 on, short runs spend themselves on silencing it and end with empty heat maps
    headline, better = "pck10", "higher"

    protocol = (
        "Top-down with {boxes}, enlarged by {padding:g} and cut out at the input's aspect; UDP heat maps, "
        "DARK decoding; a flip test averages heat maps, without a shift. A person's score is the box's times "
        "the mean confidence of its keypoints above 0.2; guesses with an OKS above 0.9 to a better one "
        "about the image are dropped. AP, AR: pycocotools, OKS 0.50:0.05:0.95, at most 20 people an image, "
        "all occluded and visible points; area = the annotation's, else mask pixels, else 0.53 of the box. "
        "Parts (ap/face ...) have their own sigmas and leave out people without a labelled point of them; "
        "hand = mean of left and right, which are evaluated separately.{matched}"
    )
    matched = (
        " PCK@t: share of labelled points closer than t of the longer side of the unpadded box, pooled. "
        "Error: mean distance of labelled points in source pixels."
    )
    units = MappingProxyType({"error_px": "px"})

    def __init__(self, config: TaskConfig) -> None:
        super().__init__(config)
        self.vocabulary = keypoint_vocabulary(config.keypoints)

    @property
    def channels(self) -> int:
        return len(self.vocabulary)

    @property
    def detected(self) -> bool:
        """Whether people are cut out by a detector's boxes."""
        return self.scoring.boxes == "detected"

    def how(self) -> str:
        """Names the boxes; PCK needs to know whose box it is, so detected ones have none."""
        truth = "ground-truth boxes (the annotation's, else mask extent, else keypoint extent)"
        boxes = "a detector's boxes" if self.detected else truth
        matched = "" if self.detected else self.matched
        return self.protocol.format(boxes=boxes, padding=self.config.box_padding, matched=matched)

    def prepare(self, labels: Labels) -> Labels:
        """The keypoints of the task's vocabulary."""
        assert labels.keypoints is not None
        return replace(labels, keypoints=map_keypoints(labels.keypoints, self.channels))

    def people(self, labels: Labels) -> list[int]:
        """People with at least one labelled keypoint, no crowds; or the detections of the picture."""
        if self.detected:
            return list(range(len(detections_of(labels))))
        assert labels.keypoints is not None
        labelled = np.flatnonzero((labels.keypoints[..., 3] > 0).any(1))
        return [int(person) for person in labelled if not annotation_of(labels, int(person)).get("iscrowd")]

    def view(self, labels: Labels, person: int, size: tuple[int, int]) -> View:
        """The person's box with padding, at the aspect of `size`; the whole image for nobody (-1)."""
        if person < 0:
            return super().view(labels, person, size)
        box = corners(detections_of(labels)[person].box) if self.detected else person_box(labels, person)
        return View.around(box, self.config.box_padding, size)

    def training_view(
        self,
        labels: Labels,
        person: int,
        size: tuple[int, int],
        config: AugmentConfig,
        rng: np.random.Generator,
    ) -> View:
        """With probability `config.half_body` the box of the upper or the lower body's labelled points."""
        chosen, upper = rng.random(2)
        half = self._half(labels, person, upper < UPPER_PREFERRED) if chosen < config.half_body else None
        if half is None:
            return self.view(labels, person, size)
        return View.around(np.concatenate([half.min(0), half.max(0)]), HALF_BODY_PADDING, size)

    def _half(self, labels: Labels, person: int, upper: np.bool_) -> Float64[np.ndarray, "n 2"] | None:
        """Labelled points (x, y) of one half of the body; None for a person with too few of them."""
        assert labels.keypoints is not None
        points = labels.keypoints[person] if person >= 0 else np.zeros((self.channels, 4), np.float32)
        labelled = points[:, 3] > 0
        if labelled.sum() < HALF_BODY_POINTS:
            return None
        order = ("upper_body", "lower_body") if upper else ("lower_body", "upper_body")
        for name in order:
            members = np.array(self.vocabulary.groups[name])
            kept = members[labelled[members]]
            if len(kept) >= SMALLEST_HALF[name]:
                return points[kept, :2].astype(np.float64)
        return None

    def target(self, crop: Labels, person: int, size: tuple[int, int]) -> Target:
        """Heat maps, points in heat-map pixels, and weights (1 for labelled points inside the crop)."""
        assert crop.keypoints is not None and crop.rgb is not None
        keypoints = crop.keypoints[person] if person >= 0 else np.zeros((self.channels, 4), np.float32)
        weights = (keypoints[:, 3] > 0).astype(np.float32)
        points = np.where(weights[:, None] > 0, keypoints[:, :2], 0) / unit_scale(
            (crop.rgb.shape[0], crop.rgb.shape[1]), size
        )
        heatmaps = encode_heatmaps(points, size, self.config.sigma)
        return {
            "heatmaps": torch.from_numpy(heatmaps * weights[:, None, None]),
            "points": torch.from_numpy(points.astype(np.float32)),
            "weights": torch.from_numpy(weights),
        }

    def loss(self, output_BChw: Float32[Tensor, "B K h w"], target: Target) -> Float32[Tensor, ""]:
        """Mean over all keypoints (or the hardest of each image) and pixels of the squared error, unlabelled
        keypoints with weight 0.
        """
        squared = (output_BChw - target["heatmaps"]) ** 2
        losses_BK = squared.mean((2, 3)) * target["weights"]
        hard = self.config.hard_keypoints
        if hard is not None and hard < losses_BK.shape[1]:
            losses_BK = losses_BK.topk(hard, dim=1).values
        return losses_BK.mean()

    def decode(
        self, output_Chw: Float32[Tensor, "K h w"], view: View, source: tuple[int, int]
    ) -> Float64[np.ndarray, "K 3"]:
        points, scores = decode_heatmaps(output_Chw, view.size, self.config.blur)
        return np.column_stack([view.to_source(points), scores])

    def unmirror(self, output_BChw: Float32[Tensor, "B K h w"]) -> Float32[Tensor, "B K h w"]:
        return output_BChw.flip(3)[:, torch.from_numpy(self.vocabulary.flip.copy())]

    def baselines(self, targets: Iterable[Target]) -> dict[str, Float32[Tensor, "K _ _"]]:
        """The mean pose in the box, as heat maps of its points."""
        total, count, size = torch.zeros(self.channels, 2), torch.zeros(self.channels, 1), (1, 1)
        for target in targets:
            weights = target["weights"][:, None]
            total += target["points"] * weights
            count += weights
            size = (target["heatmaps"].shape[1], target["heatmaps"].shape[2])
        mean = (total / count.clamp(min=1)).numpy()
        return {"constant": torch.from_numpy(encode_heatmaps(mean, size, self.config.sigma))}

    def start(self, constant: Float32[Tensor, "K _ _"]) -> Float32[Tensor, " K"]:
        """Nothing anywhere: a heat map is zero almost everywhere."""
        return torch.zeros(self.channels)

    def evaluator(self) -> Evaluator:
        return PoseEvaluator(self.vocabulary, self.config.box_padding, self.detected)

    def truth(self, labels: Labels, person: int) -> Float64[np.ndarray, "K 3"]:
        """With detected boxes: of the person whose box overlaps this one most, nothing when none does."""
        assert labels.keypoints is not None
        owner = self._owner(labels, person)
        if owner < 0:
            return np.zeros((self.channels, 3))
        return np.asarray(labels.keypoints[owner][:, [0, 1, 3]], dtype=np.float64)

    def draw(
        self, labels: Labels, person: int, prediction: Float64[np.ndarray, "K 3"]
    ) -> UInt8[np.ndarray, "height width 3"]:
        """The skeleton over the picture; only the points the truth has, so that pictures compare."""
        assert labels.rgb is not None
        shown = np.zeros((1, len(prediction), 4), np.float32)
        shown[0, :, :2] = prediction[:, :2]
        known = prediction[:, 2] > SURE if self.detected else self.truth(labels, person)[:, 2] > 0
        shown[0, :, 3] = 2 * known
        return draw_keypoints(labels.rgb, shown)

    def _owner(self, labels: Labels, person: int) -> int:
        """The index of the person a case is about; -1: nobody."""
        if not self.detected:
            return person
        assert labels.keypoints is not None
        box = corners(detections_of(labels)[person].box)
        known = [index for index in range(len(labels.keypoints)) if has_box(labels, index)]
        overlaps = [overlap(box, person_box(labels, index)) for index in known]
        return known[int(np.argmax(overlaps))] if overlaps and max(overlaps) > 0 else -1

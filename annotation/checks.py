"""Self-checks that the labels of a rendered or imported sample must pass before the sample may be used.

Every problem has a name ("normal:length") for tables of reject reasons, and a sentence with numbers for
people.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32

from annotation.camera import Camera
from annotation.codecs import MAX_DEPTH
from annotation.keypoints import SIZES as KEYPOINT_SIZES
from annotation.labels import Labels
from annotation.parts import IGNORE, part_vocabulary

COARSE_RANGE = 13.1
"""From this depth range on (m) the depth codec is off by more than 0.1 mm."""

_AWAY_COSINE = -0.1  # smooth shading turns a few silhouette normals away; a wrong frame turns thousands
_AWAY_SHARE = 0.02
_EDGE_PX = 0.01  # a point on the image edge may fall to either side when its coordinates become float32


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a sample: `name` is stable, `detail` says expected and got."""

    name: str
    detail: str


def check_labels(labels: Labels, depth_range: tuple[float, float] = (0.01, 1000.0)) -> list[Problem]:
    """Every problem of the labels that are present; an empty list means: good.

    `depth_range`: the plausible depths in metres.
    """
    checks = (
        _check_rgb(labels),
        _check_depth(labels, depth_range),
        _check_normal(labels),
        _check_masks(labels),
        _check_parts(labels),
        _check_keypoints(labels),
    )
    return [problem for check in checks for problem in check]


def _check_rgb(labels: Labels) -> Iterator[Problem]:
    if labels.rgb is not None and labels.rgb.std() < 1:
        yield Problem("rgb:flat", f"expected a picture; every pixel is about {labels.rgb[0, 0].tolist()}")


def _check_depth(labels: Labels, depth_range: tuple[float, float]) -> Iterator[Problem]:
    if labels.depth is None:
        return
    near, far = depth_range
    depth = labels.depth
    surface = depth[depth != 0]
    if surface.size == 0:
        yield Problem("depth:empty", "expected a surface somewhere; every depth is 0")
    elif not np.isfinite(surface).all():
        count = int((~np.isfinite(surface)).sum())
        yield Problem("depth:not-finite", f"expected metres; {count} pixels are NaN or infinite")
    elif surface.min() < near or surface.max() > min(far, MAX_DEPTH):
        yield Problem("depth:range", f"expected {near} .. {far} m; got {surface.min()} .. {surface.max()} m")
    elif surface.max() - surface.min() > COARSE_RANGE:
        spread = surface.max() - surface.min()
        yield Problem(
            "depth:coarse", f"expected a range below {COARSE_RANGE} m for 0.1 mm; got {spread:.2f} m"
        )


def _check_normal(labels: Labels) -> Iterator[Problem]:
    if labels.normal is None:
        return
    length = np.sqrt(np.einsum("hwc,hwc->hw", labels.normal, labels.normal))
    bad = ~((length == 0) | (np.abs(length - 1) < 1e-3))
    if bad.any():
        worst = length[bad][np.argmax(np.abs(length[bad] - 1))]
        yield Problem("normal:length", f"expected 1 or 0; {int(bad.sum())} pixels differ, worst {worst:.4g}")
    elif labels.camera is not None and (length > 0).any():
        off_hair = np.where(_hair(labels, length.shape)[..., None], np.float32(0), labels.normal)
        away = _share_turned_away(off_hair, labels.camera)
        if away > _AWAY_SHARE:
            yield Problem(
                "normal:away",
                f"expected normals toward the camera (x right, y up, z toward it); {away:.0%} point away",
            )


def _hair(labels: Labels, shape: tuple[int, ...]) -> Bool[np.ndarray, "height width"]:
    """Pixels of hair where parts say so. Strands are seen from behind as often as from in front, and are
    thinner than what the samples of a picture find.
    """
    if labels.parts is None:
        return np.zeros(shape, bool)
    return np.asarray(labels.parts == part_vocabulary(labels.part_classes).names.index("Hair"))


def _share_turned_away(normal: Float32[np.ndarray, "height width 3"], camera: Camera) -> float:
    """Share of the surface pixels (on a grid of at most a million) whose normal faces away from the eye."""
    step = max(1, round((normal.shape[0] * normal.shape[1] / 1e6) ** 0.5))
    y, x = np.mgrid[: normal.shape[0] : step, : normal.shape[1] : step]
    sampled = normal[::step, ::step]
    pixels = np.column_stack([x.ravel(), y.ravel()]).astype(np.float64)
    rays = camera.directions(pixels).reshape(sampled.shape) * (1, -1, -1)
    cosine = -np.einsum("hwc,hwc->hw", sampled, rays) / np.linalg.norm(rays, axis=-1)
    surface = (sampled != 0).any(axis=-1)
    return float((cosine[surface] < _AWAY_COSINE).mean()) if surface.any() else 0.0


def _check_masks(labels: Labels) -> Iterator[Problem]:
    if labels.depth is None:
        return
    surface = labels.depth > 0
    if labels.normal is not None:
        differ = int((surface != (labels.normal != 0).any(axis=-1)).sum())
        if differ:
            yield Problem(
                "mask:depth-normal", f"expected one silhouette; depth and normal differ in {differ} px"
            )
    if labels.alpha is not None:
        # Alpha is filtered, depth is not: they may disagree within one pixel of a silhouette.
        lost = int((~_grown(surface) & (labels.alpha == 255)).sum())
        extra = int((surface & ~_grown(labels.alpha > 0) & ~_hair(labels, surface.shape)).sum())
        if lost or extra:
            yield Problem(
                "mask:alpha-depth",
                f"expected one silhouette within 1 px; {lost} opaque px have no depth, {extra} the reverse",
            )
    if labels.parts is not None:
        floating = int((~surface & (labels.parts != 0) & (labels.parts != IGNORE)).sum())
        if floating:
            yield Problem("mask:parts-depth", f"expected parts on surfaces only; {floating} px have no depth")


def _check_parts(labels: Labels) -> Iterator[Problem]:
    if labels.parts is None:
        return
    classes = labels.part_classes
    vocabulary = part_vocabulary(classes)
    ids = np.unique(labels.parts)
    if unknown := ids[(ids >= classes) & (ids != IGNORE)].tolist():
        yield Problem(
            "parts:unknown", f"expected ids 0 .. {classes - 1} of {vocabulary.name} or 255; got {unknown}"
        )
    if labels.instance is not None:
        nobody = int(((labels.parts != 0) & (labels.parts != IGNORE) & (labels.instance == 0)).sum())
        if nobody:
            yield Problem(
                "mask:parts-instance", f"expected every part to be somebody's; {nobody} px are nobody's"
            )


def _check_keypoints(labels: Labels) -> Iterator[Problem]:
    if labels.keypoints is None:
        return
    people, count, _ = labels.keypoints.shape
    if count not in KEYPOINT_SIZES:
        yield Problem("keypoints:count", f"expected a vocabulary of {KEYPOINT_SIZES} points; got {count}")
    listed = labels.meta.get("people")
    if isinstance(listed, list) and len(listed) != people:
        yield Problem("keypoints:people", f"expected {len(listed)} people as in the json; got {people}")
    points = labels.keypoints.reshape(-1, 4)
    if not np.isfinite(points).all():
        count = int((~np.isfinite(points)).any(axis=-1).sum())
        yield Problem("keypoints:not-finite", f"expected numbers; {count} points have NaN or infinity")
        return
    visibility = points[:, 3]
    if not np.isin(visibility, (0, 1, 2)).all():
        yield Problem("keypoints:visibility", f"expected 0, 1 or 2; got {np.unique(visibility).tolist()}")
    if (size := labels.size()) is None:
        return
    unlabelled = (points == 0).all(axis=-1)
    astray = int(((visibility > 0) & ~_inside(points, *size, _EDGE_PX)).sum())
    hidden = int(((visibility == 0) & ~unlabelled & _inside(points, *size, -_EDGE_PX)).sum())
    if astray or hidden:
        yield Problem(
            "keypoints:frame",
            f"expected visibility 0 outside the image and nowhere else; {astray} points above 0 are outside "
            f"or behind the camera, {hidden} points of 0 are inside",
        )


def _inside(
    points: Float32[np.ndarray, "points 4"], height: int, width: int, margin: float
) -> Bool[np.ndarray, " points"]:
    """Which points lie on the image grown by `margin` px and not behind the camera (z = 0: unknown depth)."""
    x, y, z, _ = points.T
    low, right, bottom = -0.5 - margin, width - 0.5 + margin, height - 0.5 + margin
    return np.asarray((x >= low) & (x < right) & (y >= low) & (y < bottom) & (z >= 0))


def _grown(mask: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """The mask and its eight neighbours."""
    return np.asarray(cv2.dilate(mask.astype(np.uint8), np.ones((3, 3), np.uint8)), dtype=bool)

"""What of an image a network sees: a window, turned, resized and perhaps mirrored, for the picture, its
camera and every label.

Pixel labels are looked up at the nearest source pixel with one exact index map for all of them, so they stay
aligned; what may be averaged is: the picture, alpha, and albedo over the person's own pixels. Coordinates are
integer pixel centres (annotation/camera.py).
"""

from dataclasses import dataclass, replace
from functools import cached_property
from math import cos, radians, sin

import cv2
import numpy as np
from jaxtyping import Float32, Float64, Int64, Shaped, UInt8

from annotation.camera import Camera
from annotation.keypoints import flip_keypoints
from annotation.labels import Labels
from annotation.parts import IGNORE, flip_parts
from shards.errors import VitruvianError

PADDING = (124, 116, 104)
"""RGB outside the source image: the mean colour, which the network sees as zero."""
HALF_COVERED = 128
"""Alpha from which a pixel counts as the person's."""


@dataclass(frozen=True)
class View:
    """A window of `width` x `height` source pixels around `centre` (x, y), turned by `angle` degrees
    (positive turns the picture from x toward y, clockwise to the eye), resized to `size` (height, width),
    then mirrored.
    """

    centre: tuple[float, float]
    width: float
    height: float
    size: tuple[int, int]
    angle: float = 0.0
    mirror: bool = False
    detail: float = 1.0
    """Below 1 the picture alone loses resolution: it is made at this share of `size`, then enlarged."""

    @classmethod
    def whole(cls, source: tuple[int, int], size: tuple[int, int]) -> "View":
        """The whole image of `source` (height, width), resized without keeping its aspect."""
        return cls(((source[1] - 1) / 2, (source[0] - 1) / 2), float(source[1]), float(source[0]), size)

    @classmethod
    def around(cls, box: Float64[np.ndarray, "4"], padding: float, size: tuple[int, int]) -> "View":
        """The box (x0, y0, x1, y1 in pixel centres), widened to the aspect of `size`, then enlarged by
        `padding`.
        """
        x0, y0, x1, y1 = (float(value) for value in box)
        width, height = max(x1 - x0, 1.0), max(y1 - y0, 1.0)
        aspect = size[1] / size[0]
        width, height = max(width, height * aspect), max(height, width / aspect)
        return cls(((x0 + x1) / 2, (y0 + y1) / 2), width * padding, height * padding, size)

    @cached_property
    def matrix(self) -> Float64[np.ndarray, "3 3"]:
        """Source pixel (x, y, 1) -> output pixel."""
        matrix = self._scaling @ self._turn @ _shift(-self.centre[0], -self.centre[1])
        matrix = _shift((self.size[1] - 1) / 2, (self.size[0] - 1) / 2) @ matrix
        mirror = np.array([[-1.0, 0.0, self.size[1] - 1], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
        return np.asarray(mirror @ matrix if self.mirror else matrix)

    @property
    def _scaling(self) -> Float64[np.ndarray, "3 3"]:
        return np.diag([self.size[1] / self.width, self.size[0] / self.height, 1.0])

    @property
    def _turn(self) -> Float64[np.ndarray, "3 3"]:
        c, s = cos(radians(self.angle)), sin(radians(self.angle))
        return np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])

    def to_source(self, points: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n 2"]:
        """Output pixels -> source pixels."""
        inverse = np.linalg.inv(self.matrix)
        return np.asarray(points @ inverse[:2, :2].T + inverse[:2, 2])

    def camera(self, camera: Camera) -> Camera:
        """The camera of the output: turning the image about any point is a roll and a moved principal point.

        Raises VitruvianError for a turned view of non-square pixels, which no pinhole camera takes.
        """
        K = camera.K.copy()
        if self.angle and not (np.isclose(K[0, 0], K[1, 1]) and np.isclose(K[0, 1], 0)):
            raise VitruvianError(
                f"view: an image with non-square pixels (K = {K.tolist()}) cannot be turned: resize it first"
            )
        upright = replace(self, mirror=False)
        moved = upright.matrix @ np.array([K[0, 2], K[1, 2], 1.0])
        K[:2] = self._scaling[:2, :2] @ K[:2]
        K[:2, 2] = moved[:2]
        roll = np.eye(4)
        roll[:3, :3] = self._turn
        pose = roll @ camera.world_to_camera
        turned = Camera(K, pose, self.size[1], self.size[0], camera.distortion)
        return turned.flip() if self.mirror else turned

    def apply(self, labels: Labels) -> Labels:
        """Everything `labels` hold, as seen through this view.

        Outside the source image: mean colour, nobody, no surface, ignored part, invisible keypoint.
        """
        size = labels.size()
        if size is None:
            raise VitruvianError("view: expected labels with at least one image or a camera; got none")
        lookup = _Lookup.of(self, size)
        images = labels.images()
        changed: dict[str, object] = {}
        if labels.rgb is not None:
            changed["rgb"] = self.colours(labels.rgb)
        if labels.alpha is not None:
            changed["alpha"] = self._resample(labels.alpha, (0,))
        if labels.albedo is not None:
            changed["albedo"] = self._surface_colours(labels.albedo, labels.alpha)
        changed |= {name: lookup(images[name], _FILL[name]) for name in _FILL.keys() & images.keys()}
        for name in ("normal", "geometric_normal"):
            if name in images:
                changed[name] = self._turn_normals(np.asarray(changed[name]))
        if labels.parts is not None and self.mirror:
            changed["parts"] = flip_parts(np.asarray(changed["parts"])[:, ::-1], labels.part_classes)
        if labels.keypoints is not None:
            changed["keypoints"] = self.keypoints(labels.keypoints)
        if labels.camera is not None:
            changed["camera"] = self.camera(labels.camera)
        return replace(labels, **changed)  # type: ignore[arg-type]

    def colours(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "height width 3"]:
        """Bilinear, after an area average when the view shrinks the image to less than half."""
        if self.detail == 1:
            return self._resample(image, PADDING)
        coarse = max(1, round(self.size[0] * self.detail)), max(1, round(self.size[1] * self.detail))
        small = replace(self, size=coarse, detail=1.0).colours(image)
        return np.asarray(cv2.resize(small, self.size[::-1], interpolation=cv2.INTER_LINEAR))

    def _surface_colours(
        self, image: UInt8[np.ndarray, "h w 3"], alpha: UInt8[np.ndarray, "h w"] | None
    ) -> UInt8[np.ndarray, "height width 3"]:
        """As `colours`, but averaged over pixels at least half covered only, so that what is behind the
        person does not bleed in; black where there are none.
        """
        if alpha is None:
            return self._resample(image, (0, 0, 0))
        inside = (alpha >= HALF_COVERED).astype(np.float32)
        total = self._resample(image * inside[..., None], (0, 0, 0))
        share = self._resample(inside, (0,))[..., None]
        return np.asarray(np.rint(total / share.clip(min=1 / 255)).clip(0, 255) * (share > 1 / 255), np.uint8)

    def _resample(
        self, image: Shaped[np.ndarray, "h w *channels"], outside: tuple[int, ...]
    ) -> Shaped[np.ndarray, "height width *channels"]:
        matrix = self.matrix
        factor = int(min(self.width / self.size[1], self.height / self.size[0]))
        if factor > 1:
            small = cv2.resize(
                image,
                (max(1, image.shape[1] // factor), max(1, image.shape[0] // factor)),
                interpolation=cv2.INTER_AREA,
            )
            scale = np.diag([image.shape[1] / small.shape[1], image.shape[0] / small.shape[0], 1.0])
            matrix = matrix @ _shift(-0.5, -0.5) @ scale @ _shift(0.5, 0.5)
            image = small
        warped = cv2.warpAffine(
            image,
            matrix[:2],
            (self.size[1], self.size[0]),
            flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT,
            borderValue=outside,
        )
        return np.asarray(warped)

    def keypoints(
        self, keypoints: Float32[np.ndarray, "people points 4"]
    ) -> Float32[np.ndarray, "people points 4"]:
        """Moved points; those that fall outside the output become invisible. Mirrored: left and right trade
        names.
        """
        upright = replace(self, mirror=False).matrix
        moved = keypoints.copy()
        moved[..., :2] = keypoints[..., :2] @ upright[:2, :2].T + upright[:2, 2]
        x, y = moved[..., 0], moved[..., 1]
        inside = (x >= -0.5) & (x < self.size[1] - 0.5) & (y >= -0.5) & (y < self.size[0] - 0.5)
        moved[..., 3] *= inside
        return flip_keypoints(moved, self.size[1]) if self.mirror else moved

    def _turn_normals(self, normal: Float32[np.ndarray, "h w 3"]) -> Float32[np.ndarray, "h w 3"]:
        turn = self._turn
        turn[0, 1], turn[1, 0] = turn[1, 0], turn[0, 1]  # the label's y points up, the image's down
        if self.mirror:
            turn = np.diag([-1.0, 1.0, 1.0]) @ turn
        return np.asarray(normal @ turn.T.astype(np.float32))


@dataclass(frozen=True)
class _Lookup:
    """For each output pixel, the nearest source pixel, or none."""

    rows: Int64[np.ndarray, "height width"]
    columns: Int64[np.ndarray, "height width"]
    outside: Shaped[np.ndarray, "height width"]

    @classmethod
    def of(cls, view: View, source: tuple[int, int]) -> "_Lookup":
        inverse = np.linalg.inv(view.matrix)
        x, y = np.arange(view.size[1]), np.arange(view.size[0])[:, None]
        # The tiny push makes ties (a pixel centre on an edge) fall to the same side for any view.
        columns = np.floor(inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2] + 0.5 + 1e-9).astype(
            np.int64
        )
        rows = np.floor(inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2] + 0.5 + 1e-9).astype(np.int64)
        outside = (columns < 0) | (columns >= source[1]) | (rows < 0) | (rows >= source[0])
        return cls(rows.clip(0, source[0] - 1), columns.clip(0, source[1] - 1), outside)

    def __call__(
        self, image: Shaped[np.ndarray, "h w *channels"], fill: int
    ) -> Shaped[np.ndarray, "height width *channels"]:
        found = image[self.rows, self.columns]
        found[self.outside] = fill
        return np.asarray(found)


_FILL = {
    "depth": 0,
    "normal": 0,
    "geometric_normal": 0,
    "parts": IGNORE,
    "instance": 0,
    "quality": 0,
}


def _shift(x: float, y: float) -> Float64[np.ndarray, "3 3"]:
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])

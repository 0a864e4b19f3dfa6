"""A pinhole camera, with radial lens distortion if it has any: OpenCV's frame, integer pixel centres;
conversions to and from OpenGL and Blender.

Camera frame: x right, y down, z forward, metres. Pixel (0, 0) is the *centre* of the top-left pixel, so an
image of width w spans -0.5 .. w - 0.5. Blender, OpenGL and trimesh count from the corner: their principal
point is 0.5 larger.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64

from shards.errors import VitruvianError

Y_DOWN_TO_UP = np.diag([1.0, -1.0, -1.0, 1.0])
"""Turns OpenCV camera axes (y down, z forward) into OpenGL and Blender ones (y up, z backward), and back."""

_RIGID_TOLERANCE = 1e-4  # rotations stored as float32 elsewhere are orthonormal to about 1e-6
_SQUARE_TOLERANCE = 1e-6  # relative difference of fx and fy that Blender's square pixels can swallow
_TABLE = 1024  # Newton starts within the square of a cell's width
_NEWTON_STEPS, _NEWTON_TOLERANCE = 30, 1e-13

Radial = tuple[float, float, float]
"""OpenCV's k1, k2, k3: a ray at radius r (tangent of its angle) goes to r (1 + k1 r^2 + k2 r^4 + k3 r^6)."""


@dataclass(frozen=True, eq=False)
class Camera:
    """Intrinsics `K`, rigid `world_to_camera` (metres), image size (pixels), radial `distortion` of the lens.
    Immutable; arrays are copies.

    A horizontally flipped image has a *mirrored* camera: `world_to_camera` then holds a reflection
    (determinant -1) and `K` keeps its positive focal lengths, so labels in the camera frame (depth, normals)
    flip with the image. Distortion is radial about the principal point and acts before K, so that no crop,
    resize, flip or turn changes it. Raises VitruvianError when K is not an upper triangular pinhole matrix,
    the pose is not rigid or the distortion not finite.
    """

    K: Float64[np.ndarray, "3 3"]
    world_to_camera: Float64[np.ndarray, "4 4"]
    width: int
    height: int
    distortion: Radial = (0.0, 0.0, 0.0)

    def __post_init__(self) -> None:
        _refuse_bad_size(self.width, self.height)
        if not np.isfinite(self.distortion).all():
            raise VitruvianError(f"camera: expected finite k1, k2, k3; got distortion {self.distortion}")
        for name, check in (("K", _refuse_bad_intrinsics), ("world_to_camera", _refuse_bad_pose)):
            array = np.array(getattr(self, name), dtype=np.float64)
            check(array)
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Camera)
            and (self.width, self.height) == (other.width, other.height)
            and np.array_equal(self.K, other.K)
            and np.array_equal(self.world_to_camera, other.world_to_camera)
            and self.distortion == other.distortion
        )

    def __hash__(self) -> int:
        numbers = self.K.tobytes(), self.world_to_camera.tobytes()
        return hash((self.width, self.height, *numbers, self.distortion))

    @property
    def distorted(self) -> bool:
        """Whether the lens bends straight lines."""
        return any(self.distortion)

    @property
    def camera_to_world(self) -> Float64[np.ndarray, "4 4"]:
        """Inverse of `world_to_camera` (by transposition, which is valid for a reflection too)."""
        rotation = self.world_to_camera[:3, :3].T
        pose = np.eye(4)
        pose[:3, :3] = rotation
        pose[:3, 3] = -rotation @ self.world_to_camera[:3, 3]
        return pose

    @property
    def position(self) -> Float64[np.ndarray, "3"]:
        """The optical centre in the world frame, metres."""
        return self.camera_to_world[:3, 3]

    @property
    def mirrored(self) -> bool:
        """True after an odd number of flips: no physical camera takes this picture."""
        return bool(np.linalg.det(self.world_to_camera[:3, :3]) < 0)

    def project(self, points_world: Float[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
        """World points (m) -> x px, y px, z m; x and y are NaN where there is no pixel: behind the camera
        (z <= 0), and so far off the axis that the distortion folds back.
        """
        points = points_world @ self.world_to_camera[:3, :3].T + self.world_to_camera[:3, 3]
        depth = points[:, 2]
        seen = np.where(depth > 0, depth, np.nan)[:, None]
        pixels = self._distort(points / seen) @ self.K.T
        return np.column_stack([pixels[:, :2], depth])

    def unproject(self, xyz_px: Float[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
        """x px, y px, z m -> world points (m): the inverse of `project` for z > 0."""
        points = self.directions(xyz_px[:, :2]) * xyz_px[:, 2:3]
        pose = self.camera_to_world
        return np.asarray(points @ pose[:3, :3].T + pose[:3, 3])

    def directions(self, xy_px: Float[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n 3"]:
        """Camera-frame direction, z = 1, of what is seen at each x, y (px).

        Raises VitruvianError for a pixel that the distortion leaves without one.
        """
        homogeneous = np.column_stack([xy_px, np.ones(len(xy_px))])
        return self._undistort(homogeneous @ np.linalg.inv(self.K).T)

    def rays(self) -> Float64[np.ndarray, "height width 3"]:
        """World-frame direction through each pixel centre: `position + depth * ray` is the surface.

        Their camera-frame z is 1, hence lengths >= 1: multiply by z depth (the depth label), not by distance.
        """
        y, x = np.mgrid[: self.height, : self.width].reshape(2, -1).astype(np.float64)
        rays = self.directions(np.column_stack([x, y])) @ self.camera_to_world[:3, :3].T
        return np.asarray(rays.reshape(self.height, self.width, 3))

    def contains(self, xy_px: Float[np.ndarray, "n _"]) -> Bool[np.ndarray, " n"]:
        """Whether each point's x, y (px) lie on the image: -0.5 <= x < width - 0.5; NaN does not."""
        x, y = xy_px[:, 0], xy_px[:, 1]
        return (x >= -0.5) & (x < self.width - 0.5) & (y >= -0.5) & (y < self.height - 0.5)

    def world_normals_to_label(
        self, normals: Float[np.ndarray, "*shape 3"]
    ) -> Float64[np.ndarray, "*shape 3"]:
        """World normals -> the normal label's frame: x right, y up, z toward the camera. (0, 0, 0) stays."""
        return np.asarray(normals @ (Y_DOWN_TO_UP[:3, :3] @ self.world_to_camera[:3, :3]).T, dtype=np.float64)

    def crop(self, x: int, y: int, width: int, height: int) -> "Camera":
        """The camera of the sub-image whose top-left pixel is (x, y). Reaching outside is padding."""
        return self._with(_shift(float(-x), float(-y)) @ self.K, width, height)

    def resize(self, width: int, height: int) -> "Camera":
        """The camera of the image resampled to `width` x `height`: cx' = (cx + 0.5) s - 0.5."""
        _refuse_bad_size(width, height)
        scale = np.diag([width / self.width, height / self.height, 1.0])
        return self._with(_shift(-0.5, -0.5) @ scale @ _shift(0.5, 0.5) @ self.K, width, height)

    def flip(self) -> "Camera":
        """The camera of the horizontally mirrored image: x' = width - 1 - x for the same world points."""
        K = self.K.copy()
        K[0, 1], K[0, 2] = -K[0, 1], self.width - 1 - K[0, 2]
        pose = np.diag([-1.0, 1.0, 1.0, 1.0]) @ self.world_to_camera
        return Camera(K, pose, self.width, self.height, self.distortion)

    def to_json(self) -> dict[str, Any]:
        """Plain data; `from_json(json.loads(json.dumps(...)))` gives back the same bits. Without distortion
        it does not mention any.
        """
        plain: dict[str, Any] = {
            "K": self.K.tolist(),
            "world_to_camera": self.world_to_camera.tolist(),
            "width": self.width,
            "height": self.height,
        }
        return plain | ({"distortion": list(self.distortion)} if self.distorted else {})

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Camera":
        """The camera of `to_json`. Raises VitruvianError for a missing field or a wrong shape."""
        try:
            K = np.array(data["K"], dtype=np.float64)
            world_to_camera = np.array(data["world_to_camera"], dtype=np.float64)
            width, height = int(data["width"]), int(data["height"])
            k1, k2, k3 = map(float, data.get("distortion", (0.0, 0.0, 0.0)))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            fields = "K (3x3), world_to_camera (4x4), width, height and, if any, distortion (k1, k2, k3)"
            raise VitruvianError(f"camera: expected {fields}; got {data!r:.200}: {error!r}") from error
        if K.shape != (3, 3) or world_to_camera.shape != (4, 4):
            raise VitruvianError(
                f"camera: expected K (3, 3), world_to_camera (4, 4); got {K.shape}, {world_to_camera.shape}"
            )
        return cls(K, world_to_camera, width, height, (k1, k2, k3))

    def _with(self, K: Float64[np.ndarray, "3 3"], width: int, height: int) -> "Camera":
        return Camera(K, self.world_to_camera, width, height, self.distortion)

    def _distort(self, points: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
        """Points on the plane z = 1 -> where the lens puts them on it."""
        if not self.distorted:
            return points
        radius = np.linalg.norm(points[:, :2], axis=1)
        factor = np.where(radius <= _fold(self.distortion), _bend(radius, self.distortion), np.nan)
        return np.asarray(points * np.column_stack([factor, factor, np.ones_like(factor)]))

    def _undistort(self, points: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
        """The inverse of `_distort`."""
        if not self.distorted:
            return points
        bent = np.linalg.norm(points[:, :2], axis=1)
        factor = np.where(bent > 0, _unbent(bent, self.distortion) / np.where(bent > 0, bent, 1), 1)
        return np.asarray(points * np.column_stack([factor, factor, np.ones_like(factor)]))


def look_at(
    position: Float[np.ndarray, "3"], target: Float[np.ndarray, "3"], up: Float[np.ndarray, "3"]
) -> Float64[np.ndarray, "4 4"]:
    """`world_to_camera` of a camera at `position` (world, m) that looks at `target`, image-up toward `up`.

    Raises VitruvianError when position and target coincide or the view is parallel to `up`.
    """
    forward = np.asarray(target, dtype=np.float64) - position
    right = np.cross(forward, up)
    if not np.linalg.norm(right) > 1e-9 * max(1.0, float(np.linalg.norm(forward))):
        raise VitruvianError(
            f"look_at: the view from {position} to {target} must not vanish nor be parallel to up={up}"
        )
    rows = np.stack([right, np.cross(forward, right), forward])
    rotation = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, -rotation @ position
    return pose


def opencv_to_opengl(camera_to_world: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "4 4"]:
    """Camera-to-world pose with OpenCV camera axes -> the same pose with OpenGL (and Blender) axes."""
    return np.asarray(camera_to_world @ Y_DOWN_TO_UP)


def opengl_to_opencv(camera_to_world: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "4 4"]:
    """Camera-to-world pose with OpenGL (or Blender) camera axes -> the same pose with OpenCV axes."""
    return np.asarray(camera_to_world @ Y_DOWN_TO_UP)


@dataclass(frozen=True, eq=False)
class BlenderCamera:
    """What Blender wants to hear. Set every field: sensor_fit AUTO would turn the sensor of portrait images.

    `matrix_world` is camera-to-world with Blender's axes (y up, looking along -z); `lens` and `sensor_width`
    are in millimetres; shifts are fractions of the image *width* in both axes; pixels are square.
    """

    matrix_world: Float64[np.ndarray, "4 4"]
    lens: float
    sensor_width: float
    shift_x: float
    shift_y: float
    width: int
    height: int
    sensor_fit: str = "HORIZONTAL"


def blender_camera(camera: Camera, sensor_width: float = 36.0) -> BlenderCamera:
    """The Blender camera that takes the same picture.

    With view = width and corner-based centres, Cycles renders fx = lens / sensor_width * width,
    cx = width / 2 - shift_x * width, cy = height / 2 + shift_y * width. Raises
    VitruvianError for what Blender cannot do: non-square pixels, skew, distortion, a mirrored image.
    """
    fx, fy, skew = camera.K[0, 0], camera.K[1, 1], camera.K[0, 1]
    if abs(fx - fy) > _SQUARE_TOLERANCE * fx or abs(skew) > _SQUARE_TOLERANCE * fx:
        raise VitruvianError(
            f"camera: Blender needs square pixels (fx = fy, no skew); got fx={fx}, fy={fy}, skew={skew}: "
            "render with square pixels and resize the image afterwards"
        )
    if camera.distorted:
        raise VitruvianError(
            f"camera: Blender's camera has no lens distortion; got k1, k2, k3 = {camera.distortion}: "
            "render with render.effects.ideal_camera, then distort image and labels"
        )
    if camera.mirrored:
        raise VitruvianError(
            "camera: Blender cannot render a mirrored camera; render, then flip image and labels"
        )
    return BlenderCamera(
        matrix_world=opencv_to_opengl(camera.camera_to_world),
        lens=float(fx * sensor_width / camera.width),
        sensor_width=sensor_width,
        shift_x=float((camera.width / 2 - (camera.K[0, 2] + 0.5)) / camera.width),
        shift_y=float((camera.K[1, 2] + 0.5 - camera.height / 2) / camera.width),
        width=camera.width,
        height=camera.height,
    )


def camera_from_blender(blender: BlenderCamera) -> Camera:
    """The camera that Blender renders with: the inverse of `blender_camera`, for sensor_fit HORIZONTAL."""
    if blender.sensor_fit != "HORIZONTAL":
        raise VitruvianError(
            f"camera: expected sensor_fit 'HORIZONTAL'; got {blender.sensor_fit!r}: set it in Blender"
        )
    focal = blender.lens / blender.sensor_width * blender.width
    K = np.array(
        [
            [focal, 0.0, blender.width / 2 - blender.shift_x * blender.width - 0.5],
            [0.0, focal, blender.height / 2 + blender.shift_y * blender.width - 0.5],
            [0.0, 0.0, 1.0],
        ]
    )
    camera_to_world = opengl_to_opencv(blender.matrix_world)
    rotation = camera_to_world[:3, :3].T
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, -rotation @ camera_to_world[:3, 3]
    return Camera(K, pose, blender.width, blender.height)


def _bend(radius: Float64[np.ndarray, " n"], distortion: Radial) -> Float64[np.ndarray, " n"]:
    """Distorted radius over ideal radius."""
    k1, k2, k3 = distortion
    square = radius * radius
    return np.asarray(1 + square * (k1 + square * (k2 + square * k3)))


def _slope(radius: Float64[np.ndarray, " n"], distortion: Radial) -> Float64[np.ndarray, " n"]:
    """Derivative of the distorted radius by the ideal one."""
    k1, k2, k3 = distortion
    return _bend(radius, (3 * k1, 5 * k2, 7 * k3))


def _fold(distortion: Radial) -> float:
    """The ideal radius beyond which the distorted one shrinks again; infinite if it never does."""
    k1, k2, k3 = distortion
    coefficients = np.array([7 * k3, 5 * k2, 3 * k1, 1.0])
    coefficients[np.abs(coefficients) < 1e-12] = 0  # would fold beyond 89.9 degrees, if anywhere
    squares = np.roots(coefficients)
    turning = squares.real[(np.abs(squares.imag) < 1e-12) & (squares.real > 0)]
    return float(np.sqrt(turning.min(initial=np.inf)))


def _unbent(bent: Float64[np.ndarray, " n"], distortion: Radial) -> Float64[np.ndarray, " n"]:
    """Ideal radii of distorted ones: interpolated in a table, then Newton's method to rounding error."""
    largest = float(np.fmax.reduce(bent, initial=0.0))  # NaN has no radius
    end = _fold(distortion)
    if np.isinf(end):
        end = max(1.0, largest)
        while end * _bend(np.array([end]), distortion)[0] < largest:
            end *= 2
    grid = np.linspace(0, end, _TABLE)
    table = grid * _bend(grid, distortion)
    if largest > table[-1]:
        raise VitruvianError(
            f"camera: distortion {distortion} folds the image back beyond radius {table[-1]:.4g} (tangent of "
            f"the angle); got a pixel at {largest:.4g}: the lens shows nothing there; "
            "use a weaker distortion or a narrower view"
        )
    radius = np.interp(bent, table, grid)
    for _ in range(_NEWTON_STEPS):
        residual = radius * _bend(radius, distortion) - bent
        if not (np.abs(residual) > _NEWTON_TOLERANCE * end).any():
            break
        radius = np.clip(radius - residual / np.maximum(_slope(radius, distortion), 1e-9), 0, end)
    return radius


def _shift(x: float, y: float) -> Float64[np.ndarray, "3 3"]:
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def _refuse_bad_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise VitruvianError(f"camera: expected a size of at least 1 x 1 px; got {width} x {height}")


def _refuse_bad_intrinsics(K: Float64[np.ndarray, "3 3"]) -> None:
    pinhole = K[1, 0] == 0 and K[2].tolist() == [0, 0, 1] and K[0, 0] > 0 and K[1, 1] > 0
    if not (pinhole and np.isfinite(K).all()):
        raise VitruvianError(
            f"camera: expected K = [[fx, skew, cx], [0, fy, cy], [0, 0, 1]] with fx, fy > 0; got {K.tolist()}"
        )


def _refuse_bad_pose(pose: Float64[np.ndarray, "4 4"]) -> None:
    rotation = pose[:3, :3]
    rigid = np.isfinite(pose).all() and pose[3].tolist() == [0, 0, 0, 1]
    if not rigid or np.abs(rotation @ rotation.T - np.eye(3)).max() > _RIGID_TOLERANCE:
        raise VitruvianError(
            "camera: expected a rigid world_to_camera (orthonormal rotation, last row 0 0 0 1); "
            f"got {pose.tolist()}: take a scale out of it first"
        )

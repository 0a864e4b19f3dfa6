"""What Hi4D's files hold, as plain arrays: bounded before they are read, checked, and never unpickled."""

import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64, UInt8

from annotation.camera import Camera
from annotation.codecs import DecodeError, decode_image
from render.people.mesh import face_normals, vertex_normals
from shards.errors import UsageError, VitruvianError

MAX_BYTES = 1 << 30
"""Of a file, and of what a .npz unpacks to. A scan of 200,000 triangles has 20 MB."""
MAX_FACES = 20_000_000

_NO_AREA = 1e-7  # twice the area over the longest edge squared: thinner triangles have no direction


class FrameRejected(VitruvianError):
    """A frame that gets no labels. `reason` is "what:detail" for tables, such as "scan:missing"."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type["FrameRejected"], tuple[str, str]]:
        return type(self), (self.reason, str(self))


@dataclass(frozen=True)
class Mesh:
    """World frame, m. normals: of the smooth surface, weighted by area, across texture seams."""

    vertices: Float64[np.ndarray, "v 3"]
    faces: Int32[np.ndarray, "f 3"]
    normals: Float64[np.ndarray, "v 3"]


@dataclass(frozen=True)
class Calibration:
    """The cameras of a sequence. extrinsics: world to camera, m, OpenCV's frame."""

    path: Path
    ids: Int64[np.ndarray, " c"]
    intrinsics: Float64[np.ndarray, "c 3 3"]
    extrinsics: Float64[np.ndarray, "c 3 4"]

    def camera(self, number: int, width: int, height: int) -> Camera:
        """Camera `number`, of pictures of this size (px). Raises UsageError for one that is not there, is
        not rigid, or is of another size of picture.
        """
        at = np.flatnonzero(self.ids == number)
        if len(at) != 1:
            raise UsageError(f"{self.path}: expected camera {number} once in ids; got {self.ids.tolist()}")
        K, pose = self.intrinsics[at[0]], np.vstack([self.extrinsics[at[0]], [0.0, 0.0, 0.0, 1.0]])
        if not (0 <= K[0, 2] < width and 0 <= K[1, 2] < height):
            raise UsageError(
                f"{self.path}: camera {number}: expected a principal point on its {width} x {height} px "
                f"picture; got {K[:2, 2].tolist()}: were the pictures resized?"
            )
        try:
            return Camera(K, pose, width, height)
        except VitruvianError as error:
            raise UsageError(f"{self.path}: camera {number}: {error}") from None


def read_calibration(path: Path) -> Calibration:
    """cameras/rgb_cameras.npz, but for its dist_coeffs: the pictures are undistorted (docs/evaluate.md).
    Raises UsageError.
    """
    try:
        found = read_npz(path, ("ids", "intrinsics", "extrinsics"), "cameras")
        ids, K, pose = found["ids"], found["intrinsics"], found["extrinsics"]
        count = len(np.ravel(ids))
        if K.shape != (count, 3, 3) or pose.shape != (count, 3, 4):
            raise FrameRejected(
                "cameras:shape", f"{path}: expected {count} x 3 x 3 and x 3 x 4; got {K.shape}, {pose.shape}"
            )
        return Calibration(
            path, np.ravel(ids).astype(np.int64), K.astype(np.float64), pose.astype(np.float64)
        )
    except (FrameRejected, TypeError, ValueError) as error:
        raise UsageError(
            f"{error}; expected Hi4D's rgb_cameras.npz with ids (c), intrinsics (c, 3, 3) and extrinsics "
            "(c, 3, 4): extract the pair again"
        ) from None


def read_bytes(path: Path, what: str) -> bytes:
    """A whole file. Raises FrameRejected "<what>:missing" or "<what>:huge"."""
    if not path.is_file():
        raise FrameRejected(f"{what}:missing", f"{path}: no such file")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise FrameRejected(f"{what}:huge", f"{path}: expected at most {MAX_BYTES} bytes; got {size}")
    return path.read_bytes()


def read_picture(data: bytes, path: Path, what: str) -> UInt8[np.ndarray, "h w 3"]:
    """RGB; the number of pixels is bounded before they are decoded. Raises FrameRejected."""
    try:
        return decode_image(data)
    except DecodeError as error:
        raise FrameRejected(f"{what}:{error.reason}", f"{path}: {error}") from None


def read_mask(path: Path) -> Bool[np.ndarray, "h w"]:
    """Hi4D's mask of the subjects: where it is not black. Raises FrameRejected."""
    return np.asarray(read_picture(read_bytes(path, "mask"), path, "mask").max(axis=-1) > 0)


def read_npz(path: Path, names: Sequence[str], what: str) -> dict[str, np.ndarray]:
    """These arrays of a .npz, in this order. Objects are refused, not unpickled; the unpacked size is
    bounded. Raises FrameRejected "<what>:missing" or "<what>:damaged".
    """
    if not path.is_file():
        raise FrameRejected(f"{what}:missing", f"{path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > MAX_BYTES:
            raise ValueError(f"expected at most {MAX_BYTES} bytes unpacked; its directory says {unpacked}")
        with np.load(path, allow_pickle=False) as data:
            return {name: np.asarray(data[name]) for name in names}
    except Exception as error:  # on bad bytes zipfile and numpy raise almost anything
        raise FrameRejected(
            f"{what}:damaged", f"{path}: expected arrays {', '.join(names)}: {error!r:.300}"
        ) from None


def read_subject(path: Path) -> Mesh:
    """The mesh of one subject (arrays `vertices` and `faces`). Raises FrameRejected "subject:..."."""
    found = read_npz(path, ("vertices", "faces"), "subject")
    return as_mesh(found["vertices"], found["faces"], path, "subject")


def read_scan(path: Path) -> Mesh:
    """A Wavefront OBJ of triangles; colours, texture and normals are passed over, and no other file is read.
    Raises FrameRejected "scan:...".
    """
    lines = read_bytes(path, "scan").split(b"\n")
    points = [line.split()[1:4] for line in lines if line.startswith(b"v ")]
    corners = [line.split()[1:] for line in lines if line.startswith(b"f ")]
    if bad := next((face for face in corners if len(face) != 3), None):
        raise FrameRejected("scan:polygons", f"{path}: expected triangles; got a face {b' '.join(bad)!r:.80}")
    try:
        vertices = np.array([number for point in points for number in point], np.float64).reshape(-1, 3)
        # of v, v/vt, v//vn and v/vt/vn the first counts, from 1 on
        first = re.sub(rb"/\S*", b"", b" ".join(corner for face in corners for corner in face)).split()
        faces = np.array([int(number) for number in first], np.int64).reshape(-1, 3) - 1
    except (ValueError, OverflowError) as error:
        raise FrameRejected("scan:damaged", f"{path}: expected numbers after v and f: {error}") from None
    return as_mesh(vertices, faces, path, "scan")


def as_mesh(vertices: np.ndarray, faces: np.ndarray, path: Path, what: str) -> Mesh:
    """Checked arrays, vertices of equal place made one, triangles without area dropped. Raises
    FrameRejected "<what>:damaged", "<what>:empty" or "<what>:huge".
    """
    for name, array, kinds in (("vertices", vertices, "fiu"), ("faces", faces, "iu")):
        if array.ndim != 2 or array.shape[1] != 3 or array.dtype.kind not in kinds:
            raise FrameRejected(
                f"{what}:damaged", f"{path}: {name}: expected (n, 3) numbers; got {array.dtype} {array.shape}"
            )
    if len(faces) > MAX_FACES:
        raise FrameRejected(
            f"{what}:huge", f"{path}: expected at most {MAX_FACES} triangles; got {len(faces)}"
        )
    if not np.isfinite(vertices).all() or (
        faces.size and not 0 <= faces.min() <= faces.max() < len(vertices)
    ):
        raise FrameRejected(
            f"{what}:damaged",
            f"{path}: expected finite vertices and faces that index the {len(vertices)} there are",
        )
    places, index = np.unique(vertices.astype(np.float64), axis=0, return_inverse=True)
    welded = index.reshape(-1)[faces].astype(np.int32)
    corners = places[welded]
    longest = ((corners - np.roll(corners, 1, axis=1)) ** 2).sum(-1).max(-1, initial=0.0)
    good = np.linalg.norm(face_normals(places, welded), axis=1) > _NO_AREA * longest
    if not good.any():
        raise FrameRejected(f"{what}:empty", f"{path}: expected triangles; none of {len(faces)} has an area")
    return Mesh(places, welded[good], vertex_normals(places, welded[good]))

"""A folder shaped like Hi4D, of meshes and cameras that a test brings: what `vitruvian render hi4d` reads."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from annotation.camera import Camera, look_at
from render.crosscheck import ball, cast_ball
from render.person import Material

Body = tuple[np.ndarray, np.ndarray]
"""Vertices (v, 3) in metres, and triangles (f, 3)."""
IDS = (4, 16, 28)
SIZE = (72, 96)
RADII = (0.35, 0.25)


def two_cameras(target: np.ndarray, up: np.ndarray, size: tuple[int, int] = SIZE) -> dict[int, Camera]:
    """Cameras 4 and 16 that look at `target` from two sides: rolled, off the middle, pixels not square."""
    found = {}
    for number, eye in ((4, np.array([0.4, 0.3, -3.2])), (16, np.array([2.6, 0.9, 1.4]))):
        focal, middle = 1.15 * size[1], np.array(size) / 2 + np.array([2.3, -3.1])
        K = np.array([[focal, 0, middle[0]], [0, 1.02 * focal, middle[1]], [0, 0, 1]])
        found[number] = Camera(K, look_at(target + eye, target, up + np.array([0.1, 0, 0.05])), *size)
    return found


def write_calibration(folder: Path, cameras: Mapping[int, Camera]) -> None:
    """rgb_cameras.npz with one camera more than there are pictures of, and coefficients of the lenses that
    the pictures no longer show.
    """
    path = folder / "cameras" / "rgb_cameras.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    chosen = [cameras.get(number, next(iter(cameras.values()))) for number in IDS]
    np.savez(
        path,
        ids=np.array(IDS),
        intrinsics=np.array([camera.K for camera in chosen]),
        extrinsics=np.array([camera.world_to_camera[:3] for camera in chosen]),
        dist_coeffs=np.tile([-0.12, 0.09, 1e-3, -1e-3, 0.02], (len(IDS), 1)),
    )


def write_meshes(folder: Path, number: int, bodies: Sequence[Body]) -> None:
    """The scan of both as one OBJ with texture coordinates, and each alone."""
    lines, start = [b"mtllib MatLib.mtl", b"vt 0 0"], 1
    for who, (vertices, faces) in enumerate(bodies):
        lines += [b"v %.9g %.9g %.9g" % tuple(vertex) for vertex in vertices]
        lines += [b"f %d/1 %d/1 %d/1" % tuple(face) for face in faces + start]
        start += len(vertices)
        alone = folder / "seg" / "instance" / str(who) / f"mesh-f{number:05d}.npz"
        alone.parent.mkdir(parents=True, exist_ok=True)
        np.savez(alone, vertices=vertices, faces=faces)
    scan = folder / "frames" / f"mesh-f{number:05d}.obj"
    scan.parent.mkdir(parents=True, exist_ok=True)
    scan.write_bytes(b"\n".join(lines) + b"\n")


def write_picture(folder: Path, camera: int, number: int, rgb: np.ndarray, mask: np.ndarray) -> None:
    """A JPEG, and the mask of both."""
    image = folder / "images" / str(camera) / f"{number:06d}.jpg"
    both = folder / "seg" / "img_seg_mask" / str(camera) / "all" / f"{number:06d}.png"
    for path, pixels in ((image, rgb[..., ::-1]), (both, np.where(mask, 255, 0).astype(np.uint8))):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())


def write_meta(folder: Path, first: int, last: int) -> None:
    """meta.npz, which counts the frames."""
    genders = np.array(["female", "male"])
    np.savez(folder / "meta.npz", start=first, end=last, num_persons=2, genders=genders, mono_cam=4)


def centres(number: int) -> np.ndarray:
    """Where the balls of `write_balls` are in a frame: they move by 2 cm."""
    start = np.array([[-0.4, 1.0, 0.1], [0.35, 1.1, -0.3]])
    return np.asarray(start + 0.02 * (number % 20) * np.array([1.0, 0.5, 0.0]))


def write_balls(root: Path, sequence: str, numbers: Sequence[int], detail: int = 4) -> dict[int, Camera]:
    """A sequence of two balls instead of people; y is up. Returns its cameras."""
    folder, cameras = root / sequence, two_cameras(np.array([0.0, 1.0, 0.0]), np.array([0.0, 1.0, 0.0]))
    write_calibration(folder, cameras)
    write_meta(folder, min(numbers), max(numbers))
    rng = np.random.default_rng(0)
    for number in numbers:
        balls = [
            ball(r, c, Material("skin"), detail).surfaces[0]
            for r, c in zip(RADII, centres(number), strict=True)
        ]
        write_meshes(folder, number, [(surface.vertices, surface.faces) for surface in balls])
        for name, camera in cameras.items():
            seen = [cast_ball(r, c, camera).mask for r, c in zip(RADII, centres(number), strict=True)]
            coarse = rng.integers(0, 256, (6, 5, 3), dtype=np.uint8)
            write_picture(folder, name, number, cv2.resize(coarse, SIZE), np.logical_or(*seen))
    return cameras

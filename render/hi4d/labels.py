"""One frame of Hi4D as a sample: its picture as it came, and the labels of its meshes by ray casting."""

import hashlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Int64

from annotation.checks import check_labels
from annotation.labels import Labels, to_members
from annotation.parts import IGNORE
from render.crosscheck import RayCaster
from render.hi4d.files import SUBJECTS, Frame
from render.hi4d.read import (
    Calibration,
    FrameRejected,
    Mesh,
    read_bytes,
    read_mask,
    read_picture,
    read_scan,
    read_subject,
)
from render.person import Material, Person, Surface
from render.spec import Placement
from shards.sample import Sample, digest_json

Geometry = Literal["scan", "instance"]
Human = Literal["mesh", "both"]


def make_sample(frame: Frame, calibration: Calibration, geometry: Geometry, human: Human) -> Sample:
    """The picture's own bytes with depth, both normals, alpha and instance of one ray through each pixel's
    centre.

    geometry: the scan, or the meshes of the subjects. human: a pixel is human where its ray meets the mesh,
    or where Hi4D's mask says so too. Raises FrameRejected, and UsageError for a camera that cannot be.
    """
    picture = read_bytes(frame.image, "image")
    rgb = read_picture(picture, frame.image, "image")
    camera = calibration.camera(frame.camera, rgb.shape[1], rgb.shape[0])
    people = read_people(frame, geometry)
    cast = RayCaster(people, [Placement() for _ in people]).cast(camera)
    mask = _own_mask(frame, rgb.shape[:2], needed=human == "both")
    kept = cast.mask & mask if human == "both" and mask is not None else cast.mask
    labels = Labels(
        depth=np.where(kept, cast.depth, 0).astype(np.float32),
        normal=np.where(kept[..., None], cast.normal, 0).astype(np.float32),
        geometric_normal=np.where(kept[..., None], cast.geometric_normal, 0).astype(np.float32),
        alpha=np.where(kept, 255, 0).astype(np.uint8),
        instance=np.where(kept, cast.instance, 0).astype(np.uint8),
        camera=camera,
        meta=_meta(frame, geometry, human, picture, _overlap(cast.mask, mask)),
    )
    if problems := check_labels(labels):
        raise FrameRejected(problems[0].name, f"{frame.image}: its labels: {problems[0].detail}")
    name = ["hi4d", frame.sequence, frame.camera, frame.number]
    return Sample(digest_json(name)[:32], {**to_members(labels), "rgb.jpg": picture})


def read_people(frame: Frame, geometry: Geometry) -> list[Person]:
    """The two subjects, in the world frame. A triangle of the scan is of whom the nearest vertex of the
    subjects' own meshes is. Raises FrameRejected.
    """
    subjects = [read_subject(path) for path in frame.subjects]
    if geometry == "instance":
        return [_person(mesh, np.ones(len(mesh.faces), bool)) for mesh in subjects]
    scan = read_scan(frame.scan)
    owner = _owners(scan, subjects)
    return [_person(scan, owner == who) for who in SUBJECTS]


def _owners(scan: Mesh, subjects: Sequence[Mesh]) -> Int64[np.ndarray, " f"]:
    """Which subject each triangle of the scan is nearest to."""
    from scipy.spatial import cKDTree

    # One tree of both: to look for far neighbours, as in the other subject's alone, takes 30 times as long.
    tree = cKDTree(np.concatenate([mesh.vertices for mesh in subjects]))
    _, nearest = tree.query(scan.vertices[scan.faces].mean(axis=1))
    ends = np.cumsum([len(mesh.vertices) for mesh in subjects])
    return np.asarray(np.searchsorted(ends, nearest, side="right"), np.int64)


def _person(mesh: Mesh, chosen: Bool[np.ndarray, " f"]) -> Person:
    """Some triangles as a person to cast rays at; nobody knows parts, keypoints or height."""
    faces = mesh.faces[chosen]
    ignored = np.full(len(faces), IGNORE, np.uint8)
    surface = Surface("hi4d", mesh.vertices, faces, mesh.normals, None, ignored, Material("scan"))
    return Person((surface,), None, height=0.0)


def _own_mask(frame: Frame, size: tuple[int, ...], needed: bool) -> Bool[np.ndarray, "h w"] | None:
    """Hi4D's mask, None where there is none and none is needed."""
    if not needed and not frame.mask.is_file():
        return None
    mask = read_mask(frame.mask)
    if mask.shape != size:
        raise FrameRejected("mask:size", f"{frame.mask}: expected the picture's {size}; got {mask.shape}")
    return mask


def _overlap(cast: Bool[np.ndarray, "h w"], mask: Bool[np.ndarray, "h w"] | None) -> float | None:
    """Intersection over union of what the rays met and Hi4D's mask: whether camera, frame number and picture
    belong together."""
    if mask is None:
        return None
    either = int((cast | mask).sum())
    return round(int((cast & mask).sum()) / either, 6) if either else 0.0


def _meta(
    frame: Frame, geometry: Geometry, human: Human, picture: bytes, overlap: float | None
) -> dict[str, Any]:
    pair = frame.sequence.split("/")[0]
    return {
        "people": [{"identity": pair, "subject": who} for who in SUBJECTS],
        "provenance": {
            "dataset": "Hi4D",
            "sequence": frame.sequence,
            "camera": frame.camera,
            "frame": frame.number,
            "image_sha256": hashlib.sha256(picture).hexdigest(),
            "geometry": geometry,
            "human": human,
            "mask_iou": overlap,
        },
    }

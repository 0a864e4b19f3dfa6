"""Synthetic people for tests: shaded ellipsoids seen by a pinhole camera, ray cast in numpy, so that depth,
normals, parts and keypoints are exact. Written through the public interfaces of shards and annotation.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from jaxtyping import Float64

from annotation.camera import Camera
from annotation.keypoints import keypoint_vocabulary
from annotation.labels import Labels, to_members
from annotation.parts import part_vocabulary
from shards.manifest import write_manifest
from shards.sample import Sample, content_key
from shards.writer import ShardWriter

Vector = Float64[np.ndarray, "3"]
SIZE = (96, 72)


@dataclass(frozen=True)
class Ellipsoid:
    """A limb: centre and half axes (m; negative: it points the other way) in the person's frame (x to the
    image's right, y down), part, colour.
    """

    centre: Vector
    axes: Vector
    part: str
    colour: Vector


def limbs(rng: np.random.Generator) -> list[Ellipsoid]:
    """A person who faces the camera: their left is on the image's right (+x)."""
    build = rng.uniform(0.85, 1.2)
    skin, shirt, trousers = rng.uniform(0.5, 0.9, 3), rng.uniform(0.1, 0.9, 3), rng.uniform(0.1, 0.6, 3)
    found = [
        _limb([0, -0.62, 0], [0.10, 0.14, 0.11], "Face_Neck", skin),
        _limb([0, -0.72, 0.03], [0.11, 0.09, 0.11], "Hair", rng.uniform(0, 0.3, 3)),
        _limb([0, -0.22, 0], [0.19 * build, 0.30, 0.12 * build], "Upper_Clothing", shirt),
    ]
    for side, sign in (("Left", 1.0), ("Right", -1.0)):
        spread, lift = rng.uniform(0.24, 0.40), rng.choice([-1.0, 1.0])  # -1: the arm points up
        found += [
            _limb(
                [sign * spread, 0.14 * lift - 0.4, 0], [0.06, 0.17 * lift, 0.06], f"{side}_Upper_Arm", skin
            ),
            _limb(
                [sign * (spread + 0.05), 0.45 * lift - 0.4, -0.2],
                [0.05, 0.16 * lift, 0.05],
                f"{side}_Lower_Arm",
                skin,
            ),
            _limb([sign * 0.10, 0.30, 0], [0.09 * build, 0.26, 0.10], "Lower_Clothing", trousers),
            _limb([sign * 0.11, 0.68, 0], [0.07, 0.24, 0.07], f"{side}_Lower_Leg", skin * 0.8),
        ]
    return found


def _limb(centre: Sequence[float], axes: Sequence[float], part: str, colour: Vector) -> Ellipsoid:
    return Ellipsoid(np.array(centre, float), np.array(axes, float), part, colour)


JOINTS = {
    "nose": (0, "nose"),
    "left_eye": (0, "left"),
    "right_eye": (0, "right"),
    "left_shoulder": (3, "top"),
    "right_shoulder": (7, "top"),
    "left_elbow": (4, "top"),
    "right_elbow": (8, "top"),
    "left_wrist": (4, "bottom"),
    "right_wrist": (8, "bottom"),
    "left_hip": (5, "top"),
    "right_hip": (9, "top"),
    "left_knee": (6, "top"),
    "right_knee": (10, "top"),
    "left_ankle": (6, "bottom"),
    "right_ankle": (10, "bottom"),
}
PLACES = {
    "nose": (0, 0, -1),
    "left": (0.4, -0.2, -0.9),
    "right": (-0.4, -0.2, -0.9),
    "top": (0, -0.8, 0),
    "bottom": (0, 0.8, 0),
}


def camera_at(size: tuple[int, int]) -> Camera:
    """A camera at the origin that looks along +z, for images of `size` (height, width)."""
    focal = 1.35 * size[0]
    K = np.array([[focal, 0, (size[1] - 1) / 2], [0, focal, (size[0] - 1) / 2], [0, 0, 1.0]])
    return Camera(K, np.eye(4), size[1], size[0])


def person_labels(camera: Camera, identity: int, view: int) -> Labels:
    """What `camera` sees: one `identity` is one person; turn, distance, light and background differ by
    view.
    """
    bodies = limbs(np.random.default_rng([1, identity]))
    rng = np.random.default_rng([2, identity, view])
    turn = rng.uniform(-0.3, 0.3)
    pose = np.array([[np.cos(turn), 0, np.sin(turn)], [0, 1, 0], [-np.sin(turn), 0, np.cos(turn)]])
    place = np.array([rng.uniform(-0.12, 0.12), rng.uniform(-0.08, 0.08), rng.uniform(2.6, 3.6)])
    depth, normal, owner = _cast(camera, bodies, pose, place)
    seen = owner >= 0
    names = part_vocabulary(28)
    parts = np.array([names.index(body.part) for body in bodies] + [0], np.uint8)[owner]
    colours = np.array([body.colour for body in bodies] + [np.zeros(3)])[owner]
    return Labels(
        rgb=_shade(normal, owner, bodies, rng),
        depth=np.where(seen, depth, 0).astype(np.float32),
        normal=(camera.world_normals_to_label(normal) * seen[..., None]).astype(np.float32),
        alpha=(255 * seen).astype(np.uint8),
        parts=parts,
        instance=seen.astype(np.uint8),
        albedo=(colours * 255).astype(np.uint8),
        keypoints=_keypoints(camera, bodies, pose, place, depth),
        camera=camera,
        meta={"people": [{"identity": f"person-{identity}"}]},
    )


def _cast(
    camera: Camera, bodies: list[Ellipsoid], pose: Float64[np.ndarray, "3 3"], place: Vector
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(z depth, unit normal in the world frame, index of the limb or -1) of each pixel's nearest hit."""
    rays = camera.rays()
    depth = np.full(rays.shape[:2], np.inf)
    normal, owner = np.zeros(rays.shape), np.full(rays.shape[:2], -1)
    for index, body in enumerate(bodies):
        origin = ((camera.position - place) @ pose - body.centre) / body.axes
        direction = rays @ pose / body.axes
        a = (direction**2).sum(-1)
        b = direction @ origin
        root = b**2 - a * (origin @ origin - 1)
        z = np.where(root > 0, (-b - np.sqrt(np.maximum(root, 0))) / a, np.inf)
        nearer = z < depth
        local = (origin + np.where(nearer, z, 0)[..., None] * direction) / body.axes
        outward = local / np.linalg.norm(local, axis=-1, keepdims=True) @ pose.T
        depth, owner = np.where(nearer, z, depth), np.where(nearer, index, owner)
        normal = np.where(nearer[..., None], outward, normal)
    return depth, normal, owner


def _shade(
    normal: np.ndarray, owner: np.ndarray, bodies: list[Ellipsoid], rng: np.random.Generator
) -> np.ndarray:
    light = np.array([rng.uniform(-1, 1), -1.0, -1.2])
    brightness = 0.35 + 0.65 * np.maximum(normal @ (light / np.linalg.norm(light)), 0)
    colours = np.array([body.colour for body in bodies] + [np.zeros(3)])[owner] * brightness[..., None]
    ramp = np.linspace(0, 1, owner.shape[0])[:, None, None]
    background = rng.uniform(0.2, 0.9, 3) * (1 - ramp) + rng.uniform(0.2, 0.9, 3) * ramp
    image = np.where((owner >= 0)[..., None], colours, background) + rng.normal(0, 0.02, normal.shape)
    return np.asarray(image.clip(0, 1) * 255, dtype=np.uint8)


def _keypoints(
    camera: Camera, bodies: list[Ellipsoid], pose: np.ndarray, place: Vector, depth: np.ndarray
) -> np.ndarray:
    vocabulary = keypoint_vocabulary(17)
    found = np.zeros((1, 17, 4), np.float32)
    for name, (limb, where) in JOINTS.items():
        body = bodies[limb]
        point = pose @ (body.centre + body.axes * PLACES[where]) + place
        x, y, z = camera.project(point[None])[0]
        if camera.contains(np.array([[x, y]]))[0]:
            surface = depth[round(y), round(x)]
            found[0, vocabulary.index(name)] = [x, y, z, 2 if z < surface + 0.1 else 1]
    return found


def write_people(folder: Path, identities: Sequence[int], views: int, size: tuple[int, int] = SIZE) -> Path:
    """A dataset of one shard in `folder`; its index says who is in each picture."""
    folder.mkdir(parents=True, exist_ok=True)

    def columns(sample: Sample) -> dict[str, str]:
        return {"identity": sample.meta()["people"][0]["identity"]}

    with ShardWriter(folder, "people-000", columns=columns) as writer:
        for identity in identities:
            for view in range(views):
                key = content_key(f"{identity} {view} {size}".encode())
                writer.add(Sample(key, to_members(person_labels(camera_at(size), identity, view))))
        writer.commit(stage_name="people", stage_key="test")
    write_manifest(folder, {"made": "by tests"})
    return folder


@pytest.fixture(scope="session")
def label_scene() -> Callable[[Camera, int, int], Labels]:
    """(camera, identity, view) -> exact labels."""
    return person_labels


@pytest.fixture
def photo() -> Callable[[int, tuple[int, int]], np.ndarray]:
    """(seed, size) -> a smooth picture."""

    def make(seed: int, size: tuple[int, int] = (90, 70)) -> np.ndarray:
        rng = np.random.default_rng(seed)
        coarse = rng.integers(0, 256, (9, 7, 3), dtype=np.uint8)
        return np.asarray(cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC))

    return make


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """One thread, as the ranks that tests launch have: sums in another order differ in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def camera_of() -> Callable[[tuple[int, int]], Camera]:
    """Image size -> a camera that sees the people."""
    return camera_at


@pytest.fixture(scope="session")
def training_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 48 pictures of 16 people."""
    return write_people(tmp_path_factory.mktemp("people") / "train", range(16), views=3)


@pytest.fixture(scope="session")
def unseen_people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 12 pictures of 6 other people."""
    return write_people(tmp_path_factory.mktemp("people") / "unseen", range(100, 106), views=2)

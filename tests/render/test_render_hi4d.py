"""Hi4D's layout: labels are those of another computation (OpenGL, a sphere's formula), every frame is
counted, and what is missing, damaged or hostile is named.
"""

import pickle
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotation.camera import Camera
from annotation.labels import Labels, from_members
from render.crosscheck import angle_deg, cast_ball, interior
from render.engine import built_person
from render.hi4d import STAGE_NAME, Hi4dConfig, Hi4dWorker, plan, provenance, stage_key
from render.hi4d.files import Frame, cameras_file, list_frames, read_list
from render.hi4d.labels import make_sample
from render.hi4d.read import FrameRejected, read_calibration, read_scan
from render.people import sample_person
from render.rasteriser import Piece, rasterise
from shards.errors import UsageError
from shards.manifest import Manifest, read_markers
from shards.reader import Dataset
from shards.units import close_stage, open_stage, pending, quarantined, run_unit
from tests.hi4d import (
    RADII,
    Body,
    centres,
    two_cameras,
    write_balls,
    write_calibration,
    write_meshes,
    write_picture,
)

Y_UP = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])  # of a person's frame


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs 28, 32 and 37 as balls: frames 11 to 13."""
    root = tmp_path_factory.mktemp("hi4d") / "balls"
    for pair in (28, 32, 37):
        write_balls(root, f"pair{pair}/hug{pair}", (11, 12, 13))
    return root


@pytest.fixture()
def copy(balls: Path, tmp_path: Path) -> Path:
    """Pair 28 alone, to be damaged."""
    shutil.copytree(balls / "pair28", tmp_path / "copy" / "pair28")
    return tmp_path / "copy"


def labels_of(frame: Frame, **settings: Any) -> Labels:
    calibration = read_calibration(cameras_file(frame.folder))
    sample = make_sample(frame, calibration, **({"geometry": "scan", "human": "mesh"} | settings))
    assert sample.members["rgb.jpg"] == frame.image.read_bytes()
    return from_members(sample.members)


def run(root: Path, out: Path, config: Hi4dConfig, most: int | None = None) -> Manifest | None:
    """The job, or the first `most` units of it."""
    stage, units = open_stage(out, STAGE_NAME, stage_key(config)), plan(root, config)
    for unit in pending(stage, units)[:most]:
        outcome = run_unit(stage, unit, Hi4dWorker(root, config.geometry, config.human))
        assert outcome.status == "done", outcome.error
    assert not quarantined(stage)
    return close_stage(stage, units, provenance(config)) if most is None else None


def body_of(seed: int, place: np.ndarray) -> Body:
    """One of our own people, y up, without what labels see through."""
    person = built_person(sample_person(np.random.default_rng(seed)))
    vertices, faces, start = [], [], 0
    for surface in (one for one in person.surfaces if not one.material.clear):
        vertices.append(surface.vertices @ Y_UP.T + place)
        faces.append(surface.faces + start)
        start += len(surface.vertices)
    return np.concatenate(vertices).astype(np.float32), np.concatenate(faces)


# What the labels are


def test_labels_of_people_are_what_opengl_sees(tmp_path: Path) -> None:
    """Two people of ours, who stand behind each other for camera 16; frame 12 is not frame 13."""
    bodies = [body_of(3, np.array([-0.4, 0.0, 0.1])), body_of(4, np.array([0.4, 0.0, -0.1]))]
    folder, cameras = (
        tmp_path / "pair28/talk28",
        two_cameras(np.array([0, 0.9, 0]), np.array([0, 1.0, 0]), (144, 192)),
    )
    write_calibration(folder, cameras)
    for number, name in ((12, 4), (13, 16)):
        moved = [(vertices + np.array([0, 0, 0.3]) * (number - 12), faces) for vertices, faces in bodies]
        write_meshes(folder, number, moved)
        pieces = [
            Piece(v.astype(np.float64), f.astype(np.int32), who, np.full((len(v), 3), 0.4, np.float32))
            for who, (v, f) in enumerate(moved, start=1)
        ]
        try:
            seen = rasterise(pieces, cameras[name])
        except UsageError as error:
            pytest.skip(str(error))
        write_picture(folder, name, number, seen.colour, seen.ids > 0)
        labels = labels_of(Frame(tmp_path, "pair28/talk28", name, number))
        assert labels.depth is not None and labels.alpha is not None and labels.instance is not None
        assert labels.camera == cameras[name] and set(np.unique(labels.instance)) == {0, 1, 2}
        both = (labels.depth > 0) & (seen.depth > 0)
        assert ((labels.alpha == 255) != (seen.ids > 0)).sum() < 0.005 * both.sum()  # strands
        near = np.abs(labels.depth - seen.depth) < 2e-5 * seen.depth
        assert near[both].mean() > 0.99  # the rest: pixels where a strand or a fold just begins
        assert (labels.instance == seen.ids)[both].mean() > 0.999
        assert labels.meta["provenance"]["mask_iou"] > 0.995


@pytest.mark.parametrize("geometry", ["scan", "instance"])
@pytest.mark.parametrize("camera", [4, 16])
def test_labels_of_balls_are_the_formulas(tmp_path: Path, geometry: str, camera: int) -> None:
    cameras = write_balls(tmp_path, "pair32/hug32", (12,), detail=6)
    labels = labels_of(Frame(tmp_path, "pair32/hug32", camera, 12), geometry=geometry)
    assert labels.depth is not None and labels.normal is not None and labels.geometric_normal is not None
    assert labels.alpha is not None and labels.instance is not None
    truths = [cast_ball(r, c, cameras[camera]) for r, c in zip(RADII, centres(12), strict=True)]
    first = np.argmin([np.where(truth.mask, truth.depth, np.inf) for truth in truths], axis=0)
    assert ((labels.alpha == 255) != (truths[0].mask | truths[1].mask)).sum() <= 2
    for who, truth in enumerate(truths):
        mine = interior(truth.mask & (first == who))
        facing = mine & (truth.normal[..., 2] > 0.4)
        assert facing.sum() > 100 and (labels.instance[mine] == who + 1).all()
        assert np.abs(labels.depth - truth.depth)[facing].max() < 2e-4  # facets; 0.1 mm of code
        assert angle_deg(labels.normal, truth.normal)[facing].max() < 0.15
        assert 0.05 < angle_deg(labels.geometric_normal, truth.normal)[facing].max() < 2


def test_human_pixels_may_need_the_mask_too(copy: Path) -> None:
    frame = Frame(copy, "pair28/hug28", 4, 12)
    whole = labels_of(frame)
    mask = np.zeros((96, 72), bool)
    mask[:, :36] = True
    write_picture(frame.folder, 4, 12, np.random.default_rng(0).integers(0, 255, (96, 72, 3)), mask)
    half, same = labels_of(frame, human="both"), labels_of(frame)
    assert half.alpha is not None and whole.alpha is not None and half.instance is not None
    assert np.array_equal(half.alpha, np.where(mask, whole.alpha, 0)) and half.depth is not None
    assert np.array_equal(half.depth > 0, half.alpha > 0) and not half.instance[half.alpha == 0].any()
    assert same.alpha is not None and np.array_equal(same.alpha, whole.alpha)
    assert half.meta["provenance"]["mask_iou"] == same.meta["provenance"]["mask_iou"] < 0.9
    frame.mask.unlink()
    assert labels_of(frame).meta["provenance"]["mask_iou"] is None
    with pytest.raises(FrameRejected, match=r"000012\.png: no such file"):
        labels_of(frame, human="both")


# The job


def test_the_published_pairs_and_camera_say_so(balls: Path, tmp_path: Path) -> None:
    manifest = run(balls, tmp_path / "out", Hi4dConfig())
    assert manifest is not None and manifest.samples == 9 and manifest.provenance["protocol"] == "hi4d"
    table = Dataset.open(tmp_path / "out").table()
    assert set(table["identity"].to_pylist()) == {"pair28", "pair32", "pair37"}
    assert min(table["mask_iou"].to_pylist()) > 0.9
    for other in ({"pairs": (28, 32)}, {"cameras": (16,)}, {"cameras": (4, 16)}):
        assert "protocol" not in provenance(Hi4dConfig.model_validate(other))


def test_resumed_ends_as_uninterrupted(balls: Path, tmp_path: Path) -> None:
    config = Hi4dConfig(cameras=(4, 16))
    whole = run(balls, tmp_path / "whole", config)
    run(balls, tmp_path / "parts", config, most=2)
    assert not (tmp_path / "parts" / "manifest.json").exists()  # nobody takes it for done
    parts = run(balls, tmp_path / "parts", config)
    assert whole is not None and parts is not None and parts.digest == whole.digest
    stage = open_stage(tmp_path / "parts", STAGE_NAME, stage_key(config))
    assert pending(stage, plan(balls, config)) == []
    with pytest.raises(UsageError, match="--replace"):
        open_stage(tmp_path / "parts", STAGE_NAME, stage_key(Hi4dConfig(human="both")))


def test_only_what_changed_is_made_again(copy: Path, tmp_path: Path) -> None:
    config = Hi4dConfig(pairs=(28,), cameras=(4, 16))
    run(copy, tmp_path / "out", config)
    image = Frame(copy, "pair28/hug28", 16, 12).image
    image.write_bytes(image.read_bytes() + b"\0")
    stage = open_stage(tmp_path / "out", STAGE_NAME, stage_key(config))
    assert [unit.payload["camera"] for unit in pending(stage, plan(copy, config))] == [16]


def test_frames_of_a_list(balls: Path, tmp_path: Path) -> None:
    listing = tmp_path / "list.txt"
    listing.write_text(
        "pair28/hug28\n\n/data/Hi4D/pair32/hug32/images/4/000012.jpg\npair37/hug37/000011\n"
        "pair37/hug37/frames/mesh-f00013.obj\n"
    )
    config = Hi4dConfig(listed=read_list(listing))
    frames = [frame for unit in plan(balls, config) for frame in unit.payload["frames"]]
    assert frames == [11, 12, 13, 12, 11, 13] and config.is_published()
    for line, said in (("pair28/hug28/000099", "no frame 000099"), ("pair40/hug40", "no such folder")):
        listing.write_text(line)
        with pytest.raises(UsageError, match=said):
            plan(balls, Hi4dConfig(listed=read_list(listing)))
    for text, said in (("hug28", "list.txt:1: expected pairXX/ACTION"), ("", "names no frame")):
        listing.write_text(text)
        with pytest.raises(UsageError, match=said):
            read_list(listing)


# What is wrong with a frame costs that frame


def a_bomb(path: Path) -> None:
    """A picture whose header claims 1.6 gigapixels."""
    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


class Explodes:
    """Unpickling this would leave a file."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return (Path.touch, (Path("exploded"),))  # type: ignore[return-value]


def a_pickle(path: Path) -> None:
    np.savez(path, vertices=np.array([Explodes()], object), faces=np.zeros((1, 3), int))


DAMAGE: dict[str, Callable[[Frame], object]] = {
    "scan:missing": lambda frame: frame.scan.unlink(),
    "subject:missing": lambda frame: frame.subjects[1].unlink(),
    "image:missing": lambda frame: frame.image.unlink(),
    "image:truncated": lambda frame: frame.image.write_bytes(frame.image.read_bytes()[:600]),
    "image:unknown": lambda frame: frame.image.write_bytes(b"<html>"),
    "image:size": lambda frame: a_bomb(frame.image),
    "mask:size": lambda frame: a_bomb(frame.mask),
    "scan:damaged": lambda frame: frame.scan.write_text("v 0 0 0\nv 1 0 0\nv 0 1 nan\nf 1 2 3\n"),
    "scan:polygons": lambda frame: frame.scan.write_text("v 0 0 0\nf 1 1 1 1\n"),
    "scan:empty": lambda frame: frame.scan.write_text("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n"),
    "subject:damaged": lambda frame: a_pickle(frame.subjects[0]),
    "depth:empty": lambda frame: write_meshes(
        frame.folder, 12, [(np.eye(3) * 0.1 + (0, 50.0, 0), np.array([[0, 1, 2]]))] * 2
    ),
}


@pytest.mark.parametrize("reason", DAMAGE)
def test_a_bad_frame_is_a_reject(
    reason: str, copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    DAMAGE[reason](Frame(copy, "pair28/hug28", 4, 12))
    manifest = run(copy, tmp_path / "out", Hi4dConfig(pairs=(28,)))
    assert manifest is not None and manifest.samples == 2 and manifest.shards[0].rejects == {reason: 1}
    (marker,) = read_markers(tmp_path / "out").values()
    assert len(marker.run["rejected"]) == 1 and "hug28" in marker.run["rejected"][0]
    assert not (tmp_path / "exploded").exists() and pickle.dumps(Explodes())  # it could have been made


@pytest.mark.parametrize(
    "text",
    ["v 0 0 0\nf 1 2 3\n", "v 0 0 0\nf 0 0 0\n", "v 0 0 0\nf -1 -1 -1\n", "v 0 0\nf 1 1 1\n", "v a b c\n"],
)
def test_an_obj_that_makes_no_sense_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "mesh.obj").write_text(text)
    with pytest.raises(FrameRejected, match=r"mesh\.obj"):
        read_scan(tmp_path / "mesh.obj")


def test_an_obj_reads_as_it_is_written(tmp_path: Path) -> None:
    """Colours, texture and normals are passed over; a seam of doubled vertices is closed for the normals."""
    corners = ("0 0 0", "1 0 0", "0 1 0", "1 0 0", "0 1 0", "1 1 1")
    fold = "".join(f"v {corner} 1 0.5 0\r\n" for corner in corners)
    (tmp_path / "mesh.obj").write_text(f"mtllib ../../x.mtl\nvn 0 0 -1\n{fold}f 1/1/1 2//1 3\nf 4 6/2 5\n")
    mesh = read_scan(tmp_path / "mesh.obj")
    assert len(mesh.vertices) == 4 and mesh.vertices[mesh.faces[1, 1]].tolist() == [1, 1, 1]
    one, other = np.array([0.0, 0, 1]), np.array([-1.0, -1, 1])  # cross products of the edges
    shared = (one + other) / np.linalg.norm(one + other)
    assert np.allclose(mesh.normals[mesh.faces[0, 1:]], shared)


# What is wrong as a whole ends the command, with what to do


def nothing(root: Path) -> None: ...


def a_level_too_deep(root: Path) -> None:
    (root / "pair28" / "pair28").mkdir()


def no_calibration(root: Path) -> None:
    cameras_file(root / "pair28/hug28").unlink()


def transposed(root: Path) -> None:
    path = cameras_file(root / "pair28/hug28")
    with np.load(path) as data:
        arrays = dict(data)
    np.savez(path, **arrays | {"extrinsics": arrays["extrinsics"].transpose(0, 2, 1)})


def a_link_outside(root: Path) -> None:
    image = Frame(root, "pair28/hug28", 4, 12).image
    image.unlink()
    image.symlink_to("/etc/hostname")


def no_frames(root: Path) -> None:
    np.savez(root / "pair28/hug28/meta.npz", start=np.array(["x"], object), end=3)


@pytest.mark.parametrize(
    ("damage", "config", "said"),
    [
        (nothing, {"pairs": (29,)}, "pair29: no such folder; .* has pair28"),
        (nothing, {"cameras": (5,)}, "camera 5 is not among 16, 4"),
        (a_level_too_deep, {}, "one level too deep"),
        (no_calibration, {}, "rgb_cameras.npz: no such file"),
        (transposed, {}, r"expected 3 x 3 x 3 and x 3 x 4; got \(3, 3, 3\), \(3, 4, 3\)"),
        (a_link_outside, {}, "leads out of"),
        (no_frames, {}, "meta.npz: expected whole numbers start and end"),
    ],
)
def test_what_is_missing_as_a_whole_is_named(
    damage: Callable[[Path], None], config: dict[str, Any], said: str, copy: Path
) -> None:
    damage(copy)
    with pytest.raises(UsageError, match=said):
        plan(copy, Hi4dConfig.model_validate({"pairs": (28,)} | config))


def test_a_calibration_of_another_size_is_refused(copy: Path) -> None:
    frame = Frame(copy, "pair28/hug28", 4, 12)
    with pytest.raises(UsageError, match="were the pictures resized"):
        read_calibration(cameras_file(frame.folder)).camera(4, 36, 48)
    scaled = {4: Camera(np.diag([90.0, 90, 1]) + np.eye(3, k=2) * 20, np.eye(4), 72, 96)}
    write_calibration(frame.folder, scaled)
    path = cameras_file(frame.folder)
    with np.load(path) as data:
        arrays = dict(data)
    np.savez(path, **arrays | {"extrinsics": 1000 * arrays["extrinsics"]})  # a scale is no rotation
    with pytest.raises(UsageError, match="camera 4: camera: expected a rigid"):
        read_calibration(path).camera(4, 72, 96)


def test_frames_come_in_order(balls: Path) -> None:
    frames = list_frames(balls, (32, 28), (4,))
    assert [(frame.sequence, frame.number) for frame in frames] == [
        (f"pair{pair}/hug{pair}", number) for pair in (28, 32) for number in (11, 12, 13)
    ]


@pytest.fixture(autouse=True)
def quiet_numpy() -> Iterator[None]:
    """Arithmetic on labels never divides by zero."""
    with np.errstate(all="raise", under="ignore"):
        yield

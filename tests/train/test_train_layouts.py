"""Layouts of others: our labels written in each come back equal, marks are no surface, COCO's files say what
COCO says, and what is missing, damaged, too large or outside the folder is named.
"""

import json
import os
import pickle
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from annotation.camera import Camera
from annotation.codecs import encode_mask, encode_rgb
from annotation.labels import Labels
from annotation.parts import IGNORE, part_vocabulary
from shards.errors import UsageError, VitruvianError
from train.data.labelled import LabelledSet
from train.data.layouts import Layout, Purpose, open_layout
from train.tasks import TaskConfig, make_task

PHOTOS = Path(__file__).parents[3] / "shared" / "data" / "photos"
needs_photos = pytest.mark.skipif(not PHOTOS.is_dir(), reason="COCO's photos are not here")


@pytest.fixture(scope="module")
def scenes(
    label_scene: Callable[[Camera, int, int], Labels], camera_of: Callable[[tuple[int, int]], Camera]
) -> list[Labels]:
    """Three people, of two sizes."""
    return [
        label_scene(camera_of(size), person, 0) for person, size in enumerate([(48, 36), (48, 36), (40, 60)])
    ]


def equal(found: Any, truth: Any) -> None:
    np.testing.assert_array_equal(found, truth)


def close(found: Any, truth: Any, atol: float = 0) -> None:
    np.testing.assert_allclose(found, truth, rtol=1e-6, atol=atol)


def described(folder: Path, purpose: Purpose = "evaluation", /, **fields: Any) -> Layout:
    """The layout of a description written into `folder`."""
    path = folder / "data.yaml"
    path.write_text(yaml.safe_dump(fields))
    return open_layout(path, purpose)


def put(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def write_toy(folder: Path, scenes: list[Labels]) -> Path:
    """As the official toy data: marks where there is no surface."""
    for number, labels in enumerate(scenes):
        assert labels.rgb is not None and labels.alpha is not None
        assert labels.depth is not None and labels.normal is not None
        name, nothing = f"pair{number}/{number:03d}", labels.depth == 0
        put(folder / f"images/{name}.png", encode_rgb(labels.rgb))
        put(folder / f"masks/{name}.png", encode_mask((labels.alpha > 0).astype(np.uint8)))
        for role, array in (
            ("depths", np.where(nothing, 1e10, labels.depth.astype(np.float64))),
            ("normals", np.where(nothing[..., None], -1000, labels.normal)),
        ):
            path = folder / f"{role}/{name}.npy"
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, array)
    return folder


def write_parts(folder: Path, scenes: list[Labels]) -> Path:
    for number, labels in enumerate(scenes):
        assert labels.rgb is not None and labels.parts is not None
        put(folder / f"Images/{number}.png", encode_rgb(labels.rgb))
        put(folder / f"Category_ids/{number}.png", encode_mask(labels.parts))
    return folder


def write_coco(folder: Path, scenes: list[Labels]) -> Path:
    images, annotations = [], []
    for number, labels in enumerate(scenes):
        assert labels.rgb is not None and labels.keypoints is not None
        put(folder / f"val/{number:012d}.png", encode_rgb(labels.rgb))
        height, width = labels.rgb.shape[:2]
        images.append(
            {"id": 70 - number, "file_name": f"{number:012d}.png", "height": height, "width": width}
        )
        for points in labels.keypoints:
            entry = {
                "image_id": 70 - number,
                "category_id": 1,
                "bbox": [1, 2, 30, 40],
                "area": 600.5,
                "iscrowd": 0,
            }
            annotations.append({**entry, "keypoints": points[:, [0, 1, 3]].astype(float).ravel().tolist()})
    annotations.reverse()
    put(folder / "coco.json", json.dumps({"images": images, "annotations": annotations}).encode())
    return folder


COCO: dict[str, Any] = {"layout": "coco", "images": "val", "annotations": "coco.json"}
PARTS: dict[str, Any] = {"layout": "parts", "images": "Images", "parts": "Category_ids", "classes": 28}


FIELDS: dict[str, dict[str, Any]] = {"toy": {"layout": "toy"}, "parts": PARTS, "coco": COCO}
WRITERS = {"toy": write_toy, "parts": write_parts, "coco": write_coco}


def test_the_toy_layout_comes_back_as_our_labels(tmp_path: Path, scenes: list[Labels]) -> None:
    layout = described(write_toy(tmp_path, scenes), layout="toy", identity=r"^(pair\d+)/", protocol="hi4d")
    assert len(layout) == 3 and layout.labels == ("rgb", "alpha", "depth", "normal")
    assert layout.identities() == ["pair0", "pair1", "pair2"]
    assert layout.provenance == {"protocol": "hi4d", "left_out": {"unpaired": 0}}
    for index, truth in enumerate(scenes):
        key, labels = layout[index]
        assert key == f"pair{index}+{index:03d}" and labels.meta == {"people": [{"identity": f"pair{index}"}]}
        for name in ("rgb", "alpha", "depth"):
            equal(getattr(labels, name), getattr(truth, name))
        close(labels.normal, truth.normal, atol=1e-6)


def test_only_what_is_asked_for_is_read(tmp_path: Path, scenes: list[Labels]) -> None:
    layout = described(write_toy(tmp_path, scenes), layout="toy")
    for path in tmp_path.glob("normals/*/*.npy"):
        path.write_bytes(b"never read")
    task = make_task("depth", TaskConfig())
    _, labels = LabelledSet(layout, task.wanted, task.optional, task.prepare)[1]
    assert labels.normal is None and labels.depth is not None and labels.alpha is not None
    _, bare = layout.read(1, ("rgb", "depth"))
    assert bare.alpha is None and bare.depth is not None
    assert (bare.depth[labels.alpha == 0] == 0).all()  # the mask holds, asked for or not
    with pytest.raises(VitruvianError, match=r"data.yaml: pair0\+000: .*normals/pair0/000.npy"):
        layout.read(0, ("normal",))


def test_marks_and_what_lies_outside_the_mask_are_no_surface(tmp_path: Path) -> None:
    put(tmp_path / "images/a.png", encode_rgb(np.zeros((2, 4, 3), np.uint8)))
    put(tmp_path / "masks/a.png", encode_mask(np.array([[1, 1, 1, 0], [1, 255, 1, 1]], np.uint8)))
    depth = np.array([[100, -1000, np.nan, 300], [np.inf, 1e300, 0, 250.0]])
    normal = np.zeros((2, 4, 3), np.float16)
    normal[0] = [[0, 0, 2 / 3], [-1000, -1000, -1000], [np.nan, 0, 0], [0, 0, 1]]
    normal[1] = [[0.6, 0, 0.8], [0, 0, 0], [0, 1.2, 0], [0, -1, 0]]
    for role, array in (("depths", depth), ("normals", normal)):
        (tmp_path / role).mkdir()
        np.save(tmp_path / role / "a.npy", array)
    _, labels = described(tmp_path, layout="toy", depth_unit=0.01)[0]
    assert labels.depth is not None and labels.normal is not None
    close(labels.depth, [[1, 0, 0, 0], [0, 0, 0, 2.5]])
    expected = [
        [[0, 0, 1], [0, 0, 0], [0, 0, 0], [0, 0, 0]],
        [[0.6, 0, 0.8], [0, 0, 0], [0, 0, 0], [0, -1, 0]],
    ]
    close(labels.normal, expected, atol=1e-3)
    close(np.linalg.norm(labels.normal, axis=-1).round(5), [[1, 0, 0, 0], [1, 0, 0, 1]])


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA"])
def test_masks_of_any_kind_are_human_above_zero(mode: str, tmp_path: Path) -> None:
    human = np.array([[0, 255], [255, 0]], np.uint8)
    if mode == "RGBA":  # opaque black is nobody
        picture = Image.fromarray(np.dstack([human, human * 0, human * 0, human * 0 + 255]))
    else:
        picture = Image.fromarray(human).convert(mode)
    (tmp_path / "masks").mkdir()
    picture.save(tmp_path / "masks/a.png")
    with Image.open(tmp_path / "masks/a.png") as written:
        assert written.mode == mode
    put(tmp_path / "images/a.png", encode_rgb(np.zeros((2, 2, 3), np.uint8)))
    equal(described(tmp_path, layout="toy")[0][1].alpha, human)


def test_a_label_that_is_not_there_is_named(tmp_path: Path, scenes: list[Labels]) -> None:
    shutil.rmtree(write_toy(tmp_path, scenes) / "normals")
    layout = described(tmp_path, layout="toy")
    assert layout.labels == ("rgb", "alpha", "depth")
    with pytest.raises(
        UsageError, match=r"data.yaml: its samples have no label normal; they have rgb, alpha, depth"
    ):
        LabelledSet(layout, ("rgb", "normal"))
    with pytest.raises(UsageError, match="normals: no such folder"):
        described(tmp_path, layout="toy", normals="normals")
    shutil.rmtree(tmp_path / "masks")
    shutil.rmtree(tmp_path / "depths")
    with pytest.raises(UsageError, match="expected masks, depths, normals or some of them"):
        described(tmp_path, layout="toy")


def test_parts_come_back_as_our_labels(tmp_path: Path, scenes: list[Labels]) -> None:
    layout = described(write_parts(tmp_path, scenes), **PARTS)
    for index, truth in enumerate(scenes):
        key, labels = layout[index]
        assert (key, labels.part_classes) == (str(index), 28)
        equal(labels.parts, truth.parts)
        equal(labels.rgb, truth.rgb)


def test_lip_is_read_by_its_indices_and_mapped_by_the_published_table(tmp_path: Path) -> None:
    lip, ours = part_vocabulary(20), part_vocabulary(28)
    ids = np.array([[*range(20), IGNORE]], np.uint8)
    picture = Image.fromarray(ids, "P")
    picture.putpalette(bytes(range(255, -1, -1)) * 3)  # colours that are not the indices
    (tmp_path / "Category_ids").mkdir()
    picture.save(tmp_path / "Category_ids/0.png")
    put(tmp_path / "Images/0.png", encode_rgb(np.zeros((1, 21, 3), np.uint8)))
    plain = described(tmp_path, **PARTS | {"classes": 20})
    equal(plain[0][1].parts, ids)
    assert plain[0][1].part_classes == 20
    parts = make_task("parts", TaskConfig(classes=28))
    with pytest.raises(VitruvianError, match=r"sample 0: .*20 classes cannot be mapped to 28"):
        LabelledSet(plain, parts.wanted, (), parts.prepare)[0]
    mapped = described(tmp_path, **PARTS | {"classes": 20, "mapped_to": 28})
    _, labels = LabelledSet(mapped, parts.wanted, (), parts.prepare)[0]
    assert labels.parts is not None
    named = {lip.names[i]: int(labels.parts[0, i]) for i in range(20)}
    assert ours.names[named["Coat"]] == "Upper_Clothing" and ours.names[named["Face"]] == "Face_Neck"
    assert ours.names[named["Left-shoe"]] == "Left_Shoe" and named["Left-arm"] == IGNORE
    assert mapped.digest != plain.digest
    with pytest.raises(UsageError, match="the table starts from 20 classes"):
        described(tmp_path, **PARTS | {"mapped_to": 28})


def test_ids_beyond_the_vocabulary_and_coloured_parts_are_refused(tmp_path: Path) -> None:
    put(tmp_path / "Images/0.png", encode_rgb(np.zeros((1, 3, 3), np.uint8)))
    put(tmp_path / "Category_ids/0.png", encode_mask(np.array([[3, 28, 254]], np.uint8)))
    with pytest.raises(VitruvianError, match=r"0.png: expected ids 0 .. 27 or 255; got \[28, 254\]"):
        described(tmp_path, **PARTS)[0]
    put(tmp_path / "Category_ids/0.png", encode_rgb(np.zeros((1, 3, 3), np.uint8)))
    with pytest.raises(VitruvianError, match="expected an 8-bit grey or palette PNG; got mode RGB"):
        described(tmp_path, **PARTS)[0]
    put(tmp_path / "Category_ids/0.png", encode_mask(np.zeros((2, 3), np.uint8)))
    with pytest.raises(VitruvianError, match=r"expected one \(height, width\) for all"):
        described(tmp_path, **PARTS)[0]


def test_coco_comes_back_as_our_labels(tmp_path: Path, scenes: list[Labels]) -> None:
    layout = described(write_coco(tmp_path, scenes), **COCO, protocol="coco")
    assert layout.provenance["protocol"] == "coco" and layout.identities() == []
    for index, truth in enumerate(scenes):
        key, labels = layout[index]
        assert key == f"{index:012d}"
        assert labels.meta["image_id"] == 70 - index
        assert labels.meta["people"] == [{"bbox": [1.0, 2.0, 30.0, 40.0], "iscrowd": 0, "area": 600.5}]
        assert truth.keypoints is not None and labels.keypoints is not None
        expected = truth.keypoints * (truth.keypoints[..., 3:] > 0)
        expected[..., 2] = 0  # COCO says nothing of the distance
        equal(labels.keypoints, expected)
        equal(labels.rgb, truth.rgb)


def test_what_coco_calls_unlabelled_is_no_point(tmp_path: Path, scenes: list[Labels]) -> None:
    path = write_coco(tmp_path, scenes[:1]) / "coco.json"
    content = json.loads(path.read_text())
    content["annotations"][0]["keypoints"] = [3, 4, 0, 5, 6, 1, 7, 8, 2] + [9, 9, 0] * 14
    path.write_text(json.dumps(content))
    _, labels = described(tmp_path, **COCO)[0]
    assert labels.keypoints is not None
    assert labels.keypoints[0, :3].tolist() == [[0, 0, 0, 0], [5, 6, 0, 1], [7, 8, 0, 2]]
    assert not labels.keypoints[0, 3:].any()


def test_training_leaves_out_crowds_and_people_without_points(tmp_path: Path, scenes: list[Labels]) -> None:
    path = write_coco(tmp_path, scenes) / "coco.json"
    content = json.loads(path.read_text())
    by_image = {a["image_id"]: a for a in content["annotations"]}
    by_image[70]["iscrowd"] = 1
    by_image[69]["keypoints"] = [0.0] * 51
    extra = {**by_image[68], "keypoints": [5.0, 6.0, 2.0] + [0.0] * 48, "bbox": [0, 0, 9, 9]}
    content["annotations"] += [extra, {**extra, "category_id": 3}]
    path.write_text(json.dumps(content))
    everything = described(tmp_path, **COCO)
    assert [len(everything[i][1].meta["people"]) for i in range(len(everything))] == [1, 1, 2]
    training = described(tmp_path, "training", **COCO)
    assert len(training) == 1 and training.provenance["left_out"] == {"missing": 0, "nobody": 2}
    assert len(training[0][1].meta["people"]) == 2
    few = described(tmp_path, "training", **COCO, least_points=2)[0][1]
    assert few.keypoints is not None and len(few.keypoints) == len(few.meta["people"]) == 1
    with pytest.raises(UsageError, match="shows a person with labelled keypoints"):
        described(tmp_path, "training", **COCO, least_points=17)


@needs_photos
@pytest.mark.parametrize(("name", "points"), [("coco_keypoints", 17), ("coco_wholebody", 133)])
def test_cocos_own_files(name: str, points: int, tmp_path: Path) -> None:
    content = json.loads((PHOTOS / f"{name}.json").read_text())
    layout = described(tmp_path, layout="coco", images=str(PHOTOS), annotations=str(PHOTOS / f"{name}.json"))
    assert [key for key, _ in map(layout.__getitem__, range(2))] == ["000000000785", "000000196141"]
    for index, image in enumerate(content["images"]):
        people = [a for a in content["annotations"] if a["image_id"] == image["id"]]
        _, labels = layout[index]
        assert labels.keypoints is not None and labels.keypoints.shape == (len(people), points, 4)
        assert labels.rgb is not None and labels.rgb.shape[:2] == (image["height"], image["width"])
        for found, said, truth in zip(labels.keypoints, labels.meta["people"], people, strict=True):
            assert (said["area"], said["bbox"]) == (truth["area"], truth["bbox"])
            body = np.array(truth["keypoints"]).reshape(-1, 3)
            equal(found[:17, [0, 1, 3]], body)
            if points == 133:  # body, feet, face, left hand, right hand
                face, right = (np.array(truth[f]).reshape(-1, 3) for f in ("face_kpts", "righthand_kpts"))
                close(found[23:91, :2], face[:, :2] * (face[:, 2:] > 0))
                close(found[112:, :2], right[:, :2] * (right[:, 2:] > 0))


@pytest.mark.parametrize("layout", ["toy", "parts", "coco"])
def test_a_missing_counterpart_is_refused_or_counted(
    layout: str, tmp_path: Path, scenes: list[Labels]
) -> None:
    fields = FIELDS[layout]
    WRITERS[layout](tmp_path, scenes)
    lost = {"toy": "depths/pair1/001.npy", "parts": "Images/1.png", "coco": "val/000000000001.png"}[layout]
    whole = described(tmp_path, **fields)
    (tmp_path / lost).unlink()
    with pytest.raises(UsageError, match=r"1 (missing|of 3).*`unpaired: skip`"):
        described(tmp_path, **fields)
    rest = described(tmp_path, **fields, unpaired="skip")
    assert len(rest) == 2 and 1 in rest.provenance["left_out"].values()
    assert rest.digest != whole.digest
    assert [rest[i][0] for i in range(2)] == [whole.names[i].replace("/", "+") for i in (0, 2)]


@pytest.mark.parametrize("layout", ["toy", "parts", "coco"])
def test_the_digest_is_of_the_content_not_of_its_place(
    layout: str, tmp_path: Path, scenes: list[Labels]
) -> None:
    fields = FIELDS[layout]
    WRITERS[layout](tmp_path / "here", scenes)
    first = described(tmp_path / "here", **fields)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    (tmp_path / "there" / fields.get("images", "images")).rename(tmp_path / "there/pictures")
    fields = fields | {"images": "pictures"}
    picture = next(path for path in sorted((tmp_path / "there").rglob("*.png")))
    os.utime(picture, (1, 1))
    assert described(tmp_path / "there", **fields).digest == first.digest
    assert described(tmp_path / "there", **fields, protocol="lip").digest != first.digest
    picture.write_bytes(picture.read_bytes() + b"\0")
    assert described(tmp_path / "there", **fields).digest != first.digest


def test_a_layout_survives_pickling(tmp_path: Path, scenes: list[Labels]) -> None:
    layout = described(write_coco(tmp_path, scenes), **COCO)
    copy = pickle.loads(pickle.dumps(layout))
    there, here = copy[2][1].keypoints, layout[2][1].keypoints
    assert here is not None
    equal(there, here)


def test_no_path_leaves_its_folder(tmp_path: Path, scenes: list[Labels]) -> None:
    inside = write_coco(tmp_path / "data", scenes)
    secret = put(tmp_path / "secret.png", encode_rgb(np.zeros((48, 36, 3), np.uint8)))
    content = json.loads((inside / "coco.json").read_text())
    for name in ("../../secret.png", str(secret)):
        content["images"][0]["file_name"] = name
        (inside / "coco.json").write_text(json.dumps(content))
        with pytest.raises(UsageError, match="leads out of"):
            described(inside, **COCO)
    toy = write_toy(tmp_path / "toy", scenes)
    (toy / "images/pair0/000.png").unlink()
    (toy / "images/pair0/000.png").symlink_to(secret)
    with pytest.raises(UsageError, match="leads out of"):
        described(toy, layout="toy")


def test_sizes_are_bounded_before_decoding(tmp_path: Path) -> None:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 30000, 30000, 8, 0, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0"))
        + chunk(b"IEND", b"")
    )
    small = encode_rgb(np.zeros((2, 2, 3), np.uint8))
    put(tmp_path / "images/a.png", bomb)
    put(tmp_path / "masks/a.png", bomb)
    layout = described(tmp_path, layout="toy")
    for wanted in (("rgb",), ("alpha",)):
        with pytest.raises(VitruvianError, match=r"a.png: .*expected at most 80000000 pixels"):
            layout.read(0, wanted)
    put(tmp_path / "images/a.png", small)
    put(tmp_path / "masks/a.png", encode_mask(np.ones((2, 2), np.uint8)))
    (tmp_path / "depths").mkdir()
    with (tmp_path / "depths/a.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(  # type: ignore[no-untyped-call]
            file, {"shape": (30000, 30000), "fortran_order": False, "descr": "<f4"}
        )
        file.truncate(4 * 30000 * 30000 + file.tell())  # a hole: no such bytes are on the disk
    with pytest.raises(VitruvianError, match="expected at most 80000000 pixels"):
        described(tmp_path, layout="toy")[0]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 2, 1), np.float32), r"expected shape \(height, width\); got \(2, 2, 1\)"),
        (np.array([["a", "b"]]), "expected an npy file of numbers"),
        (np.array([{"a": 1}], object), "Python objects"),
        (np.zeros((3, 2), np.float32), r"expected one \(height, width\) for all"),
        (None, "depths/a.npy"),
    ],
)
def test_a_wrong_array_is_named(array: Any, message: str, tmp_path: Path) -> None:
    put(tmp_path / "images/a.png", encode_rgb(np.zeros((2, 2, 3), np.uint8)))
    (tmp_path / "depths").mkdir()
    path = tmp_path / "depths/a.npy"
    if array is None:
        np.save(path, np.zeros((2, 2), np.float32))
        path.write_bytes(path.read_bytes()[:-3])
    else:
        np.save(path, array)
    with pytest.raises(VitruvianError, match=message):
        described(tmp_path, layout="toy")[0]


def test_a_picture_of_another_size_than_coco_says_is_refused(tmp_path: Path, scenes: list[Labels]) -> None:
    write_coco(tmp_path, scenes)
    put(tmp_path / "val/000000000001.png", encode_rgb(np.zeros((36, 48, 3), np.uint8)))
    layout = described(tmp_path, **COCO)
    with pytest.raises(VitruvianError, match=r"000000000001.png: expected .*\(48, 36\).*got \(36, 48\)"):
        layout[1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("not json", "expected COCO annotations"),
        ({"images": [], "annotations": []}, "no annotation of category 1"),
        ({"images": [{"id": 1}], "annotations": []}, "KeyError"),
        ({"annotations": [{"category_id": 1, "image_id": 7, "bbox": [0, 0, 1, 1]}]}, "no field keypoints"),
        (
            {"annotations": [{"category_id": 1, "image_id": 9, "bbox": [0] * 4, "keypoints": [0] * 51}]},
            "KeyError",
        ),
        (
            {"annotations": [{"category_id": 1, "image_id": 7, "bbox": [0] * 4, "keypoints": [0] * 50}]},
            "reshape",
        ),
    ],
)
def test_a_wrong_annotation_file_is_explained(content: Any, message: str, tmp_path: Path) -> None:
    image = {"id": 7, "file_name": "a.png", "height": 2, "width": 2}
    text = content if isinstance(content, str) else json.dumps({"images": [image], **content})
    put(tmp_path / "coco.json", text.encode())
    put(tmp_path / "val/a.png", encode_rgb(np.zeros((2, 2, 3), np.uint8)))
    with pytest.raises(UsageError, match=message):
        described(tmp_path, **COCO)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"layout": "voc"}, "layout: expected one of coco, parts, toy; got 'voc'"),
        ({}, "got None"),
        ({"layout": "toy", "depth": "x"}, "depth: unknown field; known here:.*depths"),
        ({"layout": "toy", "identity": "("}, "not a regular expression"),
        (
            {"layout": "toy", "identity": "^nobody"},
            "'\\^nobody' is found nowhere in the picture's name 'pair0/000'",
        ),
        ({"layout": "parts", "images": "images"}, "parts: required"),
        ({"layout": "toy", "protocol": "hi4D"}, "protocol 'hi4D': expected one of"),
        ({**COCO, "identity": "x"}, "shows several people"),
        ({"layout": "toy", "images": "nowhere"}, "nowhere: no such folder"),
    ],
)
def test_a_wrong_description_is_explained(
    fields: dict[str, Any], message: str, tmp_path: Path, scenes: list[Labels]
) -> None:
    write_toy(tmp_path, scenes)
    with pytest.raises(UsageError, match=message):
        described(tmp_path, **fields)


def test_two_pictures_of_one_name_are_refused(tmp_path: Path, scenes: list[Labels]) -> None:
    write_parts(tmp_path, scenes)
    assert scenes[0].rgb is not None
    cv2.imwrite(str(tmp_path / "Images/0.jpg"), scenes[0].rgb)
    with pytest.raises(UsageError, match="of the same name"):
        described(tmp_path, **PARTS)

"""Labels <-> members of a sample: what is written where, byte-identical repeats, what is refused."""

import json
from typing import Any

import numpy as np
import pytest

from annotation.camera import Camera
from annotation.codecs import DecodeError, encode_rgb
from annotation.labels import MEMBERS, Labels, from_members, members_of, to_members
from shards.errors import VitruvianError


def full_labels() -> Labels:
    rng = np.random.default_rng(0)
    normal = rng.normal(size=(6, 8, 3))
    normal = (normal / np.linalg.norm(normal, axis=-1, keepdims=True)).astype(np.float32)
    normal[0] = 0
    depth = rng.uniform(1, 3, (6, 8)).astype(np.float32)
    depth[0] = 0
    kinds = ("alpha", "parts", "instance", "quality")
    masks: dict[str, Any] = {name: rng.integers(0, 256, (6, 8), dtype=np.uint8) for name in kinds}
    return Labels(
        rgb=rng.integers(0, 256, (6, 8, 3), dtype=np.uint8),
        depth=depth,
        normal=normal,
        geometric_normal=normal[:, ::-1].copy(),
        albedo=rng.integers(0, 256, (6, 8, 3), dtype=np.uint8),
        keypoints=rng.uniform(0, 8, (2, 17, 4)).astype(np.float32),
        camera=Camera(np.array([[9.1, 0, 3.5], [0, 9.1, 2.5], [0, 0, 1]]), np.eye(4), 8, 6),
        part_classes=29,
        meta={"people": [{"height": 1.7}, {"height": 1.8}], "provenance": {"seed": 3}},
        **masks,
    )


def test_labels_without_a_word_about_their_parts_are_the_papers_28_classes() -> None:
    members = to_members(full_labels())
    assert from_members(members).part_classes == 29
    document = json.loads(members["json"])
    del document["part_classes"]
    assert from_members(members | {"json": json.dumps(document).encode()}).part_classes == 28
    document["part_classes"] = 30
    with pytest.raises(DecodeError, match=r"part_classes of \(20, 28, 29\); got 30"):
        from_members(members | {"json": json.dumps(document).encode()})


def test_every_label_survives_the_members() -> None:
    labels = full_labels()
    members = to_members(labels)
    assert set(members) == {*MEMBERS.values(), "json"}
    again = from_members(members)
    for name in ("rgb", "alpha", "parts", "instance", "albedo", "quality", "keypoints"):
        np.testing.assert_array_equal(getattr(again, name), getattr(labels, name))
    assert again.depth is not None and labels.depth is not None
    assert again.normal is not None and labels.normal is not None
    np.testing.assert_allclose(again.depth, labels.depth, atol=1e-4)
    np.testing.assert_allclose(again.normal, labels.normal, atol=3e-5)
    assert again.geometric_normal is not None and labels.geometric_normal is not None
    np.testing.assert_allclose(again.geometric_normal, labels.geometric_normal, atol=3e-5)
    assert again.camera == labels.camera
    assert again.meta == labels.meta


def test_members_are_a_pure_function_of_the_labels() -> None:
    assert to_members(full_labels()) == to_members(full_labels())


def test_json_holds_schema_camera_depth_and_the_rest() -> None:
    document = json.loads(to_members(full_labels())["json"])
    assert sorted(document) == ["camera", "depth", "part_classes", "people", "provenance", "schema"]
    assert document["schema"] == 1
    assert sorted(document["depth"]) == ["far", "near"] and document["depth"]["near"] >= 1


def test_only_wanted_labels_are_decoded() -> None:
    members = {**to_members(full_labels()), "normal.png": b"not even a picture"}
    labels = from_members(members, wanted=("depth", "keypoints"))
    assert labels.normal is None and labels.rgb is None
    assert labels.depth is not None and labels.keypoints is not None and labels.camera is not None
    with pytest.raises(DecodeError):
        from_members(members)


def test_a_wanted_label_that_is_missing_is_an_error() -> None:
    with pytest.raises(VitruvianError, match=r"wanted 'depth' \(member depth.png\)"):
        from_members({"json": b"{}"}, wanted=("depth",))
    with pytest.raises(VitruvianError, match="wanted 'dpeth'"):
        from_members(to_members(full_labels()), wanted=("dpeth",))


@pytest.mark.parametrize("member", ["jpg", "png", "webp", "jpeg", "rgb.jpg"])
def test_a_curated_photograph_is_the_image(member: str) -> None:
    image = np.full((4, 5, 3), 9, np.uint8)
    labels = from_members({member: encode_rgb(image), "json": b'{"source":"pool/a.jpg"}'})
    assert labels.rgb is not None
    np.testing.assert_array_equal(labels.rgb, image)
    assert labels.meta == {"source": "pool/a.jpg"} and labels.camera is None
    assert member in members_of(("rgb",))


def test_members_of_names_what_to_read() -> None:
    assert members_of(("depth", "normal")) == ("depth.png", "normal.png", "json")
    members = to_members(full_labels())
    wanted = ("rgb", "parts")
    read = {name: data for name, data in members.items() if name in members_of(wanted)}
    assert from_members(read, wanted).parts is not None


def test_labels_of_different_sizes_are_refused() -> None:
    """Of two images the tests' own shape check would complain first; the camera's size is a number."""
    camera = Camera(np.eye(3), np.eye(4), 5, 5)
    with pytest.raises(VitruvianError, match=r"one \(height, width\).*'rgb': \(4, 5\), 'camera': \(5, 5\)"):
        Labels(rgb=np.zeros((4, 5, 3), np.uint8), camera=camera)


def test_meta_may_not_shadow_the_labels() -> None:
    with pytest.raises(VitruvianError, match="\\['camera'\\]"):
        Labels(meta={"camera": {}})


@pytest.mark.parametrize(
    ("json_member", "words"),
    [(b"{", "not JSON"), (b"[]", "schema 1"), (b'{"schema":2}', "schema 1"), (b"{}", "near, far")],
)
def test_a_broken_json_member_is_named(json_member: bytes, words: str) -> None:
    members = {**to_members(full_labels()), "json": json_member}
    with pytest.raises(VitruvianError, match=words):
        from_members(members)

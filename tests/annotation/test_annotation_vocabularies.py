"""Keypoint and part vocabularies: flips are involutions, mappings, and agreement with the field's tables."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from annotation.keypoints import TIERS, flip_keypoints, keypoint_mapping, keypoint_vocabulary, map_keypoints
from annotation.parts import IGNORE, flip_parts, lip_to_28, map_parts, part_vocabulary
from shards.errors import VitruvianError

quick = settings(max_examples=50, deadline=None)
REFERENCE = Path(__file__).parents[3] / "shared" / "reference" / "vocab"
KEYPOINT_SIZES = (17, 133, 308)
PART_SIZES = (20, 28, 29)
PART_FILES = {20: "seg_20", 28: "seg_28", 29: "seg_29_sapiens2"}


def reference(name: str) -> Any:
    path = REFERENCE / f"{name}.json"
    if not path.exists():
        pytest.skip(f"the field's tables are not here: {path}")
    return json.loads(path.read_text(encoding="utf-8"))


def random_keypoints(points: int, seed: int) -> np.ndarray:
    """Coordinates on a grid of 1/8 px, so that width - 1 - x is exact in float32."""
    rng = np.random.default_rng(seed)
    keypoints = rng.integers(0, 32768, (2, points, 4)) / 8
    keypoints[..., 3] = rng.integers(0, 3, (2, points))
    return keypoints.astype(np.float32)


@pytest.mark.parametrize("points", KEYPOINT_SIZES)
def test_keypoint_tables_are_sound(points: int) -> None:
    vocabulary = keypoint_vocabulary(points)
    everyone = np.arange(points)
    assert len(vocabulary) == len(set(vocabulary.names)) == points
    np.testing.assert_array_equal(vocabulary.flip[vocabulary.flip], everyone)
    assert vocabulary.sigmas.shape == (points,) and (vocabulary.sigmas > 0).all()
    mirrored = {"left": "right", "right": "left", "middle": "middle"}
    for index in everyone:
        assert vocabulary.sides[vocabulary.flip[index]] == mirrored[vocabulary.sides[index]]
        assert (vocabulary.sides[index] == "middle") == (vocabulary.flip[index] == index)
    main = [name for name in vocabulary.groups if "." not in name and not name.endswith("_body")]
    np.testing.assert_array_equal(sorted(i for name in main for i in vocabulary.groups[name]), everyone)


@pytest.mark.parametrize("points", KEYPOINT_SIZES)
def test_skeletons_are_symmetric(points: int) -> None:
    vocabulary = keypoint_vocabulary(points)
    links = {frozenset(link) for link in vocabulary.links}
    assert links == {frozenset(int(vocabulary.flip[index]) for index in link) for link in vocabulary.links}
    assert len(links) == len(vocabulary.links) == {17: 19, 133: 65, 308: 65}[points]


@pytest.mark.parametrize("points", KEYPOINT_SIZES)
def test_groups_of_left_and_right_mirror_each_other(points: int) -> None:
    vocabulary = keypoint_vocabulary(points)
    for name, indices in vocabulary.groups.items():
        partner = {"left_hand": "right_hand", "right_hand": "left_hand"}.get(name, name)
        assert sorted(vocabulary.flip[list(indices)]) == sorted(vocabulary.groups[partner])


def test_the_308_keep_body_in_their_own_order() -> None:
    """Hips follow elbows, wrists come after the fingers: the order is not COCO's."""
    vocabulary = keypoint_vocabulary(308)
    where = [
        vocabulary.index(name)
        for name in ("left_hip", "left_knee", "left_ankle", "right_wrist", "left_wrist")
    ]
    assert where == [9, 11, 13, 41, 62]
    counts = {name: len(indices) for name, indices in vocabulary.groups.items() if not name.endswith("_body")}
    assert counts == {
        "body": 17,
        "foot": 6,
        "right_hand": 20,
        "left_hand": 20,
        "extra": 7,
        "face": 238,
        "face.eyelid": 82,
        "face.ear": 52,
        "face.mouth": 32,
        "face.eyebrow": 18,
        "face.iris": 18,
        "face.pupil": 18,
        "face.nose": 15,
        "face.midline": 3,
    }


@pytest.mark.parametrize("points", KEYPOINT_SIZES)
def test_keypoint_tables_agree_with_the_field(points: int) -> None:
    table = reference(f"keypoints_{points}")
    vocabulary = keypoint_vocabulary(points)
    assert list(vocabulary.names) == [row["name"] for row in table["keypoints"]]
    assert vocabulary.flip.tolist() == table["flip_indices"]
    assert vocabulary.sigmas.tolist() == [row["sigma"] for row in table["keypoints"]]
    assert [list(link) for link in vocabulary.links] == [row["link_index"] for row in table["skeleton"]]
    for row in table["keypoints"]:
        assert row["index"] in vocabulary.groups[row["group"]]
        for half in ("upper", "lower"):
            assert (row["type"] == half) == (row["index"] in vocabulary.groups[f"{half}_body"])


@quick
@given(st.sampled_from(KEYPOINT_SIZES), st.integers(0, 2**32 - 1), st.integers(1, 4096))
def test_flip_keypoints_is_an_involution(points: int, seed: int, width: int) -> None:
    keypoints = random_keypoints(points, seed)
    flipped = flip_keypoints(keypoints, width)
    np.testing.assert_array_equal(flip_keypoints(flipped, width), keypoints)
    nose = keypoint_vocabulary(points).index("nose")
    np.testing.assert_array_equal(flipped[:, nose, 0], width - 1 - keypoints[:, nose, 0])
    np.testing.assert_array_equal(flipped[:, nose, 1:], keypoints[:, nose, 1:])
    left, right = (keypoint_vocabulary(points).index(f"{side}_elbow") for side in ("left", "right"))
    np.testing.assert_array_equal(flipped[:, left, 1:], keypoints[:, right, 1:])


def test_mapping_308_to_133_has_its_tiers() -> None:
    mapping = keypoint_mapping(308, 133)
    counts = {tier: mapping.tiers.count(tier) for tier in TIERS}
    assert counts == dict(zip(TIERS, (53, 10, 22, 16, 13), strict=True))
    assert len(set(mapping.target)) == len(mapping.target) == len(set(mapping.source)) == 114
    big, small = keypoint_vocabulary(308), keypoint_vocabulary(133)
    for source, target, tier in zip(mapping.source, mapping.target, mapping.tiers, strict=True):
        assert (big.names[source] == small.names[target]) == (tier == "same_name")
        assert big.sides[source] == small.sides[target]


@pytest.mark.parametrize(("source", "target"), [(308, 133), (308, 17), (133, 17), (17, 17)])
def test_mapping_commutes_with_flipping(source: int, target: int) -> None:
    """No side is crossed, in any tier: mapping the mirrored points mirrors the mapped ones."""
    keypoints = random_keypoints(source, seed=1)
    for tier in TIERS:
        flipped_then_mapped = map_keypoints(flip_keypoints(keypoints, 640), target, (tier,))
        mapped = map_keypoints(keypoints, target, (tier,))
        filled = np.isin(np.arange(target), keypoint_mapping(source, target).target)
        mapped_then_flipped = flip_keypoints(mapped, 640)
        empty = (flipped_then_mapped == 0).all(axis=(0, 2)) | ~filled
        np.testing.assert_array_equal(flipped_then_mapped[:, ~empty], mapped_then_flipped[:, ~empty])


def test_mapping_leaves_the_unknown_invisible() -> None:
    keypoints = np.ones((1, 308, 4), np.float32)
    everything = map_keypoints(keypoints, 133)
    certain = map_keypoints(keypoints, 133, ("same_name",))
    assert int((everything[..., 3] > 0).sum()) == 114
    assert int((certain[..., 3] > 0).sum()) == 53
    whole = keypoint_vocabulary(133)
    for name in ("face-0", "face-16", "left_hand_root", "right_hand_root"):
        assert not everything[0, whole.index(name)].any()
    assert (map_keypoints(keypoints, 17)[..., 3] > 0).all()


def test_mapping_308_to_133_agrees_with_the_field() -> None:
    pairs = reference("keypoints_308_to_133")["pairs"]
    mapping = keypoint_mapping(308, 133)
    ours = set(zip(mapping.source.tolist(), mapping.target.tolist(), strict=True))
    assert ours == {(pair["index308"], pair["index133"]) for pair in pairs}
    certain = {pair["index133"] for pair in pairs if pair["tier"] == "repo_by_name"}
    assert certain == {
        int(t) for t, tier in zip(mapping.target, mapping.tiers, strict=True) if tier == "same_name"
    }


@pytest.mark.parametrize(("source", "target", "pairs"), [(17, 133, 17), (17, 308, 17), (133, 308, 53)])
def test_a_larger_vocabulary_gets_the_points_of_equal_names(source: int, target: int, pairs: int) -> None:
    mapping = keypoint_mapping(source, target)
    assert set(mapping.tiers) == {"same_name"} and len(mapping.source) == pairs
    old, new = keypoint_vocabulary(source).names, keypoint_vocabulary(target).names
    assert all(old[s] == new[t] for s, t in zip(mapping.source, mapping.target, strict=True))
    assert mapping.target.tolist() == sorted(mapping.target)
    assert {old[s] for s in mapping.source} == set(old) & set(new)
    given = np.arange(source * 4, dtype=np.float32).reshape(1, source, 4)
    there = map_keypoints(given, target)
    assert (there[0].any(1)).sum() == pairs
    back = map_keypoints(there, source, ("same_name",))
    np.testing.assert_array_equal(back[0, mapping.source], given[0, mapping.source])


def test_the_released_table_takes_lip_to_28() -> None:
    table = reference("seg_20")["classes"]
    ids = np.array([[*range(20), IGNORE]], np.uint8)
    assert lip_to_28(ids)[0].tolist() == [*(row["repo_lip2goliath_28"] for row in table), IGNORE]


def test_impossible_vocabularies_and_mappings_are_refused() -> None:
    with pytest.raises(VitruvianError, match="got 18"):
        keypoint_vocabulary(18)
    with pytest.raises(VitruvianError, match="got 21"):
        part_vocabulary(21)
    with pytest.raises(VitruvianError, match="got \\['sure'\\]"):
        map_keypoints(np.zeros((1, 308, 4), np.float32), 133, ("sure",))
    with pytest.raises(VitruvianError, match="no point 'left_nose'"):
        keypoint_vocabulary(17).index("left_nose")
    with pytest.raises(VitruvianError, match="no class 'Cape'"):
        part_vocabulary(28).index("Cape")


def test_tables_cannot_be_changed_by_a_caller() -> None:
    with pytest.raises(ValueError, match="read-only"):
        keypoint_vocabulary(17).sigmas[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        part_vocabulary(28).colours[0] = 1


@pytest.mark.parametrize("classes", PART_SIZES)
def test_part_tables_are_sound(classes: int) -> None:
    vocabulary = part_vocabulary(classes)
    assert len(vocabulary) == len(set(vocabulary.names)) == classes
    assert vocabulary.index("Background") == 0
    np.testing.assert_array_equal(vocabulary.flip[vocabulary.flip], np.arange(classes))
    for name, partner in zip(vocabulary.names, vocabulary.flip, strict=True):
        swapped = name.replace("Left", "?").replace("Right", "Left").replace("?", "Right")
        assert vocabulary.names[partner] == swapped
    assert len(np.unique(vocabulary.colours, axis=0)) == classes
    assert (vocabulary.weights is None) == (classes == 29)


@pytest.mark.parametrize("classes", PART_SIZES)
def test_part_tables_agree_with_the_field(classes: int) -> None:
    rows = reference(PART_FILES[classes])["classes"]
    vocabulary = part_vocabulary(classes)
    assert list(vocabulary.names) == [row["name"] for row in rows]
    assert vocabulary.flip.tolist() == [row["flip_index"] for row in rows]
    assert vocabulary.colours.tolist() == [row["palette_rgb"] for row in rows]
    if vocabulary.weights is not None:
        assert vocabulary.weights.tolist() == [row["ce_weight"] for row in rows]


@quick
@given(
    st.sampled_from(PART_SIZES),
    hnp.arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9)), elements=st.integers(0, 255)),
)
def test_flip_parts_is_an_involution(classes: int, parts: np.ndarray) -> None:
    flipped = flip_parts(parts, classes)
    np.testing.assert_array_equal(flip_parts(flipped, classes), parts)
    np.testing.assert_array_equal(flipped == IGNORE, parts[:, ::-1] == IGNORE)


def test_flip_parts_swaps_left_and_right() -> None:
    vocabulary = part_vocabulary(28)
    left, right, torso = (vocabulary.index(name) for name in ("Left_Hand", "Right_Hand", "Torso"))
    flipped = flip_parts(np.array([[left, torso, IGNORE]], np.uint8), 28)
    assert flipped.tolist() == [[IGNORE, torso, right]]


def test_mapping_parts_keeps_names_and_ignores_what_has_none() -> None:
    big, small = part_vocabulary(29), part_vocabulary(28)
    everything = np.array([[*range(29), IGNORE]], np.uint8)
    mapped = map_parts(everything, 29, 28)[0]
    for before, after in zip(everything[0], mapped, strict=True):
        known = before != IGNORE and big.names[before] in small.names
        assert (small.names[after] == big.names[before]) if known else after == IGNORE
    assert [big.names[i] for i in everything[0, :29][mapped[:29] == IGNORE]] == ["Eyeglass"]
    back = map_parts(np.arange(28, dtype=np.uint8)[None], 28, 29)
    np.testing.assert_array_equal(map_parts(back, 29, 28)[0], np.arange(28))
    with pytest.raises(VitruvianError, match="28 classes cannot be mapped to 20"):
        map_parts(back, 28, 20)

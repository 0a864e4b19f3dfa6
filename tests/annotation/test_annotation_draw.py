"""Pictures of labels: right place, right colours, every size; nothing drawn where there is nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation import draw
from annotation.keypoints import keypoint_vocabulary
from annotation.parts import IGNORE, part_vocabulary
from shards.errors import VitruvianError

GREY = 120


def one_point(
    size: tuple[int, int], xy: tuple[float, float], visibility: int, name: str = "left_hip"
) -> np.ndarray:
    """A grey image with a single point of a 17-point person drawn."""
    keypoints = np.zeros((1, 17, 4), np.float32)
    keypoints[0, keypoint_vocabulary(17).index(name)] = (*xy, 2, visibility)
    return draw.draw_keypoints(np.full((*size, 3), GREY, np.uint8), keypoints)


@pytest.mark.parametrize("size", [(256, 192), (512, 640), (2048, 1536)])
@pytest.mark.parametrize(("x", "y"), [(40.0, 90.0), (100.5, 30.25)])
def test_a_point_is_drawn_at_its_pixel(size: tuple[int, int], x: float, y: float) -> None:
    picture = one_point(size, (x, y), 2)
    changed = np.abs(picture.astype(float) - GREY).sum(axis=-1)
    rows, columns = np.mgrid[: size[0], : size[1]]
    centroid = ((changed * columns).sum() / changed.sum(), (changed * rows).sum() / changed.sum())
    np.testing.assert_allclose(centroid, (x, y), atol=0.15)
    assert picture[round(y), round(x)].tolist() == pytest.approx(draw.SIDE_COLOURS["left"], abs=3)


def test_dots_grow_with_the_image() -> None:
    areas = []
    for height, width in ((256, 192), (1024, 768), (2048, 1536)):
        changed = np.abs(one_point((height, width), (50, 50), 2).astype(float) - GREY)
        areas.append(changed.sum() / (height * width))
    np.testing.assert_allclose(areas, areas[-1], rtol=0.35)


def test_occluded_points_are_rings_and_outside_ones_are_absent() -> None:
    assert one_point((256, 192), (60, 60), 1)[60, 60].tolist() == pytest.approx(draw.OUTLINE, abs=40)
    assert (one_point((256, 192), (60, 60), 0) == GREY).all()


def test_sides_have_their_colours() -> None:
    for name, side in (("right_hip", "right"), ("left_knee", "left"), ("nose", "middle")):
        colour = one_point((512, 512), (200, 200), 2, name)[200, 200]
        assert colour.tolist() == pytest.approx(draw.SIDE_COLOURS[side], abs=3)


@settings(max_examples=30, deadline=None)
@given(
    st.sampled_from([17, 133, 308]),
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from([0.0, 1.0, 50.0, 1e9]),
    st.integers(0, 2**32 - 1),
)
def test_any_keypoints_on_any_image_can_be_drawn(
    points: int, height: int, width: int, spread: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    keypoints = (rng.normal(size=(2, points, 4)) * spread).astype(np.float32)
    keypoints[..., 3] = rng.integers(0, 3, (2, points))
    keypoints[0, :3, 0] = (np.nan, np.inf, -np.inf)
    picture = draw.draw_keypoints(np.full((height, width, 3), GREY, np.uint8), keypoints)
    assert picture.shape == (height, width, 3) and picture.dtype == np.uint8


def test_nobody_leaves_the_image_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 256, (32, 24, 3), dtype=np.uint8)
    np.testing.assert_array_equal(draw.draw_keypoints(image, np.zeros((0, 17, 4), np.float32)), image)


def test_parts_have_the_colours_of_their_vocabulary() -> None:
    parts = np.array([[0, 5, 27, IGNORE, 28]], np.uint8)
    picture = draw.colour_parts(parts, 28)
    np.testing.assert_array_equal(picture[0, :3], part_vocabulary(28).colours[[0, 5, 27]])
    assert picture[0, 3:].tolist() == [list(draw.IGNORED)] * 2
    image = np.full((1, 5, 3), 100, np.uint8)
    overlay = draw.overlay_parts(image, parts, 28, opacity=0.5)
    assert overlay[0, 0].tolist() == overlay[0, 3].tolist() == [100, 100, 100]
    np.testing.assert_allclose(
        overlay[0, 1], (100 + part_vocabulary(28).colours[5].astype(float)) / 2, atol=0.51
    )


@pytest.mark.parametrize("height", [1, 20, 256, 1024])
@pytest.mark.parametrize("classes", [20, 28, 29])
def test_legends_fit_their_height(height: int, classes: int) -> None:
    parts = np.arange(classes, dtype=np.uint8)[None]
    assert draw.parts_legend(parts, classes, height).shape[0] == height
    assert draw.parts_legend(np.zeros((2, 2), np.uint8), classes, height).shape[0] == height


def test_a_legend_shows_the_classes_that_occur() -> None:
    vocabulary = part_vocabulary(28)
    parts = np.array([[0, 3, 3, 21]], np.uint8)
    shown = {tuple(colour) for colour in draw.parts_legend(parts, 28, 256).reshape(-1, 3).tolist()}
    for index in range(28):
        assert (tuple(vocabulary.colours[index].tolist()) in shown) == (index in (3, 21))


def test_near_is_bright_and_nothing_is_dark() -> None:
    depth = np.linspace(1, 3, 100, dtype=np.float32)[None].repeat(4, axis=0)
    depth[0] = 0
    picture = draw.colour_depth(depth)
    brightness = picture.astype(int).sum(axis=-1)
    assert (np.diff(brightness[1, ::9]) < 0).all()
    assert (picture[0] == draw.NOTHING).all() and (picture[1:] != draw.NOTHING).any(axis=-1).all()
    same = draw.colour_depth(np.full((2, 2), 1.5, np.float32), near=1.0, far=3.0)
    assert same[0, 0].sum() == pytest.approx(brightness[1, 25], abs=25)
    assert (draw.colour_depth(np.zeros((2, 2), np.float32)) == draw.NOTHING).all()


def test_normal_colours_are_half_n_plus_one() -> None:
    normal = np.array([[[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]], np.float32)
    picture = draw.colour_normals(normal)[0].tolist()
    assert picture == [[255, 128, 128], [128, 255, 128], [128, 128, 255], list(draw.NOTHING)]


@pytest.mark.parametrize(
    ("count", "columns", "shape"), [(1, 5, (20, 10)), (5, 2, (68, 24)), (4, 4, (20, 52))]
)
def test_tiles_stand_in_a_grid(count: int, columns: int, shape: tuple[int, int]) -> None:
    images = [np.full((20, 10, 3), index, np.uint8) for index in range(count)]
    sheet = draw.tile(images, columns)
    assert sheet.shape[:2] == shape
    for index in range(count):
        row, column = divmod(index, min(columns, count))
        assert (sheet[row * 24 + 5, column * 14 + 5] == index).all()


def test_tiles_of_different_sizes_keep_their_aspect() -> None:
    wide = np.zeros((5, 20, 3), np.uint8)
    sheet = draw.tile([np.zeros((20, 20, 3), np.uint8), wide], 2, gap=0)
    assert sheet.shape == (20, 40, 3)
    second = (sheet[:, 20:] == 0).all(axis=-1)
    assert second.any(axis=1).sum() == 5 and second.any(axis=0).all()
    assert (sheet[0, 20:] == draw.WHITE).all()


def test_a_caption_stands_under_its_image_and_fits() -> None:
    image = np.full((30, 80, 3), 7, np.uint8)
    one, two = (
        draw.captioned(image, "short"),
        draw.captioned(image, "short\na much longer second line of text"),
    )
    assert np.array_equal(one[:30], image) and np.array_equal(two[:30], image)
    assert one.shape[1] == two.shape[1] == 80 and one.shape[0] > 30
    for page in (one, two):
        ink = (page[30:] < 128).all(axis=-1)
        assert ink.any() and not ink[:, [0, -1]].any()


def test_a_sheet_without_images_is_refused() -> None:
    with pytest.raises(VitruvianError, match="0 images"):
        draw.tile([], 3)
    with pytest.raises(VitruvianError, match="0 columns"):
        draw.tile([np.zeros((2, 2, 3), np.uint8)], 0)

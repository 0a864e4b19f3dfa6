"""Backgrounds: blending in linear light, nothing left of the old one, labels of what is no longer there."""

from pathlib import Path

import numpy as np
import pytest

from annotation.codecs import encode_rgb
from annotation.labels import Labels
from shards.errors import UsageError, VitruvianError
from train.data import backdrop
from train.data.backdrop import Backdrops, composite, replace_background


def _flat(colour: int, size: tuple[int, int] = (9, 9)) -> np.ndarray:
    return np.full((*size, 3), colour, np.uint8)


def test_half_of_white_over_black_is_188() -> None:
    """Linear 128 / 255 is 0.50196, in sRGB 1.055 * 0.50196 ** (1 / 2.4) - 0.055 = 0.7366: 187.8."""
    alpha = np.full((9, 9), 255, np.uint8)
    alpha[4, 4] = 128
    mixed = composite(_flat(255), alpha, _flat(0))
    assert mixed[4, 4].tolist() == [188, 188, 188]
    assert (mixed[alpha == 255] == 255).all()


def test_opaque_pixels_are_the_persons_and_transparent_ones_the_backdrops() -> None:
    rng = np.random.default_rng(0)
    person, wall = rng.integers(0, 256, (2, 12, 10, 3)).astype(np.uint8)
    alpha = (255 * rng.integers(0, 2, (12, 10))).astype(np.uint8)
    mixed = composite(person, alpha, wall)
    assert np.array_equal(mixed[alpha == 255], person[alpha == 255])
    assert np.array_equal(mixed[alpha == 0], wall[alpha == 0])


def test_nothing_of_the_old_background_shines_through_soft_edges() -> None:
    """The same person photographed before a dark and before a bright wall gives one composite."""
    alpha = np.zeros((20, 20), np.uint8)
    alpha[5:15, 5:15], alpha[6:14, 6:14] = 90, 255
    share = alpha[..., None] / 255
    taken = [
        np.rint(share * 200 + (1 - share) * wall).astype(np.uint8)
        for wall in (_flat(0, (20, 20)), _flat(255, (20, 20)))
    ]
    assert not np.array_equal(taken[0], taken[1])
    one, other = (composite(picture, alpha, _flat(60, (20, 20))) for picture in taken)
    assert np.array_equal(one, other)


def test_a_soft_pixel_far_from_opaque_ones_keeps_its_colour() -> None:
    alpha = np.zeros((20, 20), np.uint8)
    alpha[10, 10] = 254
    assert abs(int(composite(_flat(150, (20, 20)), alpha, _flat(150, (20, 20)))[10, 10, 0]) - 150) <= 1


def test_labels_where_nobody_is_are_cleared_and_the_rest_is_untouched() -> None:
    alpha = np.array([[0, 100, 255]], np.uint8)
    labels = Labels(
        rgb=np.full((1, 3, 3), 9, np.uint8),
        alpha=alpha,
        depth=np.array([[5.0, 2.0, 2.0]], np.float32),
        normal=np.tile(np.array([0, 0, 1], np.float32), (1, 3, 1)),
        parts=np.array([[255, 255, 3]], np.uint8),
        instance=np.array([[2, 1, 1]], np.uint8),
        keypoints=np.ones((1, 17, 4), np.float32),
    )
    changed = replace_background(labels, np.full((1, 3, 3), 77, np.uint8))
    assert changed.depth is not None and changed.normal is not None and changed.parts is not None
    assert changed.depth.tolist() == [[0, 2, 2]] and changed.normal[0, :, 2].tolist() == [0, 1, 1]
    assert changed.parts.tolist() == [[0, 255, 3]]  # nobody: background now; unknown on the person: still
    assert changed.instance is not None and changed.instance.tolist() == [[0, 1, 1]]
    assert changed.keypoints is labels.keypoints and changed.alpha is labels.alpha
    assert (
        labels.depth is not None and labels.depth[0, 0] == 5
    )  # the source, perhaps cached, is not written to


def test_labels_without_alpha_are_refused() -> None:
    with pytest.raises(VitruvianError, match="alpha label"):
        replace_background(Labels(rgb=_flat(1)), _flat(2))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "more").mkdir()
    for number, name in enumerate(("b.png", "a.png", "more/c.png")):
        rng = np.random.default_rng(number)
        picture = rng.integers(0, 256, (40 + number, 60, 3)).astype(np.uint8)
        (tmp_path / name).write_bytes(encode_rgb(picture))
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_a_draw_depends_on_its_generator_alone(folder: Path) -> None:
    backdrops = Backdrops(folder)
    assert [path.name for path in backdrops.paths] == ["a.png", "b.png", "c.png"]
    drawn = [backdrops.draw((32, 24), np.random.default_rng(seed)) for seed in (1, 1, *range(2, 12))]
    assert all(picture.shape == (32, 24, 3) for picture in drawn)
    assert np.array_equal(drawn[0], drawn[1])
    assert len({picture.tobytes() for picture in drawn}) == 11


def test_the_digest_tells_folders_apart(folder: Path) -> None:
    before = Backdrops(folder).digest
    assert Backdrops(folder).digest == before
    (folder / "d.png").write_bytes(encode_rgb(_flat(3)))
    assert Backdrops(folder).digest != before


def test_what_is_no_folder_of_pictures_or_no_picture_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "empty").mkdir()
    with pytest.raises(UsageError, match="found none"):
        Backdrops(folder / "empty")
    with monkeypatch.context() as patch, pytest.raises(VitruvianError, match=r"background .*\.png: .*pixels"):
        patch.setattr(backdrop, "MAX_PIXELS", 100)  # read from the header, before decoding
        Backdrops(folder).draw((8, 8), np.random.default_rng(0))
    (folder / "b.png").write_bytes(b"not a picture")
    with pytest.raises(VitruvianError, match=r"background .*b\.png"):
        [Backdrops(folder).draw((8, 8), np.random.default_rng(seed)) for seed in range(30)]

"""The heat-map codec by hand, and pose with 17, 133 and 308 points from labels to decoded points and back."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from annotation.keypoints import keypoint_mapping, keypoint_vocabulary
from annotation.labels import Labels
from train.data.augment import AugmentConfig
from train.tasks import TaskConfig
from train.tasks.heatmaps import _parabola_offsets, decode_heatmaps, encode_heatmaps, unit_scale
from train.tasks.pose import PoseTask

NATIVE, HEATMAP = (1024, 768), (256, 192)


def test_a_heat_map_pixel_is_this_many_input_pixels_at_the_native_size() -> None:
    """By size - 1: 767 / 191 across and 1023 / 255 down, not 4."""
    np.testing.assert_allclose(unit_scale(NATIVE, HEATMAP), [767 / 191, 1023 / 255], rtol=1e-12)


def test_the_gaussian_of_a_point_between_pixels() -> None:
    """sigma 6 at (100.25, 50.5): the nearest pixel is (100, 51), the support 18 pixels around it."""
    heatmap = encode_heatmaps(np.array([[100.25, 50.5]]), HEATMAP, 6.0)[0]
    assert heatmap[51, 100] == pytest.approx(math.exp(-(0.25**2 + 0.5**2) / 72), rel=1e-6)
    assert heatmap[50, 100] == heatmap[51, 100]
    assert heatmap[60, 110] == pytest.approx(math.exp(-(9.75**2 + 9.5**2) / 72), rel=1e-6)
    rows, columns = np.nonzero(heatmap)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (33, 69, 82, 118)


def test_the_offset_is_the_top_of_a_parabola() -> None:
    """log h = -(2 u^2 + v^2) with u = x - 3.3, v = y - 2.2: a quadratic, for which central differences
    are exact, so the top is met exactly from the pixel beside it.
    """
    y, x = torch.meshgrid(torch.arange(6.0).double(), torch.arange(7.0).double(), indexing="ij")
    u, v = x - 3.3, y - 2.2
    offsets = _parabola_offsets(-(2 * u**2 + v**2)[None], torch.tensor([3]), torch.tensor([2]))
    torch.testing.assert_close(offsets, torch.tensor([[0.3, 0.2]], dtype=torch.float64))


def test_the_published_codec_returns_points_to_a_hundredth_of_a_heat_map_pixel() -> None:
    """sigma 6, kernel 11, 308 points at the native size: what the blur and the cut at 3 sigma leave."""
    rng = np.random.default_rng(0)
    points = np.column_stack([rng.uniform(25, 166, 308), rng.uniform(25, 230, 308)])
    heatmaps = encode_heatmaps(points, HEATMAP, 6.0)
    decoded, scores = decode_heatmaps(torch.from_numpy(heatmaps), NATIVE, blur=11)
    np.testing.assert_allclose(decoded / unit_scale(NATIVE, HEATMAP), points, atol=0.01)
    assert scores.min() > math.exp(-0.5 / 72) - 1e-6


def person(points: int = 308) -> Labels:
    """One person of 308 random points, a seventh unlabelled, in a picture twice the native size."""
    rng = np.random.default_rng(1)
    keypoints = np.zeros((1, points, 4), np.float32)
    keypoints[0, :, 0], keypoints[0, :, 1] = rng.uniform(300, 1300, points), rng.uniform(200, 1800, points)
    keypoints[0, :, 2], keypoints[0, :, 3] = 2.0, rng.integers(1, 3, points)
    keypoints[0, ::7, 3] = 0
    return Labels(rgb=np.zeros((2048, 1536, 3), np.uint8), keypoints=keypoints)


@pytest.mark.parametrize(("number", "mapped"), [(17, 17), (133, 114), (308, 308)])
def test_points_go_from_labels_of_308_to_heat_maps_and_back(number: int, mapped: int) -> None:
    task = PoseTask(TaskConfig.model_validate({"keypoints": number, "sigma": 6}))
    labels = task.prepare(person())
    view = task.view(labels, 0, NATIVE)
    target = task.target(view.apply(labels), 0, HEATMAP)
    assert target["heatmaps"].shape == (number, *HEATMAP)
    known = target["weights"].numpy() > 0
    pairs = keypoint_mapping(308, number)
    assert len(pairs.target) == mapped
    source = person().keypoints
    assert source is not None and known.sum() == (source[0, pairs.source, 3] > 0).sum()
    decoded = task.decode(target["heatmaps"], view, (2048, 1536))
    expected = np.zeros((number, 2))
    expected[pairs.target] = source[0, pairs.source, :2]
    # A heat-map pixel is nearly nine source pixels here.
    np.testing.assert_allclose(decoded[known, :2], expected[known], atol=0.3)
    assert (decoded[~known, 2] == 0).all()
    losses = [
        task.loss(t[None], {k: v[None] for k, v in target.items()})
        for t in (target["heatmaps"], 0 * target["heatmaps"])
    ]
    assert losses[0] == 0 < losses[1]


@pytest.mark.parametrize("number", [17, 133, 308])
def test_mirrored_heat_maps_are_turned_back_in_every_vocabulary(number: int) -> None:
    task = PoseTask(TaskConfig.model_validate({"keypoints": number, "sigma": 6}))
    labels = task.prepare(person())
    view = task.view(labels, 0, (256, 192))
    plain, mirrored = (
        task.target(replace(view, mirror=mirror).apply(labels), 0, (64, 48)) for mirror in (False, True)
    )
    assert not torch.equal(plain["weights"], mirrored["weights"])  # the unlabelled are others, mirrored
    torch.testing.assert_close(
        task.unmirror(mirrored["heatmaps"][None])[0], plain["heatmaps"], atol=1e-4, rtol=0
    )
    flip = torch.from_numpy(keypoint_vocabulary(number).flip.copy())
    assert torch.equal(mirrored["weights"][flip], plain["weights"])


ALWAYS = AugmentConfig(half_body=1.0)


def _half_views(keypoints: np.ndarray, config: AugmentConfig = ALWAYS) -> tuple[Labels, list[float]]:
    """The labels, and the vertical centres of 200 training views."""
    labels = Labels(rgb=np.zeros((400, 300, 3), np.uint8), keypoints=keypoints)
    task = PoseTask(TaskConfig())
    rngs = [np.random.default_rng(seed) for seed in range(200)]
    return labels, [task.training_view(labels, 0, (64, 48), config, rng).centre[1] for rng in rngs]


def _standing(labelled: list[str]) -> np.ndarray:
    """The upper body's points between y = 10 and 150, the lower body's between 200 and 380."""
    vocabulary = keypoint_vocabulary(17)
    keypoints = np.zeros((1, 17, 4), np.float32)
    for name, low, high in (("upper_body", 10, 150), ("lower_body", 200, 380)):
        members = list(vocabulary.groups[name])
        keypoints[0, members, 0] = np.linspace(100, 200, len(members))
        keypoints[0, members, 1] = np.linspace(low, high, len(members))
        if name in labelled:
            keypoints[0, members, 3] = 2
    return keypoints


def test_half_bodies_are_cut_around_the_upper_or_the_lower_points() -> None:
    _, centres = _half_views(_standing(["upper_body", "lower_body"]))
    assert set(np.round(centres)) == {80, 290}
    assert np.mean(np.array(centres) < 200) == pytest.approx(0.7, abs=0.1)  # the upper half is preferred


def test_half_bodies_fall_back_to_the_half_that_is_there() -> None:
    _, centres = _half_views(_standing(["upper_body"]))
    assert set(np.round(centres)) == {80}


def test_people_with_few_points_are_not_halved() -> None:
    keypoints = _standing(["upper_body", "lower_body"])
    keypoints[0, [1, 2, 3, 4, 5, 13, 14, 15, 16], 3] = 0  # eight are left, nine are wanted
    labels, centres = _half_views(keypoints)
    assert set(centres) == {PoseTask(TaskConfig()).view(labels, 0, (64, 48)).centre[1]}
    keypoints[0, 1, 3] = 1
    _, halved = _half_views(keypoints)
    assert set(halved).isdisjoint(centres)


def test_half_bodies_come_as_often_as_asked() -> None:
    keypoints = _standing(["upper_body", "lower_body"])
    labels, centres = _half_views(keypoints, AugmentConfig(half_body=0.3))
    whole = PoseTask(TaskConfig()).view(labels, 0, (64, 48)).centre[1]
    assert np.mean(np.array(centres) != whole) == pytest.approx(0.3, abs=0.1)
    _, never = _half_views(keypoints, AugmentConfig())
    assert set(never) == {whole}

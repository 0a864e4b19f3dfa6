"""Depth, intrinsics and normals that belong together are recognised, those that do not too."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from annotation.camera import Camera, Radial, look_at
from annotation.draw import NOTHING
from annotation.labels import Labels
from render.pointmap import normal_agreement, normals_from_depth, orbit, pointmap_views, splat
from shards.errors import VitruvianError

CENTRE, RADIUS = np.array([0.1, 0.0, 1.0]), 0.6


def camera_of(distortion: Radial = (0.0, 0.0, 0.0)) -> Camera:
    K = np.array([[210.0, 0, 70.0], [0, 210.0, 85.0], [0, 0, 1]])
    pose = look_at(np.array([0.7, -2.6, 1.5]), CENTRE, np.array([0.0, 0.0, 1.0]))
    return Camera(K, pose, 144, 192, distortion)


def ball(camera: Camera) -> Labels:
    """A sphere by its formula."""
    rays = camera.rays()
    to_centre = camera.position - CENTRE
    a, b = (rays**2).sum(-1), (rays * to_centre).sum(-1)
    root = b**2 - a * (to_centre @ to_centre - RADIUS**2)
    hit = root > 0
    depth = np.where(hit, (-b - np.sqrt(np.where(hit, root, 0))) / a, 0)
    outward = (camera.position + depth[..., None] * rays - CENTRE) / RADIUS
    normal = np.where(hit[..., None], camera.world_normals_to_label(outward), 0)
    rgb = np.where(hit[..., None], (200, 120, 60), (10, 200, 10)).astype(np.uint8)
    return Labels(rgb=rgb, depth=depth.astype(np.float32), normal=normal.astype(np.float32), camera=camera)


@pytest.mark.parametrize("distortion", [(0.0, 0.0, 0.0), (-0.3, 0.1, 0.0)])
def test_normals_of_a_sphere_are_those_of_its_depth(distortion: Radial) -> None:
    """Central differences of a sphere are off by the square of the step; float32 depth adds noise."""
    agreement = normal_agreement(ball(camera_of(distortion)))
    assert agreement.median_deg < 0.05 and agreement.p90_deg < 0.3
    assert agreement.share > 0.8


def test_labels_that_do_not_belong_together_are_noticed() -> None:
    labels = ball(camera_of())
    assert labels.normal is not None and labels.camera is not None
    for wrong in (
        replace(labels, normal=labels.normal * np.array([1, -1, 1], np.float32)),  # y down
        replace(labels, normal=np.ascontiguousarray(labels.normal[:, ::-1])),  # flipped without its depth
        replace(labels, camera=Camera(labels.camera.K * np.array([[2], [2], [1]]), np.eye(4), 144, 192)),
    ):
        assert normal_agreement(wrong).median_deg > 8


def test_geometric_normals_are_compared_where_there_are_any() -> None:
    """A smooth normal may lean away from the flat triangle that depth is the slope of."""
    labels = ball(camera_of())
    assert labels.normal is not None
    leaning = labels.normal + np.array([0.2, 0, 0], np.float32) * (labels.normal != 0)
    smooth = replace(labels, normal=leaning / np.linalg.norm(leaning, axis=-1, keepdims=True).clip(1e-9))
    assert normal_agreement(smooth).median_deg > 5
    assert normal_agreement(replace(smooth, geometric_normal=labels.normal)).median_deg < 0.05


def test_edges_have_no_slope() -> None:
    """Two walls, one 30 cm behind the other: no normal is computed across the step or at the border."""
    depth = np.full((192, 144), 2.0, np.float32)
    depth[:, 72:] = 2.3
    depth[:20] = 0
    normals = normals_from_depth(depth, camera_of())
    computed = (normals != 0).any(axis=-1)
    assert not computed[:21].any() and not computed[:, 71:73].any() and not computed[:, [0, -1]].any()
    assert computed[22:-1, 1:70].all() and computed[22:-1, 74:-1].all()
    np.testing.assert_allclose(normals[computed], np.tile([0, 0, 1.0], (computed.sum(), 1)), atol=1e-4)


def test_points_are_drawn_where_the_camera_projects_them_nearest_in_front() -> None:
    camera = camera_of()
    middle = np.array([[70.0, 85.0, 1.5], [70.0, 85.0, 2.5], [30.0, 40.0, 2.0], [500.0, 0.0, 2.0]])
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 9, 9]], np.uint8)
    picture = splat(camera.unproject(middle), colours, camera)
    assert picture[84:87, 69:72].reshape(-1, 3).tolist() == [[255, 0, 0]] * 9
    assert picture[39:42, 29:32].reshape(-1, 3).tolist() == [[0, 0, 255]] * 9
    assert (picture == NOTHING).all(axis=-1).sum() == 192 * 144 - 18


def test_the_camera_orbits_to_its_left() -> None:
    camera = camera_of()
    points = CENTRE + np.random.default_rng(0).uniform(-0.3, 0.3, (50, 3))
    moved = orbit(camera, points, 40.0)
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    distances = [np.linalg.norm(c.position - middle) for c in (camera, moved)]
    assert distances[0] == pytest.approx(distances[1])
    assert (
        camera.project(moved.position[None] * 0.5 + middle * 0.5)[0, 0] < camera.project(middle[None])[0, 0]
    )
    np.testing.assert_allclose(moved.project(middle[None])[0, :2], (71.5, 95.5), atol=1e-6)


def test_the_picture_shows_the_sphere_round_from_every_side() -> None:
    labels = ball(camera_of())
    page = pointmap_views(labels)
    assert page.shape[1] == 4 * 144 + 3 * 4
    cells = [page[:192, i * 148 : i * 148 + 144] for i in range(4)]
    assert labels.rgb is not None and np.array_equal(cells[0], labels.rgb)
    for cell in cells[1:]:
        shape = (np.abs(cell.astype(int) - NOTHING) > 6).any(axis=-1)
        height, width = np.ptp(np.nonzero(shape), axis=1) + 1
        assert shape.sum() > 1500 and 0.8 < height / 108 < 1.2 and width > 40
    clay = cv2.cvtColor(cells[1], cv2.COLOR_RGB2GRAY)
    assert clay[50:80, 40:70].mean() > clay[100:130, 85:110].mean() + 20  # light from the upper left


def test_what_the_picture_needs_is_named() -> None:
    with pytest.raises(VitruvianError, match="depth, normal and camera"):
        pointmap_views(replace(ball(camera_of()), normal=None))

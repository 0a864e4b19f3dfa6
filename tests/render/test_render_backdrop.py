"""The backdrop that is computed directly is the one that Cycles would render; the ground's shade is there."""

from pathlib import Path

import numpy as np
import pytest

from annotation.camera import Camera, look_at
from render.backdrop import backdrop, shade_ground
from render.lights import find_hdri, read_hdri
from render.props import occluder_mesh
from render.scene import shared_scene
from render.spec import LightSpec, OccluderSpec, RenderSettings

UP = np.array([0.0, 0.0, 1.0])


def looking(
    position: tuple[float, float, float], target: tuple[float, float, float], focal_mm: float
) -> Camera:
    focal = focal_mm / 36 * 72
    K = np.array([[focal, 0, 35.5], [0, focal, 47.5], [0, 0, 1.0]])
    return Camera(K, look_at(np.array(position), np.array(target), UP), 72, 96)


@pytest.mark.parametrize(
    ("name", "rotation", "focal_mm"), [("city", 0.0, 20.0), ("forest", 77.0, 50.0), ("sunset", 200.0, 135.0)]
)
def test_the_backdrop_is_what_cycles_sees(name: str, rotation: float, focal_mm: float) -> None:
    scene, hdri = shared_scene(), find_hdri(name)
    scene.load_people([], [])
    scene.cast = None
    scene.set_light(hdri, LightSpec(name, hdri.sha256, rotation, 0.0))
    camera = looking((1.0, -3.0, 1.5), (0.0, 0.0, 0.8), focal_mm)
    scene.set_camera(camera)
    scene.scene.render.film_transparent = False
    try:
        seen = scene.render_beauty(RenderSettings(72, 96, 1024, denoise=False))["Combined"][..., :3]
    finally:
        scene.scene.render.film_transparent = True
    made = backdrop(read_hdri(hdri.path), rotation, camera, None)
    error = np.abs(seen - made) / (np.abs(seen) + 0.01)
    assert np.median(error) < 0.003
    assert np.quantile(error, 0.99) < 0.06  # one pixel off, or another filter, would be 0.2 and more
    assert abs(seen.mean() / made.mean() - 1) < 0.002


def test_the_ground_is_dark_where_something_stands_and_free_far_away() -> None:
    box = OccluderSpec("box", (0.0, 0.0, 0.5), (0.4, 0.4, 1.0), (0.0, 0.0, 0.0), (0.5, 0.5, 0.5), 0.5)
    vertices, faces, _ = occluder_mesh(box)
    shade = shade_ground(vertices, faces)
    again = shade_ground(vertices, faces)
    assert np.array_equal(shade.visible, again.visible)
    x = shade.corner[0] + shade.cell * np.arange(shade.visible.shape[1])
    y = shade.corner[1] + shade.cell * np.arange(shade.visible.shape[0])
    row = shade.visible[np.argmin(np.abs(y))]
    assert row[np.argmin(np.abs(x))] < 0.01  # under the box
    assert row[np.argmin(np.abs(x - 0.25))] < 0.6 < row[np.argmin(np.abs(x - 0.8))] < 1
    assert row[-1] > 0.98
    # Analytic: beside an endless wall half of the hemisphere is taken; this box is finite, so less is.
    assert 0.25 < row[np.argmin(np.abs(x - 0.22))] ** 0.5 < 0.75


def test_the_shade_lies_where_the_camera_sees_the_ground() -> None:
    box = OccluderSpec("box", (0.3, 0.2, 0.05), (0.2, 0.2, 0.1), (0.0, 0.0, 0.0), (0.5, 0.5, 0.5), 0.5)
    vertices, faces, _ = occluder_mesh(box)
    camera = looking((0.0, -2.0, 1.6), (0.2, 0.2, 0.0), 60.0)
    white = np.ones((32, 64, 3), np.float32)
    seen = backdrop(white, 0.0, camera, shade_ground(vertices, faces))[..., 0]
    y, x = np.unravel_index(np.argmin(seen), seen.shape)
    foot = camera.project(np.array([[0.3, 0.2, 0.0]]))[0]
    assert np.hypot(x - foot[0], y - foot[1]) < 6
    assert seen.max() > 0.99 and seen.min() < 0.05


def test_radiance_files_are_read_upright(tmp_path: Path) -> None:
    hdri = find_hdri("forest")
    image = read_hdri(hdri.path)
    assert image[: len(image) // 4].mean() > image[-len(image) // 4 :].mean()  # sky above ground

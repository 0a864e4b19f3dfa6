"""The Blender conversion against Blender itself: its own view frame and matrices, not our formulas again."""

import importlib
from typing import Any

import numpy as np
import pytest

from annotation.camera import Camera, blender_camera, camera_from_blender, look_at

bpy: Any = pytest.importorskip("bpy", reason="bpy is in the extra `render`")


def project_with_blender(camera: Camera, points: np.ndarray) -> np.ndarray:
    """x px, y px (integer pixel centres), z m through bpy_extras, which builds on Blender's camera frame."""
    from mathutils import Matrix, Vector

    view = importlib.import_module("bpy_extras.object_utils").world_to_camera_view

    settings = blender_camera(camera)
    data = bpy.data.cameras.new("camera")
    data.sensor_fit, data.sensor_width, data.lens = settings.sensor_fit, settings.sensor_width, settings.lens
    data.shift_x, data.shift_y = settings.shift_x, settings.shift_y
    body = bpy.data.objects.new("camera", data)
    scene = bpy.data.scenes.new("scene")
    scene.collection.objects.link(body)
    scene.render.resolution_x, scene.render.resolution_y = settings.width, settings.height
    scene.render.resolution_percentage = 100
    body.matrix_world = Matrix(settings.matrix_world.tolist())
    scene.view_layers[0].update()
    seen = np.array([view(scene, body, Vector(point)) for point in points.tolist()])
    bpy.data.scenes.remove(scene)
    bpy.data.cameras.remove(data)
    x, y_up, z = seen.T
    return np.column_stack([x * camera.width - 0.5, (1 - y_up) * camera.height - 0.5, z])


@pytest.mark.parametrize(("width", "height"), [(768, 1024), (1024, 768), (333, 517)])
@pytest.mark.parametrize(("dx", "dy"), [(0.0, 0.0), (37.25, -81.5)])
def test_blender_projects_as_the_camera_does(width: int, height: int, dx: float, dy: float) -> None:
    pose = look_at(np.array([0.7, -2.5, 1.6]), np.array([0.1, 0.2, 1.1]), np.array([0.0, 0, 1]))
    K = np.array([[1.3 * width, 0, width / 2 + dx], [0, 1.3 * width, height / 2 + dy], [0, 0, 1]])
    camera = Camera(K, pose, width, height)
    points = np.random.default_rng(0).uniform((-0.5, -0.3, 0), (0.5, 0.3, 1.9), (50, 3))
    np.testing.assert_allclose(project_with_blender(camera, points), camera.project(points), atol=2e-3)
    np.testing.assert_allclose(camera_from_blender(blender_camera(camera)).K, K, atol=1e-9)

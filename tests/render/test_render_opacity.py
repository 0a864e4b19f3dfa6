"""See-through surfaces: the picture blends them, the labels see them where they are more than half opaque."""

from dataclasses import replace

import numpy as np
import pytest

from annotation.camera import Camera
from render import materials
from render.crosscheck import ball
from render.nodes import Nodes
from render.person import Material, Person, Surface
from render.scene import shared_scene
from render.spec import Placement, StageSpec

pytest.importorskip("bpy")

BEHIND, PANE = 7, 20  # part ids
MATT = Material("gloss", {"colour": (0.6, 0.5, 0.4), "metallic": 0.0, "roughness": 0.5})
CAMERA = Camera(
    np.array([[64.0, 0, 31.5], [0, 64.0, 31.5], [0, 0, 1]]),
    np.array([[1.0, 0, 0, 0], [0, 0, -1, 1], [0, 1, 0, 2], [0, 0, 0, 1]]),
    64,
    64,
)
BALL_M, PANE_M = 1.8, 1.6  # distances from the camera


def ball_behind_a_pane(opacity: float, monkeypatch: pytest.MonkeyPatch) -> Person:
    def pane(nodes: Nodes, params: dict[str, float]) -> None:
        nodes.surface(opacity=params["opacity"], Base_Color=(0.2, 0.3, 0.4))

    monkeypatch.setitem(materials.BUILDERS, "pane", pane)
    solid = ball(0.2, np.array([0.0, 0.0, 1.0]), MATT, 5).surfaces[0]
    corners = np.array([[-0.5, -0.4, 0.5], [0.5, -0.4, 0.5], [0.5, -0.4, 1.0], [-0.5, -0.4, 1.0]])
    facing = np.tile([0.0, -1.0, 0.0], (4, 1))
    glass = Surface(
        name="pane",
        vertices=corners,
        faces=np.array([[0, 1, 2], [0, 2, 3]], np.int32),
        normals=facing,
        uv=None,
        part_ids=np.full(2, PANE, np.uint8),
        material=Material("pane", {"opacity": opacity}),
    )
    labelled = replace(solid, part_ids=np.full(len(solid.faces), BEHIND, np.uint8))
    return Person((labelled, glass), None, 2.0)


@pytest.mark.parametrize("opacity", [0.0, 0.1, 0.49, 0.51, 0.9, 1.0])
def test_labels_see_through_what_is_at_most_half_opaque(
    opacity: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = shared_scene(2)
    scene.load_people((ball_behind_a_pane(opacity, monkeypatch),), (Placement(),), StageSpec())
    scene.cast = None
    scene.set_camera(CAMERA)
    truth = scene.render_truth()
    seen = {name: channel[34, 31] for name, channel in truth.items()}
    there = opacity > 0.5
    patch = (slice(33, 35), slice(29, 35))
    assert (truth["part_id"][patch] == (PANE if there else BEHIND)).all(), "none is lost by chance"
    coverage = scene.render_coverage()["coverage"][patch]
    np.testing.assert_allclose(coverage, 1, atol=1e-6)
    assert seen["part_id"] == (PANE if there else BEHIND)
    assert seen["Depth"] == pytest.approx(PANE_M if there else BALL_M, abs=0.02)
    assert seen["instance_id"] == 1 and seen["coverage"] == 1
    np.testing.assert_allclose(np.linalg.norm(seen["shading_normal"]), 1, atol=1e-5)
    np.testing.assert_allclose(seen["albedo"], (0.2, 0.3, 0.4) if there else (0.6, 0.5, 0.4), atol=1e-6)


def test_a_pane_in_front_of_nothing_covers_what_its_opacity_says(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = shared_scene(2)
    for opacity in (0.1, 0.9):
        scene.load_people((ball_behind_a_pane(opacity, monkeypatch),), (Placement(),), StageSpec())
        scene.cast = None
        scene.set_camera(CAMERA)
        assert scene.render_truth()["coverage"][44, 31] == (opacity > 0.5)

"""Occluder meshes: closed, outward, of the size, place and turn that their spec says."""

from typing import Literal

import numpy as np
import pytest
from jaxtyping import Float64

from render.props import occluder_mesh, rotation
from render.spec import OccluderSpec, Triple

SHAPES = ("ball", "box", "cylinder", "ring")
Shape = Literal["ball", "box", "cylinder", "ring"]


def occluder(
    shape: Shape,
    size: Triple = (1.0, 1.0, 1.0),
    position: Triple = (0.0, 0.0, 0.0),
    turn: Triple = (0.0, 0.0, 0.0),
) -> OccluderSpec:
    return OccluderSpec(shape, position, size, turn, colour=(0.5, 0.5, 0.5), roughness=0.5)


def corners(shape: Shape, size: Triple) -> tuple[Float64[np.ndarray, "f 3 3"], Float64[np.ndarray, "f 3 3"]]:
    """Corner points and corner normals of each triangle."""
    vertices, faces, normals = occluder_mesh(occluder(shape, size))
    return vertices[faces], normals[faces]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_size_is_the_extent_along_the_own_axes(shape: Shape) -> None:
    vertices, _, _ = occluder_mesh(occluder(shape, size=(0.3, 0.5, 0.7), position=(1.0, -2.0, 3.0)))
    np.testing.assert_allclose(np.ptp(vertices, axis=0), (0.3, 0.5, 0.7), rtol=1e-3)
    np.testing.assert_allclose((vertices.max(axis=0) + vertices.min(axis=0)) / 2, (1, -2, 3), atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "volume"),
    [("ball", np.pi / 6), ("box", 1.0), ("cylinder", np.pi / 4), ("ring", 2 * np.pi**2 * 0.4 * 0.1 * 0.5)],
)
def test_surfaces_are_closed_and_face_outward(shape: Shape, volume: float) -> None:
    """The divergence theorem gives the volume, positive only when every face is wound outward."""
    size = (0.4, 0.6, 0.9)
    points, normals = corners(shape, size)
    a, b, c = np.moveaxis(points, 1, 0)
    signed = float((a * np.cross(b, c)).sum() / 6)
    assert signed == pytest.approx(volume * np.prod(size), rel=5e-3)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=-1), 1, atol=1e-12)
    assert np.cross(b - a, c - a).sum(axis=0) == pytest.approx(np.zeros(3), abs=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_vertex_normals_follow_the_faces_of_a_stretched_shape(shape: Shape) -> None:
    points, normals = corners(shape, (0.4, 0.6, 0.1 if shape == "ring" else 0.9))
    flat = np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0])
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    agreement = (normals * flat[:, None]).sum(axis=-1)
    assert agreement.min() > np.cos(np.deg2rad(9))
    if shape == "box":
        assert agreement.min() > 1 - 1e-12


def test_it_turns_about_x_then_y_then_z_of_the_world() -> None:
    np.testing.assert_allclose(rotation((90.0, 0.0, 0.0)) @ (0, 1, 0), (0, 0, 1), atol=1e-12)
    np.testing.assert_allclose(rotation((0.0, 90.0, 0.0)) @ (0, 0, 1), (1, 0, 0), atol=1e-12)
    np.testing.assert_allclose(rotation((0.0, 0.0, 90.0)) @ (1, 0, 0), (0, 1, 0), atol=1e-12)
    one_by_one = rotation((0.0, 0.0, 30.0)) @ rotation((0.0, 20.0, 0.0)) @ rotation((10.0, 0.0, 0.0))
    np.testing.assert_allclose(rotation((10.0, 20.0, 30.0)), one_by_one, atol=1e-12)
    standing, _, _ = occluder_mesh(occluder("box", size=(0.1, 0.2, 2.0), turn=(90.0, 0.0, 0.0)))
    np.testing.assert_allclose(np.ptp(standing, axis=0), (0.1, 2.0, 0.2), atol=1e-12)

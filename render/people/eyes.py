"""Eyeballs: where they are, where they look, and their surface."""

import numpy as np
from jaxtyping import Float64, Int32

from render.people.body import BodyModel, product, rotation
from render.people.looks import eye_material
from render.people.mesh import constant_parts, vertex_normals
from render.people.parts import PART
from render.people.spec import EyeSpec
from render.person import Surface

RINGS, SECTORS = 22, 28
IRIS_ANGLE = 27.5  # half angle of the iris seen from the eyeball's centre, degrees


def build_eye(
    eyes: EyeSpec,
    side: str,
    posed: Float64[np.ndarray, "v 3"],
    head: Float64[np.ndarray, "3 3"],
    model: BodyModel,
) -> Surface:
    """A sphere with a corneal bulge, fitted to the helper eyeball and turned to the gaze."""
    helper = np.unique(model.quads[f"helper-{side}-eye"])
    points = posed[helper]
    centre = (points.min(0) + points.max(0)) / 2
    radius = float(np.sqrt(((points - centre) ** 2).sum(1)).mean()) * 0.985
    polar = np.degrees(
        np.concatenate(
            [
                np.linspace(0, np.radians(IRIS_ANGLE), 9),
                np.linspace(np.radians(IRIS_ANGLE), np.pi, RINGS - 8)[1:],
            ]
        )
    )
    turn = np.linspace(0, 2 * np.pi, SECTORS, endpoint=False)
    theta = np.radians(polar)[:, None]
    bulge = 1.0 + 0.045 * np.clip(1.0 - (polar / (IRIS_ANGLE * 1.15)) ** 2, 0, 1)[:, None]
    local = (
        np.stack(
            [np.sin(theta) * np.cos(turn), -np.cos(theta) * np.ones_like(turn), np.sin(theta) * np.sin(turn)],
            axis=2,
        )
        * (radius * bulge)[..., None]
    )
    gaze = product(rotation(np.array([0.0, 0.0, eyes.yaw])), rotation(np.array([-eyes.pitch, 0.0, 0.0])))
    frame = product(head, gaze)
    vertices = (local.reshape(-1, 3)[:, None, :] * frame[None]).sum(2) + centre
    faces = _grid_faces(len(polar), SECTORS)
    normals = vertex_normals(vertices, faces)
    if float(((vertices - centre) * normals).sum()) < 0:
        faces, normals = faces[:, ::-1].copy(), -normals
    return Surface(
        name=f"eye_{side}",
        vertices=vertices,
        faces=faces,
        normals=normals,
        uv=None,
        part_ids=constant_parts(faces, PART["Face_Neck"]),
        material=eye_material(eyes),
        attributes={
            "radial": np.repeat(polar / IRIS_ANGLE, SECTORS),
            "angle": np.abs(np.tile(turn, len(polar)) - np.pi),
        },
    )


def _grid_faces(rows: int, columns: int) -> Int32[np.ndarray, "f 3"]:
    """Triangles of rows x columns points, closed in the column direction; no degenerate ones at the poles."""
    column = np.arange(columns)
    after = (column + 1) % columns
    strips = []
    for row in range(rows - 1):
        a, b = row * columns + column, row * columns + after
        c, d = b + columns, a + columns
        if row > 0:
            strips.append(np.stack([a, b, c], axis=1))
        if row < rows - 2:
            strips.append(np.stack([a, c, d], axis=1))
    return np.asarray(np.concatenate(strips), dtype=np.int32)

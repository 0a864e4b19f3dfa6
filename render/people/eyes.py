"""Eyeballs: where they are, where they look, and their surface."""

from dataclasses import dataclass

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
BULGE, BULGE_EXTENT = 0.045, 1.15  # height of the cornea / radius of the eyeball; its edge / that of the iris


@dataclass(frozen=True)
class Eyeball:
    """A sphere with a corneal bulge. frame: its axes in the world, columns: the person's left, back along the
    gaze, up.
    """

    centre: Float64[np.ndarray, " 3"]
    radius: float
    frame: Float64[np.ndarray, "3 3"]

    def surface(
        self, polar: Float64[np.ndarray, " n"], turn: Float64[np.ndarray, " n"]
    ) -> Float64[np.ndarray, "n 3"]:
        """World points at `polar` degrees from the gaze, `turn` radians from the person's left upwards."""
        theta = np.radians(polar)
        bulge = 1.0 + BULGE * np.clip(1.0 - (polar / (IRIS_ANGLE * BULGE_EXTENT)) ** 2, 0, 1)
        sideways = np.sin(theta)
        local = np.stack([sideways * np.cos(turn), -np.cos(theta), sideways * np.sin(turn)], axis=1)
        local *= (self.radius * bulge)[:, None]
        return np.asarray((local[:, None, :] * self.frame[None]).sum(2) + self.centre)


def fit_eyeball(
    eyes: EyeSpec,
    side: str,
    posed: Float64[np.ndarray, "v 3"],
    head: Float64[np.ndarray, "3 3"],
    model: BodyModel,
) -> Eyeball:
    """The eyeball of a side ("l", "r") that fills the posed helper eye, turned by head and gaze."""
    points = posed[np.unique(model.quads[f"helper-{side}-eye"])]
    centre = (points.min(0) + points.max(0)) / 2
    radius = float(np.sqrt(((points - centre) ** 2).sum(1)).mean()) * 0.985
    gaze = product(rotation(np.array([0.0, 0.0, eyes.yaw])), rotation(np.array([-eyes.pitch, 0.0, 0.0])))
    return Eyeball(centre, radius, product(head, gaze))


def build_eye(
    eyes: EyeSpec,
    side: str,
    posed: Float64[np.ndarray, "v 3"],
    head: Float64[np.ndarray, "3 3"],
    model: BodyModel,
) -> Surface:
    """The eyeball of a side as a mesh of rings around the gaze; one of them is the border of the iris."""
    ball = fit_eyeball(eyes, side, posed, head, model)
    inner = np.linspace(0, IRIS_ANGLE, 9)
    polar = np.concatenate([inner, np.linspace(IRIS_ANGLE, 180.0, RINGS - 8)[1:]])
    turn = np.linspace(0, 2 * np.pi, SECTORS, endpoint=False)
    vertices = ball.surface(np.repeat(polar, SECTORS), np.tile(turn, len(polar)))
    faces = _grid_faces(len(polar), SECTORS)
    normals = vertex_normals(vertices, faces)
    if float(((vertices - ball.centre) * normals).sum()) < 0:
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

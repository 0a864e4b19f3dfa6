"""What is sewn onto tops: collars, lapels, hoods, buttons; and the seams, pockets and zips drawn on cloth."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int32

from render.people.anchors import grid_faces, solid_surface
from render.people.cloth import Shell, Solid, push_out, with_hem
from render.people.cuts import upper_edges
from render.people.looks import fabric_material, plastic_material
from render.people.mesh import scatter_add, smooth, unit, vertex_normals
from render.people.spec import GarmentSpec
from render.person import Surface

Mark = tuple[str, float, float, float, float]
_FLY: tuple[Mark, ...] = (
    ("stitch", 0.0, 0.03, 0.022, 0.2),
    ("stitch", 0.055, 0.055, 0.3, 0.3),
    ("stitch", -0.3, 0.055, -0.055, 0.3),
)
_BACK_POCKETS: tuple[Mark, ...] = (("stitch", 1.035, 0.0, 1.12, 0.075), ("stitch", 0.88, 0.0, 0.965, 0.075))
MARKS: dict[str, tuple[Mark, ...]] = {
    "jeans": (*_FLY, *_BACK_POCKETS),
    "trousers": (_FLY[0], ("line", 3.9995, -1.0, 4.0005, -0.02)),
    "chinos": (*_FLY, ("line", 1.045, 0.05, 1.115, 0.052), ("line", 0.885, 0.05, 0.955, 0.052)),
    "shorts": _FLY,
    "shirt": (("stitch", -0.016, -0.5, 0.016, 1.0), ("stitch", 0.055, 0.34, 0.125, 0.42)),
    "polo": (("stitch", -0.015, 0.42, 0.015, 0.7),),
    "hoodie": (("stitch", -0.115, 0.04, 0.115, 0.16),),
    "jacket": (
        ("zip", -0.005, -0.5, 0.005, 1.0),
        ("line", 0.08, 0.08, 0.083, 0.18),
        ("line", -0.083, 0.08, -0.08, 0.18),
    ),
    "vest": (("zip", -0.005, -0.5, 0.005, 1.0),),
    "blazer": (
        ("line", 0.06, 0.10, 0.14, 0.103),
        ("line", -0.14, 0.10, -0.06, 0.103),
        ("line", 0.07, 0.375, 0.13, 0.378),
    ),
    "coat": (("line", 0.07, 0.08, 0.15, 0.084), ("line", -0.15, 0.08, -0.07, 0.084)),
}
"""Sewing on the texture coordinates of panels: front around u = 0, back around 1, sleeves 2, legs 4; v is
height.
"""


@dataclass(frozen=True)
class Collar:
    """Lengths in metres. stand: height of what rises; fall: width of what folds over, at the nape and at the
    front ends; bulge: how far the fold stands out; bare: the part of the loop in front without collar, 0..1.
    """

    stand: float
    nape: float
    front: float
    bulge: float
    bare: float


COLLARS: dict[str, Collar] = {
    "shirt": Collar(0.026, 0.036, 0.055, 0.004, 0.03),
    "polo": Collar(0.020, 0.036, 0.050, 0.004, 0.04),
    "jacket": Collar(0.030, 0.045, 0.055, 0.006, 0.05),
    "blazer": Collar(0.024, 0.034, 0.062, 0.006, 0.05),
    "coat": Collar(0.032, 0.050, 0.075, 0.008, 0.05),
    "hoodie": Collar(0.034, 0.150, 0.030, 0.030, 0.02),
}
BUTTONS: dict[str, tuple[float, float, float, float]] = {
    "shirt": (0.545, -0.2, 0.082, 0.0052),
    "polo": (0.545, 0.45, 0.045, 0.0052),
    "cardigan": (0.40, -0.2, 0.085, 0.009),
}
"""Highest, lowest place on the template's front, spacing and radius, metres."""
AROUND = 56


def trimmings(shell: Shell, garment: GarmentSpec, fit: str, under: list[Solid]) -> list[Surface]:
    """Collar or hood, and buttons, of a finished top."""
    if fit != "upper":
        return []
    made: list[Surface] = []
    if garment.kind in COLLARS:
        made += _collar(shell, garment, COLLARS[garment.kind], under)
    if garment.kind in BUTTONS and not garment.cut.get("open", 0.0):
        made += _buttons(shell, garment)
    return made


def _neck_loop(
    shell: Shell, garment: GarmentSpec
) -> tuple[Float64[np.ndarray, "n 3"], Float64[np.ndarray, "n 3"], Float64[np.ndarray, " n"]]:
    """The neck's edge from its front right round the nape to its front left: points, directions into the
    cloth, and place (0 nape .. 1 front).
    """
    neck = upper_edges(shell.template, shell.arm, garment.cut)["neck"]
    rim = np.flatnonzero((neck < 1e-6) & (shell.template[:, 2] > 0.3) & (shell.arm < 0.5))
    turn = np.arctan2(shell.template[rim, 0], shell.template[rim, 1] + 0.02)
    order = np.lexsort((-shell.template[rim, 2], turn))
    rim, turn = rim[order], turn[order]
    centre = shell.posed[shell.faces].mean(1)
    inward = scatter_add(
        shell.faces.reshape(-1),
        np.repeat(centre, 3, axis=0) - shell.posed[shell.faces.reshape(-1)],
        len(shell.posed),
    )
    points, into = shell.posed[rim], unit(inward[rim])
    step = np.concatenate([[0.0], np.sqrt((np.diff(points, axis=0) ** 2).sum(1))])
    length = np.cumsum(step) + 1e-9 * np.arange(len(rim))
    at = np.linspace(0, length[-1], AROUND)

    def even(values: np.ndarray) -> np.ndarray:
        out = np.stack([np.interp(at, length, values[:, c]) for c in range(values.shape[1])], axis=1)
        for _ in range(4):
            out[1:-1] = 0.25 * out[:-2] + 0.5 * out[1:-1] + 0.25 * out[2:]
        return out

    return even(points), unit(even(into)), even(np.abs(turn)[:, None] / np.pi)[:, 0]


def _collar(shell: Shell, garment: GarmentSpec, collar: Collar, under: list[Solid]) -> list[Surface]:
    """Stand and fall around the neck; in front of a V the fall is a lapel that narrows towards its lower
    end.
    """
    points, into, front = _neck_loop(shell, garment)
    keep = front < 1.0 - collar.bare
    points, into, front = points[keep], into[keep], front[keep]
    if len(points) < 12:
        return []
    middle = points[front < 0.75].mean(0)
    spun = np.cross(points[:-1] - middle, points[1:] - middle).sum(0)
    axis = unit(spun * (1.0 if (spun * into.mean(0)).sum() < 0 else -1.0))
    vee = garment.cut.get("vee", 0.0)
    late = np.clip((front - 0.62) / 0.38, 0, 1)
    collar = _scaled(collar, float(np.ptp(shell.bare[:, 2]) / np.ptp(shell.template[:, 2])))
    stand = collar.stand * (1 - late * min(1.0, 2.5 * vee))
    fall = collar.nape + (collar.front - collar.nape) * np.clip((front - 0.45) / 0.4, 0, 1)
    if vee > 0:
        fall = fall * np.clip((1.0 - front) / 0.16, 0.12, 1)
    away = points - middle
    away = unit(away - axis * (away * axis).sum(1, keepdims=True))
    high = points + axis * stand[:, None] - 0.10 * stand[:, None] * away
    low = points + into * fall[:, None] + away * (0.006 + collar.bulge)
    if garment.kind == "hoodie":
        low = low + away * (collar.bulge * (1 - front))[:, None]
    rows = [points + 0.002 * away, 0.5 * (points + high), high]
    rows += [
        high + (low - high) * t + away * collar.bulge * (1.2 * np.sin(np.pi * min(1.0, t + 0.25)) + 0.3)
        for t in (0.08, 0.4, 0.75)
    ]
    rows += [low]
    grid = np.stack(rows)
    vertices = grid.reshape(-1, 3)
    faces = grid_faces(len(rows), grid.shape[1], False)
    looks = vertex_normals(vertices, faces)[-grid.shape[1] :]
    if float((looks * away).sum()) < 0:
        faces = np.ascontiguousarray(faces[:, ::-1])
    cloth: Solid = (shell.posed, shell.normals())
    vertices = push_out(vertices, faces, under[:1], 0.003, rounds=2)
    fold = len(points) * 3
    vertices[fold:] = push_out(vertices, faces, [cloth], 0.004, rounds=2)[fold:]
    vertices = smooth(vertices, faces, 1, 0.35)
    thick, faces, _ = with_hem(vertices, vertex_normals(vertices, faces), faces, 0.002, 0.006)
    return [solid_surface("collar", thick, faces, "Upper_Clothing", fabric_material(garment.fabric))]


def _scaled(collar: Collar, size: float) -> Collar:
    """For a body that much larger than the template."""
    stand, nape, front, bulge = (size * v for v in (collar.stand, collar.nape, collar.front, collar.bulge))
    return Collar(stand, nape, front, bulge, collar.bare)


def _buttons(shell: Shell, garment: GarmentSpec) -> list[Surface]:
    """A row of buttons down the front, each a low cone on the cloth."""
    top, bottom, spacing, radius = BUTTONS[garment.kind]
    heights = np.arange(top, max(bottom, garment.cut["hem"] + 0.03), -spacing)
    front = np.flatnonzero((np.abs(shell.template[:, 0]) < 0.03) & (shell.template[:, 1] < -0.03))
    if len(front) < 8 or not len(heights):
        return []
    flat = shell.template[front][:, [0, 2]]
    normals = shell.normals()
    made: list[np.ndarray] = []
    faces: list[np.ndarray] = []
    angle = np.arange(10) * (2 * np.pi / 10)
    for height in heights:
        distance = ((flat - np.array([0.0, height])) ** 2).sum(1)
        near = np.argsort(distance, kind="stable")[:4]
        if distance[near[0]] > 0.02**2:
            continue
        weight = 1.0 / (distance[near] + 1e-6)
        weight = (weight / weight.sum())[:, None]
        at, look = (shell.posed[front[near]] * weight).sum(0), unit((normals[front[near]] * weight).sum(0))
        side = unit(np.cross(look, np.array([0.0, 0.0, 1.0]) + 1e-3))
        ring = side * np.cos(angle)[:, None] + np.cross(look, side) * np.sin(angle)[:, None]
        base = 11 * len(made) * 2
        made.append(
            np.concatenate(
                [
                    at + radius * ring,
                    (at + 0.0032 * look)[None],
                    at + 0.85 * radius * ring + 0.003 * look,
                    (at + 0.0018 * look)[None],
                ]
            )
        )
        faces.append(_button_faces() + base)
    points = np.concatenate(made) if made else np.zeros((0, 3))
    if not len(points):
        return []
    colour = (0.75, 0.73, 0.68) if garment.fabric.seed % 2 else (0.03, 0.025, 0.02)
    return [
        solid_surface(
            "buttons", points, np.concatenate(faces), "Upper_Clothing", plastic_material(colour, 0.35)
        )
    ]


def _button_faces() -> Int32[np.ndarray, "f 3"]:
    """Side and top of a button: outer ring 0-9, inner ring 11-20 with its middle 21."""
    i = np.arange(10)
    j = (i + 1) % 10
    side = [np.stack([i, j, 11 + j], axis=1), np.stack([i, 11 + j, 11 + i], axis=1)]
    return np.asarray(
        np.concatenate([*side, np.stack([11 + i, 11 + j, np.full(10, 21)], axis=1)]), dtype=np.int32
    )

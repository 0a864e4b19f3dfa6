"""Scarves, ties, belts and gloves."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Int32
from scipy.spatial import cKDTree

from render.people.accessories.lying import (
    Mesh,
    loop_around,
    loop_axes,
    merged,
    ring_mesh,
    skin_normals,
    skin_rows,
    taut_radius,
    wrist_at,
)
from render.people.accessories.neckwear import build_scarf, build_tie
from render.people.accessories.wearer import Wearer
from render.people.anchors import Points, capped, place, solid_surface, tube
from render.people.body import body_model
from render.people.cloth import Solid
from render.people.cuts import along_arm
from render.people.looks import fabric_material, metal_material
from render.people.mesh import boundary_edges, clip, compact, smooth
from render.people.palette import METALS
from render.people.parts import region_weights
from render.people.spec import GarmentSpec
from render.person import Surface

CUFF = (
    (-1.0, 0.0004),
    (-1.0, 0.0022),
    (-0.93, 0.0032),
    (-0.4, 0.0031),
    (0.2, 0.0031),
    (0.8, 0.0034),
    (1.0, 0.0026),
    (1.0, 0.0008),
)
"""Outline of a glove's cuff: place along the arm in half lengths, metres off the skin."""

__all__ = ["build_belt", "build_gloves", "build_scarf", "build_tie"]

THICK = 0.0034  # of a belt, metres
BELT = np.array([[-0.5, 0.0], [0.5, 0.0], [0.5, 0.65], [0.45, 1.0], [0.0, 1.06], [-0.45, 1.0], [-0.5, 0.65]])
"""Outline of a belt: place across it, and height in thicknesses."""


def _bottoms(wearer: Wearer) -> Solid | None:
    """The outermost cloth that ends at the waist."""
    tree, rows, found = cKDTree(wearer.under[0][0]), skin_rows(), None
    for cloth in wearer.under[1:]:
        if len(cloth[0]) < 200:
            continue
        height = wearer.model.template[rows[tree.query(cloth[0][::9])[1]], 2]
        if height.min() < -0.05 and 0.06 < np.quantile(height, 0.99) < 0.24:
            found = cloth
    return found


@dataclass(frozen=True, eq=False)
class _Waist:
    """A band around the waist. radii: lower, middle and upper, metres, and line: its height, in 120
    directions from the front over the left.
    """

    middle: Float64[np.ndarray, " 3"]
    axes: Float64[np.ndarray, "3 3"]
    radii: Float64[np.ndarray, "120 3"]
    line: Float64[np.ndarray, " 120"]
    width: float

    def at(self, along: np.ndarray, across: np.ndarray, lift: np.ndarray) -> np.ndarray:
        """Places (..., 3) on the band: metres from the buckle to the left, across -0.5..0.5, metres out."""
        angle = along / self.radii[0, 1]
        index = (angle % (2 * np.pi)) * (120 / (2 * np.pi))
        low = index.astype(int) % 120
        part = (index - np.floor(index))[..., None]
        reach = self.radii[low] * (1 - part) + self.radii[(low + 1) % 120] * part
        height = self.line[low] * (1 - part[..., 0]) + self.line[(low + 1) % 120] * part[..., 0]
        side = np.clip(across / 0.4, -1, 1)
        end = np.where(side < 0, reach[..., 0], reach[..., 2])
        out = reach[..., 1] + np.abs(side) * (end - reach[..., 1]) + lift
        flat = np.stack([out * np.cos(angle), out * np.sin(angle), height + across * self.width], axis=-1)
        return np.asarray(self.middle + (flat[..., None] * self.axes).sum(-2))


def build_belt(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """A leather belt drawn tight around the waistband of trousers or a skirt, with its buckle in front. cut:
    `width` in metres.
    """
    waist = _waist(wearer, garment.cut["width"])
    if waist is None:
        return ()
    along = (2 * np.pi * waist.radii[0, 1] * np.arange(120) / 120)[:, None]
    strap = waist.at(along + 0 * BELT[:, 0], BELT[:, 0] + 0 * along, THICK * BELT[:, 1])
    t = np.linspace(0.0, 1.0, 26)[:, None]
    tip = np.sqrt(1 - np.clip((t - 0.86) / 0.14, 0, 0.985) ** 2)
    free = waist.at(0.004 + 0.13 * t + 0 * BELT[:, 0], tip * BELT[:, 0] * 0.96, THICK * (0.95 + BELT[:, 1]))
    wrap = np.array([[-0.54, 0.2], [-0.54, 2.2], [0.0, 2.35], [0.54, 2.2], [0.54, 0.2]])
    place_at = np.array([[0.040], [0.041], [0.048], [0.049]])
    rise = np.array([[0.9], [1.0], [1.0], [0.9]])
    keeper = waist.at(place_at + 0 * wrap[:, 0], wrap[:, 0] + 0 * place_at, THICK * rise * wrap[:, 1])
    leather = merged([ring_mesh(strap), capped(free), capped(keeper)])
    metal = metal_material(METALS["gold" if garment.fabric.seed % 3 == 0 else "steel"], 0.25)
    return (
        solid_surface("belt", *leather, "Apparel", fabric_material(garment.fabric)),
        solid_surface("belt_buckle", *_buckle(waist), "Apparel", metal),
    )


def _buckle(waist: _Waist) -> Mesh:
    """A rounded frame that the belt runs through, and its prong."""
    corner = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    s, c = (np.sign(f) * np.abs(f) ** 0.45 for f in (np.sin(corner), np.cos(corner)))
    frame = tube(waist.at(0.021 * c - 0.012, 0.62 * s, np.full(28, 1.75 * THICK)), 0.0021, 8, closed=True)
    lifts = THICK * np.array([1.4, 2.4, 2.6, 2.35])
    prong = tube(waist.at(np.array([-0.033, -0.02, 0.0, 0.0085]), np.zeros(4), lifts), 0.0015, 6)
    return merged([frame, prong])


def _waist(wearer: Wearer, width: float) -> _Waist | None:
    """Where a belt of a width lies on what is worn below; None where nothing has a waistband."""
    cloth = _bottoms(wearer)
    if cloth is None:
        return None
    loop, _ = place(
        loop_around((0.07, 0.115), (-0.145, 0.115), 0.14),
        wearer.posed,
        skin_normals(wearer),
    )
    middle, axes = loop_axes(loop)
    local = ((cloth[0] - middle)[:, None] * axes).sum(2)
    local = local[(np.abs(local[:, 2]) < 0.13) & ((local[:, :2] ** 2).sum(1) < 0.42**2)]
    turn = np.arange(120) * (2 * np.pi / 120)
    line = _rim(local, turn) - 0.5 * width - 0.006
    off = local[:, 2] - np.interp(np.arctan2(local[:, 1], local[:, 0]), turn, line, period=2 * np.pi)
    rows = [local[np.abs(off - a * width) < 0.3 * width + 0.005, :2] for a in (-0.4, 0.0, 0.4)]
    if any(len(r) < 12 for r in rows):
        return None
    radii = np.stack([taut_radius(r, turn) for r in rows], axis=1) + 0.0008
    return _Waist(middle, axes, radii, line, width)


def _rim(local: Points, turn: Float64[np.ndarray, " a"]) -> Float64[np.ndarray, " a"]:
    """Height of a waistband's upper edge in directions."""
    slot = np.floor((np.arctan2(local[:, 1], local[:, 0]) % (2 * np.pi)) / (2 * np.pi / 40)).astype(int) % 40
    top = np.full(40, -9.0)
    np.maximum.at(top, slot, local[:, 2])
    known = np.flatnonzero(top > -9.0)
    top = np.interp(np.arange(40), known, top[known], period=40)
    for _ in range(6):
        top = 0.25 * np.roll(top, 1) + 0.5 * top + 0.25 * np.roll(top, -1)
    return np.asarray(np.interp(turn, (np.arange(40) + 0.5) * (2 * np.pi / 40), top, period=2 * np.pi))


def build_gloves(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """Gloves over both hands with a ribbed (or, of leather, smooth) cuff. cut: `cuff` 0 short .. 1 long."""
    normals = skin_normals(wearer)
    made: list[Surface] = []
    knitted = garment.fabric.pattern != "leather"
    for side in "LR":
        used, faces, level = _hand(side)
        skin, look = wearer.posed[used], normals[used]
        points = skin + _thickness(skin, look, 0.0024 if knitted else 0.0019)[:, None] * look
        for _ in range(2):
            points = smooth(points, faces, 1, 0.35)
            low = 0.0016 - ((points - skin) * look).sum(1)
            points = points + np.maximum(low, 0.0)[:, None] * look
        cut, faces = clip(np.concatenate([points, level[:, None]], axis=1), faces, level)
        points = np.ascontiguousarray(cut[:, :3])
        made.append(
            solid_surface("gloves", *_shut(points, faces), "Apparel", fabric_material(garment.fabric))
        )
        made += _cuff(garment, wearer, side, knitted)
    return tuple(made)


def _shut(points: Points, faces: Int32[np.ndarray, "f 3"]) -> Mesh:
    """A glove closed inside the wrist, where its cuff and the arm hide that."""
    edges = boundary_edges(faces)
    fan = np.stack([edges[:, 1], edges[:, 0], np.full(len(edges), len(points))], axis=1)
    middle = points[np.unique(edges)].mean(0)[None]
    return np.concatenate([points, middle]), np.concatenate([faces, fan]).astype(np.int32)


def _thickness(skin: Points, look: Points, thick: float) -> Float64[np.ndarray, " v"]:
    """How far a glove stands off the skin: less where fingers touch."""
    distance, near = cKDTree(skin).query(skin, k=14)
    facing = (look[near] * look[:, None]).sum(2) < -0.2
    gap = np.where(facing, distance, 1.0).min(1)
    return np.asarray(np.clip(0.42 * gap, 0.0012, thick))


@lru_cache(maxsize=2)
def _hand(side: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Template vertices of a hand and wrist, its triangles over those, and metres to the glove's edge."""
    model = body_model()
    arm = region_weights()[f"Hand.{side}"] + region_weights()[f"Lower_Arm.{side}"]
    faces = model.faces("body")
    place_at = along_arm(model.template)
    keep = (arm[faces] > 0.5).all(1) & (place_at[faces] > 1.8).any(1)
    used, local = compact(faces[keep], len(model.template))
    return used, local, (place_at[used] - 1.93) * 0.2315


def _cuff(garment: GarmentSpec, wearer: Wearer, side: str, knitted: bool) -> list[Surface]:
    """A band up the wrist, over the glove's edge."""
    half = 0.016 + 0.016 * garment.cut["cuff"]
    arm = wrist_at(wearer, side, -0.004 - half, half, 1)
    if arm is None:
        return []
    turn = np.linspace(0, 2 * np.pi, 96 if knitted else 48, endpoint=False)
    ring = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    ribs = 0.0004 * np.cos(24 * turn) if knitted else 0 * turn
    rows = []
    for across, lift in CUFF:
        near = arm.cloud[np.abs(arm.cloud[:, 2] - across * half) < 0.018, :2]
        near = near if len(near) > 5 else arm.flat(half)
        middle = 0.5 * (near.max(0) + near.min(0))
        reach = taut_radius(near - middle, turn) + lift + ribs * (lift > 0.002)
        height = np.full((len(turn), 1), across * half)
        rows.append(np.concatenate([middle + ring * reach[:, None], height], axis=1))
    points, faces = ring_mesh(arm.world(np.stack(rows, axis=1)))
    return [solid_surface("gloves_cuff", points, faces, "Apparel", fabric_material(garment.fabric))]

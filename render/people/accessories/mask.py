"""Face masks."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float64

from render.people.accessories.solids import (
    Grid,
    Solid,
    bar,
    beside,
    carried,
    cast,
    head_faces,
    hoop,
    looking,
    made_up,
    plate,
    section,
    together,
)
from render.people.accessories.wearer import Wearer
from render.people.anchors import Binding
from render.people.hair.frame import HeadFrame, head_frame
from render.people.looks import cloth_material, plastic_material
from render.people.mesh import unit
from render.people.spec import GarmentSpec
from render.person import Surface

ROWS, COLUMNS = 31, 33
MIDDLE = np.array([0.0, -0.075, 0.665])  # within the mouth, the template's metres
CLEAR = 0.0032  # least height above the skin, metres
LOOP = (
    (-0.078, 0.722),
    (-0.067, 0.733),
    (-0.057, 0.7372),
    (-0.046, 0.7352),
    (-0.037, 0.7270),
    (-0.0315, 0.7150),
    (-0.0305, 0.7020),
    (-0.036, 0.6890),
    (-0.047, 0.6780),
    (-0.058, 0.6680),
    (-0.070, 0.6560),
)
"""(y, z) on the template's side: an elastic's way from the mask over the ear, down behind it and back."""


@lru_cache(maxsize=1)
def _loop_places() -> tuple[Binding, Binding]:
    """The skin under LOOP, left and right."""
    left, right = (beside(LOOP, side) for side in (1.0, -1.0))
    return left, right


@lru_cache(maxsize=5)
def _mask_places(size: int) -> Binding:
    """The skin under a mask of size 0..4: rows from nose to under the chin, columns from right to left."""
    u = np.linspace(-1, 1, COLUMNS)[None]
    v = np.linspace(0, 1, ROWS)[:, None]
    azimuth = np.radians(70 + 1.5 * size) * u + 0 * v
    top = np.radians(22.5 + 0.75 * size + 2.5 * u**2 + 2 * np.exp(-((u / 0.3) ** 2)))
    bottom = np.radians(-47 + 25 * np.abs(u) ** 1.6)
    elevation = top + (bottom - top) * v
    rays = looking(azimuth, elevation)
    return cast(MIDDLE, rays.reshape(-1, 3), head_faces())


def build_mask(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """A mask over nose, mouth and chin, pleated or (one in three) with a seam down its middle, on elastics
    around the ears. cut: `size` 0 small .. 1 large.
    """
    cut, frame = garment.cut, head_frame(wearer.posed, wearer.skeleton, wearer.model)
    skin = frame.local(carried(_mask_places(round(4 * cut["size"])), wearer.posed)).reshape(ROWS, COLUMNS, 3)
    away = skin - MIDDLE
    reach = np.sqrt((away * away).sum(2))
    outside = MIDDLE + away / reach[..., None] * _tent(reach, int(cut["seed"]) % 3 == 0)[..., None]
    inside = outside - 0.0012 * unit(away)
    sheet = plate(outside, inside, 0.4)
    white = plastic_material((0.62, 0.62, 0.61), 0.6)
    loops = together([_elastic(outside, side, wearer, frame) for side in (1.0, -1.0)])
    cloth = cloth_material(garment.fabric, (), cut)
    return (
        made_up("mask", sheet, "Apparel", cloth, frame),
        made_up("mask_binding", _binding(outside), "Apparel", cloth, frame),
        made_up("mask_loops", loops, "Apparel", white, frame),
    )


def _tent(skin: Float64[np.ndarray, "rows columns"], seamed: bool) -> Float64[np.ndarray, "rows columns"]:
    """Distances of cloth stretched over the face from MIDDLE; skin: those of the skin."""
    least = skin + CLEAR
    cloth = least
    for _ in range(60):
        padded = np.pad(cloth, 1, mode="edge")
        even = 0.25 * (padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:])
        cloth = np.maximum(0.25 * cloth + 0.75 * even, least)
    u, v = np.linspace(-1, 1, COLUMNS)[None], np.linspace(0, 1, ROWS)[:, None]
    pinch = np.clip((v - 0.04) / 0.28, 0, 1)  # the wire in its upper edge, under spectacles
    cloth = least + (cloth - least) * pinch * pinch * (3 - 2 * pinch)
    if seamed:
        return np.asarray(cloth + 0.0030 * np.exp(-((u / 0.10) ** 2)) * np.sin(np.pi * v))
    place = np.clip((v - 0.18) / 0.60, 0, 1) * 3
    step = np.where((place > 0) & (place < 3), 1 - place % 1.0, 0.0)
    return np.asarray(cloth + 0.0036 * step * (1 - u**6))


def _binding(outside: Grid) -> Solid:
    """The tape around a mask's edge."""
    edge = [outside[0], outside[1:-1, -1], outside[-1, ::-1], outside[-2:0:-1, 0]]
    path = np.concatenate(edge)
    nearer = np.concatenate([outside[2], outside[1:-1, -3], outside[-3, ::-1], outside[-2:0:-1, 2]])
    out = unit(path - MIDDLE)
    into = unit(nearer - path)
    rings = [path + 0.0022 * a * into + (0.0011 * b - 0.0004) * out for a, b in section(1.0, 1.0)]
    return hoop(np.stack(rings), 0.01)


def _elastic(outside: Grid, side: float, wearer: Wearer, frame: HeadFrame) -> Solid:
    """From a mask's upper corner around the ear to its lower one."""
    column = outside[:, -1 if side > 0 else 0]
    skin = frame.local(carried(_loop_places()[0 if side > 0 else 1], wearer.posed))
    skin = skin + np.array([side * 0.0016, 0.0, 0.0])
    nodes = np.concatenate([column[1:2], skin, column[-2:-1]])
    way = np.concatenate([[0.0], np.cumsum(np.sqrt((np.diff(nodes, axis=0) ** 2).sum(1)))])
    at = np.linspace(0, way[-1], 40)
    path = np.stack([np.interp(at, way, nodes[:, a]) for a in range(3)], axis=1)
    path[1:-1] = 0.25 * path[:-2] + 0.5 * path[1:-1] + 0.25 * path[2:]
    out = np.broadcast_to(np.array([side, 0.0, 0.0]), path.shape)
    return bar(path, out, np.full(40, 0.0007), np.full(40, 0.0014))

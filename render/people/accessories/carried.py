"""What is carried: backpacks and bags."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float64
from scipy.spatial import cKDTree

from render.people.accessories.lying import (
    Mesh,
    Path,
    both,
    clear_of,
    even_path,
    frames,
    lofted,
    looks_of,
    loop_around,
    loop_axes,
    merged,
    off_arms,
    skin_normals,
    smoothed,
    solid_near,
)
from render.people.accessories.wearer import Wearer
from render.people.anchors import (
    Binding,
    Points,
    bind,
    capped,
    outwards,
    place,
    solid_surface,
    tube,
)
from render.people.cloth import Solid
from render.people.looks import fabric_material, metal_material, plastic_material
from render.people.mesh import unit
from render.people.palette import METALS
from render.people.spec import GarmentSpec
from render.person import Surface

AROUND = 36
STRAP = np.array(
    [[-1.0, 0.1], [-1.0, 0.6], [-0.8, 1.0], [0.0, 1.08], [0.8, 1.0], [1.0, 0.6], [1.0, 0.1], [0.0, 0.0]]
)
"""Outline of a strap: place across in half widths, height in thicknesses."""
BACKPACK = np.array(
    [
        [0.075, 0.040, 0.555],
        [0.082, 0.005, 0.578],
        [0.090, -0.045, 0.560],
        [0.100, -0.085, 0.515],
        [0.112, -0.105, 0.450],
        [0.125, -0.095, 0.385],
        [0.145, -0.050, 0.330],
        [0.150, 0.000, 0.300],
    ]
)
"""Where a strap of a backpack lies on the template: from behind the left shoulder to below the armpit."""
CROSSING = np.array(
    [
        [0.120, -0.110, 0.160],
        [0.060, -0.150, 0.280],
        [-0.020, -0.130, 0.430],
        [-0.070, -0.075, 0.545],
        [-0.082, 0.010, 0.575],
        [-0.060, 0.050, 0.500],
        [0.000, 0.040, 0.400],
        [0.070, 0.030, 0.270],
        [0.120, 0.030, 0.160],
    ]
)
"""Where the strap of a bag at the left hip lies: up the front, over the right shoulder, down the back."""
SIDES = (80.0, 105.0, 60.0, 125.0, 42.0, 142.0)
"""Where a bag may hang, best first: degrees around the hips from the front."""


@lru_cache(maxsize=4)
def _bound(which: str, sign: float) -> Binding:
    """Places of a strap, or of the back (9 heights by 3), on the template's skin."""
    height, across = np.meshgrid(np.linspace(0.14, 0.54, 9), np.array([-0.09, 0.0, 0.09]), indexing="ij")
    back = np.stack([across, 0.05 + 0 * across, height], axis=2).reshape(-1, 3)
    points = {"back": back, "backpack": BACKPACK, "crossing": CROSSING}[which]
    bound = bind(points * np.array([sign, 1.0, 1.0]))
    return Binding(bound.corners, bound.weights, np.zeros(len(points)))


def _pouch(
    half: float, span: tuple[float, float], base: Float64[np.ndarray, " n"], depth: float, round_: float
) -> Float64[np.ndarray, "n 36 3"]:
    """Outlines (across, up, outwards) of a soft box from a height to another: as deep as `depth` outwards of
    `base`, which is given at its n heights; `round_` 2 is an egg, 8 a box.
    """
    t = _heights(len(base))
    shut = (1 - np.abs(2 * t - 1) ** round_) ** (1 / round_)
    turn = np.arange(AROUND) * (2 * np.pi / AROUND)
    c, s = (np.sign(f) * np.abs(f) ** 0.5 for f in (np.cos(turn), np.sin(turn)))
    deep = 0.5 * depth * shut**1.4 * (1.08 - 0.2 * t)
    bulge = 1 + 0.05 * np.sin(5 * t[:, None] + 3 * turn) * (s > 0)
    out = base[:, None] + deep[:, None] * (1 + s * bulge)
    up = span[0] + (span[1] - span[0]) * t
    return np.stack([half * shut[:, None] * c, np.repeat(up[:, None], AROUND, axis=1), out], axis=2)


def _heights(count: int) -> Float64[np.ndarray, " n"]:
    """Where outlines of a soft box lie between its bottom 0 and its top 1: dense at the ends."""
    return np.asarray(0.5 - 0.5 * np.cos(np.pi * np.linspace(0.05, 0.95, count)))


def build_backpack(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """A backpack on both shoulders: body, front pocket, zips, padded straps. cut: `size` as a factor."""
    normals = skin_normals(wearer)
    grid = place(_bound("back", 1.0), wearer.posed, normals)[0].reshape(9, 3, 3)
    up = grid[-1].mean(0) - grid[2].mean(0)
    scale = float(np.sqrt((up * up).sum())) / 0.3
    up = unit(up)
    left = grid[3:, 2].mean(0) - grid[3:, 0].mean(0)
    left = unit(left - up * (left * up).sum())
    axes, origin = np.stack([left, up, np.cross(up, left)]), grid[-1, 1]
    size = garment.cut["size"] * scale
    solid = both(*solid_near(wearer, off_arms(), grid[4, 1], 0.5))
    local = ((solid[0] - origin)[:, None] * axes).sum(2)
    half, low = 0.145 * size, -0.43 * size
    base = _back_line(local, 0.9 * half, low, 24)
    body = _pouch(half, (low, 0.0), base, 0.155 * size, 5.0)
    front = np.interp(np.linspace(0.08, 0.52, 14), _heights(24), body[..., 2].max(1))
    pocket = _pouch(0.74 * half, (0.92 * low, 0.48 * low), front - 0.018, 0.062 * size, 4.5)
    straps = [_backpack_strap(wearer, normals, sign, origin, axes, body, solid, size) for sign in (1.0, -1.0)]

    def world(mesh: Mesh) -> Mesh:
        points = origin + (mesh[0][..., None] * axes).sum(1)
        return points, outwards(points, mesh[1])

    cloth = fabric_material(garment.fabric)
    dark = plastic_material((0.02, 0.02, 0.022), 0.5)
    loop = np.linspace(0, np.pi, 9)
    grip = np.stack([0.03 * np.cos(loop), 0.028 * np.sin(loop) - 0.006, 0 * loop], axis=1) * size
    grip[:, 2] += base[-2] + 0.03 * size
    return (
        solid_surface("backpack", *world(merged([capped(body), capped(pocket)])), "Apparel", cloth),
        solid_surface(
            "backpack_straps", *merged([*straps, world(tube(grip, 0.005 * size, 8))]), "Apparel", cloth
        ),
        solid_surface("backpack_zips", *world(merged(_zips(body, pocket))), "Apparel", dark),
    )


def _back_line(local: Path, half: float, low: float, count: int) -> Float64[np.ndarray, " n"]:
    """How far back the back reaches at the heights of a box from `low` to 0, evened out from outside."""
    heights = low * (1 - _heights(count))
    inside = np.abs(local[:, 0]) < half
    line = np.full(count, -9.0)
    for i, height in enumerate(heights):
        near = local[inside & (np.abs(local[:, 1] - height) < 0.03), 2]
        line[i] = near.max() if len(near) else -9.0
    known = line > -9.0
    line = np.interp(heights, heights[known], line[known])
    lowest = line.copy()
    for _ in range(12):
        line = np.maximum(np.convolve(np.pad(line, 1, mode="edge"), (0.25, 0.5, 0.25), mode="valid"), lowest)
    return np.asarray(line + 0.003)


def _zips(body: np.ndarray, pocket: np.ndarray) -> list[Mesh]:
    """Over the top of the body from side to side, and along the top of the pocket."""
    rows, turn = np.arange(9, len(body)), 4
    over = np.concatenate([body[rows, turn], body[rows[::-1], AROUND // 2 - turn]])
    brow = pocket[-4, 2 : AROUND // 2 - 1]
    return [tube(even_path(p, closed=False, spacing=0.012)[0], 0.0028, 6) for p in (over, brow)]


def _backpack_strap(
    wearer: Wearer,
    normals: Points,
    sign: float,
    origin: np.ndarray,
    axes: np.ndarray,
    body: np.ndarray,
    solid: Solid,
    size: float,
) -> Mesh:
    """From the top of a pack over a shoulder, down the chest and under the arm to the pack's lower edge:
    padded at first, then webbing.
    """
    on = place(_bound("backpack", sign), wearer.posed, normals)[0]
    inner, half = body[..., 2].min(1), float(body[..., 0].max())
    top = np.array([sign * 0.062 * size, -0.05 * size, inner[-5] + 0.02 * size])
    end = np.array([sign * 0.9 * half, body[4, 0, 1], inner[4] + 0.03 * size])
    ends = origin + (np.stack([top, end])[..., None] * axes).sum(1)
    path = taut(np.concatenate([ends[:1], on, ends[1:]]), solid, 0.003, 14)
    t = np.linspace(0, 1, len(path))
    half_width = size * np.interp(t, (0, 0.1, 0.62, 0.7, 1), (0.024, 0.031, 0.028, 0.0125, 0.0125))
    thick = size * np.interp(t, (0, 0.62, 0.7, 1), (0.010, 0.010, 0.0028, 0.0028))
    return _strap(path, half_width, thick, solid)


def taut(path: Path, solid: Solid, margin: float, rounds: int) -> Path:
    """A path drawn tight between its ends over what it lies on, in even steps of 12 mm."""
    tree = cKDTree(solid[0])
    for spacing, turns in ((0.03, rounds), (0.012, 5)):
        path = even_path(path, closed=False, spacing=spacing)[0]
        for turn in range(turns):
            path = smoothed(path, 2 if turn < turns - 2 else 1, closed=False)
            path[1:-1] = clear_of(path, tree, solid, margin)[1:-1]
    return path


def _strap(
    path: Points, half: Float64[np.ndarray, " n"], thick: Float64[np.ndarray, " n"], solid: Solid
) -> Mesh:
    """A band of given half widths and thicknesses along a path, lying on a surface."""
    tree = cKDTree(solid[0])
    side, out = frames(path, smoothed(looks_of(path, tree, solid, 8), 4, closed=False))
    outline = STRAP * np.stack([half, thick], axis=1)[:, None] + np.array([0.0, 0.001])
    sections = lofted(path, side, out, outline)
    moved = sections.reshape(-1, 3)
    for _ in range(2):
        moved = clear_of(moved, tree, solid, outline[..., 1].reshape(-1))
    lifted = moved.reshape(sections.shape)
    lifted[[0, -1]] = sections[[0, -1]]
    return capped(lifted)


def build_bag(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """A bag at a hip on a strap over the other shoulder; nothing where arms or legs leave it no room. cut:
    `size` as a factor; `side` the left hip from 0 on.
    """
    normals = skin_normals(wearer)
    sign = 1.0 if garment.cut["side"] >= 0 else -1.0
    on = place(_bound("crossing", sign), wearer.posed, normals)[0]
    long = float(np.sqrt(((on[1:] - on[:-1]) ** 2).sum(1)).sum())
    size = garment.cut["size"] * long / 0.98
    hips, _ = place(loop_around((0.07, 0.07), (-0.135, 0.07), 0.16), wearer.posed, normals)
    middle, axes = loop_axes(hips)
    spot = _room(wearer, middle, axes, hips, sign, size)
    if spot is None:
        return ()
    origin, frame = spot
    wide, high, deep = 0.13 * size, 0.19 * size, 0.075 * size
    body = _pouch(wide, (-high, 0.0), np.zeros(18), deep, 7.0)
    flap = _pouch(1.03 * wide, (-0.62 * high, 0.012 * size), np.full(14, 0.45 * deep), 0.64 * deep, 7.0)
    lugs = np.array([[0.96 * wide, -0.01 * size, 0.4 * deep], [-0.96 * wide, -0.01 * size, 0.4 * deep]])
    turn = np.linspace(0, 2 * np.pi, 14, endpoint=False)
    ring = np.stack([np.cos(turn), 0.8 + np.sin(turn), 0 * turn], axis=1) * 0.011 * size
    clasp = _pouch(0.018 * size, (-0.58 * high, -0.42 * high), np.full(8, 0.98 * deep), 0.16 * deep, 5.0)

    def world(points: Points) -> Points:
        return np.asarray(origin + (points[..., None] * frame).sum(-2))

    solid = both(*solid_near(wearer, off_arms(), on.mean(0), 0.6))
    ends = world(lugs + np.array([0.0, 0.015 * size, 0.0]))
    order = (0, 1) if ((ends[0] - ends[1]) * axes[0]).sum() > 0 else (1, 0)
    path = taut(np.concatenate([ends[order[0]][None], on, ends[order[1]][None]]), solid, 0.003, 40)
    strap = _strap(path, np.full(len(path), 0.017 * size), np.full(len(path), 0.0032), solid)
    cloth = fabric_material(garment.fabric)
    metal = metal_material(METALS["gold" if garment.fabric.seed % 3 == 0 else "steel"], 0.25)
    made = [(world(p), f) for p, f in (capped(body), capped(flap), capped(clasp))]
    *leather, box = [(p, outwards(p, f)) for p, f in made]
    rings = [tube(world(ring + lug), 0.0016 * size, 6, closed=True) for lug in lugs]
    return (
        solid_surface("bag", *merged(leather), "Apparel", cloth),
        solid_surface("bag_strap", *strap, "Apparel", cloth),
        solid_surface("bag_metal", *merged([*rings, box]), "Apparel", metal),
    )


def _room(
    wearer: Wearer, middle: np.ndarray, axes: np.ndarray, hips: Points, sign: float, size: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """Where a bag hangs: the middle of its upper edge next to the body, and its axes (along the body, up,
    away from it). None where arms or legs are in the way everywhere.
    """
    trunk = both(*solid_near(wearer, off_arms(), middle, 0.4))[0] - middle
    arms = both(*solid_near(wearer, ~off_arms(), middle, 0.5))[0] - middle
    wide, high, deep = 0.135 * size, 0.19 * size, 0.09 * size
    for angle in np.radians(SIDES):
        away = np.cos(angle) * axes[0] + sign * np.sin(angle) * axes[1]
        away = unit(np.array([away[0], away[1], 0.0]))
        up = np.array([0.0, 0.0, 1.0])
        frame = np.stack([np.cross(up, away), up, away])
        near = (trunk[:, None] * frame).sum(2)
        near = near[(np.abs(near[:, 0]) < wide) & (near[:, 1] < 0.01) & (near[:, 1] > -high)]
        usual = float(((hips - middle) * away).sum(1).max())
        base = float(near[:, 2].max()) + 0.003 if len(near) else usual
        arm = (arms[:, None] * frame).sum(2)
        hit = (np.abs(arm[:, 0]) < wide + 0.01) & (arm[:, 1] < 0.03) & (arm[:, 1] > -high - 0.01)
        hit &= (arm[:, 2] > base - 0.02) & (arm[:, 2] < base + deep + 0.012)
        if not hit.any() and base < usual + 0.09:
            return middle + base * away, frame
    return None

"""Scarves and ties."""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from jaxtyping import Float64
from scipy.spatial import cKDTree

from render.people.accessories.lying import (
    Mesh,
    both,
    clear_of,
    even_path,
    first_top,
    frames,
    hang,
    lofted,
    looks_of,
    loop_around,
    loop_axes,
    merged,
    off_arms,
    skin_normals,
    smoothed,
    solid_near,
    taut_radius,
)
from render.people.accessories.wearer import Wearer
from render.people.anchors import Binding, Points, bind, capped, place, solid_surface, tube
from render.people.cloth import Solid
from render.people.looks import fabric_material
from render.people.mesh import unit
from render.people.spec import GarmentSpec
from render.person import Surface


def build_tie(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """A tie: knot where the shirt's collar meets, blade hanging down the shirt. cut: `width` of the blade and
    `length` below the knot, metres on a grown person.
    """
    normals = skin_normals(wearer)
    line, _ = place(_midline(), wearer.posed, normals)
    scale = float(np.sqrt(((line[-1] - line[0]) ** 2).sum())) / 0.45
    layers = first_top(wearer)
    solid = both(*solid_near(wearer, off_arms(), line.mean(0), 0.36, layers))
    tree = cKDTree(solid[0])
    length = garment.cut["length"] * scale
    front = unit(normals[_midline().corners[:8, 0]].mean(0))
    knot = clear_of(line[:6], tree, solid, 0.004)
    top = knot[2] + 0.002 * front
    path = np.concatenate(
        [[top], line[4:], line[-1:] + np.outer(np.linspace(0.05, 0.3, 6), line[-1] - line[-3]) * 4]
    )
    path = even_path(clear_of(path, tree, solid, 0.006), closed=False, spacing=0.016)[0]
    path = hang(path[: max(4, int(length / 0.016))], solid, 0.005, held=2)
    path = _under_outer(even_path(path, closed=False, spacing=0.012)[0], wearer, layers, 0.006)
    path = smoothed(path, 3, closed=False)
    looks = smoothed(unit(0.6 * looks_of(path, tree, solid, 12) + 0.4 * front), 12, closed=False)
    blade, faces = _blade(path, looks, garment, scale, solid, tree)
    blade = _under_outer(blade, wearer, layers, 0.003)
    cloth = fabric_material(garment.fabric)
    return (
        _slanted(solid_surface("tie", blade, faces, "Apparel", cloth), path),
        _slanted(solid_surface("tie_knot", *_knot(knot, front, scale, solid, tree), "Apparel", cloth), path),
    )


def _under_outer(points: Points, wearer: Wearer, layers: int, margin: float) -> Points:
    """Points drawn back under the jackets over the first `layers` surfaces, where those are in their way."""
    for cloth, look in wearer.under[layers:]:
        near = cKDTree(cloth).query(points)[1]
        away = points - cloth[near]
        gap = (away * look[near]).sum(1)
        beside = np.sqrt(np.maximum((away * away).sum(1) - gap * gap, 0.0))
        over = np.where((beside < 0.016) & (np.abs(gap) < 0.08), np.maximum(gap + margin, 0.0), 0.0)
        points = points - over[:, None] * look[near]
    return points


@lru_cache(maxsize=1)
def _midline() -> Binding:
    """Places down the front of the template, from the throat to the waist."""
    z = np.concatenate([np.linspace(0.595, 0.545, 6), np.linspace(0.52, 0.12, 18)])
    y = np.interp(z, (0.12, 0.32, 0.42, 0.525, 0.55, 0.6), (-0.145, -0.161, -0.136, -0.094, -0.075, -0.074))
    bound = bind(np.stack([0 * z, y, z], axis=1))
    return Binding(bound.corners, bound.weights, np.zeros(len(z)))


def _blade(
    path: Points, looks: Points, garment: GarmentSpec, scale: float, solid: Solid, tree: cKDTree
) -> Mesh:
    """The hanging part: narrow under the knot, widest above its point, with a fold below the knot."""
    side, out = frames(path, looks)
    t = np.linspace(0, 1, len(path))
    wide = garment.cut["width"] * scale
    half = 0.5 * np.interp(t, (0, 0.08, 0.9), (0.020 * scale, 0.029 * scale, wide))
    across = np.linspace(-1, 1, 9)
    lift = (
        0.0016
        + 0.0022 * (1 - across**4)
        - 0.0035 * np.exp(-((across / 0.35) ** 2)) * np.exp(-t / 0.06)[:, None]
    )
    top = np.stack([half[:, None] * across, lift + 0.002], axis=2)
    back = np.stack([half[:, None] * np.array([0.98, 0.0, -0.98]), np.full((len(path), 3), 0.0012)], axis=2)
    outline = np.concatenate([top, back], axis=1)
    sections = lofted(path, side, out, outline)
    # the point: the last rows come down the further they are from the middle the less
    row = np.clip((np.arange(len(path)) - (len(path) - 4)) / 3.0, 0, 1)[:, None, None]
    drop = (half[-1] * (0.55 - np.abs(outline[..., :1]) / half[-1])) * row
    sections = sections + drop * unit(np.gradient(path, axis=0))[:, None]
    lack = np.zeros(len(path))
    flat = sections.reshape(-1, 3)
    moved = clear_of(flat, tree, solid, outline[..., 1].reshape(-1)) - flat
    lack = (moved.reshape(sections.shape) * out[:, None]).sum(2).max(1)
    for _ in range(4):
        lack = np.maximum(lack, 0.5 * lack + 0.25 * (np.roll(lack, 1) + np.roll(lack, -1)))
    return capped(sections + (lack[:, None] * out)[:, None])


def _knot(line: Points, front: Float64[np.ndarray, " 3"], scale: float, solid: Solid, tree: cKDTree) -> Mesh:
    """A four-in-hand: a rounded wedge, wide above, one shoulder higher."""
    down = unit(line[-1] - line[0])
    front = unit(front - down * (front * down).sum())
    side = np.cross(front, down)
    turn = np.linspace(0, 2 * np.pi, 20, endpoint=False)
    s, c = (np.sign(f) * np.abs(f) ** 0.75 for f in (np.sin(turn), np.cos(turn)))
    rows = []
    for at, wide, deep in (
        (-0.021, 0.0150, 0.008),
        (-0.018, 0.0225, 0.0115),
        (-0.010, 0.0230, 0.0135),
        (0.004, 0.0195, 0.0135),
        (0.016, 0.0160, 0.0115),
        (0.020, 0.0135, 0.0085),
    ):
        tilt = 0.10 * s * wide
        flat = np.outer(s * wide * scale, side) + np.outer(np.maximum(c, -0.35) * deep * scale, front)
        rows.append(line[2] + (at * scale) * down + flat + np.outer(tilt, down) + 0.008 * scale * front)
    knot = np.stack(rows)
    lack = clear_of(knot.reshape(-1, 3), tree, solid, -0.002) - knot.reshape(-1, 3)
    return capped(knot + min(0.009, float((lack * front).sum(1).max())) * front)


def _slanted(surface: Surface, path: Points) -> Surface:
    """Texture coordinates turned by 45 degrees: a tie's cloth is cut on the bias."""
    assert surface.uv is not None
    u, v = surface.uv[..., 0], surface.uv[..., 1]
    return replace(surface, uv=np.stack([u + v, v - u], axis=2) * np.sqrt(0.5))


SCARVES = {
    "wrapped": (-46.0, -674.0, False),
    "wrapped behind": (-40.0, -530.0, True),
    "hung": (-46.0, -314.0, False),
}
"""Angles around the neck where a scarf comes up and goes down again, 0 in front, positive to the left; and
whether it goes down the back.
"""


def build_scarf(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """A soft folded scarf round the neck, over everything, with its ends hanging. cut: `width` and `length`
    of the ends, metres on a grown person.
    """
    cut, normals = garment.cut, skin_normals(wearer)
    rng = np.random.default_rng(int(cut["seed"]))
    loop, _ = place(loop_around((0.032, 0.588), (-0.088, 0.540), 0.062), wearer.posed, normals)
    middle, axes = loop_axes(loop)
    scale = float(np.sqrt(((loop[12] - loop[36]) ** 2).sum())) / 0.125
    scale = float(np.clip(scale, 0.7, 1.15))
    solid = both(*solid_near(wearer, off_arms(), middle - 0.12 * axes[2], 0.45))
    tree = cKDTree(solid[0])
    names = ("wrapped", "wrapped", "wrapped", "wrapped behind", "hung")
    style = names[int(rng.integers(len(names)))]
    path, tail = _scarf_path(
        style, middle, axes, scale, cut["length"] * (1 + 0.3 * rng.random()), solid, tree
    )
    t = np.linspace(-1, 1, len(path))
    around = np.clip((len(path) - 2 * tail) / len(path), 0.1, 1.0)
    hanging = np.clip((np.abs(t) - around) / (1 - around), 0, 1) ** 0.6
    wide = scale * (0.068 + (1.12 * cut["width"] - 0.068) * hanging)
    thick = scale * (0.021 - 0.0125 * hanging)
    layer = np.clip((np.abs(t) / around - 0.42) / 0.3, 0, 1) if style != "hung" else np.zeros(len(path))
    layer = layer * layer * (3 - 2 * layer)
    looks = smoothed(looks_of(path, tree, solid, 10), 6, closed=False)
    side, out = frames(path, looks)
    over = 0.009 * hanging * (t > 0) + 0.007 * (1 - hanging) ** 3
    outline = _folds(wide, thick, layer * 0.9 * scale * 0.021 * (1 - hanging) ** 2 + 0.003 + over, rng)
    sections = lofted(path, side, out, outline)
    for rounds in (2, 0):
        flat = clear_of(sections.reshape(-1, 3), tree, solid, outline[..., 1].reshape(-1))
        sections = flat.reshape(sections.shape)
        sections = _even_rows(sections, rounds)
    cloth = fabric_material(garment.fabric)
    mesh = capped(sections)
    scarf = _laid_out(solid_surface("scarf", *mesh, "Apparel", cloth), path, wide)
    if rng.random() < 0.45:
        return (scarf,)
    fringe = merged([m for end in (sections[0:2], sections[-1:-3:-1]) for m in _fringe(end, rng)])
    return (scarf, solid_surface("scarf_fringe", *fringe, "Apparel", cloth))


def _even_rows(sections: np.ndarray, rounds: int) -> np.ndarray:
    """Outlines evened out with those before and after them."""
    for _ in range(rounds):
        even = sections.copy()
        even[1:-1] = 0.25 * sections[:-2] + 0.5 * sections[1:-1] + 0.25 * sections[2:]
        sections = even
    return sections


def _scarf_path(
    style: str, middle: np.ndarray, axes: np.ndarray, scale: float, length: float, solid: Solid, tree: cKDTree
) -> tuple[Points, int]:
    """The middle of a scarf from end to end, lying on what is under it; how many points of each end hang."""
    start, stop, behind = SCARVES[style]
    turn = np.radians(np.linspace(start, stop, int(abs(stop - start) / 7)))
    u = np.linspace(-1, 1, len(turn))
    local = ((solid[0] - middle)[:, None] * axes).sum(2)
    neck = local[(local[:, 2] > 0.02) & (local[:, 2] < 0.05) & ((local[:, :2] ** 2).sum(1) < 0.14**2), :2]
    reach = taut_radius(neck, turn) + 0.010
    back = 0.5 - 0.5 * np.cos(turn)
    height = scale * (0.030 - 0.006 * back - 0.016 * np.sign(u) * back**2 * (style != "hung"))
    height = smoothed(np.stack([height] * 3, axis=1), 6, closed=False)[:, 0]
    ring = np.stack([reach * np.cos(turn), reach * np.sin(turn), height], axis=1)
    ring = middle + (ring[..., None] * axes).sum(1)
    for _ in range(6):
        ring = clear_of(smoothed(ring, 1, closed=False), tree, solid, 0.004)
    ends = []
    for at, sign in ((0, 1.0), (-1, -1.0 if behind else 1.0)):
        away = axes[0] * sign * (1.0 if at == 0 else (-1.0 if behind else 1.0) * sign)
        steps = np.arange(1, int(length * scale / 0.014) + 3)[:, None]
        fall = ring[at] + away * 0.03 * np.minimum(steps, 2) / 2 - np.array([0.0, 0.0, 0.014]) * steps
        rope = np.concatenate([ring[at][None], clear_of(fall, tree, solid, 0.001)])
        ends.append(hang(rope, solid, 0.001, held=1)[1:])
    path = np.concatenate([ends[0][::-1], ring, ends[1]])
    path = smoothed(path, 8, closed=False)
    tail = len(ends[0])
    return clear_of(path, tree, solid, 0.001), tail


def _folds(
    wide: np.ndarray, thick: np.ndarray, base: np.ndarray, rng: np.random.Generator
) -> Float64[np.ndarray, "n 22 2"]:
    """Outlines of a soft bundle: flat inside, with folds along its outside that wander."""
    across = np.linspace(-1, 1, 19)
    t = np.arange(len(wide)) / 40.0
    wave = np.zeros((len(wide), 19))
    for share, count in ((0.6, 2.6), (0.4, 4.3)):
        drift = rng.uniform(0, 2 * np.pi, 3)
        sway = 1.3 * np.sin(2.2 * t + drift[1]) + 0.7 * np.sin(5.1 * t + drift[2])
        wave += share * np.cos(np.pi * count * across + sway[:, None] + drift[0])
    dome = np.sqrt(1 - 0.97 * np.abs(across) ** 3.2)
    lift = base[:, None] + thick[:, None] * dome * (0.76 + 0.34 * wave)
    edge = 1 + 0.05 * np.sin(7 * t + rng.uniform(0, 6))
    half = (0.5 * wide * edge)[:, None]
    top = np.stack([half * across, lift], axis=2)
    inner = np.broadcast_to(np.array([0.94, 0.0, -0.94]), (len(wide), 3)) * half
    back = np.stack([inner, np.repeat(base[:, None], 3, axis=1)], axis=2)
    return np.concatenate([top, back], axis=1)


def _laid_out(surface: Surface, path: Points, wide: np.ndarray) -> Surface:
    """Texture coordinates across and along a scarf of 22 points a row, metres."""
    step = np.concatenate([[0.0], np.cumsum(np.sqrt((np.diff(path, axis=0) ** 2).sum(1)))])
    across = np.concatenate([np.linspace(-1, 1, 19), [0.94, 0.0, -0.94]]) * 0.09
    uv = np.stack(np.broadcast_arrays(across[None], step[:, None]), axis=2).reshape(-1, 2)
    uv = np.concatenate([uv, [[0.0, 0.0], [0.0, step[-1]]]])
    corner = uv[surface.faces]
    return replace(surface, uv=np.ascontiguousarray(corner))


def _fringe(end: np.ndarray, rng: np.random.Generator) -> list[Mesh]:
    """Tassels from the edge of an end (its last outline and the one before it)."""
    edge, along = end[0, 1:18:2], unit((end[0] - end[1]).mean(0))
    made = []
    for start in edge:
        bend = 0.004 * rng.normal(size=3)
        t = np.linspace(-0.1, 1, 6)[:, None]
        path = start + (0.045 * along + np.array([0.0, 0.0, -0.006])) * t + bend * t * t - 0.002 * along
        made.append(tube(path, np.array([0.0022, 0.0024, 0.0026, 0.0028, 0.0026, 0.0012]), 5))
    return made

"""Caps, beanies, hats and headscarves, sewn on the skull of whoever wears them.

Hats are built in the head's own frame (`HeadFrame`: the template's metres, front -y, up z), as distances from
a point inside the skull: rays that are fixed on the template measure the skull, and cloth lies a little
farther out along them.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from jaxtyping import Float64
from scipy.spatial import cKDTree

from render.people.accessories.solids import (
    Solid,
    ball,
    bar,
    carried,
    cast,
    head_faces,
    hoop,
    joined,
    lined,
    looking,
    made_up,
    plate,
    rise,
    together,
)
from render.people.accessories.wearer import Wearer
from render.people.anchors import Binding, grid_faces
from render.people.body import body_model
from render.people.cloth import push_out, waves
from render.people.hair.frame import HeadFrame, head_frame
from render.people.looks import cloth_material
from render.people.mesh import smooth, unit, vertex_normals
from render.people.spec import GarmentSpec
from render.person import Surface

Points = Float64[np.ndarray, "n 3"]
Grid = Float64[np.ndarray, "rows columns 3"]
Field = Float64[np.ndarray, "rows columns"]

CENTRE = np.array([0.0, -0.055, 0.735])  # within the skull, the template's metres
COLUMNS = 72
AROUND = np.arange(COLUMNS) * (2 * np.pi / COLUMNS)  # from the front to the left
CLEAR = 0.0042  # least height of a hat's outside above the skin: hair is pressed flat beneath it
LAYER = 0.0018  # thickness of cloth


@lru_cache(maxsize=3)
def _rays(brow: float, side: float, nape: float, rows: tuple[float, ...]) -> Binding:
    """Where rays from CENTRE to a hat leave the template. brow, side, nape: heights of the hat's edge. rows:
    places from edge 0 to crown 1.
    """
    front, back = np.clip(np.cos(AROUND), 0, 1) ** 1.5, np.clip(-np.cos(AROUND), 0, 1) ** 1.2
    edge = side + (brow - side) * front + (nape - side) * back
    lowest = np.arctan2(edge - CENTRE[2], 0.078 + 0.017 * np.cos(AROUND) ** 2)
    elevation = lowest + (np.pi / 2 - lowest) * np.array(rows)[:, None]
    return cast(CENTRE, looking(AROUND + 0 * elevation, elevation).reshape(-1, 3), head_faces())


def _skull(rays: Binding, turn: float, wearer: Wearer, frame: HeadFrame) -> tuple[Grid, Field]:
    """Unit directions from CENTRE and distances of the skull along rays, in the head's frame. turn: degrees
    to the left, of a hat on the head.
    """
    away = frame.local(carried(rays, wearer.posed)).reshape(-1, COLUMNS, 3) - CENTRE
    whole, part = divmod(turn * COLUMNS / 360.0, 1.0)
    away = (1 - part) * np.roll(away, -int(whole), axis=1) + part * np.roll(away, -int(whole) - 1, axis=1)
    distance = np.sqrt((away * away).sum(2))
    return away / distance[..., None], distance


def _even(field: Field, steps: int) -> Field:
    """Smoothed around and up; the lowest row only around, the highest to one value (no peak at the crown)."""
    for _ in range(steps):
        field = 0.5 * field + 0.25 * (np.roll(field, 1, axis=1) + np.roll(field, -1, axis=1))
        field[1:-1] = 0.5 * field[1:-1] + 0.25 * (field[:-2] + field[2:])
        field[-1] = 0.5 * (field[-1].mean() + field[-2].mean()) if len(field) > 1 else field[-1]
    return field


def _over(skull: Field, room: Field, steps: int = 6) -> Field:
    """Distances of cloth with `room` over the smoothed skull, nowhere nearer than CLEAR to it."""
    cloth = _even(skull, steps) + room
    for _ in range(4):
        cloth = _even(np.maximum(cloth, skull + CLEAR), 1)
    return np.maximum(cloth, skull + CLEAR)


CAP_ROWS = tuple(float(t) for t in np.linspace(0, 0.985, 20))


def build_cap(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """A baseball cap of six panels. cut: `room` 0 tight .. 1 tall; `turn` degrees to the left; `brim`, length
    of its visor, metres.
    """
    cut, frame = garment.cut, head_frame(wearer.posed, wearer.skeleton, wearer.model)
    away, skull = _skull(_rays(0.7725, 0.7450, 0.7150, CAP_ROWS), cut["turn"], wearer, frame)
    t = np.array(CAP_ROWS)[:, None]
    ahead = np.exp(-((np.minimum(AROUND, 2 * np.pi - AROUND) / 0.85) ** 2))
    high = np.sin(0.9 * np.pi * np.clip(t / 0.8, 0, 1)) ** 1.2
    room = 0.0045 + (0.005 + 0.011 * cut["room"]) * np.sin(0.5 * np.pi * t) ** 1.5
    room = room + (0.008 + 0.008 * cut["room"]) * ahead * high
    bulge = (np.sqrt(np.abs(np.sin(3 * AROUND))) - 0.7) * np.clip(t / 0.15, 0, 1)  # between seams
    room = room + 0.0022 * bulge * (1 - 0.7 * t)
    outside = CENTRE + away * _over(skull, room)[..., None]
    crown, edge = lined(outside, CENTRE, LAYER, 0.6)
    cloth = cloth_material(garment.fabric, (), cut)
    sewn = [_seam(outside[:, c]) for c in range(0, COLUMNS, COLUMNS // 6)]
    sewn += [_eyelet(outside, c) for c in range(COLUMNS // 12, COLUMNS, COLUMNS // 6)]
    return (
        made_up("cap", crown, "Apparel", cloth, frame, edge),
        made_up("cap_visor", _visor(outside[1], cut["brim"], cut["turn"]), "Apparel", cloth, frame),
        made_up("cap_button", _button(outside[-1].mean(0)), "Apparel", cloth, frame),
        made_up("cap_seams", together(sewn), "Apparel", cloth, frame),
    )


def _seam(line: Points) -> Solid:
    """The raised tape under which two panels meet, from the edge to the button."""
    side = np.cross(np.gradient(line, axis=0), line - CENTRE)
    return bar(line, side, np.full(len(line), 0.0016), np.full(len(line), 0.0009))


def _eyelet(outside: Grid, column: int) -> Solid:
    """A sewn hole for air, two thirds up a panel."""
    row = 2 * len(outside) // 3
    at, angle = outside[row, column], np.arange(12) * (np.pi / 6)
    up = unit(outside[row + 1, column] - outside[row - 1, column])
    out = unit(np.cross(outside[row, column + 1] - outside[row, column - 1], up))
    out = out * np.sign((out * (at - CENTRE)).sum())
    spoke = np.cross(out, up) * np.cos(angle)[:, None] + up * np.sin(angle)[:, None]
    tall = ((0.0032, 0.0006), (0.0026, 0.0016), (0.0017, 0.0013), (0.0012, -0.0002), (0.0026, -0.0006))
    return hoop(np.stack([at + r * spoke + h * out for r, h in tall]), 0.02)


def _visor(band: Points, length: float, turn: float) -> Solid:
    """The peak, from the band's front: bent down at its sides, longest in the middle."""
    s = np.arange(-14, 15) / 14.35
    root = np.roll(band, 14, axis=0)[:29]
    root = root - 0.0035 * unit(root - CENTRE)
    forward = looking(np.radians(np.full(len(s), turn)) + 0.30 * s, np.zeros(len(s)))
    width = length * (1 - np.abs(s) ** 2.4) ** 0.75 + 0.002
    t = np.linspace(0, 1, 25)
    middle = root[:, None] + forward[:, None] * (width[:, None] * t)[..., None]
    bend = 0.17 * t[None] * width[:, None] + 0.30 * width[:, None] * t[None] * s[:, None] ** 2
    middle[..., 2] -= bend + 0.0015 * t[None]
    up = unit(np.cross(np.gradient(middle, axis=1), np.gradient(middle, axis=0)))
    quilted = 1 + 0.10 * np.cos(t * 12 * np.pi)  # rows of stitches along the edge
    lift = up * (0.0013 * quilted * np.sqrt(np.clip(1 - t**12, 0.02, 1)))[None, :, None]
    return plate(middle + lift, middle - lift, 2.2 * length)


def _button(top: Float64[np.ndarray, " 3"]) -> Solid:
    angle = np.arange(12) * (np.pi / 6)
    rim = np.stack([np.cos(angle), np.sin(angle), 0 * angle], axis=1)
    lift = np.array([[1.0, -0.001], [0.95, 0.0018], [0.55, 0.0035]])[..., None, None]
    rings = top + 0.0075 * lift[:, 0] * rim + lift[:, 1] * np.array([0.0, 0.0, 1.0])
    return ball(rings, top - np.array([0.0, 0.0, 0.0015]), top + np.array([0.0, 0.0, 0.004]), 0.04)


FOLD = 0.36  # place of the cuff's upper edge between a beanie's edge and its crown
_CUFF = [(0.0, 0.0030), (0.003, 0.0068), (0.012, 0.0084), (0.08, 0.0090), (0.16, 0.0092), (0.24, 0.0091)]
_CUFF += [(0.31, 0.0089), (0.345, 0.0084), (FOLD, 0.0070), (FOLD + 0.004, 0.0052), (FOLD + 0.012, 0.0044)]
_CROWN = [(float(t), 0.0046) for t in np.linspace(FOLD + 0.035, 0.985, 17)]
BEANIE = np.array(_CUFF + _CROWN)
"""Rows of a beanie's outside: place from edge to crown, and height above the skull, metres."""


def build_beanie(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """A knitted hat with a folded cuff. cut: `room` 0 tight .. 1 wide; `slouch`, how far its top hangs over
    to the back, metres.
    """
    cut, frame = garment.cut, head_frame(wearer.posed, wearer.skeleton, wearer.model)
    away, skull = _skull(_rays(0.7710, 0.7400, 0.6930, tuple(BEANIE[:, 0].tolist())), 0.0, wearer, frame)
    above = np.clip((BEANIE[:, :1] - FOLD) / (1 - FOLD), 0, 1)
    loose = 0.003 + 0.011 * cut["room"] + 0.4 * cut["slouch"]
    loose = loose * np.sin(np.pi * np.clip(above, 0, 0.62)) ** 1.3
    folds = waves((CENTRE + away).reshape(-1, 3), int(cut["seed"]), (0.09, 0.06)).reshape(skull.shape)
    gathers = np.cos(10 * AROUND) * np.clip((above - 0.45) / 0.5, 0, 1) * (1 - above)
    room = BEANIE[:, 1:] + loose + (0.0012 + 0.0022 * cut["room"]) * folds * above + 0.005 * gathers
    outside = CENTRE + away * _over(skull, room)[..., None]
    lean = cut["slouch"] * above * above * (3 - 2 * above)
    outside = outside + np.stack([0 * lean, 1.2 * lean, 0.1 * lean], axis=2)
    shell, _ = lined(outside, CENTRE, 0.003, 0.60)
    return (made_up("beanie", shell, "Apparel", cloth_material(garment.fabric, (), cut), frame),)


HAT_ROWS = (0.0, 0.06, 0.12, 0.2, 0.3, 0.4, 0.5, 0.62, 0.75, 0.88)


def build_hat(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """A felt hat with a dented crown, or with a broad brim a sun hat with a round one. cut: `room` 0 low .. 1
    tall; `brim`, its width, metres.
    """
    cut, frame = garment.cut, head_frame(wearer.posed, wearer.skeleton, wearer.model)
    away, skull = _skull(_rays(0.7800, 0.7460, 0.7330, HAT_ROWS), 0.0, wearer, frame)
    bone = CENTRE + away * skull[..., None]
    ring = CENTRE + away[0] * _over(skull[:1], 0.0055 + 0 * skull[:1]).T
    high = float(bone[..., 2].max()) + 0.012 + 0.014 * cut["room"]
    sunny = cut["brim"] > 0.072
    crown = _round_crown(ring, high) if sunny else _dented_crown(ring, high + 0.008)
    brim = _brim(ring, cut["brim"], sunny, int(cut["seed"]))
    outside = _off(np.concatenate([brim[::-1], crown]), bone.reshape(-1, 3))
    up = np.broadcast_to(np.array([0.0, 0.0, 1.0]), brim.shape)
    up = np.concatenate([up, unit(crown - np.concatenate([ring[:, :2].mean(0), [high - 0.06]]))])
    pole = outside[-1].mean(0)
    rings = np.concatenate([(outside - LAYER * up)[::-1], outside])
    felt = ball(rings, pole - np.array([0.0, 0.0, LAYER]), pole, 0.58)
    ribbon = _ribbon(outside[len(brim) :], 0.030 if not sunny else 0.022)
    plain = replace(garment.fabric, colour=garment.fabric.accent, pattern="plain", scale=0.0016)
    return (
        made_up("hat", felt, "Apparel", cloth_material(garment.fabric, (), cut), frame),
        made_up("hat_ribbon", ribbon, "Apparel", cloth_material(plain, (), cut), frame),
    )


def _off(grid: Grid, bone: Points) -> Grid:
    """A grid moved out of the skull's rays where it lies in them."""
    away = grid - CENTRE
    reach, ray = np.sqrt((away * away).sum(2)), unit(bone - CENTRE)
    _, close = cKDTree(ray).query(unit(away), k=3)
    needed = np.sqrt(((bone - CENTRE) ** 2).sum(1))[close].max(2) + CLEAR
    return np.asarray(CENTRE + away * np.maximum(1.0, needed / reach)[..., None])


def _lofted(ring: Points, scales: np.ndarray, heights: np.ndarray) -> Grid:
    """Rings like `ring`, shrunk around its middle and raised to heights (rows or rows x columns)."""
    grid = ring.mean(0) + scales[..., None] * (ring - ring.mean(0))[None]
    level = grid[..., 2] + (heights if heights.ndim == 2 else heights[:, None])
    return np.stack([grid[..., 0], grid[..., 1], level], axis=2)


def _dented_crown(ring: Points, high: float) -> Grid:
    """A fedora's: walls that lean in, pinched at the front, and a dent along the top."""
    tall = high - ring[:, 2].mean()
    pinch = np.exp(-(((np.abs(np.minimum(AROUND, 2 * np.pi - AROUND)) - 0.62) / 0.30) ** 2))
    wall = np.array([0.0, 0.06, 0.16, 0.30, 0.44, 0.58, 0.71, 0.82, 0.90, 0.96, 0.99])[:, None]
    scale = 1.0 - 0.12 * wall**1.4 - 0.10 * np.clip((wall - 0.86) / 0.14, 0, 1) ** 2
    scale = scale - 0.13 * pinch * np.clip((wall - 0.30) / 0.6, 0, 1) ** 1.5
    lean = -wall * (ring[:, 2] - ring[:, 2].mean())  # the top is level though the edge is not
    front = 0.006 * np.cos(AROUND) * wall
    rising = _lofted(ring, scale, wall * tall + 0.7 * lean + front)
    q = np.array([0.90, 0.78, 0.64, 0.50, 0.36, 0.22, 0.10])[:, None]
    edge = rising[-1]
    top = edge.mean(0) + q[..., None] * (edge - edge.mean(0))[None]
    sideways = top[..., 0] / np.abs(edge[:, 0]).max()
    dent = 0.020 * np.exp(-((sideways / 0.42) ** 2)) * np.clip((1 - q) / 0.35, 0, 1) ** 0.8
    top[..., 2] += 0.004 * np.clip((1 - q) / 0.2, 0, 1) - dent
    return np.concatenate([rising, top])


def _round_crown(ring: Points, high: float) -> Grid:
    """A sun hat's: a dome."""
    tall = high - ring[:, 2].mean()
    angle = np.linspace(0, 0.97, 16)[:, None] * (np.pi / 2)
    scale = np.cos(angle) ** 0.5
    level = np.sin(angle) * scale * (ring[:, 2] - ring[:, 2].mean())
    return _lofted(ring, scale + 0 * ring[:, 0], tall * np.sin(angle) ** 1.15 - level)


def _brim(ring: Points, width: float, sunny: bool, seed: int) -> Grid:
    """From the crown outwards. A felt hat's dips in front and rises behind; a sun hat's hangs in waves."""
    t = np.linspace(0.05, 1.0, 10)[:, None]
    out = unit((ring - ring.mean(0)) * np.array([1.0, 1.0, 0.0]))
    level = ring[None] + (width * t)[..., None] * out[None]
    if sunny:
        phase = np.random.default_rng(seed).uniform(0, 2 * np.pi, 2)
        wavy = 0.10 * np.sin(3 * AROUND + phase[0]) + 0.06 * np.sin(5 * AROUND + phase[1])
        lift = width * (-0.22 + wavy) * t**1.6
    else:
        lift = width * (0.16 * t**2 - 0.30 * np.cos(AROUND) * t**1.5 - 0.10 * np.cos(2 * AROUND) * t**2)
    return np.stack([level[..., 0], level[..., 1], level[..., 2] + lift], axis=2)


def _ribbon(crown: Grid, width: float) -> Solid:
    """A band around the foot of a crown."""
    height = rise(crown)
    row = np.interp(np.array([0.02, 0.25, 0.5, 0.75, 1.0]) * width, height, np.arange(len(height)))
    low, part = row.astype(np.int64), (row % 1.0)[:, None, None]
    at = crown[low] * (1 - part) + crown[low + 1] * part
    out = unit((at - at.mean((0, 1))) * np.array([1.0, 1.0, 0.0]))
    return hoop(np.concatenate([at + 0.0016 * out, (at - 0.0010 * out)[::-1]]), 0.58)


LOOPS = np.array(
    [
        (-0.151, 0.784, 0.070, -0.080, 0.700, -0.128, 0.612),  # around the face
        (-0.120, 0.828, 0.075, -0.068, 0.700, -0.115, 0.611),
        (-0.070, 0.849, 0.080, -0.052, 0.695, -0.100, 0.611),
        (-0.020, 0.845, 0.080, -0.038, 0.690, -0.086, 0.609),
        (0.015, 0.815, 0.070, -0.028, 0.680, -0.080, 0.605),
        (0.037, 0.770, 0.070, -0.022, 0.668, -0.077, 0.600),
        (0.040, 0.720, 0.060, -0.020, 0.650, -0.075, 0.592),
        (0.030, 0.665, 0.055, -0.018, 0.630, -0.073, 0.582),
        (0.022, 0.625, 0.055, -0.018, 0.612, -0.074, 0.570),  # around the neck
        (0.030, 0.592, 0.075, -0.018, 0.590, -0.082, 0.548),
        (0.048, 0.545, 0.110, -0.018, 0.585, -0.105, 0.510),
        (0.050, 0.505, 0.140, -0.020, 0.580, -0.125, 0.465),
        (0.048, 0.465, 0.150, -0.022, 0.580, -0.140, 0.425),
        (0.046, 0.430, 0.158, -0.024, 0.575, -0.150, 0.385),  # over the shoulders
    ]
)
"""Loops of a headscarf on the template: (y, z) of its top, (x, y, z) of its left, (y, z) of its bottom."""
SCARF_ROWS = 36
SPAN = (3.6, 10.8)
"""Between these rows a scarf hangs from the head to the shoulders."""


@lru_cache(maxsize=1)
def _wound() -> tuple[Float64[np.ndarray, " rows"], Binding]:
    """A headscarf's rows, as places between LOOPS, and the template's skin beneath its points."""
    model = body_model()
    place = (len(LOOPS) - 1) * np.linspace(0, 1, SCARF_ROWS)
    loops = np.stack([np.interp(place, np.arange(len(LOOPS)), LOOPS[:, c]) for c in range(7)], axis=1)
    kept = model.template[model.faces("body")][..., 2].min(1) > 0.2
    found = []
    for row, (ty, tz, sx, sy, sz, by, bz) in zip(place, loops, strict=True):
        torso = np.clip((row - 8) / 2, 0, 1)
        middle = np.array([0.0, sy, sz * (1 - torso) + 0.44 * torso])
        end = np.where(np.cos(AROUND) > 0, ty, by), np.where(np.cos(AROUND) > 0, tz, bz)
        share = np.abs(np.cos(AROUND))
        at = np.stack([sx * np.sin(AROUND), sy + share * (end[0] - sy), sz + share * (end[1] - sz)], axis=1)
        found.append(cast(middle, unit(at - middle), kept, 160))
    return place, joined(found)


def build_headscarf(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """A scarf around face and neck that falls over the shoulders. cut: `room` 0 close .. 1 loose."""
    room, seed = garment.cut["room"], int(garment.cut["seed"])
    place, binding = _wound()
    faces = grid_faces(SCARF_ROWS, COLUMNS, True)
    skin = carried(binding, wearer.posed)
    solid = (skin, vertex_normals(skin, faces))
    cloth = _hung(solid, place, room)
    cloth = cloth + _folds(place, room, seed)[:, None] * vertex_normals(cloth, faces)
    under = [solid, *(_inflated(p, n, float(cloth[:, 2].min()), wearer) for p, n in wearer.under[1:])]
    cloth = push_out(cloth, faces, under, 0.005, 2)
    cloth = push_out(smooth(cloth, faces, 3, 0.6), faces, under, 0.005, 1)
    grid = (SCARF_ROWS, COLUMNS, 3)
    hem = cloth.reshape(grid)[-3:]
    for _ in range(6):
        hem[:] = 0.5 * hem + 0.25 * (np.roll(hem, 1, axis=1) + np.roll(hem, -1, axis=1))
    inside = cloth - 0.0022 * vertex_normals(cloth, faces)
    rings = np.concatenate([cloth.reshape(grid), inside.reshape(grid)[::-1]])
    return (
        made_up("headscarf", hoop(rings, 0.7), "Apparel", cloth_material(garment.fabric, (), garment.cut)),
    )


def _inflated(
    points: Points, normals: Points, lowest: float, wearer: Wearer
) -> tuple[np.ndarray, np.ndarray]:
    """Clothes as thick as their collars make them around the neck, as far down as a scarf reaches."""
    near = points[:, 2] > lowest - 0.05
    points, normals = points[near], normals[near]
    neck = wearer.skeleton.heads[wearer.model.bones.index("neck01")]
    distance = np.sqrt(((points - neck) ** 2).sum(1))
    return points + normals * (0.018 * np.clip((0.19 - distance) / 0.06, 0, 1))[:, None], normals


def _hung(skin: tuple[Points, Points], place: Float64[np.ndarray, " rows"], room: float) -> Points:
    """Cloth over skin (points, outward normals): close around the face, straight from head to shoulders."""
    points, normals = skin
    grid = (len(place), COLUMNS, 3)
    high = np.interp(place, (0, 0.6, 2, 6, 8, 11, 13), (0.003, 0.006, 0.010, 0.012, 0.030, 0.022, 0.009))
    before = np.clip(-np.cos(AROUND), 0, 1) ** 0.7
    collar = np.interp(place, (0.5, 4, 10.5, 12), (0.0, 1.0, 1.0, 0.0))[:, None] * before
    high = ((high * (0.75 + 0.5 * room))[:, None] + 0.020 * collar).reshape(-1)
    free = np.interp(place, (0, 0.4, 1.2, 11, 12.5, 13), (0.0, 0.15, 0.9, 0.9, 0.5, 0.5))[:, None, None]
    cloth = points + high[:, None] * normals
    head, shoulder = (int(np.searchsorted(place, at)) for at in SPAN)
    t = ((place[head:shoulder] - place[head]) / (place[shoulder] - place[head]))[:, None, None]
    net = cloth.reshape(grid)
    net[head:shoulder] = net[head] * (1 - t) + net[shoulder] * t
    for _ in range(24):
        lack = np.clip(high - ((cloth - points) * normals).sum(1), 0.0, 0.03)
        net = (cloth + lack[:, None] * normals).reshape(grid)
        even = 0.5 * net + 0.25 * (np.roll(net, 1, axis=1) + np.roll(net, -1, axis=1))
        even[1:-1] = 0.5 * even[1:-1] + 0.25 * (even[:-2] + even[2:])
        cloth = (net + free * (even - net)).reshape(-1, 3)
    return np.asarray(cloth)


def _folds(place: Float64[np.ndarray, " rows"], room: float, seed: int) -> Float64[np.ndarray, " v"]:
    """Heights of the folds that run from the chin over the shoulders, metres."""
    rng = np.random.default_rng(seed)
    deep = np.interp(place, (0, 1, 4, 7, 9, 13), (0.0, 0.001, 0.004, 0.008, 0.012, 0.016))[:, None]
    total = np.zeros((len(place), COLUMNS))
    for count, share in ((5, 0.8), (9, 1.0), (13, 0.6)):
        phase, twist, swing = rng.uniform(0, 2 * np.pi), rng.uniform(-0.3, 0.3), rng.uniform(0, 2 * np.pi)
        bent = AROUND + 0.25 * np.sin(2 * AROUND + swing)
        total += share * np.sin(count * bent + phase + twist * place[:, None])
    return np.asarray((deep * (0.6 + 0.7 * room) * total / 1.5).reshape(-1))

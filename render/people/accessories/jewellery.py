"""Watches, bracelets and necklaces."""

import numpy as np
from jaxtyping import Float64
from scipy.spatial import cKDTree

from render.people.accessories.lying import (
    Mesh,
    Wrist,
    both,
    convex_solid,
    even_path,
    first_top,
    hang,
    merged,
    off_arms,
    ring_mesh,
    skin_normals,
    solid_near,
    taut_radius,
    wrist_at,
)
from render.people.accessories.wearer import Wearer
from render.people.anchors import (
    Points,
    bind,
    grid_faces,
    outwards,
    place,
    solid_surface,
    tube,
)
from render.people.body import body_model
from render.people.cloth import Solid
from render.people.looks import fabric_material, metal_material, plastic_material
from render.people.mesh import unit
from render.people.palette import METALS
from render.people.spec import Colour, GarmentSpec
from render.person import Material, Surface

DIALS: tuple[Colour, ...] = ((0.72, 0.71, 0.68), (0.02, 0.02, 0.022), (0.02, 0.035, 0.10), (0.55, 0.50, 0.40))


def build_watch(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """A watch: dial on the back of a wrist, case, and a strap drawn tight. cut: `size` is the dial's radius;
    `side` the left arm from 0 on.
    """
    cut, seed = garment.cut, int(garment.cut["seed"])
    side = "L" if cut["side"] >= 0 else "R"
    arm = wrist_at(wearer, side, -0.016, 0.5 * cut["size"])
    if arm is None:
        return ()
    flat = arm.flat(0.5 * cut["size"])
    size = min(cut["size"] * min(1.0, arm.scale * 1.05), 0.92 * float(np.abs(flat[:, 0]).max()))
    under = (np.abs(arm.cloud[:, :1]) < size).all(1) & (np.abs(arm.cloud[:, 2]) < size)
    level = float(arm.cloud[under, 1].max()) + 0.0008
    smart, steel = seed % 4 == 0, seed % 4 == 1
    metal = metal_material(METALS["black" if smart else ("steel", "gold")[seed // 4 % 5 == 0]], 0.22)
    lugs = np.array([[-0.86 * size, level - 0.001], [0.86 * size, level - 0.001]])
    strap = arm.world(_strap(np.concatenate([flat, lugs]), size, steel))
    points, faces = ring_mesh(strap)
    power = 4.5 if smart else 2.0
    case = _lathe(size, power, level, ((0.0, 0.0), (0.9, 0.0), (1.0, 0.0012), (1.0, 0.0062), (0.96, 0.0078)))
    dial = _lathe(0.97 * size, power, level + 0.0070, ((0.0, 0.0), (0.98, 0.0), (0.9, 0.0013), (0.0, 0.0014)))
    bezel = _lathe(
        size, power, level, ((0.95, 0.0072), (0.96, 0.0082), (0.91, 0.0092), (0.88, 0.0080)), hole=True
    )
    face: Colour = (0.008, 0.008, 0.01) if smart else DIALS[seed // 16 % 4]
    made = [
        _worn("watch_strap", (points, faces), metal if steel else fabric_material(garment.fabric)),
        _worn("watch_case", _placed(merged([case, bezel, *_crown(size, level)]), arm), metal),
        _worn("watch_dial", _placed(dial, arm), plastic_material(face, 0.08)),
    ]
    if not smart:
        ink: Colour = (0.02, 0.02, 0.02) if sum(face) > 0.6 else (0.75, 0.74, 0.7)
        marks = _placed(_dial_marks(size, level + 0.00845, seed), arm)
        made.append(_worn("watch_hands", marks, plastic_material(ink, 0.3)))
    return tuple(made)


def _worn(name: str, mesh: Mesh, material: Material) -> Surface:
    return solid_surface(name, *mesh, "Apparel", material)


def _placed(mesh: Mesh, arm: Wrist) -> Mesh:
    """A mesh of the wrist's axes in the world."""
    points = arm.world(mesh[0])
    return points, outwards(points, mesh[1])


def _strap(flat: Float64[np.ndarray, "n 2"], size: float, links: bool) -> Float64[np.ndarray, "96 7 3"]:
    """Cross-sections of a strap around flat points, narrower opposite the dial; metal ones are of links."""
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    radius = taut_radius(flat, angle) + 0.0006
    for _ in range(2):
        even = 0.25 * np.roll(radius, 1) + 0.5 * radius + 0.25 * np.roll(radius, -1)
        radius = np.maximum(radius, even)
    ring = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    half = size * (0.46 + 0.08 * np.sin(angle))
    thick = 0.0026 if not links else 0.0024 + 0.0008 * (np.arange(96) % 4 < 3)
    thick = np.broadcast_to(np.asarray(thick), (96,))
    outline = ((-1.0, 0.0), (1.0, 0.0), (1.0, 0.6), (0.88, 1.0), (0.0, 1.06), (-0.88, 1.0), (-1.0, 0.6))
    rows = [
        np.concatenate([ring * (radius + lift * thick)[:, None], (across * half)[:, None]], axis=1)
        for across, lift in outline
    ]
    return np.stack(rows, axis=1)


def _lathe(
    size: float, power: float, level: float, profile: tuple[tuple[float, float], ...], *, hole: bool = False
) -> Mesh:
    """A turned solid on the back of the wrist: (radius / size, height) from below upwards, closed at the
    middle or with a hole; `power` 2 is round, more is a rounded square.
    """
    angle = np.arange(32) * (2 * np.pi / 32) + np.pi / 32
    c, s = np.cos(angle), np.sin(angle)
    reach = (np.abs(c) ** power + np.abs(s) ** power) ** (-1.0 / power)
    rows = [
        np.stack([size * r * reach * c, np.full(32, level + h), size * r * reach * s], axis=1)
        for r, h in (profile if hole else ((0.0, profile[0][1]), *profile, (0.0, profile[-1][1])))
    ]
    keep = [i for i in range(len(rows) - 1) if np.abs(rows[i] - rows[i + 1]).max() > 1e-9] + [len(rows) - 1]
    sections = np.stack([rows[i] for i in keep])
    if hole:
        return ring_mesh(np.swapaxes(sections, 0, 1))
    points = np.concatenate([sections[0][:1], sections[1:-1].reshape(-1, 3), sections[-1][:1]])
    inner = grid_faces(len(sections) - 2, 32, True) + 1
    i, j, top = np.arange(32), (np.arange(32) + 1) % 32, len(points) - 1
    first = np.stack([np.zeros(32, dtype=np.int64), j + 1, i + 1], axis=1)
    last = np.stack([np.full(32, top), top - 32 + i, top - 32 + j], axis=1)
    faces = np.concatenate([first, inner, last]).astype(np.int32)
    return points, outwards(points, faces)


def _crown(size: float, level: float) -> list[Mesh]:
    """The winding crown, towards the hand, and four lugs that hold the strap."""
    made = [tube(np.stack([[0.0, level + 0.004, size * t] for t in (0.98, 1.02, 1.13)]), 0.0022, 8)]
    for x in (-1.0, 1.0):
        for z in (-1.0, 1.0):
            path = np.array(
                [[x * 0.80, 0.0042, z * 0.52], [x * 0.95, 0.0034, z * 0.5], [x * 1.08, 0.0012, z * 0.5]]
            )
            path = path * np.array([size, 1.0, size]) + np.array([0.0, level, 0.0])
            made.append(tube(path, 0.0016, 6))
    return made


def _dial_marks(size: float, level: float, seed: int) -> Mesh:
    """Twelve hour marks and two hands, each a flat bar just above the dial."""
    bars = []
    for hour in range(12):
        outer = 0.80 if hour % 3 else 0.82
        bars.append((hour * np.pi / 6, 0.70 if hour % 3 else 0.62, outer, 0.022 if hour % 3 else 0.035))
    time = np.random.default_rng(seed).uniform(0, 2 * np.pi, 2)
    bars += [(time[0], -0.1, 0.45, 0.05), (time[1], -0.12, 0.72, 0.035)]
    made = []
    for turn, start, end, half in bars:
        out = np.array([np.sin(turn), 0.0, np.cos(turn)])
        side = np.array([out[2], 0.0, -out[0]])
        flat = np.stack(
            [out * r + side * w for r, w in ((start, -half), (end, -half), (end, half), (start, half))]
        )
        box = np.concatenate([flat * size, flat * size + np.array([0.0, 0.0005, 0.0])])
        box[:, 1] += level
        quads = [(0, 1, 2, 3), (4, 5, 6, 7), (0, 1, 5, 4), (1, 2, 6, 5), (2, 3, 7, 6), (3, 0, 4, 7)]
        made.append(convex_solid(box, quads))
    return merged(made)


def build_bracelet(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """Bangles of metal, a string of beads or a twisted cord, by the seed. cut: `size` is half the thickness;
    `side` the left arm from 0 on.
    """
    cut, seed = garment.cut, int(garment.cut["seed"])
    thick = cut["size"]
    arm = wrist_at(wearer, "L" if cut["side"] >= 0 else "R", -0.050, thick + 0.003)
    if arm is None:
        return ()
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    style = seed % 3
    if style == 0:
        metal = metal_material(METALS["gold" if seed // 3 % 2 else "steel"], 0.2)
        fine = 0.35 * thick + 0.0006
        rings = [
            tube(_bangle(arm, angle, fine, (i - 1) * 2.3 * fine, i), fine, 10, closed=True)
            for i in range(1 + seed // 6 % 3)
        ]
        return (_worn("bracelet", merged(rings), metal),)
    path = _around(arm, angle, 0.9 * thick + 0.0008)
    if style == 1:
        return (_worn("bracelet", _beads(path, max(0.0026, 0.95 * thick)), _bead_material(garment, seed)),)
    return (_worn("bracelet", _cord(path, max(0.0012, 0.5 * thick)), fabric_material(garment.fabric)),)


def _bead_material(garment: GarmentSpec, seed: int) -> Material:
    wood: Colour = (0.16, 0.07, 0.03)
    return plastic_material((wood, garment.fabric.colour, garment.fabric.accent)[seed // 3 % 3], 0.3)


def _around(arm: Wrist, angle: np.ndarray, off: float) -> Points:
    """A tight loop around the wrist, `off` from it."""
    radius = taut_radius(arm.flat(off), angle) + off
    ring = np.stack([np.cos(angle) * radius, np.sin(angle) * radius, 0 * angle], axis=1)
    return np.asarray(arm.world(ring))


def _bangle(arm: Wrist, angle: np.ndarray, fine: float, along: float, index: int) -> Points:
    """A round stiff ring with room, hanging from the top of the arm and leaning a little."""
    reach = float(taut_radius(arm.flat(0.006), angle).max()) + fine + 0.0025
    ring = np.stack([np.cos(angle) * reach, np.sin(angle) * reach, 0 * angle], axis=1)
    ring[:, 2] += along + 0.0012 * np.sin(angle + 2.1 * index)
    down = -arm.axes[:, 2]
    down = unit(np.array([down[0], down[1], 0.0]) + 1e-6)
    flat, turn = arm.flat(0.006), np.linspace(0, 2 * np.pi, 90, endpoint=False)
    tight = taut_radius(flat, turn)[:, None] * np.stack([np.cos(turn), np.sin(turn)], axis=1)
    slack = [s for s in np.linspace(0, 0.02, 41) if _roomy(tight - s * down[:2], reach - fine)]
    return np.asarray(arm.world(ring + down * (slack[-1] if slack else 0.0)))


def _roomy(points: np.ndarray, radius: float) -> bool:
    return bool(((points * points).sum(1) < radius * radius).all())


def _beads(path: Points, radius: float) -> Mesh:
    """Balls side by side along a closed path."""
    at, _ = even_path(path, closed=True, spacing=2.02 * radius)
    rows, columns = 5, 8
    polar = np.linspace(0, np.pi, rows + 2)[1:-1]
    turn = np.arange(columns) * (2 * np.pi / columns)
    ball = np.stack(
        [
            np.outer(np.sin(polar), np.cos(turn)),
            np.outer(np.sin(polar), np.sin(turn)),
            np.outer(np.cos(polar), 1 + 0 * turn),
        ],
        axis=2,
    ).reshape(-1, 3)
    ball = np.concatenate([[[0.0, 0.0, 1.0]], ball, [[0.0, 0.0, -1.0]]])
    i, j, last = np.arange(columns), (np.arange(columns) + 1) % columns, len(ball) - 1
    faces = np.concatenate(
        [
            np.stack([0 * i, j + 1, i + 1], axis=1),
            grid_faces(rows, columns, True) + 1,
            np.stack([0 * i + last, last - columns + i, last - columns + j], axis=1),
        ]
    )
    faces = outwards(ball, faces.astype(np.int32))
    return merged([(centre + radius * ball, faces) for centre in at])


def _cord(path: Points, radius: float) -> Mesh:
    """Two strands twisted about a closed path: a cord, or a chain from afar."""
    path, step = even_path(path, closed=True, spacing=1.3 * radius + 0.0006)
    along = unit(np.roll(path, -1, axis=0) - np.roll(path, 1, axis=0))
    first = unit(np.cross(along, path - path.mean(0) + 1e-5))
    second = np.cross(along, first)
    turns = round(len(path) * step / (6.5 * radius))
    turn = np.arange(len(path)) * (2 * np.pi * turns / len(path))
    strands = []
    for phase in (0.0, np.pi):
        off = first * np.cos(turn + phase)[:, None] + second * np.sin(turn + phase)[:, None]
        strands.append(tube(path + 0.55 * radius * off, 0.62 * radius, 5, closed=True))
    return merged(strands)


def build_necklace(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """A chain with or without a pendant, or pearls, lying round the neck on the skin and the innermost top.
    cut: `size` is half the chain's thickness in metres; `length` 0 at the neck's base .. 1 on the chest.
    """
    seed = int(garment.cut["seed"])
    pearls = seed % 4 == 0
    radius = 0.0018 + garment.cut["size"] if pearls else garment.cut["size"]
    path, _ = place(bind(_neck_loop(garment.cut["length"])), wearer.posed, skin_normals(wearer))
    solid = both(*solid_near(wearer, off_arms(), path.mean(0), 0.26, first_top(wearer)))
    path = hang(even_path(path, closed=True, spacing=0.009)[0], solid, radius + 0.0006)
    if pearls:
        return (_worn("necklace", _beads(path, radius), plastic_material((0.74, 0.70, 0.63), 0.16)),)
    metal = metal_material(METALS["gold" if seed // 4 % 2 else "steel"], 0.2)
    made = [_cord(path, radius)]
    if seed // 8 % 3:
        made += _pendant(path, solid, seed // 24 % 3)
    return (_worn("necklace", merged(made), metal),)


def _neck_loop(length: float) -> Points:
    """Where a chain lies on the template: an oval from the nape to the chest, pulled onto the skin."""
    nape, front = (
        np.array([0.0, 0.045, 0.578]),
        np.array([0.0, -0.105 - 0.04 * length, 0.525 - 0.115 * length]),
    )
    turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    back = (0.5 + 0.5 * np.cos(turn))[:, None]
    path = nape * back + front * (1 - back)
    path[:, 0] = (0.078 + 0.012 * length) * np.sin(turn)
    path[:, 2] += 0.02 * np.sin(turn) ** 2
    bound = bind(path)
    return np.asarray((body_model().template[bound.corners] * bound.weights[..., None]).sum(1))


def _pendant(path: Points, solid: Solid, style: int) -> list[Mesh]:
    """A coin, a drop or a bar at the chain's lowest place, flat on what lies behind it."""
    lowest = path[int(np.argmin(path[:, 2]))]
    look = solid[1][cKDTree(solid[0]).query(lowest)[1]]
    down = unit(np.array([0.0, 0.0, -1.0]) + look * look[2])
    side = np.cross(down, look)
    turn = np.arange(20) * (2 * np.pi / 20)
    wide, high = ((0.0085, 0.0085), (0.0055, 0.0095), (0.0022, 0.013))[style]
    pinch = 1.0 + 0.45 * np.cos(turn) if style == 1 else 1.0 + 0 * turn
    flat = np.outer(wide * pinch * np.sin(turn), side) + np.outer(high * np.cos(turn), down)
    centre = lowest + down * (high + 0.003) + look * 0.0006
    rows = [flat * r + look * h for r, h in ((0.9, 0.0), (1.0, 0.0004), (1.0, 0.0012), (0.82, 0.0019))]
    points = np.concatenate([[centre], *[centre + row for row in rows], [centre + look * 0.002]])
    i, j, last = np.arange(20), (np.arange(20) + 1) % 20, len(points) - 1
    faces = np.concatenate(
        [
            np.stack([0 * i, j + 1, i + 1], axis=1),
            grid_faces(4, 20, True) + 1,
            np.stack([0 * i + last, last - 20 + i, last - 20 + j], axis=1),
        ]
    )
    loop = np.outer(np.cos(turn[::2]), down) * 0.0028 + np.outer(np.sin(turn[::2]), look) * 0.0028
    bail = tube(lowest + down * 0.0012 + look * 0.001 + loop, 0.0006, 6, closed=True)
    return [(points, outwards(points, faces.astype(np.int32))), bail]

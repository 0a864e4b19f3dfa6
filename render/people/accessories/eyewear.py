"""Spectacles: two rims with lenses, a bridge on the nose, and temples that hook over the ears.

Built in the head's own frame (`HeadFrame`: the template's metres, front -y, up z, the person's left +x) from
the eyes, as stiff as real ones: the front is moved forward until it clears the face, and nothing else bends.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Int64
from scipy.spatial import cKDTree

from render.people.accessories.solids import (
    Solid,
    ball,
    bar,
    beside,
    carried,
    hoop,
    made_up,
    section,
    together,
)
from render.people.accessories.wearer import Wearer
from render.people.anchors import Binding, eyes_of, with_bone
from render.people.body import LASHES, body_model
from render.people.hair.frame import HeadFrame, head_frame
from render.people.looks import lens_material, metal_material, plastic_material
from render.people.palette import METALS
from render.people.spec import Colour, GarmentSpec
from render.person import Material, Surface

Points = Float64[np.ndarray, "n 3"]
Plane = Float64[np.ndarray, "n 2"]

OUTLINE, STATIONS = 44, 26
METAL_RIM = 0.0014  # rims thinner than this are wire, metres (radius)
PLASTICS: tuple[Colour, ...] = (
    (0.012, 0.012, 0.013),
    (0.045, 0.020, 0.009),
    (0.010, 0.016, 0.045),
    (0.110, 0.045, 0.018),
    (0.160, 0.012, 0.014),
    (0.300, 0.285, 0.260),
)
TINTS: tuple[Colour, ...] = ((0.010, 0.010, 0.011), (0.028, 0.017, 0.009), (0.012, 0.018, 0.013))
CLEAR: Colour = (0.20, 0.22, 0.225)
OPACITY = {"glasses": 0.04, "sunglasses": 0.8}
"""Of lenses. The shader adds up to 0.35 where they are seen from the side: neither crosses one half, so that
labels see through clear lenses, and stop at dark ones, from everywhere.
"""


@dataclass(frozen=True)
class Look:
    """A shape of lenses. wide, high: half its size; power: 2 an ellipse .. 4 nearly a rectangle; gap between
    the lenses; drop below the eyes' middles: metres. wing: how much wider it is at the top than at the foot.
    """

    wide: float
    high: float
    power: float
    gap: float
    drop: float
    wing: float


LOOKS = (
    Look(0.0225, 0.0213, 2.1, 0.0195, 0.0015, 0.0),  # round
    Look(0.0262, 0.0168, 3.6, 0.0170, 0.0010, 0.03),  # rectangular
    Look(0.0258, 0.0198, 2.9, 0.0175, 0.0020, 0.10),  # wayfarer
    Look(0.0272, 0.0232, 2.35, 0.0170, 0.0055, 0.17),  # aviator
)


def build_glasses(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """Glasses or sunglasses. cut: `shape`, whose whole part is an index of LOOKS; `width`, their size against
    the head's; `rim`, its radius in metres, thin ones are wire.
    """
    cut, frame = garment.cut, head_frame(wearer.posed, wearer.skeleton, wearer.model)
    eyes = frame.local(with_bone(eyes_of(wearer.shape, wearer.model), "head", wearer.skeleton, wearer.model))
    look = LOOKS[min(int(cut["shape"]), len(LOOKS) - 1)]
    apart = float(eyes[0, 0] - eyes[1, 0])
    size = cut["width"] * float(np.clip(apart / 0.0616, 0.92, 1.08))
    wire = cut["rim"] < METAL_RIM
    thick = cut["rim"] * (np.ones(2) if wire else np.array([0.9, 0.85]))
    plan = _Plan(look, size, thick, wire, eyes.mean(0) - np.array([0.0, 0.0, look.drop]))
    front = _clear_of_face(plan, wearer, frame)
    plan = _Plan(look, size, thick, wire, front)
    parts = [_rim(plan, side) for side in (1.0, -1.0)]
    parts += _bridge(plan)
    parts += [_temple(plan, side, wearer, frame) for side in (1.0, -1.0)]
    lenses = together([_lens(plan, side) for side in (1.0, -1.0)])
    return (
        made_up(garment.kind, together(parts), "Eyeglass", _frame_material(garment, wire), frame),
        made_up(f"{garment.kind}_lenses", lenses, "Eyeglass", _lens_material(garment), frame),
    )


def _frame_material(garment: GarmentSpec, wire: bool) -> Material:
    rng = np.random.default_rng(int(garment.cut["seed"]))
    metal, plastic, own = int(rng.integers(4)), int(rng.integers(8)), rng.random() < 0.15
    if wire:
        name = ("steel", "gold", "black", "steel")[metal]
        return metal_material(METALS[name], 0.22)
    colour = garment.fabric.colour if own else PLASTICS[plastic % len(PLASTICS)]
    return plastic_material(colour, 0.18)


def _lens_material(garment: GarmentSpec) -> Material:
    tint = TINTS[int(garment.cut["seed"]) % len(TINTS)] if garment.kind == "sunglasses" else CLEAR
    return lens_material(tint, OPACITY[garment.kind])


@dataclass(frozen=True)
class _Plan:
    """Measures of a front. thick: half the rim's width and depth; middle: between the lenses, on the frame's
    foremost plane.
    """

    look: Look
    size: float
    thick: Float64[np.ndarray, " 2"]
    wire: bool
    middle: Float64[np.ndarray, " 3"]

    def outline(self, side: float) -> Plane:
        """A lens's edge from its outermost point upwards, (x, z) from the middle."""
        look, angle = self.look, np.arange(OUTLINE) * (2 * np.pi / OUTLINE)
        c, s = np.cos(angle), np.sin(angle)
        x = look.wide * np.sign(c) * np.abs(c) ** (2 / look.power)
        z = look.high * np.sign(s) * np.abs(s) ** (2 / look.power)
        x = x * (1 + look.wing * z / look.high) + 0.25 * look.wing * look.wide * (0.4 - z / look.high)
        z = z + 0.10 * look.wing * x * (z > 0)
        centre = look.wide + look.gap / 2
        return np.asarray(np.stack([side * (x + centre), z], axis=1) * self.size)

    def bent(self, flat: Plane, forward: np.ndarray | float = 0.0) -> Points:
        """Points of the front: wrapped around the face, its foot leaning in. forward: metres."""
        y = flat[:, 0] ** 2 / 0.62 - 0.10 * flat[:, 1] - forward
        return np.asarray(np.stack([flat[:, 0], y, flat[:, 1]], axis=1) + self.middle)


@lru_cache(maxsize=1)
def _face_edges() -> tuple[Int64[np.ndarray, " n"], Int64[np.ndarray, " n"]]:
    """Both ends of every edge of the template's skin between brows and mouth, and its vertices, as edges from
    themselves to themselves.
    """
    model = body_model()
    faces = model.faces("body")
    corner = model.template[faces]
    near = (corner[..., 2].min(1) > 0.68) & (corner[..., 2].max(1) < 0.775)
    near &= (np.abs(corner[..., 0]).max(1) < 0.075) & (corner[..., 1].max(1) < -0.095)
    half = faces[near][:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).astype(np.int64)
    code = np.unique(np.sort(half, axis=1) @ np.array([len(model.template), 1]))
    used = np.unique(faces[near]).astype(np.int64)
    first, second = np.divmod(code, len(model.template))
    return np.concatenate([used, first[first < second]]), np.concatenate([used, second[first < second]])


def _clear_of_face(plan: _Plan, wearer: Wearer, frame: HeadFrame) -> Float64[np.ndarray, " 3"]:
    """The front's middle, as near to the face as rims, lenses and bridge allow."""
    first, second = _face_edges()
    face = frame.local(0.5 * (wearer.posed[first] + wearer.posed[second]))
    flat = np.concatenate([plan.outline(s) for s in (1.0, -1.0)])
    hub = np.concatenate([np.full((OUTLINE, 1), s) for s in (1.0, -1.0)]) * (
        plan.look.wide + plan.look.gap / 2
    )
    hub = np.concatenate([hub * plan.size, 0 * hub], axis=1)
    spread = [hub + q * (flat - hub) for q in (1.06, 1.0, 0.93, 0.6, 0.3)]
    bridge = np.stack([np.linspace(-0.009, 0.009, 9), np.full(9, 0.35 * plan.look.high)], axis=1) * plan.size
    flat = np.concatenate([*spread, bridge])
    back = plan.bent(flat, -plan.thick[1])
    distance, near = cKDTree(face[:, [0, 2]]).query(back[:, [0, 2]], k=4)
    weight = 1 / (distance + 1e-4) ** 2
    skin = (face[near][..., 1] * weight).sum(1) / weight.sum(1)
    margin = np.full(len(flat), 0.0020)
    margin[-9:] = 0.0003
    margin[flat[:, 1] > 0.75 * plan.look.high * plan.size] = 0.0030  # the hairs of the brows
    lashes = np.unique(np.concatenate([wearer.model.quads[g].ravel() for g in LASHES]))
    hairs = frame.local(wearer.posed[lashes])
    behind = plan.bent(hairs[:, [0, 2]] - plan.middle[[0, 2]], -0.0006)
    needed = min(float((skin - margin - back[:, 1]).min()), float((hairs[:, 1] - 0.002 - behind[:, 1]).min()))
    return np.asarray(plan.middle + np.array([0.0, needed, 0.0]))


def _rim(plan: _Plan, side: float) -> Solid:
    """Around one lens; plastic ones are heavier above."""
    flat = plan.outline(side)
    ahead = np.roll(flat, -1, axis=0) - np.roll(flat, 1, axis=0)
    normal = np.stack([ahead[:, 1], -ahead[:, 0]], axis=1) * side
    normal = normal / np.sqrt((normal**2).sum(1, keepdims=True))
    heavy = 1 + (0.0 if plan.wire else 0.35) * np.clip(flat[:, 1] / (plan.look.high * plan.size), -0.4, 1)
    rings = []
    grown = 0.0 if plan.wire else 0.4  # a lens sits in the groove of its rim
    for wide, deep in section(1.0, 1.0):
        out = flat + normal * (plan.thick[0] * heavy * (wide + grown))[:, None]
        rings.append(plan.bent(out, deep * plan.thick[1]))
    return hoop(np.stack(rings), 0.01)


def _lens(plan: _Plan, side: float) -> Solid:
    """A thin meniscus that fills its rim."""
    flat = plan.outline(side)
    hub = np.array([side * (plan.look.wide + plan.look.gap / 2) * plan.size, 0.0])
    thick = 0.0006

    def layer(share: float, forward: float) -> Points:
        return plan.bent(hub + share * (flat - hub), 0.0016 * (1 - share**2) + forward)

    shares = (0.35, 0.7, 0.99)
    rings = [layer(q, thick) for q in shares] + [layer(q, -thick) for q in shares[::-1]]
    poles = [plan.bent(hub[None], 0.0016 + f)[0] for f in (thick, -thick)]
    return ball(np.stack(rings), poles[0], poles[1], 0.1)


def _bridge(plan: _Plan) -> list[Solid]:
    """Over the nose; wire frames also stand on two pads, aviators have a second bar."""
    z = plan.look.high * plan.size
    made = []
    heights = (0.36, 0.86) if plan.wire and plan.look.wing > 0.15 else (0.36,)
    for share in heights:
        left, right = (_inner(plan, side, share * z) for side in (1.0, -1.0))
        t = np.linspace(0, 1, 11)
        arch = (0.0026 if share < 0.5 else 0.0004) * plan.size * np.sin(np.pi * t)
        flat = left + (right - left) * t[:, None] + np.stack([0 * t, arch], axis=1)
        path = plan.bent(flat, 0.0006 * np.sin(np.pi * t))
        size = plan.thick if plan.wire else plan.thick * np.array([1.15, 0.95])
        up = np.broadcast_to(np.array([0.0, 0.0, 1.0]), path.shape)
        made.append(bar(path, up, np.full(11, size[0]), np.full(11, size[1])))
    if plan.wire:
        made += [_pad(plan, side) for side in (1.0, -1.0)]
    return made


def _pad(plan: _Plan, side: float) -> Solid:
    """A soft pad beside the nose, on an arm from the rim."""
    height = -0.12 * plan.look.high * plan.size
    rim = plan.bent(_inner(plan, side, height)[None])[0]
    at = rim + np.array([-0.0012 * side, 0.0032, -0.001]) * plan.size
    t = np.linspace(0, 1, 5)[:, None]
    path = rim * (1 - t) + at * t + np.array([0.0, 0.0, -0.0012]) * np.sin(np.pi * t)
    up = np.broadcast_to(np.array([0.0, 0.0, 1.0]), path.shape)
    arm = bar(path, up, np.full(5, 0.0004), np.full(5, 0.0004))
    angle = np.linspace(-1.2, 1.2, 5)
    long = at + np.outer(np.sin(angle) * 0.0036, np.array([0.25 * side, 0.15, 1.0]))
    wide = np.cos(angle) * 0.0019
    looks = np.broadcast_to(np.array([0.35 * side, 1.0, 0.0]), long.shape)
    return together([arm, bar(long, looks, wide, 0.45 * wide)])


def _inner(plan: _Plan, side: float, height: float) -> Float64[np.ndarray, " 2"]:
    """Where a lens's nasal edge has a height, (x, z) from the middle."""
    flat = plan.outline(side)
    nasal = flat[np.abs(flat[:, 0]) < (plan.look.wide + plan.look.gap / 2) * plan.size]
    order = np.argsort(nasal[:, 1], kind="stable")
    return np.array([float(np.interp(height, nasal[order, 1], nasal[order, 0])), height])


HOOK = (
    (-0.070, 0.7355),
    (-0.057, 0.7378),
    (-0.046, 0.7355),
    (-0.037, 0.7275),
    (-0.0305, 0.7150),
    (-0.0285, 0.7020),
)
SIDE = ((-0.125, 0.735), (-0.110, 0.735), (-0.095, 0.735), (-0.082, 0.735))
"""(y, z) on the template's temples: where a temple runs over the ear and down behind it; before the ear."""


@lru_cache(maxsize=2)
def _temple_places(side: float) -> Binding:
    """The skin of HOOK and SIDE on one side of the head."""
    return beside((*HOOK, *SIDE), side)


def _temple(plan: _Plan, side: float, wearer: Wearer, frame: HeadFrame) -> Solid:
    """From the rim's upper outer corner, clear of the temple, over the ear and down behind it."""
    half = plan.thick if plan.wire else np.array([0.0022, 0.0012])
    flat = plan.outline(side)
    corner = flat[np.argmax(side * flat[:, 0] * 1.0 + 0.75 * flat[:, 1])]
    skin = frame.local(carried(_temple_places(side), wearer.posed))
    hook, temple = skin[: len(HOOK)], skin[len(HOOK) :]
    clear = half[1] + 0.0010
    out = np.array([side, 0.0, 0.0])
    start = plan.bent(corner[None])[0]
    turn = start + np.array([[side * 0.0030, 0.0002, 0.0], [side * 0.0062, 0.0040, 0.0]])
    nodes = np.concatenate([start[None], turn, hook + clear * out])
    nodes[-1] += 0.001 * out
    way = np.concatenate([[0.0], np.cumsum(np.sqrt((np.diff(nodes, axis=0) ** 2).sum(1)))])
    at = np.concatenate([np.linspace(0, way[2], 5)[:-1], np.linspace(way[2], way[-1], STATIONS)])
    path = np.stack([np.interp(at, way, nodes[:, a]) for a in range(3)], axis=1)
    for _ in range(3):
        path[1:-1] = 0.25 * path[:-2] + 0.5 * path[1:-1] + 0.25 * path[2:]
    order = np.argsort(temple[:, 1], kind="stable")
    wall = np.interp(path[:, 1], temple[order, 1], side * temple[order, 0], left=0.0, right=0.0)
    path[:, 0] = side * np.maximum(side * path[:, 0], wall + clear)
    tip = np.clip((np.arange(len(path)) - len(path) + 9) / 8, 0, 1)
    head = np.clip(1 - np.arange(len(path)) / 9, 0, 1) * (not plan.wire)
    tall = half[0] * (1 + 0.35 * head + (0.3 if not plan.wire else 0.6) * tip)
    across = np.broadcast_to(np.array([0.0, 0.25, 1.0]), path.shape).copy()
    across += tip[:, None] * np.array([0.0, 0.9, -0.3])
    return bar(path, across, tall, np.full(len(path), half[1]) * (1 + 0.3 * tip))

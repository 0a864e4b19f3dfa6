"""What accessories lie on and how: the surfaces near a place, bands drawn tight, chains that hang."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float64, Int32
from scipy.spatial import ConvexHull, cKDTree

from render.people.accessories.wearer import Wearer
from render.people.anchors import Binding, Points, bind, grid_faces, outwards, place
from render.people.body import body_model
from render.people.cloth import Solid, arm_weight
from render.people.mesh import unit
from render.people.parts import region_weights

Path = Float64[np.ndarray, "_ 3"]
Mesh = tuple[Path, Int32[np.ndarray, "_ 3"]]
FOREARM = 0.2315  # from elbow to wrist of the template, metres


@lru_cache(maxsize=1)
def skin_rows() -> Int32[np.ndarray, " n"]:
    """Template vertices of the skin, in the order of `Wearer.under[0]`."""
    return np.asarray(np.unique(body_model().faces("body")), dtype=np.int32)


def solid_near(
    wearer: Wearer,
    wanted: Bool[np.ndarray, " v"],
    middle: Float64[np.ndarray, " 3"],
    reach: float,
    layers: int | None = None,
) -> tuple[Solid, Solid]:
    """Skin, and the cloth over it, within `reach` of a place; only of the wanted template vertices, so that
    a hand on the hip is no part of the hip. layers: how many of `wearer.under` count, skin included.
    """
    skin, outward = wearer.under[0]
    close = (np.abs(skin - middle) < reach + 0.05).all(1)
    here, looks, good = skin[close], outward[close], wanted[skin_rows()][close]
    coarse = 3 if len(here) > 3000 else 1
    tree = cKDTree(here[::coarse]) if len(here) else None
    points, normals = [np.zeros((0, 3))], [np.zeros((0, 3))]
    for cloth, look in wearer.under[1:layers]:
        inside = (np.abs(cloth - middle) < reach).all(1)
        if tree is None or not inside.any():
            continue
        nearest = tree.query(cloth[inside])[1] * coarse
        points.append(cloth[inside][good[nearest]])
        normals.append(look[inside][good[nearest]])
    return (here[good], looks[good]), (np.concatenate(points), np.concatenate(normals))


def both(*solids: Solid) -> Solid:
    """Several surfaces to stay off, as one."""
    return np.concatenate([p for p, _ in solids]), np.concatenate([n for _, n in solids])


def taut_radius(flat: Float64[np.ndarray, "n 2"], angle: Float64[np.ndarray, " a"]) -> np.ndarray:
    """How far from the origin a band lies that is drawn tight around points of a plane, in directions."""
    hull = flat[ConvexHull(flat).vertices]
    turn = np.arctan2(hull[:, 1], hull[:, 0])
    order = np.argsort(turn, kind="stable")
    hull, turn = hull[order], turn[order]
    at = np.searchsorted(turn, np.arctan2(np.sin(angle), np.cos(angle))) % len(hull)
    p, q = hull[at - 1], hull[at]
    cross = p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]
    step = q - p
    return np.asarray(cross / (np.cos(angle) * step[:, 1] - np.sin(angle) * step[:, 0]))


def ring_mesh(sections: Float64[np.ndarray, "n k 3"]) -> Mesh:
    """The closed solid of outlines that follow each other in a closed loop."""
    points = np.swapaxes(sections, 0, 1).reshape(-1, 3)
    faces = grid_faces(sections.shape[1] + 1, len(sections), True) % len(points)
    return points, outwards(points, faces.astype(np.int32))


def merged(meshes: list[Mesh]) -> Mesh:
    """Several meshes as one."""
    starts = np.cumsum([0] + [len(p) for p, _ in meshes])
    faces = [f + start for (_, f), start in zip(meshes, starts, strict=False)]
    return np.concatenate([p for p, _ in meshes]), np.concatenate(faces).astype(np.int32)


def convex_solid(points: Points, quads: list[tuple[int, int, int, int]]) -> Mesh:
    """A convex solid of quads, each wound to look away from the middle."""
    faces = np.array([f for a, b, c, d in quads for f in ((a, b, c), (a, c, d))], dtype=np.int32)
    corner = points[faces]
    looks = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    wrong = (looks * (corner.mean(1) - points.mean(0))).sum(1) < 0
    return points, np.where(wrong[:, None], faces[:, ::-1], faces).astype(np.int32)


def even_path(path: Path, *, closed: bool, spacing: float) -> tuple[Path, float]:
    """A path in steps of about the same length; and that length."""
    whole = np.concatenate([path, path[:1]]) if closed else path
    step = np.sqrt(((whole[1:] - whole[:-1]) ** 2).sum(1))
    length = np.concatenate([[0.0], np.cumsum(step)])
    count = max(3, int(length[-1] / spacing))
    at = (
        np.linspace(0, length[-1], count, endpoint=False) if closed else np.linspace(0, length[-1], count + 1)
    )
    return np.stack([np.interp(at, length, whole[:, c]) for c in range(3)], axis=1), float(length[-1] / count)


def off_arms() -> Bool[np.ndarray, " v"]:
    """Template vertices of the trunk, neck and head."""
    return np.asarray(arm_weight() < 0.5)


def skin_normals(wearer: Wearer) -> Float64[np.ndarray, "v 3"]:
    """`body_normals` of the wearer, who has them already."""
    normals = np.zeros_like(wearer.posed)
    normals[skin_rows()] = wearer.under[0][1]
    return normals


@lru_cache(maxsize=1)
def _chest() -> Binding:
    return bind(np.array([[-0.06, -0.13, 0.45], [0.06, -0.13, 0.45], [0.0, -0.13, 0.45]]))


def first_top(wearer: Wearer) -> int:
    """How many of `wearer.under`, from the skin outwards, make the innermost cloth on the chest the last."""
    at, _ = place(_chest(), wearer.posed, skin_normals(wearer))
    for index, (cloth, _) in enumerate(wearer.under[1:], start=1):
        near = ((cloth[:, None] - at) ** 2).sum(2) < 0.05**2
        if near.any(0).all():
            return index + 1
    return 1


def hang(path: Points, solid: Solid, margin: float, *, held: int = 0, steps: int = 28) -> Points:
    """A chain come to rest: pulled down, not stretched, and kept `margin` off what it lies on. held: how many
    of its first points stay where they are; 0 for a closed loop.
    """
    tree = cKDTree(solid[0])
    free = (np.arange(len(path)) >= held).astype(np.float64)[:, None]
    after = np.append(np.arange(1, len(path)), 0)
    previous = np.append(len(path) - 1, np.arange(len(path) - 1))
    link = np.full((len(path), 1), 0.45)
    link[-1] = 0.0 if held else 0.45
    step = path[after] - path
    rest = np.sqrt((step * step).sum(1))[:, None]
    before = path
    for _ in range(steps):
        moved = free * (0.8 * (path - before) - np.array([0.0, 0.0, 0.0008]))
        before = path
        path = path + moved
        for _ in range(4):
            step = path[after] - path
            size = np.sqrt((step * step).sum(1))[:, None] + 1e-9
            pull = link * step * (1 - rest / size)
            path = path + free * (pull - pull[previous])
        push = free * (clear_of(path, tree, solid, margin) - path)
        path, before = path + push, before + push
    path = smoothed(path, 2, closed=not held)
    return clear_of(path, tree, solid, margin)


def smoothed(path: Points, rounds: int, *, closed: bool) -> Points:
    """A path with its corners rounded; open ends stay."""
    for _ in range(rounds):
        even = 0.5 * path + 0.25 * (np.roll(path, 1, axis=0) + np.roll(path, -1, axis=0))
        if not closed:
            even[0], even[-1] = path[0], path[-1]
        path = even
    return path


def frames(path: Points, outward: Points) -> tuple[Points, Points]:
    """(sideways, out) along an open path: across it, and the part of `outward` that is across it."""
    along = unit(np.gradient(path, axis=0))
    out = unit(outward - along * (outward * along).sum(1, keepdims=True))
    return np.cross(along, out), out


def lofted(
    path: Points, side: Points, out: Points, outline: Float64[np.ndarray, "n k 2"]
) -> Float64[np.ndarray, "n k 3"]:
    """Outlines of (across, lift) in metres set along a path."""
    return np.asarray(path[:, None] + outline[..., :1] * side[:, None] + outline[..., 1:] * out[:, None])


def looks_of(path: Points, tree: cKDTree, solid: Solid, rounds: int) -> Points:
    """Where the surface under a path looks, evened out along it."""
    nearest = tree.query(path, k=4)[1]
    return unit(smoothed(solid[1][nearest].mean(1), rounds, closed=False))


def clear_of(
    points: Points, tree: cKDTree, solid: Solid, margin: float | Float64[np.ndarray, " n"]
) -> Points:
    """Points moved out to `margin` above the planes of the three solid points nearest to them."""
    _, nearest = tree.query(points, k=3)
    gap = ((points[:, None] - solid[0][nearest]) * solid[1][nearest]).sum(2)
    lack = np.clip(np.asarray(margin)[..., None] - gap, 0.0, 0.05)
    worst = np.argmax(lack, axis=1)
    rows = np.arange(len(points))
    return np.asarray(points + lack[rows, worst][:, None] * solid[1][nearest[rows, worst]])


@dataclass(frozen=True, eq=False)
class Wrist:
    """Where something goes around a forearm. axes: across it, out of the back of the hand, and along the
    arm to the hand. cloud: what it goes around, in these axes from `centre`.
    """

    centre: Float64[np.ndarray, " 3"]
    axes: Float64[np.ndarray, "3 3"]
    cloud: Float64[np.ndarray, "n 3"]
    scale: float

    def world(self, local: np.ndarray) -> np.ndarray:
        """Points of the axes in the world."""
        return np.asarray(self.centre + (local[..., None] * self.axes).sum(-2))

    def flat(self, half: float) -> Float64[np.ndarray, "m 2"]:
        """What a band of a half width meets."""
        near = np.abs(self.cloud[:, 2]) < half + 0.010
        return self.cloud[near, :2]


def wrist_at(wearer: Wearer, side: str, along: float, half: float, layers: int | None = None) -> Wrist | None:
    """The place on the arm `along` (metres on the template) from the wrist towards the hand; beyond the end
    of a sleeve if that leaves it on the wrist, else around the sleeve. layers: as in `solid_near`.
    """
    head = dict(zip(wearer.model.bones, wearer.skeleton.heads, strict=True))
    wrist, forearm = head[f"wrist.{side}"], head[f"wrist.{side}"] - head[f"lowerarm02.{side}"]
    reach = head[f"wrist.{side}"] - head[f"lowerarm01.{side}"]
    scale = float(np.sqrt((reach * reach).sum())) / FOREARM
    axis = unit(forearm)
    across = head[f"finger5-1.{side}"] - head[f"finger2-1.{side}"]
    dorsal = np.cross(axis, across) * (1.0 if side == "L" else -1.0)
    dorsal = unit(dorsal - axis * (dorsal * axis).sum())
    axes = np.stack([np.cross(dorsal, axis), dorsal, axis])
    wanted = region_weights()[f"Lower_Arm.{side}"] + region_weights()[f"Hand.{side}"] > 0.5
    skin, cloth = solid_near(wearer, wanted, wrist, 0.15, layers)
    place_at = along * scale
    if len(cloth[0]):
        end = float(((cloth[0] - wrist) * axis).sum(1).max())
        beyond = max(place_at, end + half + 0.002)
        place_at = beyond if beyond < 0.014 * scale else place_at
    centre = wrist + axis * place_at
    local = ((both(skin, cloth)[0] - centre)[:, None] * axes).sum(2)
    cloud = local[np.abs(local[:, 2]) < 0.04]
    ring = cloud[np.abs(cloud[:, 2]) < half + 0.010]
    if len(ring) < 6:
        return None
    shift = np.append(0.5 * (ring[:, :2].max(0) + ring[:, :2].min(0)), 0.0)
    return Wrist(centre + (shift[:, None] * axes).sum(0), axes, cloud - shift, scale)


@lru_cache(maxsize=4)
def loop_around(back: tuple[float, float], front: tuple[float, float], wide: float) -> Binding:
    """48 places on the template's skin around the trunk or neck, from the front over the person's left;
    (y, z) of the back and the front.
    """
    turn = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    share = (0.5 + 0.5 * np.cos(turn))[:, None]
    line = np.array([[0.0, *front]]) * share + np.array([[0.0, *back]]) * (1 - share)
    line[:, 0] = wide * np.sin(turn)
    bound = bind(line)
    return Binding(bound.corners, bound.weights, np.zeros(48))


def loop_axes(loop: Points) -> tuple[Float64[np.ndarray, " 3"], Float64[np.ndarray, "3 3"]]:
    """Middle of a loop, and its axes: to the front, to the person's left, and up through it."""
    middle = loop.mean(0)
    up = unit(np.cross(loop - middle, np.roll(loop, -1, axis=0) - middle).sum(0))
    front = loop[0] - middle
    front = unit(front - up * (front * up).sum())
    return middle, np.stack([front, np.cross(up, front), up])

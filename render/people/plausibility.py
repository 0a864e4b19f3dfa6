"""Whether a body can be in a pose: joints within limits, no limb in another, weight above its support."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Int64
from scipy.spatial import ConvexHull, cKDTree

from render.people.body import BodyModel, Shape, Skeleton, body_model, product, skin
from render.people.limits import Pose, anatomy, beyond_limits, rounded_vector
from render.people.mesh import unit, vertex_normals
from render.people.parts import region_weights

TOUCH = 0.012  # metres that soft flesh gives way where regions meet
BEYOND = (
    15.0  # degrees beyond a limit; recorded poses bend fingers and collar bones a little further than tables
)
SWAY = 0.03  # of body height that the centre of mass may be outside the support
_CONTACT = 0.05  # metres above the lowest point that still rest on the ground
_SEAT = (
    0.57  # cosine of a thigh against the vertical below which it lies on a seat: within 35 degrees of level
)
_SITTING = 0.18  # metres from hip joints to the ground of who sits on it
_UPRIGHT = 0.6  # cosine: the nearest skin of a point inside is straight above it
_NEAR = 0.12  # metres within which the nearest skin tells inside from outside

MASSES: dict[str, tuple[float, str, str, float]] = {
    "trunk": (0.497, "spine05", "spine01", 0.5),
    "head": (0.081, "neck03", "head", 1.6),
    **{
        f"{name}.{side}": (mass, f"{start}.{side}", f"{end}.{side}", share)
        for side in "LR"
        for name, mass, start, end, share in (
            ("upper arm", 0.028, "upperarm01", "lowerarm01", 0.436),
            ("forearm", 0.016, "lowerarm01", "wrist", 0.430),
            ("hand", 0.006, "wrist", "finger3-1", 0.8),
            ("thigh", 0.100, "upperleg01", "lowerleg01", 0.433),
            ("shank", 0.0465, "lowerleg01", "foot", 0.433),
            ("foot", 0.0145, "foot", "toe2-1", 0.5),
        )
    },
}
"""Segment -> (share of body mass, from joint, to joint, place of its centre between them): Winter,
Biomechanics and Motor Control of Human Movement, after Dempster (1955).
"""

_TRUNK = ("Torso", "Face_Neck")
_MEETS: dict[str, tuple[str, ...]] = {
    "Hand": (*_TRUNK, "Upper_Arm", "-Lower_Arm", "-Hand", "Upper_Leg", "Lower_Leg", "Foot"),
    "Lower_Arm": (*_TRUNK, "-Upper_Arm", "-Lower_Arm", "Upper_Leg", "Lower_Leg", "Foot"),
    "Upper_Arm": (*_TRUNK, "Upper_Leg", "Lower_Leg"),
    "Upper_Leg": (*_TRUNK, "-Upper_Leg"),
    "Lower_Leg": (*_TRUNK, "-Upper_Leg", "-Lower_Leg", "-Foot"),
    "Foot": (*_TRUNK, "Upper_Leg", "-Lower_Leg", "-Foot"),
}
"""Region of a limb -> regions it may not enter; `-`: that of the other side only."""


@dataclass(frozen=True)
class _Pair:
    probe: str
    target: str
    probes: Int64[np.ndarray, " p"]  # places among the sampled vertices
    targets: Int64[np.ndarray, " t"]


@dataclass(frozen=True)
class _Sample:
    """Vertices of the skin that are looked at, and which of them are compared with which."""

    vertices: Int64[np.ndarray, " n"]
    weights: Float64[np.ndarray, "n k"]
    normals: Float64[np.ndarray, "n 3"]
    pairs: tuple[_Pair, ...]


def check_pose(shape: Shape, skeleton: Skeleton, model: BodyModel, sway: float = SWAY) -> str | None:
    """Why a body cannot be in this pose, or None: `pose:beyond_limits:JOINT`, `pose:unbalanced` or
    `pose:penetration:REGION-REGION` with the names of the part classes.

    sway: how far the centre of mass may be outside the support, as a share of body height.
    """
    if joint := beyond_limits(_local_pose(skeleton, model), anatomy(shape, model), BEYOND):
        return f"pose:beyond_limits:{joint}"
    points = posed_sample(shape, skeleton, model)
    if _overhang(points, skeleton, model) > sway * float(np.ptp(shape.vertices[_sample().vertices, 2])):
        return "pose:unbalanced"
    worst, where = -TOUCH, None
    for (probe, target), gap in gaps(points, skeleton, model).items():
        worst, where = (gap, f"{_part(probe)}-{_part(target)}") if gap < worst else (worst, where)
    return f"pose:penetration:{where}" if where else None


def posed_sample(shape: Shape, skeleton: Skeleton, model: BodyModel) -> Float64[np.ndarray, "n 3"]:
    """The sampled vertices of the skin, posed."""
    sample = _sample()
    bones = model.weight_bones[sample.vertices, : sample.weights.shape[1]]
    return skin(shape.vertices[sample.vertices], sample.weights, bones, skeleton)


def gaps(
    points: Float64[np.ndarray, "n 3"], skeleton: Skeleton, model: BodyModel
) -> dict[tuple[str, str], float]:
    """Smallest distance, metres, from a limb's skin to that of each region it could meet; negative: the
    depth it is inside. Pairs further apart than 12 cm are left out.
    """
    sample = _sample()
    turn = skeleton.rotations[model.weight_bones[sample.vertices, 0]]
    normals = (turn * sample.normals[:, None, :]).sum(2)
    found = {}
    trees: dict[str, cKDTree] = {}
    for pair in sample.pairs:
        target = points[pair.targets]
        probe = points[pair.probes]
        if (probe.min(0) > target.max(0) + _NEAR).any() or (probe.max(0) < target.min(0) - _NEAR).any():
            continue
        if pair.target not in trees:
            trees[pair.target] = cKDTree(target)
        distance, nearest = trees[pair.target].query(probe, distance_upper_bound=_NEAR)
        near = np.flatnonzero(np.isfinite(distance))
        if not len(near):
            continue
        index = pair.targets[nearest[near]]
        height = ((probe[near] - points[index]) * normals[index]).sum(1)
        inside = height < -_UPRIGHT * distance[near]  # else beside the edge of the region, or outside
        signed = np.where(inside, height, distance[near])
        signed.sort()
        found[pair.probe, pair.target] = float(signed[min(2, len(signed) - 1)])
    return found


def centre_of_mass(skeleton: Skeleton, model: BodyModel) -> Float64[np.ndarray, " 3"]:
    """Of the whole body, from the masses of its segments."""
    at = {name: skeleton.heads[i] for i, name in enumerate(model.bones)}
    parts = [m * (at[a] + share * (at[b] - at[a])) for m, a, b, share in MASSES.values()]
    return np.asarray(np.sum(parts, axis=0) / sum(m for m, *_ in MASSES.values()))


def _overhang(points: Float64[np.ndarray, "n 3"], skeleton: Skeleton, model: BodyModel) -> float:
    """How far, in metres, the centre of mass is outside the convex hull of what touches the ground, or of
    that and the seat under level thighs; negative inside.
    """
    ground = points[points[:, 2] < points[:, 2].min() + _CONTACT, :2]
    support = [ground, *_seat(skeleton, float(points[:, 2].min()), model)]
    cross = np.array([[0.01, 0.0], [-0.01, 0.0], [0.0, 0.01], [0.0, -0.01]])
    hull = ConvexHull((np.concatenate(support)[:, None] + cross).reshape(-1, 2))
    middle = centre_of_mass(skeleton, model)[:2]
    return float(((hull.equations[:, :2] * middle).sum(1) + hull.equations[:, 2]).max())


def _seat(skeleton: Skeleton, ground: float, model: BodyModel) -> list[Float64[np.ndarray, "k 2"]]:
    at = {n: skeleton.heads[model.bones.index(n)] for n in _SEATED}
    hips, knees = ((at[f"{n}.L"], at[f"{n}.R"]) for n in ("upperleg01", "lowerleg01"))
    thighs = [unit(knee - hip) for hip, knee in zip(hips, knees, strict=True)]
    low = min(hip[2] for hip in hips) - ground < _SITTING
    if not low and any(abs(thigh[2]) > _SEAT for thigh in thighs):
        return []
    ends = [hip - 0.10 * thigh for hip, thigh in zip(hips, thighs, strict=True)]  # the buttocks
    return [np.stack([*ends, *(0.5 * (a + b) for a, b in zip(hips, knees, strict=True))])[:, :2]]


_SEATED = ("upperleg01.L", "upperleg01.R", "lowerleg01.L", "lowerleg01.R")


def _local_pose(skeleton: Skeleton, model: BodyModel) -> Pose:
    """Joint rotations that led to the skeleton, of the joints that turn."""
    pose: Pose = {}
    for i, (name, parent) in enumerate(zip(model.bones, model.parents, strict=True)):
        if parent >= 0 and not np.array_equal(skeleton.rotations[i], skeleton.rotations[parent]):
            pose[name] = rounded_vector(product(skeleton.rotations[parent].T, skeleton.rotations[i]))
    return pose


def _part(region: str) -> str:
    stem, _, side = region.partition(".")
    return f"{'Left' if side == 'L' else 'Right'}_{stem}" if side else stem


@lru_cache(maxsize=1)
def _sample() -> _Sample:
    """Every second vertex of the skin outside the mouth, with the strongest four skin weights."""
    model = body_model()
    faces = model.faces("body")
    chosen = np.unique(faces)
    chosen = chosen[(model.masks["inside-mouth"][chosen] < 0.3)][::2].astype(np.int64)
    normals = vertex_normals(model.template, faces)[chosen]
    weights = model.weights[chosen, :4]
    members = {name: np.flatnonzero(w[chosen] > 0.5) for name, w in region_weights().items()}
    cores = {name: _core(name, found, chosen, model) for name, found in members.items()}
    pairs = []
    for probe in sorted(cores):
        stem, _, side = probe.partition(".")
        for other in _MEETS.get(stem, ()):
            far = "R" if side == "L" else "L"
            name = other.lstrip("-")
            sides = ("",) if name in _TRUNK else (f".{far}",) if other[0] == "-" else (f".{side}", f".{far}")
            pairs += [_Pair(probe, name + s, cores[probe], members[name + s]) for s in sides]
    return _Sample(chosen, weights / weights.sum(1, keepdims=True), normals, tuple(pairs))


def _core(
    name: str, members: Int64[np.ndarray, " m"], chosen: Int64[np.ndarray, " n"], model: BodyModel
) -> Int64[np.ndarray, " c"]:
    """The vertices of a region that are looked for in others: those well within it, of upper arms and
    thighs the part away from the trunk.
    """
    heads = {bone: model.heads[i] for i, bone in enumerate(model.bones)}
    stem, _, side = name.partition(".")
    kept = region_weights()[name][chosen[members]] > 0.9
    for limb, start, end, share in (
        ("Upper_Arm", "upperarm01", "lowerarm01", 0.7),
        ("Upper_Leg", "upperleg01", "lowerleg01", 0.5),
    ):
        if stem == limb:
            bone = heads[f"{end}.{side}"] - heads[f"{start}.{side}"]
            along = ((model.template[chosen[members]] - heads[f"{start}.{side}"]) * bone).sum(1)
            kept &= along > share * float((bone * bone).sum())
    return np.asarray(members[kept])

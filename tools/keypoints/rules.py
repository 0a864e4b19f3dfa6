"""Rules by which keypoints are placed on the template mesh; each gives an `Anchor`: vertices and weights.

Positions are metres in the template's frame: z up, facing -y, the person's left at +x. Regions define the
left side and the midline; `both_sides` adds the right one. The template is exactly symmetric.
"""

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from annotation.definitions import EyePoint, KeypointDefinition
from annotation.keypoints import keypoint_vocabulary
from render.people.body import BodyModel

Anchor = tuple[tuple[int, ...], tuple[float, ...]]
DECIMALS = 4
_GRAIN = 10**DECIMALS


def anchor(vertices: Sequence[int], weights: Sequence[float]) -> Anchor:
    """Weights on the grid of 1e-4 that the table has, their sum exactly 1; what rounds to 0 is dropped."""
    total: dict[int, float] = {}
    for vertex, weight in zip(vertices, weights, strict=True):
        total[int(vertex)] = total.get(int(vertex), 0.0) + float(weight)
    exact = np.array(list(total.values())) / sum(total.values()) * _GRAIN
    grains = np.floor(exact).astype(int)
    order = np.argsort(grains - exact, kind="stable")
    grains[order[: _GRAIN - int(grains.sum())]] += 1
    kept = [(v, int(g) / _GRAIN) for v, g in zip(total, grains, strict=True) if g > 0]
    return tuple(v for v, _ in kept), tuple(w for _, w in kept)


def vertex(index: int) -> Anchor:
    """One vertex."""
    return (int(index),), (1.0,)


def mean(vertices: Sequence[int]) -> Anchor:
    """The mean of vertices."""
    return anchor(vertices, [1.0] * len(vertices))


def blend(anchors: Sequence[Anchor], weights: Sequence[float]) -> Anchor:
    """The weighted mean of places."""
    pairs = [
        (v, w * share)
        for (vs, ws), share in zip(anchors, weights, strict=True)
        for v, w in zip(vs, ws, strict=True)
    ]
    return anchor([v for v, _ in pairs], [w for _, w in pairs])


def position(model: BodyModel, place: Anchor) -> np.ndarray:
    """Where the place is on the template, metres."""
    vertices, weights = place
    return (model.template[list(vertices)] * np.array(weights)[:, None]).sum(0)


def skin_vertices(model: BodyModel) -> np.ndarray:
    """Indices of the body's vertices, helpers excluded."""
    return np.unique(model.quads["body"])


def moved_by(model: BodyModel, bone: str) -> np.ndarray:
    """Skin vertices that a bone moves more than all others together."""
    share = ((model.weight_bones == model.bones.index(bone)) * model.weights).sum(1)
    skin = skin_vertices(model)
    return skin[share[skin] > 0.5]


def on_skin(
    name: str, method: str, rule: str, confidence: float, inside: float, place: Anchor
) -> KeypointDefinition:
    """The definition of a point at an anchor; the other arguments as in `KeypointDefinition`."""
    vertices, weights = place
    return KeypointDefinition(name, method, rule, confidence, inside, vertices, weights)


def mirror_map(model: BodyModel) -> np.ndarray:
    """Each vertex's partner at (-x, y, z)."""
    distance, partner = cKDTree(model.template).query(model.template * [-1.0, 1.0, 1.0])
    assert distance.max() < 1e-6, "the template is not symmetric"
    return partner


def nearest_vertex(model: BodyModel, where: Sequence[float], among: np.ndarray | None = None) -> Anchor:
    """The skin vertex (or that of `among`) nearest to a template position."""
    indices = skin_vertices(model) if among is None else among
    gap = model.template[indices] - np.array(where)
    return vertex(indices[np.argmin((gap * gap).sum(1))])


def extreme_vertex(model: BodyModel, direction: Sequence[float], among: np.ndarray) -> Anchor:
    """The vertex of `among` furthest in a direction."""
    return vertex(among[np.argmax((model.template[among] * np.array(direction)).sum(1))])


def skin_where(model: BodyModel, inside: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Skin vertices whose template position (n, 3) fulfils a condition."""
    indices = skin_vertices(model)
    return indices[inside(model.template[indices])]


def on_surface(model: BodyModel, where: Sequence[float], facing: Sequence[float] | None = None) -> Anchor:
    """The point of the skin nearest to a template position, barycentric in its triangle.

    facing: only triangles whose normal is within 90 degrees of this direction count.
    """
    faces = model.faces("body")
    a, b, c = (model.template[faces[:, i]] for i in range(3))
    point = np.array(where, dtype=float)
    weights = _barycentric(point, a, b, c)
    gap = (np.stack([a, b, c], axis=1) * weights[..., None]).sum(1) - point
    distance = (gap * gap).sum(1)
    if facing is not None:
        away = (np.cross(b - a, c - a) * np.array(facing)).sum(1) <= 0
        distance = np.where(away, np.inf, distance)
    best = int(np.argmin(distance))
    return anchor(faces[best], weights[best])


def cast(model: BodyModel, origin: Sequence[float], direction: Sequence[float]) -> Anchor:
    """Where a ray from `origin` first meets the skin, barycentric in its triangle (no hit is an error)."""
    faces = model.faces("body")
    a, b, c = (model.template[faces[:, i]] for i in range(3))
    ray, start = np.array(direction, dtype=float), np.array(origin, dtype=float)
    one, two, to = b - a, c - a, start - a
    cross = np.cross(ray, two)
    scale = (one * cross).sum(1)
    scale = np.where(np.abs(scale) < 1e-15, np.inf, scale)
    u = (to * cross).sum(1) / scale
    side = np.cross(to, one)
    v, t = side @ ray / scale, (two * side).sum(1) / scale
    hit = (u >= 0) & (v >= 0) & (u + v <= 1) & (t > 0) & np.isfinite(scale)
    assert hit.any(), f"a ray from {origin} towards {direction} misses the skin"
    best = int(np.argmin(np.where(hit, t, np.inf)))
    return anchor(faces[best], [1 - u[best] - v[best], u[best], v[best]])


def end_of(model: BodyModel, bone: str) -> Anchor:
    """Where the axis of a last phalanx, from its joint through the middle of its skin, comes out."""
    joint = model.heads[model.bones.index(bone)]
    middle = model.template[moved_by(model, bone)].mean(0)
    return cast(model, middle, middle - joint)


def edges(model: BodyModel, group: str = "body") -> dict[int, tuple[int, ...]]:
    """Neighbours along the quads' edges, ascending, by vertex."""
    quads = model.quads[group]
    pairs = np.concatenate([quads[:, [i, (i + 1) % 4]] for i in range(4)])
    table: dict[int, set[int]] = {}
    for a, b in pairs.tolist():
        if a != b:
            table.setdefault(a, set()).add(b)
            table.setdefault(b, set()).add(a)
    return {v: tuple(sorted(table[v])) for v in sorted(table)}


def edge_path(model: BodyModel, stops: Sequence[int], among: Iterable[int] | None = None) -> tuple[int, ...]:
    """The shortest way along edges through `stops`, over vertices of `among` alone when given."""
    table, allowed = edges(model), None if among is None else {int(v) for v in among}
    path = [int(stops[0])]
    for goal in stops[1:]:
        path += _shortest(model, table, allowed, path[-1], int(goal))[1:]
    return tuple(path)


def edge_loop(model: BodyModel, first: int, second: int, last: int | None = None) -> tuple[int, ...]:
    """The line of edges that starts first-second and goes straight on (across vertices of four edges, by
    leaving the two quads of the edge it came on): to `last`, round to `first`, or to a vertex of another
    number of edges.
    """
    table = edges(model)
    beside: dict[tuple[int, int], set[int]] = {}
    for index, quad in enumerate(model.quads["body"].tolist()):
        for i in range(4):
            beside.setdefault((min(quad[i], quad[i - 1]), max(quad[i], quad[i - 1])), set()).add(index)
    path = [int(first), int(second)]
    while path[-1] not in (last, first) and len(table[path[-1]]) == 4:
        a, b = path[-2:]
        came = beside[min(a, b), max(a, b)]
        ahead = [n for n in table[b] if n != a and not beside[min(n, b), max(n, b)] & came]
        if len(ahead) != 1:
            break
        path.append(ahead[0])
    return tuple(path)


def along(model: BodyModel, path: Sequence[int], fractions: Sequence[float]) -> list[Anchor]:
    """Places at shares of the template's length of a line of vertices: 0 its first, 1 its last."""
    points = model.template[list(path)]
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    found = []
    for fraction in fractions:
        at = fraction * length[-1]
        i = int(np.clip(np.searchsorted(length, at, side="right") - 1, 0, len(path) - 2))
        t = float(np.clip((at - length[i]) / (length[i + 1] - length[i]), 0, 1))
        found.append(anchor([path[i], path[i + 1]], [1 - t, t]))
    return found


def symmetrised(model: BodyModel, place: Anchor) -> Anchor:
    """A place and its mirror image, half each: on the midline."""
    partner = mirror_map(model)
    return blend([place, (tuple(int(partner[v]) for v in place[0]), place[1])], [0.5, 0.5])


def both_sides(model: BodyModel, left: Sequence[KeypointDefinition]) -> list[KeypointDefinition]:
    """Definitions of the left side and their mirror images, by the vocabulary's flip."""
    partner = mirror_map(model)
    return [d for one in left for d in (one, mirrored(one, partner))]


def mirrored(definition: KeypointDefinition, partner: np.ndarray) -> KeypointDefinition:
    """The definition of the mirror partner: mirror vertices, the other side's bone or eye."""
    vocabulary = keypoint_vocabulary(308)
    eye = definition.eye
    if eye is not None:
        eye = EyePoint("r" if eye.side == "l" else "l", eye.ring, (12 - eye.clock) % 12)
    return replace(
        definition,
        name=vocabulary.names[vocabulary.flip[vocabulary.index(definition.name)]],
        vertices=tuple(int(partner[v]) for v in definition.vertices),
        joint=None if definition.joint is None else _other_side(definition.joint),
        eye=eye,
        rule=_other_side(definition.rule),
    )


def _other_side(text: str) -> str:
    return text.replace(".L", ".\0").replace(".R", ".L").replace(".\0", ".R")


def _shortest(
    model: BodyModel, table: dict[int, tuple[int, ...]], allowed: set[int] | None, start: int, goal: int
) -> list[int]:
    queue: list[tuple[float, int, list[int]]] = [(0.0, start, [start])]
    done: set[int] = set()
    while queue:
        length, here, path = heapq.heappop(queue)
        if here == goal:
            return path
        if here in done:
            continue
        done.add(here)
        for there in table[here]:
            if there not in done and (allowed is None or there in allowed):
                step = float(np.linalg.norm(model.template[there] - model.template[here]))
                heapq.heappush(queue, (length + step, there, [*path, there]))
    raise AssertionError(f"no way along edges from vertex {start} to {goal}")


def _barycentric(p: np.ndarray, a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """Weights (n, 3) of each triangle's point nearest to `p` (Ericson, Real-Time Collision Detection)."""
    ab, ac, ap = b - a, c - a, p - a
    d00, d01, d11 = (ab * ab).sum(1), (ab * ac).sum(1), (ac * ac).sum(1)
    d20, d21 = (ap * ab).sum(1), (ap * ac).sum(1)
    area = np.maximum(d00 * d11 - d01 * d01, 1e-30)
    v, w = (d11 * d20 - d01 * d21) / area, (d00 * d21 - d01 * d20) / area
    inner = np.stack([1 - v - w, v, w], axis=1)
    sides = []
    for i, j, (start, end) in ((0, 1, (a, b)), (1, 2, (b, c)), (2, 0, (c, a))):
        edge = end - start
        t = np.clip(((p - start) * edge).sum(1) / np.maximum((edge * edge).sum(1), 1e-30), 0, 1)
        weight = np.zeros((len(a), 3))
        weight[:, i], weight[:, j] = 1 - t, t
        sides.append(weight)
    choices = np.stack(sides, axis=1)
    corners = np.stack([a, b, c], axis=1)
    gap = (choices[..., None] * corners[:, None]).sum(2) - p
    best = np.argmin((gap * gap).sum(2), axis=1)
    outside = (inner < 0).any(1)
    return np.where(outside[:, None], choices[np.arange(len(a)), best], inner)

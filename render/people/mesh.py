"""Triangle-mesh tools in numpy with a fixed order of operations, so that equal input gives equal bytes."""

import numpy as np
from jaxtyping import Bool, Float, Float64, Int, Int32, Int64, UInt8

Vertices = Float64[np.ndarray, "v 3"]
Faces = Int32[np.ndarray, "f 3"]


def triangulate_quads(quads: Int[np.ndarray, "q 4"]) -> Int32[np.ndarray, "f 3"]:
    """Two triangles per quad (a b c d) -> (a b c), (a c d), interleaved; degenerate triangles are dropped."""
    both = np.stack([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]], axis=1).reshape(-1, 3)
    good = (both[:, 0] != both[:, 1]) & (both[:, 1] != both[:, 2]) & (both[:, 0] != both[:, 2])
    return np.asarray(both[good], dtype=np.int32)


def scatter_add(
    index: Int[np.ndarray, " n"], values: Float[np.ndarray, "n c"], size: int
) -> Float64[np.ndarray, "size c"]:
    """Sums of `values` per index, added in input order (np.bincount is sequential)."""
    columns = [np.bincount(index, weights=values[:, c], minlength=size) for c in range(values.shape[1])]
    return np.stack(columns, axis=1)


def unit(vectors: Float[np.ndarray, "*batch 3"]) -> Float64[np.ndarray, "*batch 3"]:
    """Vectors scaled to length 1; a zero vector becomes +z."""
    norm = np.sqrt((vectors * vectors).sum(-1, keepdims=True))
    safe = np.where(norm > 1e-12, vectors, np.array([0.0, 0.0, 1.0]))
    return np.asarray(safe / np.where(norm > 1e-12, norm, 1.0), dtype=np.float64)


def face_normals(vertices: Vertices, faces: Faces) -> Float64[np.ndarray, "f 3"]:
    """Cross products of the edges: twice the triangle's area long, by the right-hand rule."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    return np.asarray(np.cross(b - a, c - a))


def vertex_normals(vertices: Vertices, faces: Faces) -> Float64[np.ndarray, "v 3"]:
    """Area-weighted unit vertex normals."""
    weighted = np.repeat(face_normals(vertices, faces), 3, axis=0)
    return unit(scatter_add(faces.reshape(-1), weighted, len(vertices)))


def neighbours(faces: Faces, count: int) -> tuple[Int32[np.ndarray, " e"], Int32[np.ndarray, " e"]]:
    """Directed edges (from, to) without repetition, sorted."""
    half = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    both = np.concatenate([half, half[:, ::-1]]).astype(np.int64)
    code = np.unique(both[:, 0] * count + both[:, 1])
    return (code // count).astype(np.int32), (code % count).astype(np.int32)


def smooth(
    values: Float64[np.ndarray, "v c"],
    faces: Faces,
    steps: int,
    weight: Float64[np.ndarray, " v"] | float = 0.5,
) -> Float64[np.ndarray, "v c"]:
    """`steps` of umbrella smoothing; `weight` 0 keeps a vertex, 1 moves it to the mean of its neighbours."""
    count = len(values)
    source, target = neighbours(faces, count)
    degree = np.maximum(np.bincount(source, minlength=count), 1)[:, None]
    blend = np.broadcast_to(np.asarray(weight, dtype=np.float64), (count,))[:, None]
    for _ in range(steps):
        mean = scatter_add(source, values[target], count) / degree
        values = values + blend * (mean - values)
    return values


def compact(faces: Faces, count: int) -> tuple[Int32[np.ndarray, " k"], Faces]:
    """Indices of the vertices that `faces` use, and the faces over those."""
    used = np.zeros(count, dtype=bool)
    used[faces.reshape(-1)] = True
    new = np.cumsum(used) - 1
    return np.flatnonzero(used).astype(np.int32), new[faces].astype(np.int32)


def boundary_edges(faces: Faces) -> Int32[np.ndarray, "e 2"]:
    """Directed edges that only one triangle has, in face order; the surface lies to their left."""
    half = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    size = int(faces.max(initial=0)) + 1
    code, twin = half[:, 0] * size + half[:, 1], half[:, 1] * size + half[:, 0]
    return np.asarray(half[~np.isin(code, twin)], dtype=np.int32)


def subdivide(
    values: Float64[np.ndarray, "v c"], faces: Faces
) -> tuple[Float64[np.ndarray, "w c"], Int32[np.ndarray, "g 3"]]:
    """Each triangle in four; per-vertex values (any number of columns) are interpolated at edge midpoints."""
    count = len(values)
    half = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1).astype(
        np.int64
    )
    code, inverse = np.unique(half[:, 0] * count + half[:, 1], return_inverse=True)
    middle = 0.5 * (values[code // count] + values[code % count])
    ab, bc, ca = (count + inverse.reshape(3, -1)).astype(np.int32)
    a, b, c = faces.T
    parts = [(a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca)]
    return np.concatenate([values, middle]), np.concatenate([np.stack(p, axis=1) for p in parts]).astype(
        np.int32
    )


def snap(
    values: Float64[np.ndarray, "v c"], faces: Faces, level: Float64[np.ndarray, " v"], reach: float = 0.4
) -> tuple[Float64[np.ndarray, "v c"], Float64[np.ndarray, " v"]]:
    """Moves vertices that a cut at level 0 would pass closely onto it, so that `clip` leaves no slivers.

    A vertex moves along the edge whose crossing is nearest, when that is less than `reach` (0..0.5) of the
    edge away. Returns values and levels; those of moved vertices are exactly 0.
    """
    half = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    both = np.concatenate([half, half[:, ::-1]])
    crossing = both[level[both[:, 0]] * level[both[:, 1]] < 0]
    share = level[crossing[:, 0]] / (level[crossing[:, 0]] - level[crossing[:, 1]])
    near = share < reach
    crossing, share = crossing[near], share[near]
    order = np.lexsort((crossing[:, 1], share, crossing[:, 0]))
    moved, first = np.unique(crossing[order, 0], return_index=True)
    chosen = order[first]
    t, to = share[chosen, None], crossing[chosen, 1]
    out, levels = values.copy(), level.copy()
    out[moved] = values[moved] * (1 - t) + values[to] * t
    levels[moved] = 0.0
    return out, levels


def clip(
    values: Float64[np.ndarray, "v c"], faces: Faces, level: Float64[np.ndarray, " v"]
) -> tuple[Float64[np.ndarray, "w c"], Int32[np.ndarray, "g 3"]]:
    """The part of a mesh where `level` > 0, cut at 0 (marching triangles); values are interpolated."""
    level = np.where(np.abs(level) < 1e-9, 0.0, level)
    sign = np.sign(level)[faces]
    inside, total, out = sign > 0, (sign > 0).sum(1), (sign < 0).sum(1)
    pieces, count = [faces[(total > 0) & (out == 0)].astype(np.int64)], len(values)
    one = _turned(faces[(total == 1) & (out == 2)], inside[(total == 1) & (out == 2)])
    two = _turned(faces[(total == 2) & (out == 1)], ~inside[(total == 2) & (out == 1)])
    on = (total == 1) & (out == 1)  # and a corner on the cut itself
    through = _turned(faces[on], sign[on] == 0)
    cuts = np.concatenate([one[:, [0, 1]], one[:, [0, 2]], two[:, [0, 1]], two[:, [0, 2]], through[:, 1:]])
    code, inverse = np.unique(np.sort(cuts, axis=1) @ np.array([count, 1]), return_inverse=True)
    p, q = code // count, code % count
    t = (level[p] / (level[p] - level[q]))[:, None]
    corner = np.split(count + inverse, np.cumsum([len(one), len(one), len(two), len(two)]))
    first = level[through[:, 1]] > 0
    pieces += [
        np.stack([one[:, 0], corner[0], corner[1]], axis=1),
        np.stack([corner[2], two[:, 1], two[:, 2]], axis=1),
        np.stack([corner[2], two[:, 2], corner[3]], axis=1),
        np.stack([through[:, 0], through[:, 1], corner[4]], axis=1)[first],
        np.stack([through[:, 0], corner[4], through[:, 2]], axis=1)[~first],
    ]
    made = np.concatenate([values, values[p] * (1 - t) + values[q] * t])
    used, kept = compact(np.concatenate(pieces).astype(np.int32), len(made))
    return made[used], kept


def _turned(faces: Int32[np.ndarray, "f 3"], alone: Bool[np.ndarray, "f 3"]) -> Int64[np.ndarray, "f 3"]:
    """Faces turned so that the corner marked in `alone` comes first."""
    first = np.argmax(alone, axis=1)[:, None] if len(faces) else np.zeros((0, 1), dtype=np.int64)
    return np.take_along_axis(faces, (first + np.arange(3)) % 3, axis=1).astype(np.int64)


def face_any(mask: Bool[np.ndarray, " v"], faces: Faces) -> Bool[np.ndarray, " f"]:
    """Faces with at least one masked corner."""
    return np.asarray(mask[faces].any(axis=1))


def constant_parts(faces: Faces, part: int) -> UInt8[np.ndarray, " f"]:
    """One part id for all faces."""
    return np.full(len(faces), part, dtype=np.uint8)

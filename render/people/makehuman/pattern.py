"""An asset ready to be fitted to anyone: its mesh, where each vertex hangs on the base mesh, its labels.

All of it is independent of the person and remembered per process by the digest of the asset's bytes.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int32
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from render.people.body import BodyModel, Skeleton, body_model
from render.people.makehuman.catalog import AssetFiles
from render.people.makehuman.mhclo import Clothes, Mesh, parse_clothes, parse_mesh, to_frame
from render.people.mesh import face_normals
from shards.errors import VitruvianError

_AXES = (0, 2, 1)  # which of our axes MakeHuman's x, y, z lie along
_REMEMBERED = 64
_PATTERNS: dict[str, "Pattern"] = {}  # by digest, oldest first


@dataclass(frozen=True)
class Pattern:
    """offsets: decimetres of the asset's own body, in our axes. piece, panel: per face, the connected piece
    of mesh and the island of texture space it belongs to. template: fitted to the rest template, metres.
    weights: of each vertex over `bones`. atlas: texture coordinates; uv: the same in metres, panel by panel.
    """

    clothes: Clothes
    faces: Int32[np.ndarray, "f 3"]
    atlas: Float64[np.ndarray, "f 3 2"]
    uv: Float64[np.ndarray, "f 3 2"]
    offsets: Float64[np.ndarray, "v 3"]
    piece: Int32[np.ndarray, " f"]
    panel: Int32[np.ndarray, " f"]
    template: Float64[np.ndarray, "v 3"]
    weights: Float64[np.ndarray, "v b"]
    bones: Int32[np.ndarray, " b"]


def load_pattern(files: AssetFiles) -> Pattern:
    """The pattern of a garment, hat, shoe or hair. Raises VitruvianError when mesh and fitting disagree."""
    digest = files.spec.sha256
    if digest not in _PATTERNS:
        while len(_PATTERNS) >= _REMEMBERED:
            del _PATTERNS[next(iter(_PATTERNS))]
        _PATTERNS[digest] = _make(files)
    return _PATTERNS[digest]


def _make(files: AssetFiles) -> Pattern:
    if files.clothes is None or files.mesh is None:
        raise VitruvianError(f"asset {files.spec.name}: expected something to wear (.mhclo); got a material")
    clothes, mesh, model = parse_clothes(files.clothes), parse_mesh(files.mesh), body_model()
    if len(clothes.corners) != len(mesh.vertices):
        raise VitruvianError(
            f"{files.clothes}: expected {len(mesh.vertices)} fitted vertices as in {files.mesh.name}; got "
            f"{len(clothes.corners)}: copy both files again"
        )
    offsets = to_frame(clothes.offsets)
    template = _hang(clothes, offsets, model.template)
    weights, bones = _skin_weights(clothes, model)
    panel = islands(mesh.texture_faces, len(mesh.texture))
    atlas = mesh.texture[mesh.texture_faces]
    return Pattern(
        clothes=clothes,
        faces=mesh.faces,
        atlas=atlas,
        uv=_metric(mesh, template, panel, atlas),
        offsets=offsets,
        piece=islands(mesh.faces, len(mesh.vertices)),
        panel=panel,
        template=template,
        weights=weights,
        bones=bones,
    )


def islands(faces: Int32[np.ndarray, "f 3"], count: int) -> Int32[np.ndarray, " f"]:
    """Per face, the number of the connected part it belongs to; parts count up in order of their vertices."""
    edges = faces.reshape(-1), np.roll(faces, -1, axis=1).reshape(-1)
    graph = coo_matrix((np.ones(len(edges[0]), dtype=np.int8), edges), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    return np.asarray(np.unique(labels[faces[:, 0]], return_inverse=True)[1].reshape(-1), dtype=np.int32)


def fit(pattern: Pattern, rest: Float64[np.ndarray, "base 3"]) -> Float64[np.ndarray, "v 3"]:
    """The asset on a person's rest body (all base vertices, helpers included), metres, our frame.

    A vertex is the weighted sum of three base vertices plus its offset, which grows along each axis with the
    distance of two base vertices (MakeHuman's clothes fitting, "proxy" in its source).
    """
    return _hang(pattern.clothes, pattern.offsets, rest)


def _hang(
    clothes: Clothes, offsets: Float64[np.ndarray, "v 3"], rest: Float64[np.ndarray, "base 3"]
) -> Float64[np.ndarray, "v 3"]:
    scale = np.full(3, 0.1)
    for axis, reference in zip(_AXES, clothes.scales, strict=True):
        if reference is not None:
            span = abs(float(rest[reference.first, axis] - rest[reference.second, axis]))
            scale[axis] = span / reference.length
    corner = rest[clothes.corners]
    w = clothes.weights[..., None]
    return np.asarray(
        corner[:, 0] * w[:, 0] + corner[:, 1] * w[:, 1] + corner[:, 2] * w[:, 2] + offsets * scale
    )


def pose(
    pattern: Pattern, points: Float64[np.ndarray, "v 3"], skeleton: Skeleton
) -> Float64[np.ndarray, "v 3"]:
    """Linear blend skinning with weights blended from the three base vertices of each vertex."""
    out = np.zeros_like(points)
    for column, bone in enumerate(pattern.bones):
        near = np.flatnonzero(pattern.weights[:, column] > 1e-7)
        turned = ((points[near] - skeleton.rest_heads[bone])[:, None, :] * skeleton.rotations[bone]).sum(2)
        out[near] += pattern.weights[near, column, None] * (turned + skeleton.heads[bone])
    return out


def _skin_weights(
    clothes: Clothes, model: BodyModel
) -> tuple[Float64[np.ndarray, "v b"], Int32[np.ndarray, " b"]]:
    """Weights over the bones that move the asset. Barycentric weights below 0 count as 0 here."""
    share = np.maximum(clothes.weights, 0.0)
    share = share / np.maximum(share.sum(1, keepdims=True), 1e-9)
    index = model.weight_bones[clothes.corners].reshape(len(share), -1)
    weight = (model.weights[clothes.corners] * share[..., None]).reshape(len(share), -1)
    table = np.zeros((len(share), len(model.bones)))
    rows = np.arange(len(share))
    for column in range(index.shape[1]):
        table[rows, index[:, column]] += weight[:, column]
    table[table < 1e-4] = 0.0
    table /= np.maximum(table.sum(1, keepdims=True), 1e-9)
    bones = np.flatnonzero(table.any(0)).astype(np.int32)
    return table[:, bones].copy(), bones


def _metric(
    mesh: Mesh,
    template: Float64[np.ndarray, "v 3"],
    panel: Int32[np.ndarray, " f"],
    atlas: Float64[np.ndarray, "f 3 2"],
) -> Float64[np.ndarray, "f 3 2"]:
    """Texture coordinates in metres: each panel scaled to its true area and turned so that v points up."""
    area = np.sqrt((face_normals(template, mesh.faces) ** 2).sum(1))
    first, second = atlas[:, 1] - atlas[:, 0], atlas[:, 2] - atlas[:, 0]
    flat = np.abs(first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0])
    count = int(panel.max()) + 1
    scale = np.sqrt(np.bincount(panel, area, count) / np.maximum(np.bincount(panel, flat, count), 1e-12))
    height = template[mesh.faces, 2]
    total = np.maximum(np.bincount(panel, area, count), 1e-12)
    centre = np.stack(
        [np.bincount(panel, area * atlas[..., c].mean(1), count) / total for c in range(2)], axis=1
    )
    level = np.bincount(panel, area * height.mean(1), count) / total
    away = atlas - centre[panel][:, None]
    rise = (height - level[panel][:, None])[..., None] * away
    up = np.stack([np.bincount(panel, area * rise[..., c].sum(1), count) for c in range(2)], axis=1)
    length = np.sqrt((up**2).sum(1))
    up = np.where(length[:, None] > 1e-12, up / np.maximum(length, 1e-12)[:, None], np.array([0.0, 1.0]))[
        panel
    ]
    across = np.stack([up[:, 1], -up[:, 0]], axis=1)
    turned = np.stack([(away * across[:, None]).sum(2), (away * up[:, None]).sum(2)], axis=2)
    return np.asarray(turned * scale[panel][:, None, None])

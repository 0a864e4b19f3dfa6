"""What a face has besides its skin: eyes, brows, lashes, teeth and tongue."""

import numpy as np
from jaxtyping import Float64, Int32

from render.people.body import BodyModel, Skeleton
from render.people.eyes import build_eye
from render.people.looks import TEETH, TONGUE, hair_material
from render.people.mesh import compact, constant_parts, unit, vertex_normals
from render.people.parts import PART
from render.people.spec import PersonSpec
from render.person import Surface


def build_face(
    spec: PersonSpec, posed: Float64[np.ndarray, "v 3"], skeleton: Skeleton, model: BodyModel
) -> tuple[Surface, ...]:
    """The surfaces of the face other than its skin."""
    head = skeleton.rotations[model.bones.index("head")]
    return (
        *(build_eye(spec.eyes, side, posed, head, model) for side in "lr"),
        _group("helper-upper-teeth", "Upper_Teeth", posed, model),
        _group("helper-lower-teeth", "Lower_Teeth", posed, model),
        _group("helper-tongue", "Tongue", posed, model),
        _lashes(spec, posed, model),
        _brows(spec, posed, model),
    )


def _group(group: str, part: str, posed: Float64[np.ndarray, "v 3"], model: BodyModel) -> Surface:
    faces = model.faces(group)
    used, local = compact(faces, len(posed))
    vertices = posed[used]
    return Surface(
        name=part.lower(),
        vertices=vertices,
        faces=local,
        normals=vertex_normals(vertices, local),
        uv=model.face_uv(group),
        part_ids=constant_parts(local, PART[part]),
        material=TONGUE if part == "Tongue" else TEETH,
    )


def strips(
    roots: Float64[np.ndarray, "n 3"],
    tips: Float64[np.ndarray, "n 3"],
    across: Float64[np.ndarray, "n 3"],
) -> tuple[Float64[np.ndarray, "v 3"], Int32[np.ndarray, "f 3"]]:
    """Tapered two-triangle-long hairs: a base edge of width |across|, a narrower middle and a point."""
    middle = 0.5 * (roots + tips)
    points = np.stack(
        [roots - across / 2, roots + across / 2, middle - across / 3, middle + across / 3, tips], axis=1
    )
    base = np.arange(len(roots))[:, None, None] * 5
    faces = base + np.array([[0, 1, 3], [0, 3, 2], [2, 3, 4]])[None]
    return points.reshape(-1, 3), faces.reshape(-1, 3).astype(np.int32)


def _hair_surface(
    spec: PersonSpec,
    name: str,
    vertices: Float64[np.ndarray, "v 3"],
    faces: Int32[np.ndarray, "f 3"],
    normals: Float64[np.ndarray, "v 3"],
) -> Surface:
    flat = np.stack([np.arange(len(vertices)) % 5 * 0.001, np.zeros(len(vertices))], axis=1)
    return Surface(
        name=name,
        vertices=vertices,
        faces=faces,
        normals=unit(normals),
        uv=flat[faces],
        part_ids=constant_parts(faces, PART["Face_Neck"]),
        material=hair_material(spec.hair),
        attributes={"tint": np.full(len(vertices), 0.6)},
    )


def _lashes(spec: PersonSpec, posed: Float64[np.ndarray, "v 3"], model: BodyModel) -> Surface:
    """Fine spikes on the quads of the lash helpers, which fan out from the lid."""
    roots: list[np.ndarray] = []
    tips: list[np.ndarray] = []
    across: list[np.ndarray] = []
    for side in "lr":
        eye = posed[np.unique(model.quads[f"helper-{side}-eye"])]
        centre = (eye.min(0) + eye.max(0)) / 2
        for lid in ("1", "2"):
            corner = posed[model.quads[f"helper-{side}-eyelashes-{lid}"]]
            far = ((corner - centre) ** 2).sum(2)
            order = np.argsort(far, axis=1, kind="stable")
            near = np.take_along_axis(corner, order[:, :2, None], axis=1)
            away = np.take_along_axis(corner, order[:, 2:, None], axis=1)
            for t in (0.2, 0.7):
                root = near[:, 0] * (1 - t) + near[:, 1] * t
                roots.append(root)
                tips.append(root + (away.mean(1) - near.mean(1)) * 1.1)
                across.append(unit(near[:, 1] - near[:, 0]) * 0.0007)
    start, end, wide = np.concatenate(roots), np.concatenate(tips), np.concatenate(across)
    vertices, faces = strips(start, end, wide)
    normals = np.repeat(np.cross(wide, end - start), 5, axis=0)
    return _hair_surface(spec, "lashes", vertices, faces, normals)


BROW = ((0.014, 0.7475), (0.024, 0.7525), (0.036, 0.7555), (0.048, 0.7535), (0.057, 0.7475))
"""Left eyebrow from nose to temple: (x, z) on the rest template's face, metres."""


def _brows(spec: PersonSpec, posed: Float64[np.ndarray, "v 3"], model: BodyModel) -> Surface:
    """Short hairs along the brow line, lying outwards and flat on the skin."""
    rng = np.random.default_rng(spec.hair.seed + 17)
    body = np.unique(model.quads["body"])
    front = body[
        (model.template[body, 1] < -0.09)
        & (model.template[body, 2] > 0.70)
        & (model.template[body, 2] < 0.79)
    ]
    flat = model.template[front][:, [0, 2]]
    normals = vertex_normals(posed, model.faces("body"))
    line = np.array(BROW)
    t = rng.uniform(0, 4, 150)
    place = np.stack([np.interp(t, range(5), line[:, c]) for c in range(2)], axis=1)
    thick = np.interp(t, (0, 1, 2, 4), (0.0030, 0.0034, 0.0026, 0.0010)) * spec.hair.brow
    place[:, 1] += rng.uniform(-1, 1, 150) * thick
    lie = np.stack(
        [np.interp(t, (0, 1, 4), (0.25, 0.85, 0.95)), np.interp(t, (0, 1, 4), (0.95, 0.45, -0.4))], axis=1
    )
    length = rng.uniform(0.004, 0.008, 150)
    roots: list[np.ndarray] = []
    tips: list[np.ndarray] = []
    up: list[np.ndarray] = []
    for sign in (1.0, -1.0):
        mirror = np.array([sign, 1.0])
        for points, out in ((place * mirror, roots), ((place + lie * length[:, None]) * mirror, tips)):
            at, normal = _on_surface(points, flat, posed[front], normals[front])
            out.append(at + normal * (0.0006 if out is roots else 0.0016))
            if out is roots:
                up.append(normal)
    start, end, normal = np.concatenate(roots), np.concatenate(tips), np.concatenate(up)
    across = unit(np.cross(normal, end - start)) * 0.0009
    vertices, faces = strips(start, end, across)
    return _hair_surface(spec, "brows", vertices, faces, np.repeat(normal, 5, axis=0))


def _on_surface(
    flat: Float64[np.ndarray, "n 2"],
    vertices_flat: Float64[np.ndarray, "v 2"],
    vertices: Float64[np.ndarray, "v 3"],
    normals: Float64[np.ndarray, "v 3"],
) -> tuple[Float64[np.ndarray, "n 3"], Float64[np.ndarray, "n 3"]]:
    """World points of (x, z) places on the template's face, by inverse-distance weights of the six nearest
    vertices.
    """
    from scipy.spatial import cKDTree

    distance, index = cKDTree(vertices_flat).query(flat, k=6)
    weight = 1.0 / (distance + 1e-5) ** 2
    weight /= weight.sum(1, keepdims=True)
    return (vertices[index] * weight[..., None]).sum(1), unit((normals[index] * weight[..., None]).sum(1))

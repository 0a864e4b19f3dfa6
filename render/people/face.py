"""What a face has besides its skin: eyes, brows, lashes, teeth and tongue."""

import numpy as np
from jaxtyping import Float64

from render.people.body import BodyModel, Skeleton
from render.people.brows import build_brows
from render.people.eyes import build_eye
from render.people.looks import TEETH, TONGUE
from render.people.mesh import compact, constant_parts, vertex_normals
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
        *build_brows(spec.hair, posed, skeleton, model),
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

"""`build_person`: body, clothes, hair and face of a `PersonSpec` as plain surfaces standing on the ground."""

from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from render.people.body import BodyModel, body_model, pose_skeleton, shape_body, skin
from render.people.face import build_face
from render.people.garments import Dressed, dress
from render.people.hair import build_hair
from render.people.keypoints import named_joints, person_keypoints
from render.people.looks import skin_material
from render.people.makehuman import Catalog
from render.people.makehuman.hair import build_asset_hair
from render.people.makehuman.looks import photo_material
from render.people.makehuman.wear import find_asset, wear_assets
from render.people.mesh import compact, vertex_normals
from render.people.parts import PART, body_face_parts
from render.people.skin import skin_masks
from render.people.spec import DECIMALS, PersonSpec
from render.person import Person, Surface


def build_person(spec: PersonSpec, catalog: Catalog | None = None) -> Person:
    """The person that `spec` describes; a pure function of it, byte for byte.

    Returns surfaces in world metres (z up, ground at 0, facing -y before the pose turns them), with exact
    part ids. catalog: where the assets that the spec names lie; VitruvianError when it lacks one.
    """
    model = body_model()
    shape = shape_body(spec.phenotype, spec.face, model)
    skeleton = pose_skeleton(shape, spec.pose, model)
    posed = skin(shape.vertices, model.weights, model.weight_bones, skeleton)
    clothes = dress(spec.garments, shape, skeleton, posed, model)
    clothes = wear_assets(clothes, spec.garments, shape, skeleton, posed, model, catalog)
    surfaces = [
        _body_surface(spec, posed, clothes, model, catalog),
        *clothes.surfaces,
        *build_face(spec, posed, skeleton, model),
    ]
    surfaces += build_hair(spec, posed, skeleton, clothes.surfaces, model)
    surfaces += build_asset_hair(spec.hair, clothes.surfaces, shape, skeleton, posed, model, catalog)
    ground = min(float(s.vertices[:, 2].min()) for s in surfaces)
    offset = np.array([0.0, 0.0, -ground])
    upright = shape.vertices[np.unique(model.quads["body"]), 2]
    return Person(
        surfaces=tuple(_placed(s, offset) for s in surfaces),
        keypoints=person_keypoints(spec, posed, skeleton, model) + offset,
        height=float(upright.max() - upright.min()),
        joints={name: at + offset for name, at in named_joints(skeleton, model).items()},
        part_classes=len(PART),
    )


def _placed(surface: Surface, offset: np.ndarray) -> Surface:
    return replace(surface, vertices=np.round(surface.vertices + offset, DECIMALS))


def _body_surface(
    spec: PersonSpec,
    posed: Float64[np.ndarray, "v 3"],
    clothes: Dressed,
    model: BodyModel,
    catalog: Catalog | None,
) -> Surface:
    """Bare skin: what clothes hide is gone, what lies just inside their openings is drawn in."""
    everything = model.faces("body")
    used, local = compact(everything, len(posed))
    normals = np.zeros_like(posed)
    normals[used] = vertex_normals(posed[used], local)
    kept = ~clothes.hidden[everything].all(1)
    faces = everything[kept]
    used, local = compact(faces, len(posed))
    vertices = posed[used] - clothes.sunk[used, None] * normals[used]
    masks = dict(skin_masks(spec.hair, model))
    if not any(garment.asset for garment in spec.garments):
        masks["covered"] = clothes.depth
    return Surface(
        name="body",
        vertices=vertices,
        faces=local,
        normals=vertex_normals(vertices, local),
        uv=model.face_uv("body")[kept],
        part_ids=body_face_parts()[kept],
        material=photo_material(spec.skin, find_asset(spec.skin.photo, catalog))
        if spec.skin.photo
        else skin_material(spec.skin, spec.hair),
        attributes={name: mask[used] for name, mask in masks.items()},
    )

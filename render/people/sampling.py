"""`sample_person`: draws a `PersonSpec` from documented distributions (docs/people.md), part by part."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from render.people.appearance import sample_eyes, sample_hair, sample_skin
from render.people.expression import follow_gaze, sample_expression, sample_gaze
from render.people.library import NOTHING, Library
from render.people.limits import Pose
from render.people.makehuman.outfits import (
    sample_asset_hair,
    sample_asset_outfit,
    sample_asset_skin,
    suits_pose,
)
from render.people.phenotype import sample_phenotype
from render.people.posture import sample_posture
from render.people.spec import EyeSpec, GarmentSpec, HairSpec, PersonSpec, SkinSpec, rounded
from render.people.wardrobe import sample_outfit, suit_to_beard, suit_to_pose

Note = Callable[[str], None]


def ignore(reason: str) -> None:
    """For those who do not count the poses that were drawn again."""


def sample_person(rng: np.random.Generator, library: Library = NOTHING, note: Note = ignore) -> PersonSpec:
    """One person; of `library`'s assets as often as its shares say. `note` is told why a pose was rejected.

    Who, face, looks, clothes and pose have a random stream each: what changes one leaves the others as they
    were, and the same person wears nothing from the library when there is none.
    """
    who, acting, surface, strands, gaze, wearing, standing, assets = rng.spawn(8)
    phenotype = sample_phenotype(who)
    skin, darkness = sample_skin(surface, phenotype)
    hair = sample_hair(strands, phenotype, darkness)
    garments = sample_outfit(wearing, phenotype)
    eyes, face = _look(gaze, sample_eyes(gaze, darkness), sample_expression(acting))
    name, pose = sample_posture(standing, phenotype, library.poses, library.shares.poses, note)
    garments = suit_to_pose(wearing, suit_to_beard(garments, hair), pose)
    skin, hair = _from_library(assets, library, phenotype, skin, hair)
    garments = _asset_clothes(assets, library, phenotype, garments, pose)
    spec = PersonSpec(phenotype, name, pose, face, skin, eyes, hair, garments)
    return PersonSpec.from_json(spec.to_json())


def _look(
    rng: np.random.Generator, eyes: EyeSpec, face: dict[str, float]
) -> tuple[EyeSpec, dict[str, float]]:
    """Eyes turned to a gaze, and a face whose lids follow."""
    yaw, pitch = (rounded(angle) for angle in sample_gaze(rng))
    return replace(eyes, yaw=yaw, pitch=pitch), follow_gaze(face, yaw, pitch)


def _from_library(
    rng: np.random.Generator,
    library: Library,
    phenotype: dict[str, float],
    skin: SkinSpec,
    hair: HairSpec,
) -> tuple[SkinSpec, HairSpec]:
    """Skin and hair with a photograph or hair of the library in their place, where it has one that suits."""
    catalog, shares = library.catalog, library.shares
    if catalog is None:
        return skin, hair
    photographed, haired = rng.random(2) < (shares.skins, shares.hair)
    if photographed:
        skin = replace(skin, photo=sample_asset_skin(rng, phenotype, catalog))
    if haired:
        hair = replace(hair, asset=sample_asset_hair(rng, phenotype, catalog))
    return skin, hair


def _asset_clothes(
    rng: np.random.Generator,
    library: Library,
    phenotype: dict[str, float],
    garments: tuple[GarmentSpec, ...],
    pose: Pose,
) -> tuple[GarmentSpec, ...]:
    """An outfit of the library instead of `garments`, where one suits person and pose. Glasses stay on."""
    if library.catalog is None or rng.random() >= library.shares.outfits:
        return garments
    outfit = sample_asset_outfit(rng, phenotype, library.catalog)
    if not outfit or not suits_pose(outfit, pose):
        return garments
    return (*outfit, *(garment for garment in garments if garment.kind in ("glasses", "sunglasses")))

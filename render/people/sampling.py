"""`sample_person`: draws a `PersonSpec` from documented distributions (docs/people.md), part by part."""

import numpy as np

from render.people.appearance import sample_eyes, sample_hair, sample_skin
from render.people.expression import sample_expression
from render.people.phenotype import sample_phenotype
from render.people.posture import sample_posture
from render.people.spec import PersonSpec
from render.people.wardrobe import sample_outfit


def sample_person(rng: np.random.Generator) -> PersonSpec:
    """One person. Who, face, looks, clothes and pose have a random stream each: what changes one leaves the
    others as they were.
    """
    who, acting, surface, strands, gaze, wearing, standing = rng.spawn(7)
    phenotype = sample_phenotype(who)
    face = sample_expression(acting)
    skin, darkness = sample_skin(surface, phenotype)
    hair = sample_hair(strands, phenotype, darkness)
    eyes = sample_eyes(gaze, darkness)
    garments = sample_outfit(wearing, phenotype["gender"])
    name, pose = sample_posture(standing, phenotype)
    spec = PersonSpec(phenotype, name, pose, face, skin, eyes, hair, garments)
    return PersonSpec.from_json(spec.to_json())

"""`sample_person`: draws a `PersonSpec` from documented distributions, part by part."""

import numpy as np

from render.people.appearance import sample_eyes, sample_hair, sample_skin
from render.people.expression import sample_expression
from render.people.phenotype import sample_phenotype
from render.people.posture import sample_posture
from render.people.spec import PersonSpec
from render.people.wardrobe import sample_outfit


def sample_person(rng: np.random.Generator) -> PersonSpec:
    """One person. Adults 86 %, children 8 % (from about 7 years), elders 6 %; the sexes equally often.

    Raises VitruvianError when no plausible pose was found in 20 draws (does not happen in practice).
    """
    phenotype = sample_phenotype(rng)
    face = sample_expression(rng)
    skin_spec, darkness = sample_skin(rng, phenotype)
    hair = sample_hair(rng, phenotype, darkness)
    eyes = sample_eyes(rng, darkness)
    garments = sample_outfit(rng, phenotype["gender"])
    name, pose = sample_posture(rng, phenotype)
    spec = PersonSpec(phenotype, name, pose, face, skin_spec, eyes, hair, garments)
    return PersonSpec.from_json(spec.to_json())

"""Who a sampled person is: age, sex, stature and build.

- Sex: women and men equally often.
- Age: 14 % children and youths of 3 to 15 years, 76 % of 15 to 65, 10 % of 65 to 90 (world, 2021: 25, 65, 10
  % by the CIA World Factbook; children are drawn less often than they live, as in photographs).
- Stature: adults normal with mean 171 cm (men) and 159 cm (women), the worldwide means of those born in 1996
  (NCD-RisC, A century of trends in adult human height, eLife 2016), deviation 7 cm; children the WHO growth
  references' medians (2006, 2007), scaled to those adult means, deviation 4.5 %; 1 cm is lost per 10 years
  from 45 to 65 and 2 cm per 10 years after. All between 0.95 and 2.05 m. anny's `height` is solved for it:
  the body's stature is linear in it.
- Weight: right-skewed around the model's average, which gives men a BMI of 22.5 +- 1.4 and women one of 19.8
  +- 1.8, from 16 to 28 (volume x 985 kg/m3). That is lean: the world's mean is 24 and 13 % are obese (WHO,
  2016), but anny's bodies end near a BMI of 30.
- Muscle, proportions, breasts: normal, clipped; children have no breasts before 11 years.
- Ancestry: Dirichlet(0.45) over anny's three: mostly mixtures led by one.
"""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float64

from render.people.body import BodyModel, body_model, shape_body
from render.people.spec import rounded

SHORTEST, TALLEST = 0.95, 2.05  # metres
ADULT_MEAN = {"female": 1.59, "male": 1.71}
ADULT_DEVIATION = 0.07
CHILD_DEVIATION = 0.045  # of the median
AGE_YEARS = (-1 / 3, 0.0, 1 / 3, 2 / 3, 1.0), (0.0, 1.0, 10.0, 25.0, 90.0)
"""anny's age and the years it stands for: newborn, baby, child, young, old."""
AGE_GROUPS = ((0.14, 3.0, 15.0), (0.76, 15.0, 65.0), (0.10, 65.0, 90.0))
"""(probability, from, to) in years; even within a group."""
GROWTH_YEARS = (3.0, 5.0, 7.0, 9.0, 11.0, 13.0, 15.0, 17.0, 19.0)
GROWTH = {
    "female": (0.951, 1.094, 1.208, 1.325, 1.450, 1.564, 1.617, 1.629, 1.632),
    "male": (0.961, 1.100, 1.217, 1.326, 1.431, 1.560, 1.690, 1.752, 1.765),
}
"""Median stature by age, metres: WHO child growth standards (2006) and reference (2007)."""


def sample_phenotype(rng: np.random.Generator) -> dict[str, float]:
    """anny phenotypes (0..1 by name) of one person; the distributions are those of the module's docstring."""
    sex = "female" if rng.random() < 0.5 else "male"
    years = _sample_years(rng)
    female, grown = sex == "female", years >= 15
    race = rng.dirichlet((0.45, 0.45, 0.45))
    breasts = float(np.interp(years, (11, 16), (0, 1))) if female else 0.0
    values = {
        "gender": rng.uniform(0.86, 1.0) if female else rng.uniform(0.0, 0.14),
        "age": float(np.interp(years, AGE_YEARS[1], AGE_YEARS[0])),
        "muscle": np.clip(rng.normal(0.48 if female or not grown else 0.58, 0.14), 0.15, 0.95),
        "weight": np.clip(0.56 * np.exp(rng.normal(0.0, 0.4)), 0.12, 1.0),
        "proportions": np.clip(rng.normal(0.32, 0.2), 0.0, 0.9),
        "cupsize": breasts * np.clip(rng.normal(0.45, 0.17), 0.05, 0.9),
        "firmness": rng.uniform(0.4, 0.9),
        "african": race[0],
        "asian": race[1],
        "caucasian": race[2],
    }
    stature = _sample_stature(rng, sex, years)
    values["height"] = solve_height(values, stature, body_model())
    return {name: rounded(float(value)) for name, value in values.items()}


def stature_of(phenotype: Mapping[str, float], model: BodyModel) -> float:
    """Height of the body at rest, metres."""
    return float(np.ptp(_heights(phenotype, model)))


def solve_height(phenotype: Mapping[str, float], stature: float, model: BodyModel) -> float:
    """anny's `height` that gives a body this stature in metres; cut to 0..1."""
    low, high = (stature_of({**phenotype, "height": end}, model) for end in (0.0, 1.0))
    return float(np.clip((stature - low) / (high - low), 0.0, 1.0))


def mean_stature(sex: str, years: float) -> float:
    """Expected stature at an age, metres."""
    scale = ADULT_MEAN[sex] / GROWTH[sex][-1]
    lost = float(np.interp(years, (45, 65, 90), (0.0, 0.02, 0.07)))
    return float(np.interp(years, GROWTH_YEARS, GROWTH[sex])) * scale - lost


def _sample_years(rng: np.random.Generator) -> float:
    group = int(rng.choice(len(AGE_GROUPS), p=[share for share, _, _ in AGE_GROUPS]))
    return float(rng.uniform(*AGE_GROUPS[group][1:]))


def _sample_stature(rng: np.random.Generator, sex: str, years: float) -> float:
    mean = mean_stature(sex, years)
    deviation = ADULT_DEVIATION if years >= 18 else CHILD_DEVIATION * mean
    return float(np.clip(rng.normal(mean, deviation), SHORTEST, TALLEST))


def _heights(phenotype: Mapping[str, float], model: BodyModel) -> Float64[np.ndarray, " n"]:
    vertices = shape_body(phenotype, {}, model).vertices
    return np.asarray(vertices[np.unique(model.quads["body"]), 2])

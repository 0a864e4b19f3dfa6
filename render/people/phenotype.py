"""Who a sampled person is: age, sex and build, from documented distributions (docs/people.md)."""

import numpy as np

from render.people.spec import rounded


def sample_phenotype(rng: np.random.Generator) -> dict[str, float]:
    """anny phenotypes. age: 1/3 child of about 10, 2/3 adult of about 25, 1 old; weight and muscle centred
    on average.
    """
    group = rng.random()
    if group < 0.86:
        age = rng.uniform(0.63, 0.88)
    elif group < 0.94:
        age = rng.uniform(0.30, 0.50)
    else:
        age = rng.uniform(0.88, 0.98)
    female = rng.random() < 0.5
    race = rng.dirichlet((0.45, 0.45, 0.45))
    values = {
        "gender": rng.uniform(0.86, 1.0) if female else rng.uniform(0.0, 0.14),
        "age": age,
        "muscle": np.clip(rng.normal(0.48 if female else 0.58, 0.14), 0.15, 0.95),
        "weight": np.clip(rng.normal(0.5, 0.15), 0.14, 0.95),
        "height": np.clip(rng.normal(0.5, 0.17), 0.1, 0.95),
        "proportions": np.clip(rng.normal(0.32, 0.2), 0.0, 0.9),
        "cupsize": np.clip(rng.normal(0.45, 0.17), 0.05, 0.9),
        "firmness": rng.uniform(0.4, 0.9),
        "african": race[0],
        "asian": race[1],
        "caucasian": race[2],
    }
    return {name: rounded(float(value)) for name, value in values.items()}

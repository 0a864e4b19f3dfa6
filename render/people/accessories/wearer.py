"""Who wears an accessory: what its builders may look at."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from render.people.body import BodyModel, Shape, Skeleton
from render.people.cloth import Solid


@dataclass(frozen=True, eq=False)
class Wearer:
    """A dressed person. posed: the template's vertices in the world, metres. under: the body and the clothes
    over it, from the skin outwards, as points with outward normals.
    """

    shape: Shape
    skeleton: Skeleton
    posed: Float64[np.ndarray, "v 3"]
    under: tuple[Solid, ...]
    model: BodyModel

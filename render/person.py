"""What a person is to the renderer, wherever they come from, sampled or scanned: plain labelled meshes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64, Int32, UInt8


@dataclass(frozen=True)
class Material:
    """Plain description of a look; `render.materials.build_material` makes a shader of it.

    kind: a key of `render.materials.BUILDERS`. Equal materials are shared by the renderer. params: plain
    data; an `opacity` is that of the whole surface.
    """

    kind: str
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def clear(self) -> bool:
        """Whether labels see through all of it, as through the lens of a pair of glasses."""
        return float(self.params.get("opacity", 1.0)) <= 0.5


@dataclass(frozen=True)
class Surface:
    """A triangle mesh with its labels, in the person's frame: metres, z up, ground at 0, facing -y.

    Labels and normals do not depend on the material. uv: of each corner, or None. part_ids: 255 (ignore)
    where nobody knows. attributes: per-vertex scalars for the shader (`lips`, `tint`, ...).
    """

    name: str
    vertices: Float64[np.ndarray, "v 3"]
    faces: Int32[np.ndarray, "f 3"]
    normals: Float64[np.ndarray, "v 3"]
    uv: Float64[np.ndarray, "f 3 2"] | None
    part_ids: UInt8[np.ndarray, " f"]
    material: Material
    attributes: Mapping[str, Float64[np.ndarray, " v"]] = field(default_factory=dict)


@dataclass(frozen=True)
class Person:
    """Someone standing on z = 0. keypoints: of a vocabulary (17, 133 or 308 points), or None when the source
    has none. height: metres, upright. joints: by name. part_classes: the vocabulary of its part ids.
    """

    surfaces: tuple[Surface, ...]
    keypoints: Float64[np.ndarray, "k 3"] | None
    height: float
    joints: Mapping[str, Float64[np.ndarray, " 3"]] = field(default_factory=dict)
    part_classes: int = 28

"""The labels read from a render: one small class each. A new label is a class here and a codec in annotation.

A pass names its AOV, wires the shader value it wants into it (once, when a person is loaded), and decodes the
AOV after the ground-truth render. That render shoots one ray through each pixel centre, so every value
belongs to one surface point: nothing is averaged over an edge. What is not a person has coverage 0 and no
label.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Bool, Float32, Shaped, UInt8

from annotation.camera import Camera
from annotation.parts import IGNORE
from render.nodes import OPACITY
from render.person import Person, Surface

Channels = Mapping[str, Float32[np.ndarray, "height width ..."]]
"""EXR layers of a render by name; AOVs of kind VALUE are (h, w), of kind COLOR (h, w, 3)."""

PART_ATTRIBUTE = "part_id"
"""Face attribute (INT) of a person's meshes that holds the part ids."""


@dataclass(frozen=True)
class View:
    """What a decoder needs beside its own channel: where the people are, and the camera."""

    person: Bool[np.ndarray, "height width"]
    camera: Camera


class LabelPass(Protocol):
    """A label and the AOV it is read from.

    `carried` says whether a person has it, `wire` returns the shader socket whose value it wants.
    """

    label: str
    aov: str
    kind: str  # Blender's AOV type: "VALUE" or "COLOR"

    def carried(self, person: Person) -> bool: ...

    def wire(self, tree: Any) -> Any: ...

    def decode(self, channel: Float32[np.ndarray, "..."], view: View) -> Shaped[np.ndarray, "..."]: ...


class Coverage:
    """1 on people. Filtered over the samples of the beauty render it is the soft alpha; at 1 sample, the
    mask.
    """

    label, aov, kind = "alpha", "coverage", "VALUE"

    def carried(self, person: Person) -> bool:
        """Always."""
        return True

    def wire(self, tree: Any) -> Any:
        """A constant 1."""
        node = tree.nodes.new("ShaderNodeValue")
        node.outputs[0].default_value = 1.0
        return node.outputs[0]

    def decode(
        self, channel: Float32[np.ndarray, "height width"], view: View
    ) -> UInt8[np.ndarray, "height width"]:
        """Coverage in 255ths. `channel` is that of the beauty render."""
        return np.asarray(np.rint(np.clip(channel, 0, 1) * 255), np.uint8)


class ShadingNormal:
    """The interpolated surface normal, free of bump and closures (unlike Blender's Normal pass)."""

    label, aov, kind = "normal", "shading_normal", "COLOR"

    def carried(self, person: Person) -> bool:
        """Always."""
        return True

    def wire(self, tree: Any) -> Any:
        """Normal of the Geometry node, world frame."""
        return tree.nodes.new("ShaderNodeNewGeometry").outputs["Normal"]

    def decode(
        self, channel: Float32[np.ndarray, "height width 3"], view: View
    ) -> Float32[np.ndarray, "height width 3"]:
        """Unit vectors, x right, y up, z toward the camera; (0, 0, 0) off the people."""
        normal = view.camera.world_normals_to_label(channel.astype(np.float64))
        length = np.linalg.norm(normal, axis=-1, keepdims=True)
        unit = normal / np.where(length > 0, length, 1)
        return np.where(view.person[..., None], unit, 0).astype(np.float32)


class GeometricNormal(ShadingNormal):
    """The normal of the flat triangle."""

    label, aov = "geometric_normal", "geometric_normal"

    def wire(self, tree: Any) -> Any:
        """True Normal of the Geometry node, world frame."""
        return tree.nodes.new("ShaderNodeNewGeometry").outputs["True Normal"]


class Quality:
    """255 where the geometry is to be trusted, 0 where a scan's mask says otherwise and off the people."""

    label, aov, kind = "quality", "quality", "VALUE"

    def carried(self, person: Person) -> bool:
        """Only scans with a mask have it."""
        return any(_has_map(s, "quality", "trusted_attribute") for s in person.surfaces)

    def wire(self, tree: Any) -> Any:
        """The material's node of this name, or a constant 1."""
        if (own := tree.nodes.get(self.aov)) is not None:
            return own.outputs[0]
        node = tree.nodes.new("ShaderNodeValue")
        node.outputs[0].default_value = 1.0
        return node.outputs[0]

    def decode(
        self, channel: Float32[np.ndarray, "height width"], view: View
    ) -> UInt8[np.ndarray, "height width"]:
        """255 or 0."""
        return np.where(view.person & (channel > 0.5), 255, 0).astype(np.uint8)


class Parts:
    """Class ids of the people's vocabulary, from the faces' attribute or the material's own map."""

    label, aov, kind = "parts", "part_id", "VALUE"

    def carried(self, person: Person) -> bool:
        """Where any face has a part."""
        return any(_has_map(s, "parts") or (s.part_ids != IGNORE).any() for s in person.surfaces)

    def wire(self, tree: Any) -> Any:
        """The material's node of this name, or the face attribute `part_id`."""
        if (own := tree.nodes.get(self.aov)) is not None:
            return own.outputs[0]
        node = tree.nodes.new("ShaderNodeAttribute")
        node.attribute_name = PART_ATTRIBUTE
        return node.outputs["Fac"]

    def decode(
        self, channel: Float32[np.ndarray, "height width"], view: View
    ) -> UInt8[np.ndarray, "height width"]:
        """Class ids, 0 off the people."""
        return np.where(view.person, np.rint(channel), 0).astype(np.uint8)


class Instance:
    """Person ids 1, 2, ... in the order of the spec."""

    label, aov, kind = "instance", "instance_id", "VALUE"

    def carried(self, person: Person) -> bool:
        """Always."""
        return True

    def wire(self, tree: Any) -> Any:
        """The object's pass index."""
        return tree.nodes.new("ShaderNodeObjectInfo").outputs["Object Index"]

    def decode(
        self, channel: Float32[np.ndarray, "height width"], view: View
    ) -> UInt8[np.ndarray, "height width"]:
        """Person ids, 0 = nobody."""
        return np.where(view.person, np.rint(channel), 0).astype(np.uint8)


class Albedo:
    """Base colour of the material, before light."""

    label, aov, kind = "albedo", "albedo", "COLOR"

    def carried(self, person: Person) -> bool:
        """Always."""
        return True

    def wire(self, tree: Any) -> Any:
        """What feeds Base Color of the material's Principled BSDF, or its constant."""
        shader = next(node for node in tree.nodes if node.type == "BSDF_PRINCIPLED")
        colour = shader.inputs["Base Color"]
        if colour.is_linked:
            return colour.links[0].from_socket
        node = tree.nodes.new("ShaderNodeRGB")
        node.outputs[0].default_value = colour.default_value
        return node.outputs[0]

    def decode(
        self, channel: Float32[np.ndarray, "height width 3"], view: View
    ) -> UInt8[np.ndarray, "height width 3"]:
        """sRGB-encoded, 0 off the people (IEC 61966-2-1)."""
        linear = np.clip(channel.astype(np.float64), 0, 1)
        encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
        return np.where(view.person[..., None], np.rint(encoded * 255), 0).astype(np.uint8)


COVERAGE = Coverage()
GROUND_TRUTH: tuple[LabelPass, ...] = (
    ShadingNormal(),
    GeometricNormal(),
    Parts(),
    Instance(),
    Albedo(),
    Quality(),
)
"""Decoded from the one-sample render, beside depth, which is Blender's own Z pass."""


def attach(tree: Any) -> None:
    """Add an AOV output for every pass to a material's node tree.

    A material with an `OPACITY` node is there, for every label, where that is 1 and not at all where it is 0:
    Cycles adds up the AOVs of all surfaces that a ray passes on its way to the first that is at least half
    opaque, which is the one that its Z pass is of.
    """
    opacity = tree.nodes.get(OPACITY)
    for label_pass in (COVERAGE, *GROUND_TRUTH):
        output = tree.nodes.new("ShaderNodeOutputAOV")
        output.aov_name = label_pass.aov
        value = label_pass.wire(tree)
        if opacity is not None:
            value = _scaled(tree, value, opacity.outputs[0])
        tree.links.new(value, output.inputs["Value" if label_pass.kind == "VALUE" else "Color"])


def _scaled(tree: Any, value: Any, factor: Any) -> Any:
    """value x factor, of a colour or a number alike."""
    node = tree.nodes.new("ShaderNodeVectorMath")
    node.operation = "SCALE"
    tree.links.new(value, node.inputs[0])
    tree.links.new(factor, node.inputs["Scale"])
    return node.outputs[0]


def decode_depth(
    channel: Float32[np.ndarray, "height width"], view: View
) -> Float32[np.ndarray, "height width"]:
    """Blender's Z (planar, metres) with 0 off the people instead of the ground's depth or 1e10."""
    return np.where(view.person, channel, np.float32(0))


def _has_map(surface: Surface, *names: str) -> bool:
    """Whether the surface's material says one of these labels by itself."""
    return any(surface.material.params.get(name) for name in names)

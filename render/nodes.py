"""A small language for Blender's node trees."""

from collections.abc import Mapping
from typing import Any

OPACITY = "opacity"
"""Name of the node that says, 0 or 1, whether a see-through material is there for the labels."""
BLENDED = "blended"
"""Name of the node that says whether it is blended (1, pictures) or there or not (0, labels)."""


class Nodes:
    """A small language for node trees: `nodes.add(type, {property: value}, {input: value or socket})`."""

    def __init__(self, tree: Any) -> None:
        self.tree = tree
        tree.nodes.clear()

    def add(self, kind: str, inputs: Mapping[Any, Any] | None = None, **properties: Any) -> Any:
        """A node with properties set and inputs filled: a socket is linked, anything else is the default
        value.
        """
        node = self.tree.nodes.new(kind)
        for name, value in properties.items():
            setattr(node, name, value)
        for key, value in (inputs or {}).items():
            if hasattr(value, "is_output"):
                self.tree.links.new(value, node.inputs[key])
            else:
                node.inputs[key].default_value = value
        return node

    def math(self, operation: str, a: Any, b: Any = 0.0, c: Any = 0.0) -> Any:
        """A scalar function of one to three sockets or numbers."""
        return self.add("ShaderNodeMath", {0: a, 1: b, 2: c}, operation=operation).outputs[0]

    def mix(self, factor: Any, a: Any, b: Any) -> Any:
        """Colour mix; colours are RGB triples or sockets."""
        node = self.add("ShaderNodeMix", data_type="RGBA", blend_type="MIX", clamp_factor=True)
        for index, value in ((0, factor), (6, a), (7, b)):
            if hasattr(value, "is_output"):
                self.tree.links.new(value, node.inputs[index])
            else:
                node.inputs[index].default_value = value if index == 0 else (*value, 1.0)
        return node.outputs[2]

    def ramp(self, value: Any, low: float, high: float) -> Any:
        """Smooth step from 0 at `low` to 1 at `high`."""
        node = self.add("ShaderNodeMapRange", {0: value, 1: low, 2: high}, interpolation_type="SMOOTHSTEP")
        return node.outputs[0]

    def noise(self, vector: Any, scale: float, detail: float = 2.0, seed: float | int = 0.0) -> Any:
        """Noise in 0..1; `seed` moves it along (1, 1, 1), which costs half of a fourth dimension."""
        away = self.add("ShaderNodeVectorMath", {0: vector, 1: (float(seed),) * 3}, operation="ADD")
        node = self.add(
            "ShaderNodeTexNoise",
            {"Vector": away.outputs[0], "Scale": scale, "Detail": detail},
            noise_dimensions="3D",
        )
        return node.outputs[0]

    def attribute(self, name: str) -> Any:
        """A per-vertex scalar of the surface (0 where the surface has none of that name)."""
        return self.add("ShaderNodeAttribute", attribute_name=name).outputs["Fac"]

    def bump(self, height: Any, distance: float, strength: float = 1.0) -> Any:
        """Shading normal from a height in 0..1 of `distance` metres."""
        return self.add(
            "ShaderNodeBump", {"Height": height, "Distance": distance, "Strength": strength}
        ).outputs[0]

    def surface(self, opacity: Any = None, bounced: Any = None, **inputs: Any) -> None:
        """The Principled BSDF and the output; colours as triples or sockets, underscores for spaces.

        opacity: a socket or number in 0..1, of cards and lenses. The picture blends by it; labels see the
        surface where it exceeds one half and what is behind it elsewhere (`passes.attach`). bounced: the
        colour of a plain matt surface that all rays but the camera's see instead; they are most of the rays,
        and Cycles works out no node that only the other shader needs.
        """
        values = {
            name.replace("_", " "): (*value, 1.0)
            if isinstance(value, tuple | list) and len(value) == 3 and name.endswith("Color")
            else value
            for name, value in inputs.items()
        }
        # Burley's profile costs a tenth less than random walks and looks the same on skin (2026-11-21).
        shader = self.add("ShaderNodeBsdfPrincipled", values, subsurface_method="BURLEY")
        shown = shader.outputs[0]
        if bounced is not None:
            seen = self.add("ShaderNodeLightPath").outputs["Is Camera Ray"]
            matt = self.add("ShaderNodeBsdfDiffuse", {"Color": bounced}).outputs[0]
            shown = self.add("ShaderNodeMixShader", {0: seen, 1: matt, 2: shown}).outputs[0]
        if opacity is not None:
            hard = self.add("ShaderNodeMath", {0: opacity, 1: 0.5}, operation="GREATER_THAN", name=OPACITY)
            blended = self.add("ShaderNodeValue", name=BLENDED)
            blended.outputs[0].default_value = 1.0
            opacity = self.add(
                "ShaderNodeMix", {0: blended.outputs[0], 2: hard.outputs[0], 3: opacity}, data_type="FLOAT"
            ).outputs[0]
            clear = self.add("ShaderNodeBsdfTransparent").outputs[0]
            shown = self.add("ShaderNodeMixShader", {0: opacity, 1: clear, 2: shown}).outputs[0]
        self.add("ShaderNodeOutputMaterial", {"Surface": shown})

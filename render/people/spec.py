"""What a sampled person is (`PersonSpec`): plain JSON-able data, every parameter explicit."""

import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from shards.errors import UsageError

DECIMALS = 6
Colour = tuple[float, float, float]
"""Linear RGB, scene-referred reflectance in 0..1."""


def rounded(value: float) -> float:
    """`value` on the grid of 1e-6 that specs live on, so that JSON text and floats round trip; -0.0 becomes
    0.0.
    """
    return round(float(value), DECIMALS) + 0.0


@dataclass(frozen=True)
class AssetSpec:
    """A file of a MakeHuman asset folder, by content. name: path relative to that folder. sha256: over the
    file and all files it names (geometry, material, textures).
    """

    name: str
    sha256: str


@dataclass(frozen=True)
class FabricSpec:
    """What a garment is made of. Lengths in metres, angle in degrees."""

    pattern: str  # plain, stripes, checks, print, knit, denim, leather, rubber
    colour: Colour
    accent: Colour
    scale: float  # repeat length of the pattern
    angle: float
    roughness: float
    seed: int


@dataclass(frozen=True)
class GarmentSpec:
    """One garment: its kind (a key of `render.people.garments.STYLES`, an accessory, shoes, or "asset"), its
    cut and its fabric. asset: the MakeHuman garment that a kind "asset" is.
    """

    kind: str
    cut: Mapping[str, float]
    fabric: FabricSpec
    asset: AssetSpec | None = None


@dataclass(frozen=True)
class SkinSpec:
    tone: Colour
    lips: Colour
    redness: float
    freckles: float
    wrinkles: float
    roughness: float
    spots: float  # moles and age spots
    blush: float  # make-up on the cheeks
    shadow: float  # make-up on the lids
    seed: int
    photo: AssetSpec | None = None  # a photographic skin instead of the procedural colours


@dataclass(frozen=True)
class EyeSpec:
    iris: Colour
    pupil: float  # pupil radius / iris radius
    yaw: float  # gaze relative to the head, degrees, positive to the person's left
    pitch: float  # positive upwards


@dataclass(frozen=True)
class HairSpec:
    """Hair of the scalp, brows and beard. Lengths in metres; `part` is the lateral place of the parting in
    -1..1.
    """

    style: str  # a key of `render.people.hair.STYLES`, or bald
    colour: Colour
    grey: float  # share of grey strands
    length: float
    volume: float
    curl: float
    part: float
    hairline: float  # 0 low, 1 receding, 2 only a ring is left
    fringe: float  # 0 none, 1 down to the brows
    tips: float  # how much lighter the tips are than the roots
    beard: float  # length at the chin, 0 none, up to 0.1 m
    cheeks: float  # length of the beard at the cheeks as a share of that at the chin; 0 a goatee
    moustache: float  # length
    stubble: float  # shade of shaven hair, 0..1
    brow: float  # thickness factor
    seed: int
    asset: AssetSpec | None = None  # hair of an asset folder instead of grown locks


@dataclass(frozen=True)
class PersonSpec:
    """Everything `build_person` needs. `pose`: joint -> rotation vector, degrees, in the axes of the rest
    pose.
    """

    phenotype: Mapping[str, float]
    pose_name: str
    pose: Mapping[str, tuple[float, float, float]]
    face: Mapping[str, float]
    skin: SkinSpec
    eyes: EyeSpec
    hair: HairSpec
    garments: tuple[GarmentSpec, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain dict of JSON values; `from_json` gives an equal spec back."""
        return typing.cast(dict[str, Any], _plain(self))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "PersonSpec":
        """The spec written by `to_json`; UsageError names a missing or unknown field."""
        return typing.cast(PersonSpec, _parse(cls, value, "person"))


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(value[key]) for key in sorted(value)}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return rounded(value)
    return value


def _parse(kind: Any, value: Any, where: str) -> Any:
    """`value` as an instance of `kind`: a dataclass, Mapping[str, X], tuple[X, ...], tuple[X, Y], float,
    int or str.
    """
    if is_dataclass(kind):
        return _parse_dataclass(kind, value, where)
    if isinstance(kind, types.UnionType):  # X | None
        return None if value is None else _parse(typing.get_args(kind)[0], value, where)
    origin, args = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Mapping, dict) and isinstance(value, Mapping):
        return {str(k): _parse(args[1], v, f"{where}.{k}") for k, v in sorted(value.items())}
    if origin is tuple and isinstance(value, list | tuple):
        kinds = (args[0],) * len(value) if args[-1] is types.EllipsisType or args[-1] is ... else args
        if len(kinds) != len(value):
            raise UsageError(f"{where}: expected {len(kinds)} values, got {len(value)}")
        return tuple(_parse(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if kind in (int, str) and type(value) is kind:
        return value
    raise UsageError(f"{where}: expected {kind}, got {value!r}")


def _parse_dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: expected an object with the fields of {kind.__name__}, got {value!r}")
    hints = typing.get_type_hints(kind)
    if set(hints) != set(value):
        raise UsageError(
            f"{where}: missing {sorted(set(hints) - set(value))}, unknown {sorted(set(value) - set(hints))}"
        )
    return kind(**{name: _parse(hints[name], value[name], f"{where}.{name}") for name in hints})

"""Scarves, ties, belts and gloves."""

from render.people.accessories.wearer import Wearer
from render.people.spec import GarmentSpec
from render.person import Surface


def build_belt(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """Not built yet."""
    return ()


def build_gloves(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """Not built yet."""
    return ()


def build_scarf(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """Not built yet."""
    return ()


def build_tie(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """Not built yet."""
    return ()

"""Watches, bracelets and necklaces."""

from render.people.accessories.wearer import Wearer
from render.people.spec import GarmentSpec
from render.person import Surface


def build_bracelet(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """Not built yet."""
    return ()


def build_necklace(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """Not built yet."""
    return ()


def build_watch(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """Not built yet."""
    return ()

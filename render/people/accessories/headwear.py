"""Caps, beanies, hats and headscarves."""

from render.people.accessories.wearer import Wearer
from render.people.spec import GarmentSpec
from render.person import Surface


def build_cap(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """Not built yet."""
    return ()


def build_beanie(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """Not built yet."""
    return ()


def build_hat(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """Not built yet."""
    return ()


def build_headscarf(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """Not built yet."""
    return ()

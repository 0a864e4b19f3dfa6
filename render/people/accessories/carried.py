"""What is carried: backpacks and bags."""

from render.people.accessories.wearer import Wearer
from render.people.spec import GarmentSpec
from render.person import Surface


def build_backpack(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """Not built yet."""
    return ()


def build_bag(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """Not built yet."""
    return ()

"""Face masks."""

from render.people.accessories.wearer import Wearer
from render.people.spec import GarmentSpec
from render.person import Surface


def build_mask(garment: GarmentSpec, wearer: Wearer) -> tuple[Surface, ...]:
    """Not built yet."""
    return ()

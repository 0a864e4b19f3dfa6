"""What people wear beside clothes and shoes: on the head, at the neck, on wrists and hands, on the back."""

from collections.abc import Callable, Mapping

from render.people.accessories.carried import build_backpack, build_bag
from render.people.accessories.eyewear import build_glasses
from render.people.accessories.headwear import build_beanie, build_cap, build_hat, build_headscarf
from render.people.accessories.jewellery import build_bracelet, build_necklace, build_watch
from render.people.accessories.mask import build_mask
from render.people.accessories.textiles import build_belt, build_gloves, build_scarf, build_tie
from render.people.accessories.wearer import Wearer
from render.people.spec import GarmentSpec
from render.person import Surface

ACCESSORIES: Mapping[str, Callable[[GarmentSpec, Wearer], tuple[Surface, ...]]] = {
    "cap": build_cap,
    "beanie": build_beanie,
    "hat": build_hat,
    "headscarf": build_headscarf,
    "glasses": build_glasses,
    "sunglasses": build_glasses,
    "mask": build_mask,
    "scarf": build_scarf,
    "tie": build_tie,
    "belt": build_belt,
    "gloves": build_gloves,
    "watch": build_watch,
    "bracelet": build_bracelet,
    "necklace": build_necklace,
    "backpack": build_backpack,
    "bag": build_bag,
}
"""Kind of a `GarmentSpec` -> what makes its surfaces. The cut's parameters: `render.people.wardrobe.CUTS`."""

__all__ = ["ACCESSORIES", "Wearer"]

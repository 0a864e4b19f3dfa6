"""From a sample to an example of masked pretraining: decode, random resized crop, flip, and the noise that
picks the mask.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.nn import functional as F

from annotation.codecs import decode_image
from shards.errors import VitruvianError
from shards.reader import Dataset
from shards.sample import Sample
from train.data.dataset import Example
from train.data.jpeg import Box, Jpeg

PHOTO_MEMBERS = ("rgb.png", "rgb.jpg", "jpg", "jpeg", "png", "webp")
ATTEMPTS = 10


def members_to_read(data: Dataset) -> tuple[str, ...] | None:
    """The members a photo loader needs of every sample: a render's picture alone; None (all) for curated
    photos, whose suffixes differ and which hold little else. Judged by the first sample.
    """
    first = data[0].members
    return next(((name,) for name in PHOTO_MEMBERS if name in first and name.startswith("rgb.")), None)


def photo(sample: Sample) -> UInt8[np.ndarray, "height width 3"]:
    """The picture of a sample. Raises VitruvianError that names the key when there is none or it is
    damaged.
    """
    name = _picture(sample)
    try:
        return decode_image(sample.members[name])
    except VitruvianError as error:
        raise VitruvianError(f"sample {sample.key}, member {name}: {error}") from error


def photo_box(
    sample: Sample, choose: Callable[[tuple[int, ...]], Box], least: tuple[int, int]
) -> UInt8[np.ndarray, "height width 3"]:
    """The box that `choose` picks for the picture's (height, width); errors as `photo`.

    A JPEG is decoded at 1/2, 1/4 or 1/8 where the box then still has `least` (height, width) pixels.
    """
    jpeg = Jpeg.read(sample.members[_picture(sample)])
    if jpeg is None:
        picture = photo(sample)
        box = choose(picture.shape[:2])
    else:
        box = choose(jpeg.size)
        if (found := jpeg.cut(box, least)) is not None:
            return found
        picture = photo(sample)  # raises, or accepts what OpenCV does not
    y, x, height, width = box
    return picture[y : y + height, x : x + width]


def _picture(sample: Sample) -> str:
    name = next((name for name in PHOTO_MEMBERS if name in sample.members), None)
    if name is None:
        raise VitruvianError(
            f"sample {sample.key}: no picture; expected one of {', '.join(PHOTO_MEMBERS)}, "
            f"got {', '.join(sample.members)}"
        )
    return name


class MaskedPhoto:
    """The maker of pretraining examples: {"image": uint8 (3, H, W), "noise": int32 (patches,)}."""

    def __init__(
        self, image_size: tuple[int, int], patches: int, scale: tuple[float, float] = (0.2, 1.0)
    ) -> None:
        self.image_size, self.patches, self.scale = image_size, patches, scale

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Example:
        picture = photo_box(
            sample, lambda size: crop_box(size, self.image_size, self.scale, rng), self.image_size
        )
        if rng.random() < 0.5:
            picture = picture[:, ::-1]  # before the copy that `to_tensor` makes anyway
        image = resize(to_tensor(picture), self.image_size)
        # A permutation, not random floats: no ties, so every device hides the same patches.
        noise = torch.from_numpy(rng.permutation(self.patches).astype(np.int32))
        return {"image": image, "noise": noise}


def crop_box(
    size: tuple[int, ...], target: tuple[int, int], scale: tuple[float, float], rng: np.random.Generator
) -> Box:
    """(y, x, height, width) of a random crop of an image of `size` (height, width).

    Its area is a uniform share `scale` of the image, its aspect the target's times a log-uniform factor in
    3/4..4/3 (for square targets: the usual random resized crop). After ten boxes that do not fit, the largest
    central box of the target's aspect.
    """
    rows, columns = size
    aspect = target[1] / target[0]
    for _ in range(ATTEMPTS):
        area = rows * columns * rng.uniform(*scale)
        ratio = aspect * math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < width <= columns and 0 < height <= rows:
            y, x = rng.integers(rows - height + 1), rng.integers(columns - width + 1)
            return int(y), int(x), height, width
    return central_box(size, target)


def central_box(size: tuple[int, ...], target: tuple[int, int]) -> Box:
    """(y, x, height, width) of the largest central box of the target's aspect."""
    rows, columns = size
    factor = min(rows / target[0], columns / target[1])
    height, width = max(1, round(factor * target[0])), max(1, round(factor * target[1]))
    return (rows - height) // 2, (columns - width) // 2, height, width


def central_view(
    picture: UInt8[np.ndarray, "_ _ 3"], size: tuple[int, int]
) -> UInt8[Tensor, "3 height width"]:
    """The largest central crop of the aspect of `size` (height, width), resized to it."""
    y, x, height, width = central_box(picture.shape[:2], size)
    return resize(to_tensor(picture[y : y + height, x : x + width]), size)


def to_tensor(picture: UInt8[np.ndarray, "height width 3"]) -> UInt8[Tensor, "3 height width"]:
    """Channels first, without changing the memory's order (the fast resize wants channels last)."""
    return torch.from_numpy(np.array(picture, order="C")).permute(2, 0, 1)


def resize(image: UInt8[Tensor, "3 _ _"], size: tuple[int, int]) -> UInt8[Tensor, "3 height width"]:
    """Bicubic, antialiased when shrinking, as Pillow resizes (the released recipe's)."""
    resized = F.interpolate(image[None], size=size, mode="bicubic", antialias=True)
    return resized[0].contiguous()

"""Data sets as others lay them out: folders of files beside each other, described by a small YAML file.

    layout: coco                     # or parts, toy: one file of this folder for each
    images: val2017                  # paths are relative to the YAML file
    annotations: annotations/person_keypoints_val2017.json
    protocol: coco                   # the published test set this is, if it is one

Whoever adds a layout writes a file beside this one and adds it to `LAYOUTS`.
"""

from pathlib import Path

from shards.config import load_section, parse_config
from shards.errors import UsageError
from train.data.layouts.base import LEFT_OUT, Layout, LayoutConfig, Purpose
from train.data.layouts.coco import CocoConfig
from train.data.layouts.parts_png import PartsConfig
from train.data.layouts.toy import ToyConfig

__all__ = ["LAYOUTS", "LEFT_OUT", "Layout", "LayoutConfig", "Purpose", "is_layout", "open_layout"]

LAYOUTS: dict[str, type[LayoutConfig]] = {"coco": CocoConfig, "parts": PartsConfig, "toy": ToyConfig}


def is_layout(place: Path | str) -> bool:
    """Whether a `--data` names the description of a layout, and not a dataset of ours."""
    return Path(place).suffix.lower() in (".yaml", ".yml")


def open_layout(path: Path, purpose: Purpose) -> Layout:
    """The data set that the YAML file `path` describes.

    Raises UsageError for a description that is wrong, files that are not there or not in pairs, and files
    that lie outside the folders it names.
    """
    content = load_section(path)
    name = content.get("layout") if isinstance(content, dict) else None
    if not isinstance(name, str) or name not in LAYOUTS:
        raise UsageError(f"{path}: layout: expected one of {', '.join(LAYOUTS)}; got {name!r}")
    return parse_config(content, LAYOUTS[name], str(path)).open(path.parent, str(path), purpose)

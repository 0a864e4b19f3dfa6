"""Make the pictures of the README: rendered people in different HDRIs with their labels, and a sample in 3-D.

    python tools/gallery.py [--config tools/gallery.yaml] [--out docs/images]

Every row is one sample of the job in the configuration: image, depth, normals, body parts, keypoints.
"""

import argparse
from pathlib import Path

import numpy as np

from annotation.draw import colour_depth, colour_normals, draw_keypoints, overlay_parts, tile
from annotation.labels import Labels
from pipelines.cli import leave
from render.effects import encode_jpeg
from render.engine import Engine, built_person
from render.pointmap import pointmap_views
from render.recipe import RenderConfig, plan_specs
from shards.config import load_config


def row(labels: Labels) -> list[np.ndarray]:
    """A sample side by side with what is known about it."""
    assert labels.rgb is not None and labels.depth is not None and labels.normal is not None
    assert labels.parts is not None and labels.keypoints is not None
    return [
        labels.rgb,
        colour_depth(labels.depth),
        colour_normals(labels.normal),
        overlay_parts(labels.rgb, labels.parts, labels.part_classes),
        draw_keypoints(labels.rgb, labels.keypoints),
    ]


def main() -> None:
    """Render the job and write overview.jpg and pointmap.jpg."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("gallery.yaml"))
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    engine = Engine()
    config = load_config(options.config, RenderConfig)
    samples = [engine.render_labels(spec) for spec in plan_specs(config, built_person)]
    pictures = [picture for labels in samples for picture in row(labels)]
    (options.out / "overview.jpg").write_bytes(encode_jpeg(tile(pictures, 5), 88))
    (options.out / "pointmap.jpg").write_bytes(encode_jpeg(pointmap_views(samples[-1]), 88))


if __name__ == "__main__":
    main()
    leave(0)

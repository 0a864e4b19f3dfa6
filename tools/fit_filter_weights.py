"""Fit the offline defaults of the art and watermark filters again:
curation/filters/{art,watermark}_weights.json.

    .venv/bin/python tools/fit_filter_weights.py [--check]

On `curation.filters.sets.TRAINING` alone; `--check` writes nothing and fails when the weights that are there
differ by more than rounding. Prints, by leaving each photograph out in turn, the share of each kind over 0.5
and over 0.8. The kind `painted` takes no part: it shows in benchmarks/curation_filters.py what an unseen kind
gets.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from curation.boxes import RGB
from curation.filters import art, logistic, watermark
from curation.filters.sets import ART, CLEAN, TRAINING, WATERMARKS, Change, Picture, altered, photographs

SEEDS = (0, 1, 2)
RIDGE = 3.0
FOLDER = Path(art.__file__).parent
SEEN_ART = {kind: change for kind, change in ART.items() if kind != "painted"}


def pictures(kinds: dict[str, Change]) -> list[Picture]:
    """Clean and altered photographs of the training set."""
    found: list[Picture] = []
    for seed in SEEDS:
        clean = list(photographs(TRAINING, seed))
        found += [*clean, *altered(clean, kinds, seed)]
    return found


def fit(kinds: dict[str, Change], features: Callable[[RGB], Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The weights as JSON; prints what leaving one photograph out gives."""
    found = pictures(kinds)
    rows = np.stack([features(picture.image) for picture in found])
    positive = np.array([picture.kind != CLEAN for picture in found])
    source = np.array([picture.source.split("#")[0] for picture in found])
    score = np.zeros(len(found))
    for name in np.unique(source):
        held_out = source == name
        model = logistic.fit(rows[~held_out], positive[~held_out], RIDGE)
        score[held_out] = [model.probability(row) for row in rows[held_out]]
    for kind in (CLEAN, *kinds):
        these = score[[picture.kind == kind for picture in found]]
        print(f"{kind:18} {(these > 0.5).mean():5.2f} {(these > 0.8).mean():5.2f}")
    return logistic.fit(rows, positive, RIDGE).to_json(names)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    for name, kinds, features, names in (
        ("art", SEEN_ART, art.art_features, art.FEATURES),
        ("watermark", WATERMARKS, watermark.watermark_features, watermark.FEATURES),
    ):
        print(f"{name}: share over 0.5, over 0.8")
        found, path = fit(kinds, features, names), FOLDER / f"{name}_weights.json"
        if not check:
            path.write_text(json.dumps(found, indent=1) + "\n")
        elif differing := differences(found, json.loads(path.read_bytes())):
            raise SystemExit(f"{path}: differs from a new fit: {', '.join(differing)}")


def differences(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Names of the weights that differ by more than 1 % of the largest."""
    a, b = ({name: entry["weight"] for name, entry in file["features"].items()} for file in (one, other))
    largest = max(map(abs, a.values()))
    return [name for name in a.keys() | b.keys() if abs(a.get(name, 0) - b.get(name, 0)) > 0.01 * largest]


if __name__ == "__main__":
    main()

"""The paper's figures, beside which a score may be put: on the same test set, by the same protocol, never
elsewhere. published.json holds them as printed, each with its source.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from shards.errors import UsageError

TABLE = Path(__file__).with_name("published.json")
FIGURES_OF = "protocol"
"""Entry of a data set's provenance that says which published test set it is."""


@dataclass(frozen=True)
class Published:
    """What was published for one task on one test set. `rows`: model -> score -> value, in our units (shares
    of 1, metres, degrees).
    """

    protocol: str
    title: str
    source: str
    conditions: str
    rows: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Withheld:
    """Why nothing published is shown."""

    protocol: str
    reason: str


@cache
def _tables() -> Mapping[str, Mapping[str, Any]]:
    tables: Mapping[str, Mapping[str, Any]] = json.loads(TABLE.read_text(encoding="utf-8"))
    return tables


def protocol_names() -> tuple[str, ...]:
    """The test sets that have a name here."""
    return tuple(_tables())


def check_protocol(asked: str | None, provenance: Mapping[str, Any]) -> str | None:
    """The published test set the data are: what their provenance says, else what was `asked`, else None.

    Renders of a bundled recipe say so by its name. Raises UsageError for an unknown name, and for one that
    contradicts the data's own.
    """
    if asked is not None and asked not in _tables():
        raise UsageError(f"protocol {asked!r}: expected one of {', '.join(_tables())}")
    said = provenance.get(FIGURES_OF, dict(provenance.get("config") or {}).get("recipe"))
    own = said if said in _tables() else None
    if own and asked and own != asked:
        raise UsageError(f"protocol {asked!r}: these data say of themselves that they are {own!r}")
    return own or asked


def find_published(
    protocol: str, task: str, images: int, settings: Mapping[str, Any]
) -> Published | Withheld:
    """The rows of a task, for a test set of that many images and a task configured by `settings`."""
    entry = _tables()[protocol]
    table = entry["tables"].get(task)
    if table is None:
        return Withheld(protocol, f"nothing was published for {task} on {entry['title']}")
    if images not in entry["images"]:
        sizes = " or ".join(str(size) for size in entry["images"])
        return Withheld(protocol, f"{images} images were scored, the published set has {sizes}")
    for name, value in table.get("requires", {}).items():
        if settings[name] != value:
            return Withheld(protocol, f"published for {name} {value}, this model has {settings[name]}")
    return Published(protocol, entry["title"], table["source"], table["conditions"], _rows(table))


def _rows(table: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """As printed, times each column's scale (0.01 for per cent)."""
    return {
        model: {
            score: round(value * scale, 6)
            for score, scale, value in zip(table["scores"], table["scales"], values, strict=True)
        }
        for model, values in table["rows"].items()
    }

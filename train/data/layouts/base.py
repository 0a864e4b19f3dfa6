"""What a layout is: labels by index, from files that are found once, when it is opened."""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import field_validator

from annotation.labels import Labels
from shards.config import Config
from shards.errors import UsageError, VitruvianError
from shards.sample import canonical_json
from train.metrics.published import check_protocol

Purpose = Literal["training", "evaluation"]
"""training may leave out pictures with nothing to learn from; evaluation leaves out nothing."""
LEFT_OUT = "left_out"
"""Entry of the provenance: pictures that were not taken, counted by reason."""
Unpaired = Literal["refuse", "skip"]


class LayoutConfig(Config, ABC):
    """What every description may say."""

    places: ClassVar[frozenset[str]] = frozenset()
    """Fields that say where the data is: no part of its digest."""

    unpaired: Unpaired = "refuse"
    """What is done with a picture without its label files, and the other way round; skip: they are counted
    in the provenance."""
    identity: str | None = None
    """Regular expression searched for in the picture's name (relative, no suffix); its first group, or the
    whole match, says who is in the picture: `^(pair\\d+)`. Without it, nobody says."""
    protocol: str | None = None
    """The published test set the data are: hi4d, coco, coco-wholebody, lip ..."""

    @field_validator("identity")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value

    @abstractmethod
    def open(self, root: Path, where: str, purpose: Purpose) -> "Layout":
        """The data set; paths are relative to `root`, `where` names the description in errors."""

    def digest(self, contents: Sequence[str]) -> str:
        """Of what the labels are a function of: digests of the files and the settings, not their place."""
        settings = self.model_dump(mode="json", exclude=set(self.places))
        return hashlib.sha256(canonical_json({"settings": settings, "contents": list(contents)})).hexdigest()


class Layout(ABC):
    """Labelled pictures of one folder layout; may be pickled, and read by several threads.

    url: the description's path. digest: of the content. labels: the names of those it has. provenance:
    "protocol" where the description names one, "left_out" with counts. names: of the pictures.
    """

    labels: tuple[str, ...]

    def __init__(
        self,
        config: LayoutConfig,
        where: str,
        names: Sequence[str],
        contents: Sequence[str],
        left_out: Mapping[str, int],
    ) -> None:
        self.url, self.names = where, tuple(names)
        self.digest = config.digest(contents)
        check_protocol(config.protocol, {})
        said = {} if config.protocol is None else {"protocol": config.protocol}
        self.provenance: Mapping[str, Any] = {**said, LEFT_OUT: dict(left_out)}
        self._who = None if config.identity is None else [_identity(config.identity, n, where) for n in names]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> tuple[str, Labels]:
        """(key, labels) of a picture, with everything there is."""
        return self.read(index, self.labels)

    def read(self, index: int, wanted: Sequence[str]) -> tuple[str, Labels]:
        """(key, labels) of a picture, only the labels `wanted`. The key is the picture's name, `+` for `/`.

        Raises VitruvianError, naming picture and file, for one that is damaged or too large.
        """
        key = self.names[index].replace("/", "+")
        try:
            return key, self.labels_of(index, wanted)
        except VitruvianError as error:
            raise VitruvianError(f"{self.url}: {key}: {error}") from error

    @abstractmethod
    def labels_of(self, index: int, wanted: Sequence[str]) -> Labels:
        """The labels `wanted` of a picture."""

    def identities(self) -> list[str]:
        """Who is in the pictures, sorted; empty when nobody says."""
        return sorted(set(self._who or ()))

    def people(self, index: int) -> dict[str, Any]:
        """The entry "people" of `Labels.meta` that says who is in a picture; {} when nobody does."""
        return {} if self._who is None else {"people": [{"identity": self._who[index]}]}


def _identity(pattern: str, name: str, where: str) -> str:
    found = re.search(pattern, name)
    if found is None:
        raise UsageError(f"{where}: identity: {pattern!r} is found nowhere in the picture's name {name!r}")
    return str(found.group(1) if found.re.groups else found.group())

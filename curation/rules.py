"""The rules of `select`: named thresholds over the columns of `annotate`, read from YAML, in an order of
precedence.

    base: humans                                            # optional: start from a shipped rule set or a
    file people: {score_above: 0.3}                              # boxes above it are counted (paper, Fig. 2)
    rules:
    - {reason: "size:small", column: short_side, at_least: 64}
    - {reason: duplicate, duplicates: {bytes: true, pixels: true}}
    - {reason: person, person: {score_above: 0.9, side_above: 300, size_rule: min}}
    - {reason: near-duplicate, duplicates: {near: {hamming: 4, thumbnail: 8}}}
    subset: {share: 0.1, seed: 0, of: kept}

A rule says what keeps; the first that an image fails is its reason. What could not be decoded fails before
all rules, for the reason `decode:<why>`. A rule on a column that was not measured (null) keeps.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import pyarrow as pa
from pydantic import BeforeValidator, Field, field_validator, model_validator

from curation.columns import ANNOTATIONS
from shards.config import Config, load_config, load_section, parse_config
from shards.errors import UsageError

RULESETS = Path(__file__).parent / "rulesets"
DECODE, SUBSET = "decode", "subset:out"
DERIVED = ("short_side", "long_side", "aspect", "megapixels", "people")
COMPARISONS = ("above", "at_least", "below", "at_most", "equals", "one_of", "none_of")
_ORDERED = COMPARISONS[:4]
_REASON = r"[a-z][a-z0-9-]*(:[a-z0-9-]+)?"
_TAKEN = (DECODE, "subset", "kept")

NUMERIC = (
    *(f.name for f in ANNOTATIONS if pa.types.is_integer(f.type) or pa.types.is_floating(f.type)),
    *DERIVED,
)
TEXTUAL = tuple(field.name for field in ANNOTATIONS if pa.types.is_string(field.type))

SizeRule = Literal["min", "max", "height", "sqrt_area"]
Value = float | int | str


def _known_fields(model: type[Config]) -> Any:
    """Names an unknown field with those that are allowed: pydantic would leave them out inside a list."""

    def check(content: Any) -> Any:
        if isinstance(content, Mapping) and (unknown := sorted(set(content) - set(model.model_fields))):
            allowed = ", ".join(model.model_fields)
            raise ValueError(f"unknown field {unknown[0]!r}; expected one of: {allowed}")
        return content

    return BeforeValidator(check)


class AtPrecision(Config):
    """A score threshold given as the precision it must reach on a labelled set (`curate calibrate`)."""

    precision: float = Field(gt=0, le=1)
    calibration: Path = Field(description="what `curate calibrate` wrote for this detector")


class PersonLimits(Config):
    """At least one box with score > `score_above` and side > `side_above` px, both strict, both of one box.

    Side: the box's shorter (`min`, the literal reading of "bounding box dimensions exceeding 300 pixels"),
    longer (`max`) or vertical (`height`) one, or the square root of its area.
    """

    score_above: Annotated[float, Field(ge=0, le=1)] | AtPrecision = 0.9
    side_above: float = Field(default=300.0, ge=0, description="px of the upright image")
    size_rule: SizeRule = "min"


class Near(Config):
    """When two images are near: both distances at most these."""

    hamming: int = Field(default=4, ge=0, le=6, description="differing bits of the perceptual hashes")
    thumbnail: float = Field(
        default=8.0,
        ge=0,
        le=255,
        description="mean absolute difference of the 16 x 16 thumbnails, in grey levels",
    )


class Sameness(Config):
    """What makes two images the same: equal bytes, equal pixels, or being near; any that is asked for."""

    bytes: bool = False
    pixels: bool = False
    near: Annotated[Near, _known_fields(Near)] | None = None

    @model_validator(mode="after")
    def _some(self) -> "Sameness":
        if not (self.bytes or self.pixels or self.near):
            raise ValueError("duplicates: set at least one of bytes, pixels, near")
        return self


class Rule(Config):
    """One rule: a comparison of a column that must hold, a person that must be there, or no duplicate.

    `reason`: what a rejected image gets. A person rule adds `:none`, `:score` or `:small`, a duplicates rule
    `:<key>` of the image that stays.
    """

    reason: str
    column: str | None = None
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    equals: Value | None = None
    one_of: tuple[Value, ...] | None = None
    none_of: tuple[Value, ...] | None = None
    person: Annotated[PersonLimits, _known_fields(PersonLimits)] | None = None
    duplicates: Annotated[Sameness, _known_fields(Sameness)] | None = None

    @field_validator("reason")
    @classmethod
    def _named(cls, reason: str) -> str:
        if not re.fullmatch(_REASON, reason) or reason.partition(":")[0] in _TAKEN:
            raise ValueError(
                "expected `word` or `word:word` in lower-case letters, digits and '-', "
                f"not beginning with {', '.join(_TAKEN)}"
            )
        return reason

    @field_validator("column")
    @classmethod
    def _column(cls, column: str | None) -> str | None:
        if column is not None and column not in (*NUMERIC, *TEXTUAL):
            raise ValueError(
                f"no such column; expected one of: {', '.join(NUMERIC)} (numbers), "
                f"{', '.join(TEXTUAL)} (texts)"
            )
        return column

    @model_validator(mode="after")
    def _one_kind(self) -> "Rule":
        kinds = [name for name in ("column", "person", "duplicates") if getattr(self, name) is not None]
        if len(kinds) != 1:
            raise ValueError(f"expected one of column, person, duplicates; got {', '.join(kinds) or 'none'}")
        given = [name for name in COMPARISONS if getattr(self, name) is not None]
        if self.column is not None and len(given) != 1:
            raise ValueError(
                f"column {self.column!r}: expected exactly one of {', '.join(COMPARISONS)}; "
                f"got {', '.join(given) or 'none'}"
            )
        if self.column is None and given:
            raise ValueError(f"{given[0]}: only beside `column`")
        if self.column is None and ":" in self.reason:
            raise ValueError(f"reason {self.reason!r}: a {kinds[0]} rule adds what follows the colon itself")
        self._check_values(given)
        return self

    def _check_values(self, given: list[str]) -> None:
        if not given:
            return
        wanted = getattr(self, given[0])
        values = wanted if isinstance(wanted, tuple) else (wanted,)
        textual = self.column in TEXTUAL
        if textual and given[0] in _ORDERED:
            raise ValueError(f"{given[0]}: column {self.column!r} holds text; use equals, one_of or none_of")
        if any(isinstance(value, str) != textual for value in values):
            kind = "text" if textual else "numbers"
            raise ValueError(f"{given[0]}: column {self.column!r} holds {kind}; got {wanted!r}")

    @property
    def comparison(self) -> tuple[str, Any]:
        """("at_most", 0.02), of a rule on a column."""
        return next((name, getattr(self, name)) for name in COMPARISONS if getattr(self, name) is not None)


class People(Config):
    """Which boxes are counted as people: those with score > `score_above`."""

    score_above: float = Field(default=0.3, ge=0, le=1)


class Subset(Config):
    """A random share: the images whose hash of (seed, key) falls below `share`.

    A smaller share with the same seed is contained in a larger one, however the pool is cut. `of` says where
    the draw stands among the rules, `pool` before all of them, `kept` after; duplicates are resolved over the
    whole pool in both cases (or subsets would not nest), so the images kept are the same.
    """

    share: float = Field(gt=0, le=1)
    seed: int = Field(default=0, ge=0, lt=1 << 63)
    of: Literal["pool", "kept"] = "kept"


def _with_base(content: Any, seen: tuple[str, ...] = ()) -> Any:
    """Replace `base` by what it names; a field given beside it takes the place of the base's."""
    if not isinstance(content, Mapping) or "base" not in content:
        return content
    base = str(content["base"])
    if base in seen:
        raise ValueError(f"base: {' -> '.join((*seen, base))}: a rule set cannot begin with itself")
    given = {name: value for name, value in content.items() if name != "base"}
    return {**_with_base(load_section(_find(base)), (*seen, base)), **given}


class RuleSet(Config):
    """All of a selection. The default is the shipped `humans`: section 3.1 of the paper."""

    people: People = People()
    rules: tuple[Annotated[Rule, _known_fields(Rule)], ...] = Field(
        default_factory=lambda: load_rules("humans").rules
    )
    subset: Subset | None = None

    @model_validator(mode="before")
    @classmethod
    def _base(cls, content: Any) -> Any:
        return _with_base(content)

    @field_validator("rules")
    @classmethod
    def _distinct(cls, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        reasons = [rule.reason for rule in rules]
        if twice := sorted({reason for reason in reasons if reasons.count(reason) > 1}):
            raise ValueError(
                f"reason {twice[0]!r} is given to more than one rule; reports could not tell them apart"
            )
        if len(rules) > 200:
            raise ValueError(f"at most 200 rules; got {len(rules)}")
        return rules

    def resolved(self) -> "RuleSet":
        """The same with every score threshold a number: those given as a precision are looked up.

        Raises UsageError when a calibration cannot be read or never reaches the precision.
        """
        rules = [rule.model_copy(update={"person": _resolve(rule.person)}) for rule in self.rules]
        return self.model_copy(update={"rules": tuple(rules)})

    @property
    def steps(self) -> tuple[str, ...]:
        """What may reject, in order of precedence: the names that the funnel shows."""
        before = [SUBSET] if self.subset and self.subset.of == "pool" else []
        after = [SUBSET] if self.subset and self.subset.of == "kept" else []
        return (*before, DECODE, *(rule.reason for rule in self.rules), *after)


def load_rules(name: str | Path, section: str | None = None) -> RuleSet:
    """A rule set by the name of a shipped one (`humans`, `general` ...) or from a YAML file (section).

    Raises UsageError: no such file or name, or what is wrong in it.
    """
    return load_config(_find(str(name)), RuleSet, section)


def parse_rules(content: Any, where: str = "rules") -> RuleSet:
    """A rule set from plain data. Raises UsageError."""
    return parse_config(content, RuleSet, where)


def shipped() -> tuple[str, ...]:
    """The names of the rule sets that come with this package."""
    return tuple(sorted(path.stem for path in RULESETS.glob("*.yaml")))


def _find(name: str) -> Path:
    path = RULESETS / f"{name}.yaml"
    if name in shipped():
        return path
    if Path(name).is_file():
        return Path(name)
    raise UsageError(
        f"rules {name!r}: neither a file nor one of the shipped rule sets: {', '.join(shipped())}"
    )


def _resolve(limits: PersonLimits | None) -> PersonLimits | None:
    if limits is None or not isinstance(limits.score_above, AtPrecision):
        return limits
    from curation.calibrate import load_calibration, score_at_precision

    wanted = limits.score_above
    score = score_at_precision(load_calibration(wanted.calibration), wanted.precision)
    return limits.model_copy(update={"score_above": float(score)})

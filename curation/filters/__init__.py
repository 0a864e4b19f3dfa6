"""One file per filter. A filter measures columns from pixels (in `annotate`), judges columns (in `select`),
or both.

Every image's own statistics are plain functions (`quality`, `duplicates`, `text`). Scores by a model are a
`Measure`: `load_filters` gives those of a configuration.

A rule returns, for every row of a table, the reason to reject it, or null. It looks at columns only, and only
at those that `curation.columns` names.
"""

from pydantic import Field, model_validator

from curation.filters.art import ArtConfig, ClassicalArtConfig, load_art
from curation.filters.measure import Measure
from curation.filters.network import EncoderConfig
from curation.filters.watermark import ClassicalWatermarkConfig, WatermarkConfig, load_watermark
from curation.filters.zero_shot import ZeroShot, ZeroShotConfig
from curation.weights import pin, resolve_provider
from shards.config import Config

__all__ = ["FilterConfig", "Measure", "load_filters", "pin_filters"]


class FilterConfig(Config):
    """Which models score whole images; `null` leaves a column unmeasured."""

    watermark: WatermarkConfig | None = Field(
        default=ClassicalWatermarkConfig(), description="column watermark"
    )
    art: ArtConfig | None = Field(default=ClassicalArtConfig(), description="column art")
    zero_shot: ZeroShotConfig | None = Field(default=None, description="several columns by prompts")

    @model_validator(mode="after")
    def _one_writer(self) -> "FilterConfig":
        columns = self.zero_shot.columns if self.zero_shot else ()
        for name in ("watermark", "art"):
            if name in columns and getattr(self, name) is not None:
                raise ValueError(
                    f"two writers of column {name}: say `{name}: null`, or leave it out of zero_shot.columns"
                )
        return self


def load_filters(config: FilterConfig) -> tuple[Measure, ...]:
    """The measures of a configuration, no column twice. Weights are fetched and networks opened at first use
    (`identity` fetches).
    """
    found: list[Measure] = []
    if config.watermark is not None:
        found.append(load_watermark(config.watermark))
    if config.art is not None:
        found.append(load_art(config.art))
    if config.zero_shot is not None:
        found.append(ZeroShot(config.zero_shot))
    return tuple(found)


def pin_filters(config: FilterConfig) -> FilterConfig:
    """The configuration with the sha256 of every file of weights and the device fixed: what workers are
    given.
    """
    changed = {}
    for name in ("watermark", "art", "zero_shot"):
        part = getattr(config, name)
        if isinstance(part, EncoderConfig):
            fixed = {"weights": pin(part.weights), "provider": resolve_provider(part.provider)}
            changed[name] = part.model_copy(update=fixed)
    return config.model_copy(update=changed)

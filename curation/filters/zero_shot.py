"""Groups of prompts against the image, by a CLIP-like encoder: columns `art`, `unnatural`, `watermark`, and
`aesthetic` by a linear head.

The text side is done once, elsewhere (tools/embed_prompts.py), and comes as a prompt file:

    {"format": "vitruvian-prompts", "version": 1, "model": "ViT-L-14/openai", "temperature": 0.01,
     "groups": {"keep": [{"prompt": "a photograph of a person", "embedding": [...]}, ...], "art": [...], ...},
     "aesthetic": {"weight": [...], "bias": 5.3}}

p(group) = softmax over groups of (the best cosine of its prompts / temperature): a group of many prompts has
no advantage. `keep` is what photographs of people look like. LAION's improved aesthetic predictor, whose
layers have no activations between them, multiplies out to one linear head.
"""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from jaxtyping import Float64
from pydantic import Field, ValidationError, field_validator, model_validator

from curation.boxes import RGB
from curation.filters.network import EncoderConfig, ImageNetwork, Three, finite, softmax
from shards.config import Config, explain
from shards.errors import ShardError, UsageError
from shards.files import sha256_file

KEEP = "keep"
AESTHETIC = "aesthetic"
MOST_BYTES = 64 << 20
Group = Literal["keep", "art", "unnatural", "watermark"]
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Vector = Annotated[tuple[Number, ...], Field(min_length=2, max_length=8192)]
Column = Literal["art", "unnatural", "watermark", "aesthetic"]


class ZeroShotConfig(EncoderConfig):
    """An image encoder and a prompt file. Defaults: CLIP's normalisation."""

    prompts: Path = Field(description="the prompt file")
    columns: tuple[Column, ...] = Field(
        default=("art", "unnatural", "watermark"),
        min_length=1,
        description="what is written; all in the file",
    )
    mean: Three = (0.48145466, 0.4578275, 0.40821073)
    std: Three = (0.26862954, 0.26130258, 0.27577711)

    @field_validator("columns")
    @classmethod
    def _once(cls, value: tuple[Column, ...]) -> tuple[Column, ...]:
        if len(set(value)) != len(value):
            raise ValueError("expected each column once")
        return value


class Prompt(Config):
    """One prompt, or the mean over templates of one, and its text embedding (any length; normalised here)."""

    prompt: str = Field(max_length=1000)
    embedding: Vector

    @field_validator("embedding")
    @classmethod
    def _points_somewhere(cls, value: Vector) -> Vector:
        if not any(value):
            raise ValueError("an embedding of zeros has no direction")
        return value


class Head(Config):
    """aesthetic = weight . (embedding of length 1) + bias."""

    weight: Vector
    bias: Number


class Prompts(Config):
    """What a prompt file holds."""

    format: Literal["vitruvian-prompts"]
    version: Literal[1]
    model: str = Field(min_length=1, max_length=200, description="of the encoder; for the reader and the key")
    temperature: float = Field(gt=0, le=10, allow_inf_nan=False, description="1 / CLIP's logit scale")
    groups: dict[Group, Annotated[tuple[Prompt, ...], Field(min_length=1, max_length=1000)]]
    aesthetic: Head | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Prompts":
        if KEEP not in self.groups or len(self.groups) < 2:
            raise ValueError(f"expected a group {KEEP!r} and another, got {', '.join(self.groups) or 'none'}")
        lengths = {len(prompt.embedding) for group in self.groups.values() for prompt in group}
        if self.aesthetic is not None:
            lengths.add(len(self.aesthetic.weight))
        if len(lengths) > 1:
            raise ValueError(f"expected embeddings of one length, got {sorted(lengths)}")
        return self


def read_prompts(path: Path) -> Prompts:
    """Read and check a prompt file. Raises UsageError when it is not there, ShardError when it is none."""
    if not path.is_file():
        raise UsageError(f"{path}: no such prompt file; tools/embed_prompts.py makes one")
    if path.stat().st_size > MOST_BYTES:
        raise ShardError(f"{path}: {path.stat().st_size:,} bytes; a prompt file has at most {MOST_BYTES:,}")
    try:
        return Prompts.model_validate(json.loads(path.read_bytes()))
    except (ValueError, RecursionError) as error:
        told = (
            explain(error, Prompts, str(path)) if isinstance(error, ValidationError) else f"{path}: {error}"
        )
        raise ShardError(f"not a prompt file\n{told}") from None


class ZeroShot:
    """The columns that the configuration asks for; network and prompts are read at first use."""

    def __init__(self, config: ZeroShotConfig) -> None:
        self.config, self.columns, self._network = config, tuple(config.columns), ImageNetwork(config)

    def measure(self, images: Sequence[RGB]) -> list[dict[str, float]]:
        """p(group), and the aesthetic score, of each image."""
        if not images:
            return []
        raw = self._network.run(images).astype(np.float64)
        if raw.shape[1] != self._texts[0].shape[1]:
            raise UsageError(
                f"{self._network.where}: embeddings of {raw.shape[1]} numbers; those in "
                f"{self.config.prompts} ({self._prompts.model}) have {self._texts[0].shape[1]}: they are of "
                "different models"
            )
        unit = raw / np.maximum(np.linalg.norm(raw, axis=1, keepdims=True), 1e-12)
        best = np.stack([(unit @ texts.T).max(axis=1) for texts in self._texts], axis=1)
        shares = softmax(best / self._prompts.temperature)
        scores = dict(zip(self._prompts.groups, shares.T, strict=True))
        found = {str(group): share for group, share in scores.items()}
        if (head := self._prompts.aesthetic) is not None:
            found[AESTHETIC] = unit @ np.array(head.weight) + head.bias
        return [
            finite({column: float(found[column][row]) for column in self.columns})
            for row in range(len(images))
        ]

    def identity(self) -> dict[str, str]:
        """Name, model, and sha256 of weights and prompts."""
        return {
            "name": "zero-shot",
            "model": self._prompts.model,
            "prompts": sha256_file(self.config.prompts),
            **self._network.identity(),
        }

    @cached_property
    def _prompts(self) -> Prompts:
        prompts = read_prompts(self.config.prompts)
        there = {*prompts.groups, *([AESTHETIC] if prompts.aesthetic else [])} - {KEEP}
        if missing := [column for column in self.columns if column not in there]:
            raise UsageError(
                f"{self.config.prompts}: columns {', '.join(missing)}: not in the prompt file, which has "
                f"{', '.join(sorted(there))}; say `columns`"
            )
        return prompts

    @cached_property
    def _texts(self) -> list[Float64[np.ndarray, "prompts values"]]:
        """Embeddings of length 1 by group, in the order of the file."""
        groups = [
            np.array([prompt.embedding for prompt in group], np.float64)
            for group in self._prompts.groups.values()
        ]
        return [texts / np.linalg.norm(texts, axis=1, keepdims=True) for texts in groups]

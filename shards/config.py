"""Configuration: frozen pydantic models read from YAML, with errors that name file, field, value and what is
allowed.
"""

from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from shards.errors import UsageError


class Config(BaseModel):
    """Base of every configuration: immutable; an unknown field is an error, not a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


ConfigT = TypeVar("ConfigT", bound=Config)


def load_config(path: Path, model: type[ConfigT], section: str | None = None) -> ConfigT:
    """Read `model` from the YAML file `path`, or from the dotted `section` of it (`"render.train"`).

    Raises UsageError, naming the file and every offending field, its value and what is allowed.
    """
    return parse_config(
        load_section(path, section), model, where=f"{path}:{section}" if section else str(path)
    )


def load_section(path: Path, section: str | None = None) -> Any:
    """The YAML file `path`, or the dotted `section` of it, as plain data. Raises UsageError."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such configuration file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid YAML: {error}") from None
    for name in section.split(".") if section else ():
        if not isinstance(content, dict) or name not in content:
            known = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
            raise UsageError(f"{path}: section {section!r} not found: no {name!r} among: {known}")
        content = content[name]
    return content


def parse_config(content: Any, model: type[ConfigT], where: str) -> ConfigT:
    """Validate plain data as `model`; `where` names its origin in the error."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise UsageError(explain(error, model, where)) from None


def explain(error: ValidationError, model: type[BaseModel], where: str) -> str:
    """One line per offending field: where, field, what is wrong (with what is allowed), the value found."""
    lines = []
    for problem in error.errors(include_url=False):
        field = ".".join(str(part) for part in problem["loc"]) or "(top level)"
        if problem["type"] == "extra_forbidden":
            known = ", ".join(_siblings(model, problem["loc"]))
            lines.append(f"{where}: {field}: unknown field; known here: {known}")
        elif problem["type"] == "missing":
            lines.append(f"{where}: {field}: required, but missing")
        else:
            lines.append(f"{where}: {field}: {problem['msg']}; got {problem['input']!r}")
    return "\n".join(lines)


def _siblings(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Fields that stand where the unknown one was found (none when the path leaves the models)."""
    current: Any = model
    for part in location[:-1]:
        if isinstance(part, str) and isinstance(current, type) and issubclass(current, BaseModel):
            field = current.model_fields.get(part)
            current = field.annotation if field else None
    return (
        sorted(current.model_fields) if isinstance(current, type) and issubclass(current, BaseModel) else []
    )

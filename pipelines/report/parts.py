"""What pages are made of, read part by part: one that is missing or damaged costs itself and is named."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2

from shards.errors import VitruvianError

T = TypeVar("T")


@dataclass(frozen=True)
class Missing:
    """A part of the page that is not shown, and why. `section`: id of the section it belongs to."""

    section: str
    what: str
    why: str


@dataclass(frozen=True)
class Picture:
    """An image (`uri`), or for what cannot be shown a note instead; `alt` says what one would see.

    `caption` names it, `detail` says what was measured.
    """

    uri: str | None
    alt: str
    caption: str = ""
    note: str = ""
    detail: str = ""


class Collector:
    """Reads parts one by one and notes those that cannot be read."""

    def __init__(self) -> None:
        self.missing: list[Missing] = []

    def one(self, section: str, what: str, read: Callable[..., T], *arguments: Any) -> T | None:
        """What `read(*arguments)` returns; None, and a note, when that fails or is empty."""
        try:
            found = read(*arguments)
        except FileNotFoundError as error:
            self.missing.append(Missing(section, what, f"{error.filename} is not there"))
            return None
        except (VitruvianError, OSError, ValueError, KeyError, cv2.error) as error:
            self.missing.append(Missing(section, what, str(error) or type(error).__name__))
            return None
        if not found:
            self.missing.append(Missing(section, what, "nothing there"))
        return found

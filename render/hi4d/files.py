"""Hi4D as it lies on disk: which frames there are, and where the files of each are."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from render.hi4d.read import FrameRejected, read_npz
from shards.errors import UsageError

PUBLISHED_PAIRS, PUBLISHED_CAMERAS = (28, 32, 37), (4,)
"""What the Sapiens paper evaluates on (its sections 4.4 and 4.5)."""

SUBJECTS = (0, 1)

_IMAGE = re.compile(r"(\d{6})\.jpg")
_ACTION = re.compile(r"[A-Za-z0-9_-]{1,80}")
_LISTED = re.compile(
    r"(?P<sequence>pair\d+/[A-Za-z0-9_-]+)(?:/(?:[^/\s]+/)*(?:mesh-f)?(?P<frame>\d{1,6})(?:\.\w+)?)?"
)
_MOST_FRAMES = 100_000

Listed = Mapping[str, frozenset[int] | None]
"""Sequence ("pair28/dance28") -> its frames, None: all."""


@dataclass(frozen=True)
class Frame:
    """One picture: frame `number` of a sequence ("pair28/dance28"), seen by `camera`, below `root`."""

    root: Path
    sequence: str
    camera: int
    number: int

    @property
    def folder(self) -> Path:
        return self.root / self.sequence

    @property
    def image(self) -> Path:
        return self.folder / "images" / str(self.camera) / f"{self.number:06d}.jpg"

    @property
    def scan(self) -> Path:
        return self.folder / "frames" / f"mesh-f{self.number:05d}.obj"

    @property
    def subjects(self) -> tuple[Path, ...]:
        """The mesh of each subject: scanned where the two are apart, fitted where they touch."""
        instances = self.folder / "seg" / "instance"
        return tuple(instances / str(who) / f"mesh-f{self.number:05d}.npz" for who in SUBJECTS)

    @property
    def mask(self) -> Path:
        """Hi4D's own mask of both subjects."""
        masks = self.folder / "seg" / "img_seg_mask" / str(self.camera)
        return masks / "all" / f"{self.number:06d}.png"

    def paths(self) -> tuple[Path, ...]:
        """Every file that labels may be made of."""
        return self.image, self.scan, *self.subjects, self.mask


def cameras_file(folder: Path) -> Path:
    """The calibration of a sequence."""
    return folder / "cameras" / "rgb_cameras.npz"


def list_frames(
    root: Path, pairs: Sequence[int], cameras: Sequence[int], listed: Listed | None = None
) -> list[Frame]:
    """The frames of `cameras` in the sequences of `pairs`, or in the `listed` ones: those with a picture and
    those that `meta.npz` counts, in order.

    Raises UsageError for what is not there, and for a link that leads out of `root`.
    """
    if not root.is_dir():
        raise UsageError(f"{root}: no such folder; expected Hi4D's, with pair00, pair01 ... in it")
    sequences = _sequences(root, pairs) if listed is None else list(listed)
    found: list[Frame] = []
    for sequence in sequences:
        chosen = None if listed is None else listed[sequence]
        for camera in cameras:
            numbers = _numbers(root, sequence, camera)
            if missing := sorted((chosen or frozenset()) - set(numbers)):
                raise UsageError(
                    f"{root / sequence}: no frame {missing[0]:06d} of camera {camera} ({len(missing)} such "
                    "frames); the list names it: extract the pair again, or correct the list"
                )
            kept = [number for number in numbers if chosen is None or number in chosen]
            found += [Frame(root, sequence, camera, number) for number in kept]
    _refuse_escapes(root, [path for frame in found for path in frame.paths()])
    return found


def read_list(path: Path) -> dict[str, frozenset[int] | None]:
    """A text file that names a sequence ("pair28/dance28") or one frame of it
    ("pair28/dance28/images/4/000012.jpg", "pair28/dance28/000012") on each line; anything may stand before.

    Raises UsageError, naming the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not readable as text: {error}") from None
    found: dict[str, set[int] | None] = {}
    for number, line in enumerate(map(str.strip, lines), start=1):
        if not line:
            continue
        match = _LISTED.search(line)
        if match is None or match.end() != len(line):
            raise UsageError(
                f"{path}:{number}: expected pairXX/ACTION or a frame of it such as "
                f"pair28/dance28/images/4/000012.jpg; got {line[:120]!r}"
            )
        frames = found.setdefault(match["sequence"], set())
        if match["frame"] is None:
            found[match["sequence"]] = None
        elif frames is not None:
            frames.add(int(match["frame"]))
    if not found:
        raise UsageError(f"{path}: names no frame; expected pairXX/ACTION on each line")
    return {name: None if found[name] is None else frozenset(found[name] or ()) for name in sorted(found)}


def pairs_of(listed: Listed) -> tuple[int, ...]:
    """The numbers of the pairs that are listed."""
    return tuple(sorted({int(sequence.split("/")[0].removeprefix("pair")) for sequence in listed}))


def _sequences(root: Path, pairs: Collection[int]) -> list[str]:
    return [sequence for pair in sorted(set(pairs)) for sequence in _actions(root, f"pair{pair:02d}")]


def _actions(root: Path, pair: str) -> Iterator[str]:
    folder = root / pair
    if not folder.is_dir():
        near = sorted(path.name for path in root.glob("pair*"))[:30]
        raise UsageError(f"{folder}: no such folder; {root} has {', '.join(near) or 'no pair at all'}")
    if (folder / pair).is_dir():
        raise UsageError(f"{folder / pair}: one level too deep; move what is in it up into {folder}")
    actions = sorted(path.name for path in folder.iterdir() if (path / "images").is_dir())
    if not actions:
        raise UsageError(f"{folder}: no sequence in it; expected folders with images/, cameras/, frames/ ...")
    for action in actions:
        if not _ACTION.fullmatch(action):
            raise UsageError(f"{folder / action!s}: expected a name of letters, digits, '-' and '_'")
        yield f"{pair}/{action}"


def _numbers(root: Path, sequence: str, camera: int) -> list[int]:
    """The frames of a camera: those with a picture, and those between the first and last of meta.npz."""
    folder = root / sequence / "images" / str(camera)
    if not folder.is_dir():
        there = sorted(path.name for path in folder.parent.glob("[0-9]*"))
        raise UsageError(
            f"{folder}: no such folder; camera {camera} is not among {', '.join(there) or 'none'}"
        )
    pictures = {int(match[1]) for path in folder.iterdir() if (match := _IMAGE.fullmatch(path.name))}
    if not pictures:
        raise UsageError(f"{folder}: no picture in it; expected 000001.jpg and so on")
    return sorted(pictures | set(_counted(root, sequence)))


def _counted(root: Path, sequence: str) -> range:
    """The frames from `start` to `end` of meta.npz; none where there is no such file."""
    path = root / sequence / "meta.npz"
    if not path.exists():
        return range(0)
    _refuse_escapes(root, [path])
    try:
        ends = [int(np.ravel(value)[0]) for value in read_npz(path, ("start", "end"), "meta").values()]
    except (FrameRejected, IndexError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: expected whole numbers start and end: {error}") from None
    first, last = ends
    if not 0 <= first <= last <= _MOST_FRAMES:
        raise UsageError(f"{path}: expected 0 <= start <= end <= {_MOST_FRAMES}; got {first} and {last}")
    return range(first, last + 1)


def _refuse_escapes(root: Path, paths: Sequence[Path]) -> None:
    """A link may lead anywhere; what is read must lie in the folder that was named."""
    home = root.resolve()
    for path in paths:
        if not path.resolve().is_relative_to(home):
            raise UsageError(f"{path}: leads out of {home}, to {path.resolve()}; expected a file inside")

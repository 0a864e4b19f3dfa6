"""MakeHuman's text files as plain arrays: .mhclo (how a mesh is fitted), .obj (the mesh), .mhmat (its look).

They come from strangers: sizes are bounded, indices and numbers checked, and an error names file and line.
Their frame is decimetres, x to the person's left, y up, z forward; ours is metres, z up, facing -y.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float64, Int32

from shards.errors import VitruvianError

BASE_VERTICES = 19158
MAX_BYTES = 64 << 20
MAX_ELEMENTS = 1_000_000
MAX_CORNERS = 64  # of one polygon
_SCALES = {"x_scale": 0, "y_scale": 1, "z_scale": 2}


@dataclass(frozen=True)
class Scale:
    """Offsets along one MakeHuman axis grow with the distance between two base vertices along that axis.

    length: that distance when the asset was made, decimetres.
    """

    first: int
    second: int
    length: float


@dataclass(frozen=True)
class Clothes:
    """A .mhclo: vertex i lies at `weights[i] @ base[corners[i]] + offsets[i] * scale`, MakeHuman frame."""

    name: str
    tags: tuple[str, ...]
    obj_file: str
    material: str | None
    z_depth: int
    scales: tuple[Scale | None, Scale | None, Scale | None]
    corners: Int32[np.ndarray, "v 3"]
    weights: Float64[np.ndarray, "v 3"]
    offsets: Float64[np.ndarray, "v 3"]
    deleted: Bool[np.ndarray, " base"]


@dataclass(frozen=True)
class Mesh:
    """The triangles of a .obj. vertices: MakeHuman frame. texture: uv of the texture vertices that
    `texture_faces` index; one at 0, 0 where the file has none.
    """

    vertices: Float64[np.ndarray, "v 3"]
    faces: Int32[np.ndarray, "f 3"]
    texture: Float64[np.ndarray, "t 2"]
    texture_faces: Int32[np.ndarray, "f 3"]


@dataclass(frozen=True)
class Look:
    """What a .mhmat says that we can draw. Textures as written in the file, or None."""

    diffuse: str | None
    normal: str | None
    colour: tuple[float, float, float]  # display-referred 0..1
    roughness: float


def to_frame(values: Float64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
    """MakeHuman's axes (x, y up, z forward) in ours (x, -z, y); lengths are left as they are."""
    return np.stack([values[:, 0], -values[:, 2], values[:, 1]], axis=1)


def parse_clothes(path: Path) -> Clothes:
    """Reads a .mhclo. Raises VitruvianError naming file and line."""
    words: dict[str, str] = {}
    tags: list[str] = []
    rows: list[tuple[float, ...]] = []
    deleted = np.zeros(BASE_VERTICES, dtype=bool)
    scales: list[Scale | None] = [None, None, None]
    section = ""
    for line in _lines(path):
        key = line.words[0]
        if line.numeric and section == "verts":
            rows.append(_reference(line))
        elif line.numeric and section == "delete_verts":
            _delete(line, deleted)
        elif key in _SCALES:
            scales[_SCALES[key]] = _scale(line)
        elif key == "tag":
            tags.append(" ".join(line.words[1:]))
        elif key in ("verts", "delete_verts"):
            section = key
        else:
            words[key] = " ".join(line.words[1:])
    if not rows or "obj_file" not in words:
        raise VitruvianError(
            f"{path}: expected `obj_file` and a `verts` section; got {sorted(words)} and {len(rows)} "
            "vertices: copy the asset again"
        )
    table = np.array([r if len(r) == 9 else (r[0], 0, 1, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0) for r in rows])
    return Clothes(
        name=words.get("name", path.stem),
        tags=tuple(tags),
        obj_file=words["obj_file"],
        material=words.get("material"),
        z_depth=_integer(words.get("z_depth", "50"), path),
        scales=(scales[0], scales[1], scales[2]),
        corners=table[:, :3].astype(np.int32),
        weights=table[:, 3:6],
        offsets=table[:, 6:],
        deleted=deleted,
    )


def parse_tags(path: Path) -> tuple[str, ...]:
    """The tags of a .mhclo, in lower case."""
    return tuple(" ".join(line.words[1:]).lower() for line in _lines(path) if line.words[0] == "tag")


def parse_mesh(path: Path) -> Mesh:
    """Reads the v, vt and f lines of a .obj; polygons become fans of triangles."""
    points: list[tuple[float, ...]] = []
    texture: list[tuple[float, ...]] = []
    corners: list[tuple[int, int]] = []
    for line in _lines(path):
        if line.words[0] == "v":
            points.append(line.floats(1, 3))
        elif line.words[0] == "vt":
            texture.append(line.floats(1, 2))
        elif line.words[0] == "f":
            corners += _fan([_corner(line, w, len(points), len(texture)) for w in line.words[1:]], line)
        if max(len(points), len(texture), len(corners) // 3) > MAX_ELEMENTS:
            raise line.error(f"at most {MAX_ELEMENTS} vertices and triangles", "more")
    if not points or not corners:
        raise VitruvianError(
            f"{path}: expected vertices and faces; got {len(points)} and {len(corners) // 3}: copy it again"
        )
    index = np.array(corners, dtype=np.int32).reshape(-1, 3, 2)
    faces = index[..., 0]
    good = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])
    return Mesh(
        np.array(points), faces[good].copy(), np.array(texture or [(0.0, 0.0)]), index[good, :, 1].copy()
    )


def parse_look(path: Path) -> Look:
    """Reads a .mhmat. Paths in it are relative to its folder and are checked where they are opened."""
    words: dict[str, list[str]] = {}
    colour, shininess = (1.0, 1.0, 1.0), 0.2
    for line in _lines(path):
        words[line.words[0]] = line.words[1:]
        if line.words[0] == "diffuseColor":
            red, green, blue = line.floats(1, 3)
            colour = (red, green, blue)
        elif line.words[0] == "shininess":
            (shininess,) = line.floats(1, 1)
    return Look(
        diffuse=_named(words, "diffuseTexture"),
        normal=_named(words, "normalmapTexture"),
        colour=colour,
        roughness=min(1.0, max(0.2, 1.0 - shininess)),
    )


def _named(words: Mapping[str, list[str]], key: str) -> str | None:
    return " ".join(words[key]) if words.get(key) else None


@dataclass(frozen=True)
class _Line:
    """A line of a file, for errors that say where."""

    path: Path
    number: int
    words: list[str]

    @property
    def numeric(self) -> bool:
        return self.words[0].lstrip("-").isdigit()

    def error(self, expected: str, got: str) -> VitruvianError:
        return VitruvianError(
            f"{self.path}, line {self.number}: expected {expected}; got {got[:80]!r}: copy the asset again"
        )

    def floats(self, start: int, count: int) -> tuple[float, ...]:
        """`count` finite numbers from word `start` on."""
        try:
            values = tuple(float(w) for w in self.words[start : start + count])
        except ValueError:
            values = ()
        if len(values) != count or not all(abs(v) < 1e6 for v in values):
            raise self.error(f"{count} numbers below 1e6", " ".join(self.words))
        return values

    def base_index(self, word: str) -> int:
        """The index of a vertex of the base mesh."""
        if not word.isdigit() or len(word) > 9 or int(word) >= BASE_VERTICES:
            raise self.error(f"a base mesh vertex, 0 to {BASE_VERTICES - 1}", word)
        return int(word)


def _lines(path: Path) -> Iterator[_Line]:
    """The lines that are neither empty nor comments."""
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise VitruvianError(
                f"{path}: expected at most {MAX_BYTES} bytes; got {size}: it is no asset text"
            )
        text = path.read_bytes().decode("utf-8", errors="replace")
    except OSError as error:
        raise VitruvianError(
            f"{path}: expected a readable file; got {error.strerror}: copy it again"
        ) from None
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if words and not words[0].startswith(("#", "//")):
            yield _Line(path, number, words)


def _reference(line: _Line) -> tuple[float, ...]:
    """One vertex of a `verts` section: one index, or three indices, three weights, three offsets."""
    if len(line.words) == 1:
        return (float(line.base_index(line.words[0])),)
    if len(line.words) != 9:
        raise line.error("1 index, or 3 indices, 3 weights and 3 offsets", " ".join(line.words))
    return (*(float(line.base_index(w)) for w in line.words[:3]), *line.floats(3, 6))


def _delete(line: _Line, deleted: Bool[np.ndarray, " base"]) -> None:
    """Marks a line of `delete_verts`: single indices and ranges `a - b`."""
    words = list(line.words)
    while words:
        first = last = line.base_index(words.pop(0))
        if words and words[0] == "-":
            if len(words) < 2:
                raise line.error("a range `first - last`", " ".join(line.words))
            last = line.base_index(words[1])
            words = words[2:]
        deleted[first : last + 1] = True


def _scale(line: _Line) -> Scale:
    if len(line.words) < 4:
        raise line.error("two vertices and a length", " ".join(line.words))
    (length,) = line.floats(3, 1)
    if length <= 0:
        raise line.error("a length above 0", line.words[3])
    return Scale(line.base_index(line.words[1]), line.base_index(line.words[2]), length)


def _integer(word: str, path: Path) -> int:
    try:
        return int(float(word))
    except (ValueError, OverflowError):
        raise VitruvianError(f"{path}: z_depth: expected a number; got {word[:80]!r}") from None


def _corner(line: _Line, word: str, points: int, texture: int) -> tuple[int, int]:
    """(vertex, texture vertex) of `v`, `v/vt` or `v/vt/vn`, counted from 0."""
    parts = word.split("/")
    try:
        vertex, uv = int(parts[0]), int(parts[1]) if len(parts) > 1 and parts[1] else 1
    except ValueError:
        raise line.error("corners v/vt", word) from None
    vertex, uv = (i - 1 if i > 0 else i + n for i, n in ((vertex, points), (uv, max(texture, 1))))
    if not (0 <= vertex < points and 0 <= uv < max(texture, 1)):
        raise line.error(f"corners within {points} vertices and {texture} texture vertices", word)
    return vertex, uv


def _fan(corners: list[tuple[int, int]], line: _Line) -> list[tuple[int, int]]:
    if not 3 <= len(corners) <= MAX_CORNERS:
        raise line.error(f"3 to {MAX_CORNERS} corners", f"{len(corners)} corners")
    return [c for i in range(1, len(corners) - 1) for c in (corners[0], corners[i], corners[i + 1])]

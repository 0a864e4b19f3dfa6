"""Poses from BVH files: a bounded reader of the text format, and retargeting to the rig by bone name.

Two families of names are understood: MakeHuman's default rig (`upperarm01.L`; the same rest pose as ours, so
rotations carry over as they are) and CMU's (`LeftArm`; also Mixamo's, behind a prefix such as `mixamorig:`),
whose limbs point elsewhere at rest and are aligned bone by bone. Only rotations are read: bone lengths are
the person's own. The face's bones are left out: a person's facial actions move the face.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from render.people.body import BodyModel, body_model, product, rotation
from render.people.limits import Matrix, Pose, Vector, align, rounded_vector, swing_twist
from render.people.parts import bone_group
from shards.errors import UsageError

MOST_BYTES, MOST_JOINTS, MOST_DEPTH, MOST_FRAMES = 256 << 20, 1000, 100, 1_000_000
_AXES = {"X": 0, "Y": 1, "Z": 2}
_Y_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, -1.0], [0.0, 1.0, 0.0]])
"""From y up, facing +z, to z up, facing -y."""

CMU: dict[str, tuple[str, str | None]] = {
    "Hips": ("root", None),
    "LowerBack": ("spine04", None),
    "Spine": ("spine03", None),
    "Spine1": ("spine02", None),
    "Spine2": ("spine01", None),
    "Neck": ("neck01", None),
    "Neck1": ("neck03", None),
    "Head": ("head", None),
    **{
        f"{word}{part}": (f"{ours}.{word[0]}", f"{end}.{word[0]}" if end else None)
        for word in ("Left", "Right")
        for part, ours, end in (
            ("Shoulder", "clavicle", None),
            ("Arm", "upperarm01", "lowerarm01"),
            ("ForeArm", "lowerarm01", "wrist"),
            ("Hand", "wrist", "finger3-1"),
            ("UpLeg", "upperleg01", "lowerleg01"),
            ("Leg", "lowerleg01", "foot"),
            ("Foot", "foot", "toe2-1"),
        )
    },
}
"""CMU bone -> (our joint, our joint at the bone's far end where the rest directions are to be aligned)."""


@dataclass(frozen=True)
class Bone:
    """A joint of a BVH file. offset: from its parent, in the file's units and axes."""

    name: str
    parent: int
    offset: Vector
    channels: tuple[str, ...]


@dataclass(frozen=True)
class Motion:
    """A BVH file with one of its frames: rotations of every bone, in the file's axes, relative to its
    parent.
    """

    bones: tuple[Bone, ...]
    rotations: Float64[np.ndarray, "b 3 3"]
    frames: int


def list_poses(folder: Path) -> tuple[str, ...]:
    """Names (without suffix) of the BVH files in a folder, sorted."""
    if not folder.is_dir():
        raise UsageError(f"poses: {folder} is not a folder; give one with .bvh files")
    return tuple(sorted(path.stem for path in folder.iterdir() if path.suffix.lower() == ".bvh"))


def read_pose(path: Path, frame: int = 0) -> Pose:
    """Joint rotations (degrees, rest axes) of one frame of a BVH file, heading taken out.

    Raises UsageError, naming file and line, where the file is not BVH or its bones are of no known rig.
    """
    return retarget(read_motion(path, frame), body_model(), str(path))


def read_motion(path: Path, frame: int = 0) -> Motion:
    """The skeleton of a BVH file and frame number `frame`."""
    size = path.stat().st_size if path.is_file() else None
    if size is None or size > MOST_BYTES:
        found = "no such file" if size is None else f"{size} bytes"
        raise UsageError(f"{path}: expected a BVH file of at most {MOST_BYTES} bytes, got {found}")
    with path.open(encoding="utf-8", errors="replace") as text:
        lines = _Lines(str(path), enumerate(text, start=1))
        bones = _read_hierarchy(lines)
        return _read_frame(lines, bones, frame)


class _Lines:
    """The words of a file's lines that are not empty, and errors that say where."""

    def __init__(self, name: str, lines: Iterator[tuple[int, str]]) -> None:
        self.name, self.lines, self.number = name, lines, 0

    def words(self, expected: str) -> list[str]:
        for number, line in self.lines:
            self.number = number
            if words := line.split():
                return words
        raise self.error(expected, "the end of the file")

    def error(self, expected: str, got: object) -> UsageError:
        shown = repr(got)[:80]
        return UsageError(f"{self.name}:{self.number}: expected {expected}, got {shown}; is this a BVH file?")

    def floats(self, words: list[str], expected: str) -> Float64[np.ndarray, " n"]:
        try:
            values = np.array([float(word) for word in words], dtype=np.float64)
        except ValueError:
            raise self.error(expected, " ".join(words)) from None
        if not np.isfinite(values).all() or np.abs(values).max(initial=0.0) > 1e6:
            raise self.error(f"{expected}, finite and below 1e6", " ".join(words))
        return values


def _read_hierarchy(lines: _Lines) -> tuple[Bone, ...]:
    if lines.words("HIERARCHY") != ["HIERARCHY"]:
        raise lines.error("HIERARCHY", "another word")
    words = lines.words("ROOT name")
    if words[0] != "ROOT" or len(words) < 2:
        raise lines.error("ROOT name", " ".join(words))
    bones = [_read_bone(lines, " ".join(words[1:]), -1)]
    open_bones = [0]  # the joints whose brace is open
    while open_bones:
        words = lines.words("JOINT, End Site or }")
        if words[0] == "}":
            open_bones.pop()
        elif words[:2] == ["End", "Site"]:
            _read_end(lines)
        elif words[0] == "JOINT" and len(words) > 1:
            if len(bones) >= MOST_JOINTS or len(open_bones) >= MOST_DEPTH:
                raise lines.error(f"at most {MOST_JOINTS} joints, {MOST_DEPTH} deep", " ".join(words))
            bones.append(_read_bone(lines, " ".join(words[1:]), open_bones[-1]))
            open_bones.append(len(bones) - 1)
        else:
            raise lines.error("JOINT, End Site or }", " ".join(words))
    return tuple(bones)


def _read_offset(lines: _Lines) -> Vector:
    if lines.words("{") != ["{"]:
        raise lines.error("{", "another word")
    words = lines.words("OFFSET x y z")
    if words[0] != "OFFSET" or len(words) != 4:
        raise lines.error("OFFSET x y z", " ".join(words))
    return lines.floats(words[1:], "three numbers")


def _read_end(lines: _Lines) -> None:
    _read_offset(lines)
    if lines.words("}") != ["}"]:
        raise lines.error("}", "another word")


def _read_bone(lines: _Lines, name: str, parent: int) -> Bone:
    offset = _read_offset(lines)
    words = lines.words("CHANNELS")
    kinds = {f"{axis}{what}" for axis in _AXES for what in ("position", "rotation")}
    good = words[0] == "CHANNELS" and len(words) > 1 and words[1] == str(len(words) - 2)
    if not good or len(words) > 8 or not set(words[2:]) <= kinds:
        raise lines.error("CHANNELS count and names such as Xrotation", " ".join(words))
    return Bone(name, parent, offset, tuple(words[2:]))


def _read_frame(lines: _Lines, bones: tuple[Bone, ...], frame: int) -> Motion:
    if lines.words("MOTION") != ["MOTION"]:
        raise lines.error("MOTION", "another word")
    words = lines.words("Frames: count")
    if words[0] != "Frames:" or len(words) != 2 or not words[1].isdecimal() or len(words[1]) > 7:
        raise lines.error("Frames: count", " ".join(words))
    frames = int(words[1])
    if not 0 <= frame < min(frames, MOST_FRAMES):
        raise lines.error(f"more than {frame} frames (at most {MOST_FRAMES})", frames)
    if lines.words("Frame Time: seconds")[:2] != ["Frame", "Time:"]:
        raise lines.error("Frame Time: seconds", "another word")
    for _ in range(frame):
        lines.words("a frame")
    words = lines.words("a frame")
    count = sum(len(bone.channels) for bone in bones)
    if len(words) != count:
        raise lines.error(f"{count} numbers in a frame", f"{len(words)} words")
    values = lines.floats(words, f"{count} numbers")
    turns, at = [], 0
    for bone in bones:
        turn = np.eye(3)
        for channel, value in zip(bone.channels, values[at : at + len(bone.channels)], strict=True):
            if channel.endswith("rotation"):
                turn = product(turn, rotation(np.eye(3)[_AXES[channel[0]]] * float(value)))
        turns.append(turn)
        at += len(bone.channels)
    return Motion(bones, np.stack(turns), frames)


def retarget(motion: Motion, model: BodyModel, where: str = "motion") -> Pose:
    """The pose of our rig that `motion` shows. UsageError: bones of neither rig."""
    names = [bone.name.rpartition(":")[2] for bone in motion.bones]
    upright = _upright(motion)
    turns = {n: product(product(upright, r), upright.T) for n, r in zip(names, motion.rotations, strict=True)}
    if {"upperarm01.L", "upperleg01.L", "root"} <= set(names):
        ours = {n: turns[n] for n in names if n in model.bones and _moves_body(n)}
    elif {"LeftArm", "LeftUpLeg", "Hips"} <= set(names):
        ours = _from_cmu(motion, names, turns, upright, model)
    else:
        raise UsageError(
            f"{where}: expected the bones of MakeHuman's default rig (upperarm01.L, ...) or CMU's (LeftArm, "
            f"...), got {', '.join(names[:6])}, ...; rename the bones or leave the file out"
        )
    ours["root"] = _without_heading(ours.get("root", np.eye(3)))
    pose = {name: rounded_vector(turn) for name, turn in sorted(ours.items())}
    return {name: value for name, value in pose.items() if max(map(abs, value)) >= 0.01}


def _moves_body(bone: str) -> bool:
    return bone_group(bone) != "Face_Neck" or bone.startswith(("neck", "head"))


def _upright(motion: Motion) -> Matrix:
    """From the file's axes to ours: as they are when its bones rise along z, else y is up."""
    places: list[Vector] = []
    for bone in motion.bones:
        places.append(bone.offset + (places[bone.parent] if bone.parent >= 0 else 0.0))
    extent = np.ptp(np.stack(places), axis=0)
    return np.eye(3) if extent[2] > extent[1] else _Y_UP


def _from_cmu(
    motion: Motion, names: list[str], turns: Mapping[str, Matrix], upright: Matrix, model: BodyModel
) -> dict[str, Matrix]:
    """World rotations of the file's bones, each after the turn that aligns our rest bone with the file's,
    relative to those of our parents.
    """
    world: dict[str, Matrix] = {}
    goals: dict[str, Matrix] = {}
    for name, bone in zip(names, motion.bones, strict=True):
        above = world[names[bone.parent]] if bone.parent >= 0 else np.eye(3)
        world[name] = product(above, turns[name])
        if name in CMU:
            ours, end = CMU[name]
            goals[ours] = product(world[name], _alignment(motion, names, name, ours, end, upright, model))
    local: dict[str, Matrix] = {}
    reached: list[Matrix] = []
    for name, parent in zip(model.bones, model.parents, strict=True):
        above = reached[parent] if parent >= 0 else np.eye(3)
        reached.append(goals.get(name, above))
        if name in goals:
            local[name] = product(above.T, goals[name])
    return local


def _alignment(
    motion: Motion, names: list[str], name: str, ours: str, end: str | None, upright: Matrix, model: BodyModel
) -> Matrix:
    """The turn from our bone's rest direction to that of bone `name`."""
    children = [bone for bone in motion.bones if bone.parent == names.index(name)]
    if end is None or not children:
        return np.eye(3)
    theirs = (upright * max(children, key=lambda b: float((b.offset**2).sum())).offset).sum(1)
    if float((theirs**2).sum()) < 1e-9:
        return np.eye(3)
    return align(model.heads[model.bones.index(end)] - model.heads[model.bones.index(ours)], theirs)


def _without_heading(turn: Matrix) -> Matrix:
    """`turn` without its part about the vertical, so that the person faces -y as far as the pose allows."""
    heading = swing_twist(turn, np.array([0.0, 0.0, 1.0]))[1]
    return product(rotation(np.array([0.0, 0.0, -heading])), turn)

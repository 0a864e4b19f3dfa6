"""Tensors out of torch's zip archives (`.pth` of torch.save, `_torchscript.pt2`); nothing of the file is run.

A pickle names functions and classes to call. Here only those that put tensors together are; whatever else an
archive names (mmengine's history buffers, numpy scalars, TorchScript's modules) becomes an object that takes
any arguments and does nothing. torch's own restricted loader refuses TorchScript, so it has a reader here.
"""

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from shards.errors import VitruvianError

STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}


class Ignored:
    """Stands for an object that is not read: takes any arguments, and any state, which it only keeps."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


def read_archive(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """(tensors, meta) of a `.pth` or TorchScript file, `{"state_dict": ..., "meta": ...}` unwrapped.

    The tensors of a `.pth` are mapped from the file, those of TorchScript are read into memory. Raises
    VitruvianError for a file that is neither, or that cannot be read so.
    """
    records = _records(path)
    if any(name.endswith("/constants.pkl") for name in records):
        return read_torchscript(path), {}
    if any("serialized_" in name or name.endswith("archive_format") for name in records):
        raise VitruvianError(
            f"{path}: a torch.export archive, which only the PyTorch that wrote it reads (2.3 for the "
            "official `_bfloat16.pt2`); take the `.pth` or the `_torchscript.pt2` of the same model"
        )
    try:
        unread: list[Any] = [(Ignored, name) for name in get_unsafe_globals_in_checkpoint(str(path))]
        with safe_globals(unread):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        raise VitruvianError(_refusal(path, error)) from None
    return _unwrap(path, content)


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Name -> tensor of every parameter and buffer of a TorchScript file; its code is not looked at."""
    with zipfile.ZipFile(path) as archive:
        root = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix(
            "data.pkl"
        )
        try:
            module = _ScriptReader(archive, root).load()
        except (pickle.UnpicklingError, KeyError, TypeError, ValueError, EOFError) as error:
            raise VitruvianError(
                f"{path}: TorchScript that cannot be read as plain tensors: {error}"
            ) from None
    tensors = dict(_named_tensors(module, ""))
    if not tensors:
        raise VitruvianError(
            f"{path}: TorchScript without named parameters (frozen: its weights are constants of its code); "
            "take the `.pth` of the same model"
        )
    return tensors


class _ScriptReader(pickle.Unpickler):
    """Rebuilds the tree of modules of `data.pkl` from inert parts."""

    def __init__(self, archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(BytesIO(archive.read(f"{root}data.pkl")))
        self.archive, self.root = archive, root

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Rebuilt
        return STORAGES.get(name, Ignored) if module == "torch" else Ignored

    def persistent_load(self, pid: Any) -> Tensor:
        """The flat tensor of a storage: ("storage", dtype, record, device, elements)."""
        _, dtype, record, _, elements = pid
        data = bytearray(self.archive.read(f"{self.root}data/{record}"))
        return (
            torch.frombuffer(data, dtype=dtype, count=elements) if elements else torch.empty(0, dtype=dtype)
        )


class _Rebuilt:
    """A tensor as the archive describes it: storage, offset, size, stride."""

    def __init__(self, storage: Tensor, offset: int, size: tuple[int, ...], stride: Any, *_: Any) -> None:
        self.tensor = storage.as_strided(size, stride, offset)


def _named_tensors(module: Any, prefix: str) -> Iterator[tuple[str, Tensor]]:
    state = module.state if isinstance(module, Ignored) else None
    for name, value in state.items() if isinstance(state, dict) else ():
        if isinstance(value, _Rebuilt):
            yield f"{prefix}{name}", value.tensor
        else:
            yield from _named_tensors(value, f"{prefix}{name}.")


def _records(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except FileNotFoundError:
        raise VitruvianError(f"{path}: no such file") from None
    except (zipfile.BadZipFile, OSError) as error:
        raise VitruvianError(
            f"{path}: neither a whole zip archive, as torch.save writes since PyTorch 1.6, nor .safetensors: "
            f"{error}"
        ) from None


def _unwrap(path: Path, content: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    meta: Any = {}
    if isinstance(content, Mapping) and "state_dict" in content:
        content, meta = content["state_dict"], content.get("meta")
    if not isinstance(content, Mapping) or not content:
        raise VitruvianError(f"{path}: expected a dictionary of tensors; got {type(content).__name__}")
    foreign = [
        f"{name} ({type(value).__name__})" for name, value in content.items() if type(value) is not Tensor
    ]
    if foreign:
        raise VitruvianError(f"{path}: expected tensors only; got also {', '.join(foreign[:10])}")
    return dict(content), dict(meta) if isinstance(meta, Mapping) else {}


def _refusal(path: Path, error: Exception) -> str:
    advice = ("Weights only load failed", "Please file an issue", "Check the documentation")
    reason = " ".join(line for line in str(error).splitlines() if line and not line.startswith(advice))
    return (
        f"{path}: cannot be read without running what it holds: {reason or type(error).__name__}\n"
        "  If you trust it, take the tensors out where it was made:\n"
        "  python -c \"import torch; c = torch.load('IN.pth', map_location='cpu', weights_only=False); "
        "torch.save({'state_dict': c['state_dict']}, 'OUT.pth')\""
    )

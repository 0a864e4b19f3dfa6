"""torch archives as tensors: whole training checkpoints, TorchScript, what is refused; nothing is run."""

import os
import pickle
import sys
import tempfile
import types
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from shards.errors import VitruvianError
from train.engine.archive import read_archive


def assert_same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@dataclass(frozen=True)
class Call:
    """Its pickle calls `function` when plain pickle reads it."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]

    def __reduce__(self) -> Any:
        return self.function, self.arguments


def test_objects_of_a_training_run_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mmengine's whole checkpoints hold history buffers, numpy values and methods beside the weights."""
    module = types.ModuleType("mmengine_like")

    class HistoryBuffer:
        def __init__(self) -> None:
            self.history = np.arange(3.0)
            self.count = np.int64(3)
            self.statistics = {"mean": HistoryBuffer.mean}

        def mean(self) -> float:
            return float(self.history.mean())

    HistoryBuffer.__module__, HistoryBuffer.__qualname__ = module.__name__, "HistoryBuffer"
    HistoryBuffer.mean.__module__, HistoryBuffer.mean.__qualname__ = module.__name__, "HistoryBuffer.mean"
    module.HistoryBuffer = HistoryBuffer  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    tensors = {"a": torch.arange(3.0), "b": torch.ones(2, 2)}
    content = {"state_dict": tensors, "meta": {"time": "now"}, "message_hub": {"loss": HistoryBuffer()}}
    content["call"] = Call(tempfile.mkdtemp, ("", "called", str(tmp_path)))
    torch.save(content, tmp_path / "whole.pth")
    monkeypatch.delitem(sys.modules, module.__name__)
    found, meta = read_archive(tmp_path / "whole.pth")
    assert_same(found, tensors)
    assert meta == {"time": "now"}
    assert not list(tmp_path.glob("called*"))


def test_what_would_run_code_is_refused_with_the_way_out(tmp_path: Path) -> None:
    torch.save(
        {"state_dict": {"a": torch.zeros(1)}, "hook": Call(os.system, ("true",))}, tmp_path / "bad.pth"
    )
    with pytest.raises(VitruvianError, match=r"(?s)without running what it holds: .*posix.*If you trust it"):
        read_archive(tmp_path / "bad.pth")


def test_files_of_another_kind_are_named(tmp_path: Path) -> None:
    (tmp_path / "legacy.pth").write_bytes(pickle.dumps({"a": 1}))
    with pytest.raises(VitruvianError, match="neither a whole zip archive"):
        read_archive(tmp_path / "legacy.pth")
    with pytest.raises(VitruvianError, match="no such file"):
        read_archive(tmp_path / "none.pth")
    torch.save({"a": torch.zeros(100)}, tmp_path / "cut.pth")
    whole = (tmp_path / "cut.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VitruvianError, match="neither a whole zip archive"):
        read_archive(tmp_path / "cut.pth")
    torch.save({"a": torch.zeros(1), "b": 3, "c": "x"}, tmp_path / "mixed.pth")
    with pytest.raises(VitruvianError, match=r"expected tensors only; got also b \(int\), c \(str\)"):
        read_archive(tmp_path / "mixed.pth")
    torch.save([torch.zeros(1)], tmp_path / "list.pth")
    with pytest.raises(VitruvianError, match="a dictionary of tensors; got list"):
        read_archive(tmp_path / "list.pth")


class Tree(nn.Module):
    """Parameters under given dotted names, as a traced official model has them."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        super().__init__()
        for name, value in tensors.items():
            place: nn.Module = self
            *path, leaf = name.split(".")
            for part in path:
                if part not in place._modules:
                    place.add_module(part, Plain())
                place = place.get_submodule(part)
            place.register_parameter(leaf, nn.Parameter(value))

    def forward(self, x: Tensor) -> Tensor:
        return x + sum(p.sum() for p in self.parameters())


class Plain(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


def traced(tensors: Mapping[str, Tensor], path: Path, *, freeze: bool = False) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is deprecated, its files are not
        script = torch.jit.trace(Tree(tensors).eval(), torch.zeros(1))  # type: ignore[no-untyped-call]
        (torch.jit.freeze(script) if freeze else script).save(path)


def test_torchscript_is_read_as_tensors_only(tmp_path: Path) -> None:
    shapes = {
        "backbone.layers.0.ln1.weight": (8,),
        "backbone.pos_embed": (1, 3, 8),
        "head.0.weight": (2, 8, 4, 4),
    }
    tensors = {name: torch.randn(shape) for name, shape in shapes.items()}
    traced(tensors, tmp_path / "d_torchscript.pt2")
    found, _ = read_archive(tmp_path / "d_torchscript.pt2")
    assert_same(found, tensors)
    traced(tensors, tmp_path / "frozen.pt2", freeze=True)
    with pytest.raises(VitruvianError, match="without named parameters"):
        read_archive(tmp_path / "frozen.pt2")


def test_torch_export_is_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(nn.Linear(2, 2), (torch.zeros(1, 2),))
        torch.export.save(program, tmp_path / "e_bfloat16.pt2")
    with pytest.raises(VitruvianError, match=r"a torch\.export archive"):
        read_archive(tmp_path / "e_bfloat16.pt2")

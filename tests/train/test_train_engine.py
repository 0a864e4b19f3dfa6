"""Optimizer groups, schedule, loop, guard, checkpoints, logs, run folders: on one rank, with a model small
enough to see.
"""

import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from shards.errors import UsageError, VitruvianError
from train.data.dataset import Batch
from train.engine.checkpoint import (
    load_encoder,
    load_weights,
    read_weights,
    save_encoder,
    save_weights,
)
from train.engine.distributed import World
from train.engine.loop import LoopConfig, fit
from train.engine.optim import (
    OptimConfig,
    adamw,
    layer_of,
    learning_rate,
    parameter_groups,
    set_learning_rate,
)
from train.engine.resume import Checkpoints
from train.engine.run import open_run
from train.engine.telemetry import Log, Meter, Pace, Progress, TensorBoard, peak_flops, read_log
from train.models.initial import assign, initialise
from train.models.mae import MAE, MAEConfig
from train.models.vit import ViT, ViTConfig

WORLD = World(0, 1, torch.device("cpu"))
OPTIM = OptimConfig(learning_rate=0.05, warmup_steps=2)
VIT = ViTConfig(width=32, depth=2, heads=4, image_size=(64, 48))


class Line:
    """A source of y = 2 x + 1, with the position as key; `poison` is a position whose x is not a number."""

    def __init__(self, batch: int = 4, accumulate: int = 1, poison: int = -1) -> None:
        self.batch, self.accumulate, self.poison = batch, accumulate, poison

    def batches(self, start: int, stop: int, *, rank: int, world: int) -> Iterator[Batch]:
        share = self.batch // self.accumulate
        for first in range(start * self.batch, stop * self.batch, share):
            places = range(first, first + share)
            x = torch.tensor([math.nan if p == self.poison else math.sin(p) for p in places]).view(-1, 1)
            yield {"x": x, "y": 2 * x + 1, "key": [f"k{p}" for p in places]}


def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    loss = (model(batch["x"]) - batch["y"]).square().mean()
    return loss, {"twice": 2 * loss}


def line_model() -> nn.Linear:
    model = nn.Linear(1, 1)
    initialise(model, 0)
    return model


def run(folder: Path, steps: int = 12, stop: int | None = None, **source: int) -> nn.Linear:
    """Train to `steps`; with `stop`, as far as the checkpoint at `stop` and then die."""
    model, loop = line_model(), LoopConfig(steps=steps, log_every=1, checkpoint_every=stop or 4)

    def report(progress: Progress) -> None:
        if stop and progress.step > stop:
            raise KeyboardInterrupt

    folder.mkdir(exist_ok=True)
    try:
        fit(model, objective, Line(**source), loop, OPTIM, WORLD, folder, report)
    except KeyboardInterrupt:
        assert stop
    return model


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in read_log(folder)]


# --- optimizer and schedule


def test_schedule_table() -> None:
    config = OptimConfig(learning_rate=1.0, warmup_steps=4)
    rates = [learning_rate(step, 12, config) for step in (0, 1, 3, 4, 8, 12)]
    assert rates == pytest.approx([0.25, 0.5, 1.0, 1.0, 0.5, 0.0])
    linear = config.model_copy(update={"schedule": "linear"})
    assert [learning_rate(step, 12, linear) for step in (3, 4, 6, 12)] == pytest.approx([1, 1, 0.75, 0])
    assert learning_rate(11, 12, config.model_copy(update={"schedule": "constant"})) == 1.0


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("encoder.cls_token", 0),
        ("encoder.pos_embed", 0),
        ("encoder.patch_embed.proj.weight", 0),
        ("encoder.blocks.0.norm1.weight", 1),
        ("encoder.blocks.23.attn.qkv.weight", 24),
        ("blocks.23.attn.qkv.weight", 24),
        ("encoder.norm.weight", 25),
        ("head.deconv.0.weight", 25),
        ("decoder_blocks.3.mlp.fc1.weight", 25),
        ("head.blocks.2.weight", 25),
    ],
)
def test_layers_of_parameters(name: str, layer: int) -> None:
    assert layer_of(name, depth=24) == layer


def test_groups_hold_every_trainable_parameter_once_with_the_right_decay() -> None:
    model = MAE(MAEConfig(encoder=VIT, decoder_width=24, decoder_depth=1, decoder_heads=3))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, OptimConfig(learning_rate=1, layer_decay=0.5))
    grouped = [names[id(p)] for group in groups for p in group["params"]]
    assert sorted(grouped) == sorted(n for n, p in model.named_parameters() if p.requires_grad)
    decay = {names[id(p)]: g["weight_decay"] for g in groups for p in g["params"]}
    scale = {names[id(p)]: g["lr_scale"] for g in groups for p in g["params"]}
    kept = {name for name, value in decay.items() if value == 0}
    assert {"encoder.cls_token", "mask_token", "encoder.norm.weight", "encoder.patch_embed.proj.bias"} <= kept
    assert decay["encoder.blocks.0.attn.qkv.weight"] == decay["decoder_pred.weight"] == 0.05
    assert scale["encoder.patch_embed.proj.weight"] == 0.125
    assert (scale["encoder.blocks.0.norm1.bias"], scale["encoder.blocks.1.norm1.bias"]) == (0.25, 0.5)
    assert scale["decoder_pred.weight"] == scale["encoder.norm.weight"] == 1.0


def test_rates_follow_the_layers() -> None:
    optimizer = adamw(ViT(VIT), OptimConfig(learning_rate=1, layer_decay=0.5))
    set_learning_rate(optimizer, 0.1)
    assert {round(group["lr"], 9) for group in optimizer.param_groups} == {0.1, 0.05, 0.025, 0.0125}


# --- loop


def test_the_loop_learns_and_logs(tmp_path: Path) -> None:
    seen: list[Progress] = []
    model, loop = line_model(), LoopConfig(steps=150, log_every=20)
    fit(
        model,
        objective,
        Line(),
        loop,
        OPTIM.model_copy(update={"learning_rate": 0.2}),
        WORLD,
        tmp_path,
        seen.append,
    )
    assert model.weight.item() == pytest.approx(2, abs=0.1)
    assert model.bias.item() == pytest.approx(1, abs=0.1)
    lines = read_log(tmp_path)
    assert [line["step"] for line in lines] == [20, 40, 60, 80, 100, 120, 140, 150] == [p.step for p in seen]
    assert lines[0]["scalars"]["twice"] == pytest.approx(2 * lines[0]["loss"])
    assert lines[-1]["loss"] < lines[0]["loss"] / 10
    assert all(0 <= line["data_wait"] <= 1 and line["mfu"] is None for line in lines)


def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(tmp_path: Path) -> None:
    whole = run(tmp_path / "whole")
    run(tmp_path / "cut", stop=5)
    assert Checkpoints(tmp_path / "cut" / "checkpoints", WORLD).steps() == [5]
    resumed = run(tmp_path / "cut")
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert torch.equal(resumed.weight, whole.weight) and torch.equal(resumed.bias, whole.bias)


def test_a_finished_run_takes_no_further_step(tmp_path: Path) -> None:
    first, again = run(tmp_path), run(tmp_path)
    assert torch.equal(first.weight, again.weight)
    assert len(losses(tmp_path)) == 12


def test_accumulation_changes_only_memory(tmp_path: Path) -> None:
    one, four = run(tmp_path / "1"), run(tmp_path / "4", accumulate=4)
    assert losses(tmp_path / "1") == pytest.approx(losses(tmp_path / "4"), abs=1e-6)
    torch.testing.assert_close(one.weight, four.weight, atol=1e-6, rtol=0)


def test_a_poisoned_sample_is_named_and_leaves_the_weights_alone(tmp_path: Path) -> None:
    model = line_model()
    states: list[dict[str, Tensor]] = []

    def report(progress: Progress) -> None:
        states.append({name: value.clone() for name, value in model.state_dict().items()})

    loop = LoopConfig(steps=9, log_every=1, checkpoint_every=4)
    with pytest.raises(VitruvianError, match=r"step 5, .*loss is not finite.*Samples: k22, k23\."):
        fit(model, objective, Line(accumulate=2, poison=23), loop, OPTIM, WORLD, tmp_path, report)
    assert len(states) == 5
    assert all(torch.equal(value, states[-1][name]) for name, value in model.state_dict().items())
    assert Checkpoints(tmp_path / "checkpoints", WORLD).steps() == [4]


def test_gradients_are_clipped(tmp_path: Path) -> None:
    norms: list[float] = []

    def after(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        grads = [p.grad for p in model.parameters() if p.grad is not None]
        norms.extend(torch.cat([g.flatten() for g in grads]).norm().item() for _ in grads[:1])
        return objective(model, batch)

    from train.engine.loop import compute_gradients

    model = line_model()
    batch = next(Line().batches(0, 1, rank=0, world=1))
    step = compute_gradients(model, after, [batch], clip_norm=0.01)
    after(model, batch)
    assert norms == [pytest.approx(0.01, rel=1e-3)]
    assert step.grad_norm.item() > 0.5


# --- checkpoints and weights


def test_only_the_last_checkpoints_stay(tmp_path: Path) -> None:
    model, loop = line_model(), LoopConfig(steps=10, checkpoint_every=2, keep_last=2)
    fit(model, objective, Line(), loop, OPTIM, WORLD, tmp_path)
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-00000008", "step-00000010"]


def test_a_save_that_was_killed_is_not_loaded(tmp_path: Path) -> None:
    run(tmp_path, stop=5)
    folder = tmp_path / "checkpoints"
    (folder / "step-00000009.tmp").mkdir()
    (folder / "step-00000007").mkdir()  # no .metadata: never committed
    (folder / "step-00000007" / "__0_0.distcp").write_bytes(b"half")
    checkpoints = Checkpoints(folder, WORLD)
    assert checkpoints.steps() == [5]
    model = line_model()
    assert checkpoints.load_latest(model, adamw(model, OPTIM)) == 5


def test_an_encoder_file_is_enough_to_rebuild_it(tmp_path: Path) -> None:
    encoder = ViT(VIT)
    initialise(encoder, 4)
    save_encoder(tmp_path / "e.safetensors", encoder.state_dict(), VIT)
    assert list(tmp_path.iterdir()) == [tmp_path / "e.safetensors"]
    images = torch.randn(1, 3, 64, 48)
    same = load_encoder(tmp_path / "e.safetensors", with_cls=True)
    assert torch.equal(same(images), encoder(images))
    assert not same.pos_embed.requires_grad


def test_an_encoder_is_adapted_to_another_grid_without_cls(tmp_path: Path) -> None:
    encoder = ViT(VIT)
    initialise(encoder, 4)
    save_encoder(tmp_path / "e.safetensors", encoder.state_dict(), VIT)
    other = load_encoder(tmp_path / "e.safetensors", image_size=(96, 80))
    assert other.config.grid == (6, 5) and not other.config.with_cls
    table = encoder.pos_embed[0, 1:].reshape(4, 3, 32).permute(2, 0, 1)[None]
    expected = torch.nn.functional.interpolate(table, (6, 5), mode="bicubic", align_corners=False)
    torch.testing.assert_close(other.pos_embed[0], expected.flatten(2)[0].T)


def test_equal_weights_are_equal_bytes(tmp_path: Path) -> None:
    header = dict.fromkeys("zyxwvutsrqp", 'é\n"x"')
    for i in range(4):
        save_weights(tmp_path / f"{i}.st", {"a": torch.arange(3.0)}, header)
    assert len({(tmp_path / f"{i}.st").read_bytes() for i in range(4)}) == 1
    tensors, read = read_weights(tmp_path / "0.st")
    assert read == header
    assert tensors["a"].tolist() == [0, 1, 2]


def test_weights_that_do_not_fit_are_listed() -> None:
    model = nn.Linear(2, 3)
    with pytest.raises(VitruvianError) as caught:
        load_weights(model, {"weight": torch.zeros(3, 4), "scale": torch.zeros(1)}, "file")
    text = str(caught.value)
    assert "missing bias (3,)" in text and "unexpected scale (1,)" in text
    assert "shape of weight: got (3, 4), expected (3, 2)" in text


def test_files_that_are_no_encoder_are_refused(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1)}, tmp_path / "plain.safetensors")
    (tmp_path / "damaged.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(VitruvianError, match="no encoder configuration"):
        load_encoder(tmp_path / "plain.safetensors")
    for name in ("damaged.safetensors", "absent.safetensors"):
        with pytest.raises(VitruvianError, match=f"{name}: cannot be read"):
            read_weights(tmp_path / name)
    bare = VIT.model_copy(update={"with_cls": False})
    save_encoder(tmp_path / "bare.safetensors", ViT(bare).state_dict(), bare)
    with pytest.raises(VitruvianError, match="without a cls token"):
        load_encoder(tmp_path / "bare.safetensors", with_cls=True)


def test_modules_without_a_rule_are_refused() -> None:
    with pytest.raises(TypeError, match="BatchNorm1d"):
        initialise(nn.Sequential(nn.BatchNorm1d(2)), 0)
    target = nn.Parameter(torch.zeros(2))
    assign(target, torch.ones(2, dtype=torch.float64))
    assert target.tolist() == [1, 1]


# --- telemetry and folders


def test_the_log_drops_steps_to_be_redone_and_a_torn_line(tmp_path: Path) -> None:
    lines = [json.dumps({"step": step, "loss": 0.5}) for step in (1, 2, 3)]
    (tmp_path / "log.jsonl").write_text("\n".join(lines) + '\n{"step": 4, "lo')
    assert [line["step"] for line in read_log(tmp_path)] == [1, 2, 3]
    Log(tmp_path, start=2)
    assert [line["step"] for line in read_log(tmp_path)] == [1, 2]


def test_the_meter_counts_since_its_last_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0.0, 2.0)  # every look at the clock is two seconds later
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    meter = Meter()
    meter.add(10, 0.5)
    meter.add_saving(1.0)
    assert meter.read() == Pace(images_per_second=5.0, data_wait=0.25, checkpoint_wait=0.5)
    assert meter.read().images_per_second == 0.0


def test_cpus_have_no_peak() -> None:
    assert peak_flops(torch.device("cpu")) is None


def test_tensorboard_events_are_written_and_passed_on(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    seen: list[Progress] = []
    report = TensorBoard(tmp_path / "events", seen.append)
    assert not (tmp_path / "events").exists()
    report(Progress(3, 9, 0.5, 1e-3, 1.0, 10.0, 0.1, None, {"depth": 2.0}))
    report.writer.close()
    events: Any = EventAccumulator(str(tmp_path / "events"))
    events.Reload()
    assert events.Scalars("loss")[0].step == 3
    assert events.Scalars("scalars/depth")[0].value == 2.0
    assert len(seen) == 1


def test_a_run_folder_belongs_to_one_configuration(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    first = open_run(folder, {"a": {"rate": 1.0}, "size": (2, 3)}, WORLD)
    assert first.result is None
    first.finish({"loss": 0.5})
    assert open_run(folder, {"a": {"rate": 1.0}, "size": (2, 3)}, WORLD, replace=True).result == {"loss": 0.5}
    with pytest.raises(UsageError, match=r"a\.rate: there 1\.0, asked 2\.0.*--replace"):
        open_run(folder, {"a": {"rate": 2.0}, "size": (2, 3)}, WORLD)
    assert open_run(folder, {"a": {"rate": 2.0}, "size": (2, 3)}, WORLD, replace=True).result is None
    assert [p.name for p in folder.iterdir()] == ["config.json"]


def test_a_foreign_folder_is_refused_even_with_replace(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="not a training run"):
        open_run(tmp_path, {}, WORLD, replace=True)
    assert (tmp_path / "thesis.tex").exists()

"""What a pretraining takes: Table 2, arithmetic by hand, and what autograd really keeps."""

import json

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from pipelines.cli.plan import app
from shards.errors import UsageError
from train.engine.distributed import prepare_blocks
from train.models.mae import MAE
from train.plan import GIB, activation_bytes, count_parameters, plan
from train.pretrain import PretrainConfig


def config(size: str, **changes: object) -> PretrainConfig:
    return PretrainConfig.model_validate({"size": size, "steps": 100, "batch": 4096} | changes)


@pytest.mark.parametrize(
    ("size", "parameters"),
    [("0.3b", 335_532_288), ("0.6b", 664_278_528), ("1b", 1_169_238_784), ("2b", 2_162_608_768)],
)
def test_parameters_are_those_of_table_2(size: str, parameters: int) -> None:
    assert count_parameters(config(size)) == parameters
    assert plan(config(size)).state_gib == pytest.approx(parameters * 16 / GIB)


def test_hours_are_images_by_rate() -> None:
    """1,000,000 images at 50 images/s: 20,000 s = 5.556 h; on 8 GPUs 0.0289 days."""
    found = plan(config("0.3b"), images=1_000_000, rate=50.0, gpus=(1, 8))
    assert found.gpu_hours == pytest.approx(20_000 / 3600)
    assert [fleet.days for fleet in found.fleets] == pytest.approx([20_000 / 86_400, 2_500 / 86_400])
    assert found.mfu == pytest.approx(50 * 3.64e12 / 989e12, rel=1e-3)
    assert found.steps == 245  # 244.1 batches
    by_mfu = plan(config("0.3b"), images=1_000_000, mfu=found.mfu, gpus=(1,))
    assert by_mfu.gpu_hours == pytest.approx(found.gpu_hours)


def test_images_default_to_what_the_settings_ask() -> None:
    assert plan(config("tiny", image_size=64)).images == 409_600


def kept_bytes(model: MAE, images: Tensor, noise: Tensor) -> int:
    """Storage that autograd keeps between forward and backward, parameters and images apart."""
    own = {value.untyped_storage().data_ptr() for value in (*model.parameters(), images, noise)}
    kept: dict[int, int] = {}

    def keep(value: Tensor) -> Tensor:
        storage = value.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return value

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda value: value):
        loss = model(images, noise).loss()
    loss.backward()
    return sum(kept.values())


@pytest.mark.parametrize("checkpointed", [False, True])
def test_activations_are_what_autograd_keeps(checkpointed: bool) -> None:
    """In bfloat16, as on a GPU; patches, targets and the outer layers are the difference."""
    shape = config("small", image_size=256)
    model = MAE(shape.mae).to(torch.bfloat16)
    for value in model.parameters():
        torch.nn.init.normal_(value, std=0.02)
    prepare_blocks(model.units, checkpoint_activations=checkpointed)
    images = torch.randint(0, 256, (2, 3, 256, 256), dtype=torch.uint8)
    noise = torch.rand(2, 256).argsort(dim=1)
    kept, expected = kept_bytes(model, images, noise), 2 * activation_bytes(shape, checkpointed)
    if checkpointed:  # the estimate has one block in full, which is there in backward only
        assert 0.7 < kept / expected < 1
    else:
        assert kept == pytest.approx(expected, rel=0.03)


def test_what_fits_a_gpu() -> None:
    """BENCHMARKS.md, pretrain_step: on 140 GiB, 64 images of 0.3b take 89 GiB and 128 do not fit; 32 of 1b
    take 92 GiB.
    """
    small, large = plan(config("0.3b", batch=128), gpus=(1, 2)), plan(config("1b", batch=32), gpus=(1,))
    assert [fleet.micro_batch for fleet in small.fleets] == [64, 64]
    assert [fleet.accumulate for fleet in small.fleets] == [2, 1]
    assert small.state_gib + 64 * small.activations_gib == pytest.approx(89, rel=0.05)
    assert large.state_gib + 32 * large.activations_gib == pytest.approx(92, rel=0.10)
    assert plan(config("2b"), gpus=(1,), device="L40S").fleets[0].micro_batch == 1
    assert plan(config("2b"), gpus=(3,)).fleets[0].micro_batch is None, "4096 does not divide by 3"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"device": "T4"}, "expected one of H200"),
        ({"rate": 50.0, "mfu": 0.4}, "not both"),
        ({"mfu": 1.5}, "an MFU in"),
        ({"rate": 1000.0}, "of the peak of one H200"),
        ({"gpus": (0,)}, "one GPU"),
    ],
)
def test_impossible_plans_are_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        plan(config("0.3b"), **given)  # type: ignore[arg-type]


def test_the_command_line_prints_a_table_and_json() -> None:
    words = ["--config", "train/configs/pretrain_0.3b.yaml", "--images", "300e6", "--rate", "89.6"]
    text = CliRunner().invoke(app, words, catch_exceptions=False)
    found = json.loads(CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False).stdout)
    assert found["gpu_hours"] == pytest.approx(930, abs=0.5) and "930 H200-hours" in text.stdout
    assert "| 8 | 4.8 | 717 |" in text.stdout

"""The recipe files: each is a valid configuration, and its comment states what the arithmetic gives."""

import re
from pathlib import Path

import pytest

from shards.config import load_config
from train.plan import activation_bytes, largest_micro_batch, plan
from train.pretrain import PretrainConfig

RECIPES = sorted((Path(__file__).parents[2] / "train" / "configs").glob("pretrain_*.yaml"))
PAPER = [path for path in RECIPES if path.stem.endswith("b")]


def stated(path: Path, pattern: str) -> re.Match[str]:
    found = re.search(pattern, path.read_text(), re.MULTILINE)
    assert found, f"{path.name} states no {pattern}"
    return found


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_loads_and_says_how_to_run_it(path: Path) -> None:
    config = load_config(path, PretrainConfig, "pretrain")
    assert f"pretrain_{config.size}" == path.stem
    comment = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert f"--config train/configs/{path.name}" in "\n".join(comment)
    assert all(len(line) <= 125 for line in comment)


def test_there_is_one_for_every_size_of_the_paper() -> None:
    assert [path.stem for path in PAPER] == [f"pretrain_{size}" for size in ("0.3b", "0.6b", "1b", "2b")]


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_the_batch_divides_and_fits_on_the_stated_ranks(path: Path) -> None:
    config = load_config(path, PretrainConfig, "pretrain")
    ranks, device = stated(path, r"^# Ranks: (\d+), (\w+)").groups()
    micro_batch, rest = divmod(config.batch, int(ranks) * config.accumulate)
    assert not rest and f"{micro_batch} images at once" in path.read_text()
    state = plan(config).state_gib / int(ranks)
    assert micro_batch <= largest_micro_batch(config, device, state, config.checkpoint_activations)
    assert activation_bytes(config, False) > 2**30, "else the bound is no bound"


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_the_stated_cost_follows_from_the_stated_rate(path: Path) -> None:
    config = load_config(path, PretrainConfig, "pretrain")
    ranks, device = stated(path, r"^# Ranks: (\d+), (\w+)").groups()
    rate = float(stated(path, r"^# Rate: ([\d.]+) images/s a GPU, (?:measured|computed)")[1])
    hours, days = map(float, stated(path, rf"^# Cost: (\d+) {device}-hours, ([\d.]+) days").groups())
    found = plan(config, device=device, rate=rate, gpus=(int(ranks),))
    assert found.images == pytest.approx(300e6, rel=1e-3)
    assert hours == pytest.approx(found.gpu_hours, rel=2e-3)
    assert days == pytest.approx(found.fleets[0].days, abs=0.05)
    minutes = float(stated(path, r"checkpoint_every: \d+ +# (\d+) minutes")[1])
    step = config.batch / (rate * int(ranks))
    assert minutes == pytest.approx(config.checkpoint_every * step / 60, abs=1)


def test_the_page_states_what_the_arithmetic_gives() -> None:
    text = (Path(__file__).parents[2] / "docs" / "pretraining.md").read_text()
    costs = re.findall(
        r"^\| (\S+b) \| (\d+e6) \| ([\d.]+), .* \| ([\d,]+) \| ([\d.| ]+) \|$", text, re.MULTILINE
    )
    assert len(costs) >= 6
    for size, images, rate, hours, days in costs:
        config = PretrainConfig.model_validate({"size": size, "steps": 73243})
        found = plan(config, images=int(float(images)), rate=float(rate))
        assert float(hours.replace(",", "")) == pytest.approx(found.gpu_hours, abs=1), size
        stated_days = [float(cell) for cell in days.split(" | ")]
        assert stated_days == pytest.approx([fleet.days for fleet in found.fleets], abs=0.051), size
    memory = re.findall(
        r"^\| (\S+b) \| ([\d.]+) GiB \| ([\d.]+) GiB \| ([\d.]+) \| (.*) \| ([\d.]+) GiB", text, re.MULTILINE
    )
    assert len(memory) == 4
    for size, state, kept, recomputed, fits, saved in memory:
        config = PretrainConfig.model_validate({"size": size, "steps": 73243})
        found = plan(config)
        assert [float(state), float(saved)] == pytest.approx(
            [found.state_gib, found.checkpoint_gib], abs=0.051
        )
        assert float(kept) == pytest.approx(found.activations_gib, abs=0.0051)
        assert float(recomputed) == pytest.approx(found.activations_checkpointed_gib, abs=0.0051)
        counts = [
            largest_micro_batch(config, device, found.state_gib / ranks, False)
            for ranks in (1, 64)
            for device in ("H100", "H200")
        ]
        assert list(map(int, re.findall(r"\d+", fits))) == counts, size

"""Reconstruction of held-out pictures: losses against plain numpy, predictors, intervals, the sheet, the
verb.
"""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from annotation.codecs import decode_image
from annotation.draw import letterbox
from pipelines.cli.reconstruct import app
from shards.errors import UsageError, VitruvianError
from shards.reader import Dataset
from train.engine.checkpoint import load_mae, read_weights, save_mae, save_weights
from train.metrics.reconstruction import RESAMPLES, WIDTHS, interval, resampled_means
from train.pretrain import PretrainConfig, pretrain
from train.reconstruct import ReconstructConfig, at_ratio, reconstruct

SIZE = (96, 64)
GRID = (6, 4)


@pytest.fixture(scope="module")
def trained(training_people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short pretraining."""
    config = PretrainConfig(
        size="tiny",
        image_size=SIZE,
        batch=16,
        steps=60,
        base_learning_rate=3e-2,
        warmup_steps=6,
        crop_scale=(0.5, 1),
    )
    return pretrain(config, training_people, tmp_path_factory.mktemp("mae") / "out").encoder.parent


@pytest.fixture(scope="module")
def scored(trained: Path, unseen_people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scores") / "out"
    config = ReconstructConfig(ratios=(0.75, 0.9), images=3, seed=5, batch=5)
    assert reconstruct(config, unseen_people, trained, out).status == "finished"
    return out


def metrics_of(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return content


def table_of(out: Path) -> list[dict[str, str]]:
    with (out / "images.csv").open() as file:
        return list(csv.DictReader(file))


def crops(data: Path) -> dict[str, np.ndarray]:
    """The central 96 x 64 of the 96 x 72 pictures, by key."""
    return {sample.key: decode_image(sample.members["rgb.png"])[:, 4:68] for sample in Dataset.open(data)}


def textbook_patches(image: np.ndarray) -> np.ndarray:
    """(24, 768) normalised patches, pixel by pixel as the recipe says."""
    pixels = (image / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    found = []
    for top in range(0, SIZE[0], 16):
        for left in range(0, SIZE[1], 16):
            values = pixels[top : top + 16, left : left + 16].transpose(2, 0, 1).reshape(-1)
            found.append((values - values.mean()) / np.sqrt(values.var(ddof=1) + 1e-6))
    return np.array(found)


def order_of(key: str) -> np.ndarray:
    """The first patches of it are visible."""
    return np.random.default_rng([5, 0, *key.encode()]).permutation(24).argsort()


def neighbour_losses(patches: np.ndarray, visible: np.ndarray, hidden: np.ndarray) -> list[float]:
    """Of one picture, for each width, spelled out."""
    found = []
    for width in WIDTHS:
        errors = []
        for patch in hidden:
            squares = [(patch // 4 - v // 4) ** 2 + (patch % 4 - v % 4) ** 2 for v in visible]
            weights = np.exp(-np.array(squares) / (2 * width**2))
            guess = weights @ patches[visible] / weights.sum()
            errors.append(((guess - patches[patch]) ** 2).mean())
        found.append(float(np.mean(errors)))
    return found


@pytest.mark.parametrize(("ratio", "seen"), [(0.75, 6), (0.9, 2)])
def test_losses_equal_an_independent_computation(
    ratio: float, seen: int, trained: Path, scored: Path, unseen_people: Path
) -> None:
    pictures = crops(unseen_people)
    model = at_ratio(load_mae(trained / "mae.safetensors").eval(), ratio)
    truth, expected, around = {}, {}, {}
    for key, image in pictures.items():
        order, patches = order_of(key), textbook_patches(image)
        visible, hidden = order[:seen], order[seen:]
        tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())[None]
        with torch.no_grad():
            predicted = model(tensor, torch.from_numpy(order.argsort())[None]).predicted_BMP[0].numpy()
        truth[key] = patches[hidden]
        expected[key] = ((predicted - patches[hidden]) ** 2).mean()
        around[key] = neighbour_losses(patches, visible, hidden)
    constant = np.mean([target.mean(axis=0) for target in truth.values()], axis=0)
    best = int(np.argmin(np.mean(list(around.values()), axis=0)))
    rows = {row["key"]: row for row in table_of(scored) if float(row["mask_ratio"]) == ratio}
    assert rows.keys() == pictures.keys()
    for key, row in rows.items():
        assert float(row["model"]) == pytest.approx(expected[key], rel=1e-5)
        assert float(row["own_mean"]) == pytest.approx((truth[key] ** 2).mean(), rel=1e-5)
        assert float(row["best_constant"]) == pytest.approx(((truth[key] - constant) ** 2).mean(), rel=1e-5)
        assert float(row["neighbours"]) == pytest.approx(around[key][best], rel=1e-5)


def test_metrics_summarise_the_table(scored: Path, unseen_people: Path) -> None:
    metrics = metrics_of(scored)
    assert [entry["mask_ratio"] for entry in metrics["ratios"]] == [0.75, 0.9]
    assert [entry["hidden_patches"] for entry in metrics["ratios"]] == [18, 22]
    assert metrics["images"] == 12 and metrics["trained_at"] == 0.75
    assert metrics["data"]["digest"] == Dataset.open(unseen_people).digest
    for entry in metrics["ratios"]:
        rows = [row for row in table_of(scored) if float(row["mask_ratio"]) == entry["mask_ratio"]]
        for name, loss in entry["loss"].items():
            assert loss["mean"] == pytest.approx(np.mean([float(row[name]) for row in rows]))
            assert loss["low"] < loss["mean"] < loss["high"]
        share = entry["model_as_share_of"]["own_mean"]
        assert share["mean"] == pytest.approx(
            entry["loss"]["model"]["mean"] / entry["loss"]["own_mean"]["mean"]
        )


def test_what_predictors_score(scored: Path) -> None:
    """Own means score 1 but for the correction of the variance; the best constant is at least as good; a
    trained model is better.
    """
    for entry in metrics_of(scored)["ratios"]:
        loss = {name: value["mean"] for name, value in entry["loss"].items()}
        assert loss["own_mean"] == pytest.approx(1, abs=5e-3)
        assert loss["best_constant"] <= loss["own_mean"]
        assert loss["model"] < loss["best_constant"]
        assert entry["neighbours_width"] in WIDTHS


def test_more_hidden_is_harder_and_hides_more_of_the_same(
    trained: Path, unseen_people: Path, tmp_path: Path
) -> None:
    config = ReconstructConfig(ratios=(0.5, 0.95), images=1)
    low, high = reconstruct(config, unseen_people, trained, tmp_path / "out").metrics["ratios"]
    assert low["loss"]["model"]["mean"] < high["loss"]["model"]["mean"]
    sheet = decode_image((tmp_path / "out" / "reconstructions.png").read_bytes())
    masked_low, masked_high = sheet[-256:, 177:348], sheet[-256:, 531:702]
    truth = sheet[-256:, :171]
    seen_low, seen_high = ((masked == truth).all(axis=2) for masked in (masked_low, masked_high))
    assert 0 < seen_high.sum() < seen_low.sum()
    assert (seen_low | ~seen_high).mean() > 0.99


def test_the_sheet_shows_truth_then_pairs(scored: Path, unseen_people: Path) -> None:
    sheet = decode_image((scored / "reconstructions.png").read_bytes())
    width, heads = 171, sheet.shape[0] - (3 * 256 + 2 * 6)
    assert sheet.shape[1] == 5 * width + 4 * 6 and 10 < heads < 40
    assert (sheet[:heads] < 128).any()  # the labels
    pictures = crops(unseen_people)
    keys = [sample.key for sample in Dataset.open(unseen_people)]
    for row, place in enumerate((0, 5, 11)):
        top = heads + row * (256 + 6)
        shown = sheet[top : top + 256, :width]
        np.testing.assert_array_equal(shown, letterbox(pictures[keys[place]], width, 256))
        masked, filled = (sheet[top : top + 256, x : x + width] for x in (177, 354))
        assert not np.array_equal(masked, shown) and not np.array_equal(masked, filled)


def test_intervals_are_those_of_a_bootstrap() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    apart = resampled_means({"a": values, "b": values + 1}, [str(i) for i in range(400)], seed=0)
    assert apart["a"].shape == (RESAMPLES,)
    assert apart["a"].std() == pytest.approx(values.std() / 20, rel=0.1)
    np.testing.assert_allclose(apart["b"], apart["a"] + 1)  # the same pictures are drawn
    found = interval(float(values.mean()), apart["a"])
    assert found["high"] - found["low"] == pytest.approx(4 * values.std() / 20, rel=0.1)
    together = resampled_means({"a": np.repeat(values[:40], 10)}, [str(i // 10) for i in range(400)], seed=0)
    assert together["a"].std() == pytest.approx(values[:40].std() / 40**0.5, rel=0.1)


def test_it_says_whether_the_pictures_were_trained_on(
    trained: Path, training_people: Path, scored: Path, unseen_people: Path, tmp_path: Path
) -> None:
    assert metrics_of(scored)["seen_in_training"] is False
    config = ReconstructConfig(ratios=(0.75,), images=1)
    assert reconstruct(config, training_people, trained, tmp_path / "a").metrics["seen_in_training"] is True
    alone = tmp_path / "mae.safetensors"
    shutil.copy(trained / "mae.safetensors", alone)
    assert reconstruct(config, unseen_people, alone, tmp_path / "b").metrics["seen_in_training"] is None


def test_a_finished_evaluation_is_left_alone(
    trained: Path, scored: Path, unseen_people: Path, tmp_path: Path
) -> None:
    out = shutil.copytree(scored, tmp_path / "out")
    before = {path: path.stat().st_mtime_ns for path in out.iterdir() if path.name != "config.json"}
    config = ReconstructConfig(ratios=(0.75, 0.9), images=3, seed=5, batch=7)
    again = reconstruct(config, unseen_people, trained, out)
    assert (again.status, again.metrics) == ("unchanged", metrics_of(scored))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    other = config.model_copy(update={"ratios": (0.75,)})
    with pytest.raises(UsageError, match=r"reconstruct\.ratios"):
        reconstruct(other, unseen_people, trained, out)
    assert len(reconstruct(other, unseen_people, trained, out, replace=True).metrics["ratios"]) == 1


def test_a_foreign_or_damaged_checkpoint_is_refused(
    trained: Path, unseen_people: Path, tmp_path: Path
) -> None:
    def attempt(checkpoint: Path) -> None:
        reconstruct(ReconstructConfig(), unseen_people, checkpoint, tmp_path / "out")

    with pytest.raises(UsageError, match="no such file; expected a finished folder of `vitruvian pretrain`"):
        attempt(tmp_path)
    with pytest.raises(VitruvianError, match="no autoencoder configuration in its header"):
        attempt(trained / "encoder.safetensors")
    whole = (trained / "mae.safetensors").read_bytes()
    (tmp_path / "short.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(VitruvianError, match="cannot be read as safetensors"):
        attempt(tmp_path / "short.safetensors")
    tensors, header = read_weights(trained / "mae.safetensors")
    del tensors["mask_token"]
    save_mae(tmp_path / "less.safetensors", tensors, load_mae(trained / "mae.safetensors").config)
    with pytest.raises(VitruvianError, match=r"missing mask_token \(1, 1, 96\)"):
        attempt(tmp_path / "less.safetensors")
    save_weights(tmp_path / "odd.safetensors", tensors, {"mae": header["mae"].replace("96", '"wide"')})
    with pytest.raises(VitruvianError, match="the autoencoder configuration in its header"):
        attempt(tmp_path / "odd.safetensors")
    assert not (tmp_path / "out").exists()


def test_the_exported_autoencoder_is_the_trained_one(trained: Path) -> None:
    encoder, _ = read_weights(trained / "encoder.safetensors")
    whole, _ = read_weights(trained / "mae.safetensors")
    assert {name for name in whole if name.startswith("encoder.")} == {f"encoder.{name}" for name in encoder}
    assert all(torch.equal(whole[f"encoder.{name}"], value) for name, value in encoder.items())
    assert load_mae(trained / "mae.safetensors").config.mask_ratio == 0.75


@pytest.mark.parametrize("ratios", [(), (0.75, 0.75), (0.0,), (1.0,)])
def test_odd_ratios_are_refused(ratios: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="different numbers between 0 and 1"):
        ReconstructConfig(ratios=ratios)


def test_a_ratio_that_hides_everything_is_refused(trained: Path, unseen_people: Path, tmp_path: Path) -> None:
    config = ReconstructConfig(ratios=(0.75, 0.99))
    with pytest.raises(UsageError, match=r"mask ratio 0\.99.*leaves 0 of 24 patches"):
        reconstruct(config, unseen_people, trained, tmp_path / "out")


def test_the_command_line(trained: Path, unseen_people: Path, tmp_path: Path) -> None:
    command = ["--checkpoint", str(trained), "--data", str(unseen_people), "--out", str(tmp_path / "out")]
    command += ["--ratio", "0.75", "--images", "1", "--quiet"]
    first, second = CliRunner().invoke(app, command), CliRunner().invoke(app, command)
    assert first.exit_code == second.exit_code == 0, first.output
    assert "out: finished" in first.output and "nothing to do" in second.output
    assert "mask ratio 0.75: model 0." in first.output and "own mean" in first.output
    last = CliRunner().invoke(app, [*command, "--json"])
    assert json.loads(last.stdout)["ratios"][0]["hidden_patches"] == 18
    refused = CliRunner().invoke(app, [*command, "--ratio", "0.9"])
    assert isinstance(refused.exception, UsageError) and "--replace" in str(refused.exception)

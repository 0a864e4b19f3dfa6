"""Weights files: official ones in and out to the byte, models that say the same after it, what a file is."""

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F
from typer.testing import CliRunner

from pipelines.cli.weights import app
from shards.errors import UsageError, VitruvianError
from tests.train.architectures import assert_same_bits, built, random_state, task_model, tiny
from train.engine.archive import read_archive
from train.engine.checkpoint import (
    load_encoder,
    load_mae,
    read_weights,
    save_encoder,
    save_weights,
)
from train.finetune import load_task_model
from train.models.mae import MAEConfig
from train.models.vit import ViTConfig, sincos_positions
from train.official import (
    official_shapes,
    our_shapes,
    to_official,
)
from train.weights import export_weights, header_of, import_weights, inspect_weights, notes, read

KINDS = ["pretrain_clean", "pretrain", "pose", "parts", "depth", "normal"]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_comes_back_from_official_names_to_the_byte(kind: str, suffix: str, tmp_path: Path) -> None:
    architecture = tiny(kind)
    ours, official, back = tmp_path / "a.safetensors", tmp_path / f"o{suffix}", tmp_path / "b.safetensors"
    tensors = random_state(our_shapes(architecture), seed=1)
    save_weights(ours, tensors, header_of(architecture))
    export_weights(ours, official)
    again = import_weights(official, back, decoder=kind == "pretrain")
    assert again == architecture
    assert_same_bits(read_weights(back)[0], tensors)
    if (kind, suffix) != ("pretrain_clean", ".pth"):  # a plain dictionary of tensors carries no header
        assert back.read_bytes() == ours.read_bytes()


@pytest.mark.parametrize("kind", ["pose", "parts", "depth", "normal"])
def test_a_task_model_says_the_same_after_a_round_trip(kind: str, tmp_path: Path) -> None:
    architecture = task_model(kind, patch_padding=2, keypoints=133, classes=20)
    model = built(architecture, seed=2)
    save_weights(tmp_path / "a.safetensors", model.state_dict(), header_of(architecture))
    export_weights(tmp_path / "a.safetensors", tmp_path / "o.pth")
    import_weights(tmp_path / "o.pth", tmp_path / "b.safetensors")
    again, task, description = load_task_model(tmp_path / "b.safetensors")
    images = torch.randint(
        0, 256, (2, 3, 64, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    assert description == architecture and task.name == kind
    with torch.no_grad():
        assert torch.equal(again(images), model(images))


def test_a_pretraining_file_becomes_an_encoder_or_the_whole_autoencoder(tmp_path: Path) -> None:
    config = MAEConfig.of("tiny", (64, 64))
    model = built(config, seed=3)
    official = to_official(model.state_dict(), config)
    torch.save({"state_dict": official, "meta": {"epoch": 1600}}, tmp_path / "sapiens.pth")
    assert import_weights(tmp_path / "sapiens.pth", tmp_path / "e.safetensors") == config.encoder
    import_weights(tmp_path / "sapiens.pth", tmp_path / "m.safetensors", decoder=True)
    again = load_mae(tmp_path / "m.safetensors").eval()
    images = torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)
    noise = torch.rand(1, 16)
    with torch.no_grad():
        assert again(images, noise).loss() == model(images, noise).loss()
        encoder = load_encoder(tmp_path / "e.safetensors", with_cls=True).eval()
        assert torch.equal(encoder(images.float()), model.get_submodule("encoder")(images.float()))


def test_a_clean_encoder_fits_the_tasks_as_published(tmp_path: Path) -> None:
    """No cls token, positions from 64 x 64 to 64 x 48 bicubically, with and without patch padding."""
    config = ViTConfig.of("tiny")
    state = built(config).state_dict()
    state["pos_embed"] = torch.randn(1, 4097, 192, generator=torch.Generator().manual_seed(4))
    torch.save(to_official(state, config), tmp_path / "sapiens_clean.pth")
    grid = state["pos_embed"][:, 1:].reshape(1, 64, 64, 192).permute(0, 3, 1, 2)
    table = F.interpolate(grid, size=(64, 48), mode="bicubic", align_corners=False)
    features = []
    for padding in (0, 2):
        out = tmp_path / f"{padding}.safetensors"
        import_weights(tmp_path / "sapiens_clean.pth", out, patch_padding=padding)
        encoder = load_encoder(out, (1024, 768)).eval()
        assert torch.equal(encoder.pos_embed, table.flatten(2).transpose(1, 2))
        assert not hasattr(encoder, "cls_token")
        assert encoder.patch_embed.proj.padding == (padding, padding)
        with torch.no_grad():
            images = torch.randn(1, 3, 1024, 768, generator=torch.Generator().manual_seed(5))
            features.append(encoder.patch_embed.proj(images))
    assert [tuple(feature.shape) for feature in features] == [(1, 192, 64, 48)] * 2
    assert not torch.allclose(features[0], features[1], atol=1e-2)
    # Padding by 2 shows every patch the picture 2 pixels earlier.
    shifted = F.pad(images, (2, 0, 2, 0))[..., :1024, :768]
    projection = encoder.patch_embed.proj
    same = F.conv2d(shifted, projection.weight, projection.bias, stride=16)
    torch.testing.assert_close(same, features[1])


def test_patch_padding_of_a_task_model_is_carried_and_changes_what_it_says(tmp_path: Path) -> None:
    architecture = task_model("depth", patch_padding=2)
    save_weights(tmp_path / "a.safetensors", built(architecture).state_dict(), header_of(architecture))
    export_weights(tmp_path / "a.safetensors", tmp_path / "o.pth")
    outputs = []
    for given, expected in ((None, 2), (0, 0)):
        out = tmp_path / f"{expected}.safetensors"
        import_weights(tmp_path / "o.pth", out, given)
        model = load_task_model(out)[0]
        assert model.encoder.config.patch_padding == expected
        outputs.append(model(torch.arange(64 * 48, dtype=torch.uint8).expand(1, 3, -1).reshape(1, 3, 64, 48)))
    assert not torch.allclose(*outputs)


@pytest.mark.slow
def test_a_pose_model_of_the_smallest_size_comes_back_to_the_byte(tmp_path: Path) -> None:
    """0.3b, 308 keypoints: from official names without any header of ours to ours, and back."""
    official = random_state(official_shapes(task_model("pose", "0.3b", head=None, keypoints=308)))
    torch.save({"state_dict": official}, tmp_path / "official.pth")
    import_weights(tmp_path / "official.pth", tmp_path / "ours.safetensors")
    model, task, _ = load_task_model(tmp_path / "ours.safetensors")
    assert task.channels == 308 and model.encoder.config.patch_padding == 2
    del model
    export_weights(tmp_path / "ours.safetensors", tmp_path / "back.pth")
    assert_same_bits(read_archive(tmp_path / "back.pth")[0], official)


def test_nothing_is_overwritten_unasked(tmp_path: Path) -> None:
    config = ViTConfig.of("tiny", (64, 64))
    ours = tmp_path / "e.safetensors"
    save_encoder(ours, built(config).state_dict(), config)
    out = tmp_path / "o.pth"
    out.write_text("mine")
    with pytest.raises(UsageError, match="exists; give another name, or --replace"):
        export_weights(ours, out)
    assert out.read_text() == "mine"
    export_weights(ours, out, replace=True)
    with pytest.raises(UsageError, match="exists"):
        import_weights(out, ours)
    with pytest.raises(UsageError, match=r"ends in \.safetensors"):
        import_weights(out, tmp_path / "o.bin")
    with pytest.raises(UsageError, match="folder does not exist"):
        import_weights(out, tmp_path / "none/e.safetensors")
    with pytest.raises(UsageError, match="already a weights file of ours"):
        import_weights(ours, tmp_path / "x.safetensors")
    with pytest.raises(UsageError, match="has official names already"):
        export_weights(out, tmp_path / "x.pth")
    assert {path.name for path in tmp_path.iterdir()} == {"e.safetensors", "o.pth"}


def test_an_export_replaces_its_own_source_safely(tmp_path: Path) -> None:
    """Tensors are mapped from the file they come from: it is replaced, never written into."""
    config = ViTConfig.of("tiny", (64, 64))
    path = tmp_path / "e.safetensors"
    state = built(config, seed=6).state_dict()
    save_encoder(path, state, config)
    export_weights(path, path, replace=True)
    import_weights(path, path, replace=True)
    assert_same_bits(read_weights(path)[0], state)


def test_a_pth_holds_its_tensors_and_no_more(tmp_path: Path) -> None:
    config = ViTConfig.of("tiny", (64, 64))
    save_encoder(tmp_path / "e.safetensors", built(config).state_dict(), config)
    export_weights(tmp_path / "e.safetensors", tmp_path / "o.pth")
    size, tensors = (tmp_path / "o.pth").stat().st_size, read_archive(tmp_path / "o.pth")[0]
    assert size < sum(value.numel() * 4 for value in tensors.values()) + 512 * len(tensors)
    plain = torch.load(tmp_path / "o.pth", weights_only=True)
    assert "cls_token" in plain and "layers.0.ln1.weight" in plain


def test_a_damaged_header_is_named(tmp_path: Path) -> None:
    config = ViTConfig.of("tiny", (64, 64))
    official = to_official(random_state(our_shapes(config)), config)
    save_weights(tmp_path / "a.safetensors", official, {"vitruvian": "[1]"})
    with pytest.raises(VitruvianError, match="'vitruvian' entry is not a header of ours"):
        read(tmp_path / "a.safetensors")
    save_weights(tmp_path / "b.safetensors", official, {"vitruvian": '{"vit": "{}"}'})
    with pytest.raises(VitruvianError, match="does not say which model it is"):
        read(tmp_path / "b.safetensors")


def test_inspection_says_what_a_file_is(tmp_path: Path) -> None:
    architecture = task_model("parts", head=None, classes=20, patch_padding=2)
    official = random_state(official_shapes(architecture))
    official["backbone.pos_embed"] = sincos_positions((64, 48), 192, with_cls=False)
    torch.save({"state_dict": official}, tmp_path / "parts.pth")
    found = inspect_weights(tmp_path / "parts.pth")
    assert (found["names"], found["kind"], found["classes"], found["size"]) == (
        "official",
        "parts",
        20,
        "tiny",
    )
    assert (found["patch_padding"], found["patch_padding_from"]) == (2, "official configuration")
    assert found["image_size"] == [1024, 768]
    assert found["positions"] == "row-first sines and cosines"
    assert found["parameters"] == sum(value.numel() for value in official.values())
    assert found["groups"] == {"encoder": 53, "head": 11}
    assert found["notes"] == ["a size that the official repository does not have"]
    given = inspect_weights(tmp_path / "parts.pth", patch_padding=0)
    assert (given["patch_padding"], given["patch_padding_from"]) == (0, "given")
    assert given["notes"][0] == "patch padding 0; the official parts configuration has 2"


def test_an_imported_file_says_where_it_comes_from(tmp_path: Path) -> None:
    config = ViTConfig.of("tiny", (64, 64))
    torch.save(to_official(built(config).state_dict(), config), tmp_path / "sapiens_clean.pth")
    import_weights(tmp_path / "sapiens_clean.pth", tmp_path / "e.safetensors")
    imported = json.loads(read_weights(tmp_path / "e.safetensors")[1]["imported"])
    assert imported["name"] == "sapiens_clean.pth" and len(imported["sha256"]) == 64


def test_notes_are_for_what_differs() -> None:
    assert notes(task_model("pose", "1b", head=None, patch_padding=2)) == []
    assert notes(task_model("pose", size="0.3b"))[:2] == [
        "patch padding 0; the official pose configuration has 2",
        "image size (64, 48); the official pose configuration has (1024, 768)",
    ]


def test_the_verbs(tmp_path: Path) -> None:
    config = ViTConfig.of("tiny", (64, 64))
    ours, official = str(tmp_path / "e.safetensors"), str(tmp_path / "o.pth")
    save_encoder(Path(ours), built(config).state_dict(), config)
    runner = CliRunner()

    def said(*arguments: str) -> str:
        result = runner.invoke(app, [*arguments, "--quiet"], catch_exceptions=False)
        assert result.exit_code == 0
        return result.stdout

    assert "exported, pretrain_clean tiny, patch padding 0" in said("export", ours, "--out", official)
    assert "names          official" in said("inspect", official)
    assert json.loads(said("inspect", ours, "--json"))["names"] == "ours"
    back = str(tmp_path / "b.safetensors")
    line = json.loads(said("import", official, "--out", back, "--patch-padding", "2", "--json"))
    assert (line["status"], line["patch_padding"]) == ("imported", 2)

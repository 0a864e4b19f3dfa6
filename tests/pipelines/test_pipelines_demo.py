"""The whole demo, made tiny: run it, run it again, change one parameter, look at the report; and its pool."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

DEMO = Path(__file__).parents[2] / "pipelines" / "demo"
VITRUVIAN = Path(sys.executable).parent / "vitruvian"
TASKS = ("pose", "parts", "depth", "normal")
STAGES = {
    *(
        "render-train",
        "render-eval",
        "showcase",
        "pool",
        "annotate",
        "select",
        "materialise",
        "pretrain",
        "report",
    ),
    *(f"{verb}@{task}" for verb in ("finetune", "evaluate") for task in TASKS),
}
RENDERS = {"identities": 1, "identities_per_unit": 1, "views": 2, "width": 96, "height": 128, "samples": 1}
POOL = {"people": 2, "groups": 0, "copies": 1, "reencoded": 1, "captions": 1, "truncated": 1, "thumbnails": 1}
HEAD = {"deconv_channels": [8], "conv_channels": []}


def tiny_parameters() -> dict[str, Any]:
    """The demo's own parameters with every number turned down."""
    parameters: dict[str, Any] = yaml.safe_load((DEMO / "params.yaml").read_text())
    for section in parameters["render"].values():
        section |= RENDERS
    parameters["render"]["train"]["identities"] = 2
    parameters["pool"] |= {**POOL, "distant": 1}
    parameters["pretrain"] |= {"image_size": [32, 32], "batch": 4, "steps": 2, "warmup_steps": 0}
    for section in parameters["finetune"].values():
        section |= {"image_size": [32, 32], "head": HEAD, "batch": 2, "steps": 2, "warmup_steps": 0}
    parameters["evaluate"] |= {"pictures": 1}
    return parameters


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demo's folder, in no git tree, run once."""
    folder = tmp_path_factory.mktemp("demo") / "tiny"
    kept_out = shutil.ignore_patterns("out", "code.yaml", "dvc.lock", "__pycache__")
    shutil.copytree(DEMO, folder, ignore=kept_out)
    write(folder, tiny_parameters())
    assert set(run(folder)["ran"]) == STAGES
    return folder


def write(folder: Path, parameters: dict[str, Any]) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump(parameters))


def run(folder: Path) -> dict[str, Any]:
    """`vitruvian run` from elsewhere; its result as it prints it."""
    done = subprocess.run(
        [VITRUVIAN, "run", folder, "--json"], cwd="/", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_a_second_run_skips_every_stage(demo: Path) -> None:
    again = run(demo)
    assert again["ran"] == [] and set(again["skipped"]) == STAGES


def test_a_changed_parameter_reruns_what_depends_on_it(demo: Path) -> None:
    parameters = yaml.safe_load((demo / "params.yaml").read_text())
    parameters["finetune"]["depth"]["learning_rate"] = 3e-4
    write(demo, parameters)
    assert run(demo)["ran"] == ["finetune@depth", "evaluate@depth", "report"]


def test_the_selection_alone_is_cheap_to_change(demo: Path) -> None:
    """A threshold that decides nothing new: materialise looks, remakes nothing, and the chain ends there."""
    parameters = yaml.safe_load((demo / "params.yaml").read_text())
    rules = parameters["curate"]["select"]["rules"]
    next(rule for rule in rules if rule["reason"] == "text:area")["at_most"] += 1e-6
    write(demo, parameters)
    shards = {path: path.stat().st_mtime_ns for path in (demo / "out" / "curated").glob("*.tar")}
    assert run(demo)["ran"] == ["select", "materialise", "report"]
    assert shards == {path: path.stat().st_mtime_ns for path in (demo / "out" / "curated").glob("*.tar")}


def test_the_report_shows_everything(demo: Path, open_page: Any) -> None:
    page = open_page(demo / "out" / "report.html")
    assert page.errors == [] and page.requests == [] and page.overflow == []
    assert all(image["width"] > 0 for image in page.images)
    assert "Not shown" not in page.text
    assert "No identity is in both." in page.text
    assert len((demo / "out" / "report.html").read_bytes()) < 15_000_000


def test_every_input_of_the_pool_is_accounted_for(demo: Path) -> None:
    from curation.decisions import funnel

    files = json.loads((demo / "out/pool.json").read_text())["files"]
    on_disk = {path.relative_to(demo / "out/pool").as_posix() for path in (demo / "out/pool").rglob("*.*")}
    assert set(files) == on_disk
    counts = funnel(demo / "out/selection")
    assert counts["inputs"] == len(files)
    reasons = {reason for stage in counts["stages"] for reason in stage["reasons"]}
    assert {"decode:truncated", "decode:not-an-image", "decode:empty", "decode:unsupported"} <= reasons
    assert {"size:small", "duplicate", "text:area", "person:none", "person:score"} <= reasons


def test_the_pool_is_the_same_every_time(demo: Path, tmp_path: Path) -> None:
    make: list[str | Path] = [sys.executable, DEMO / "pool.py", "--config", demo / "params.yaml"]
    for _ in range(2):  # the second time over what the first has left
        command = [*make, "--renders", demo / "out/renders/train", "--out", tmp_path / "pool"]
        subprocess.run(command, check=True, capture_output=True)
        assert (tmp_path / "pool.json").read_bytes() == (demo / "out/pool.json").read_bytes()


def test_the_pool_touches_no_foreign_folder(demo: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/photo.jpg").write_bytes(b"dear")
    make: list[str | Path] = [sys.executable, DEMO / "pool.py", "--config", demo / "params.yaml"]
    command = [*make, "--renders", demo / "out/renders/train", "--out", tmp_path / "mine"]
    refused = subprocess.run(command, check=False, capture_output=True, text=True)
    assert refused.returncode == 2 and "choose another --out" in refused.stderr
    assert (tmp_path / "mine/photo.jpg").read_bytes() == b"dear"


def test_every_stage_is_small_to_dvc() -> None:
    """Outputs are named by small files, out of the cache, and stay when their stage is run again."""
    stages = yaml.safe_load((DEMO / "dvc.yaml").read_text())["stages"]
    for stage in stages.values():
        body = stage.get("do", stage)
        for output in (*body.get("outs", ()), *body.get("metrics", ())):
            ((path, flags),) = output.items()
            assert flags == {"cache": False, "persist": True}, path
            assert Path(path).suffix in (".json", ".safetensors", ".html")


def test_the_documented_budget_of_parameters_is_valid() -> None:
    """Every section of params.yaml is accepted by the room that reads it."""
    sys.path.insert(0, os.fspath(DEMO))
    try:
        from pool import PoolConfig  # type: ignore[import-not-found]
    finally:
        sys.path.remove(os.fspath(DEMO))
    from curation.annotate import AnnotateConfig
    from curation.materialise import MaterialiseConfig
    from curation.rules import RuleSet
    from render.recipe import RenderConfig
    from shards.config import load_config
    from train.evaluate import EvaluateConfig
    from train.finetune import FinetuneConfig
    from train.pretrain import PretrainConfig

    path = DEMO / "params.yaml"
    ranges = {}
    for name in ("train", "eval", "showcase"):
        ranges[name] = set(load_config(path, RenderConfig, f"render.{name}").identity_range())
    assert not ranges["train"] & ranges["eval"]
    load_config(path, PoolConfig, "pool")
    load_config(path, AnnotateConfig, "curate.annotate")
    load_config(path, RuleSet, "curate.select")
    load_config(path, MaterialiseConfig, "curate.materialise")
    load_config(path, PretrainConfig, "pretrain")
    load_config(path, EvaluateConfig, "evaluate")
    for task in TASKS:
        load_config(path, FinetuneConfig, f"finetune.{task}")

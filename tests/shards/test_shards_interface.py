"""The room's face: exports, configuration errors, URLs, the verbs `inspect` and `verify`."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import shards
from pipelines.cli.shards import app
from shards import Config, Dataset, Sample, ShardError, UsageError, VitruvianError, load_config, summarise
from shards.storage import Store, open_url

MakeSamples = Callable[..., list[Sample]]


class Inner(Config):
    count: int = 1


class Outer(Config):
    inner: Inner
    rate: float = 0.5


def test_every_export_can_be_imported() -> None:
    for name in shards.__all__:
        assert getattr(shards, name).__module__.startswith("shards.")
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = shards.no_such_name


def test_importing_the_errors_pays_for_no_heavy_package() -> None:
    script = (
        "import sys, shards.errors\n"
        "print([name for name in ('pyarrow', 'pydantic', 'fsspec', 'numpy', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_errors_have_one_root() -> None:
    assert issubclass(UsageError, VitruvianError) and issubclass(ShardError, VitruvianError)


def test_load_config_reads_a_section(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("stage: {train: {inner: {count: 3}}}\n")
    assert load_config(path, Outer, "stage.train") == Outer(inner=Inner(count=3))


@pytest.mark.parametrize(
    ("text", "section", "expected"),
    [
        ("inner: {count: many}", None, r"params\.yaml: inner\.count: .*integer.*'many'"),
        ("inner: {size: 1}", None, r"inner\.size: unknown field; known here: count"),
        ("rate: 1", None, "inner: required, but missing"),
        ("a: {b: 1}", "a.c", "section 'a.c' not found: no 'c' among: b"),
        ("a: 1", "a.c", "no 'c' among: int"),
        ("a: [", None, "not valid YAML"),
        ("- 1", None, "top level"),
    ],
)
def test_config_errors_name_file_field_value_and_what_is_allowed(
    tmp_path: Path, text: str, section: str | None, expected: str
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=expected) as caught:
        load_config(path, Outer, section)
    assert str(path) in str(caught.value)


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.yaml: no such"):
        load_config(tmp_path / "none.yaml", Outer)


@pytest.mark.parametrize(
    ("url", "folder", "at"),
    [
        ("a/b.tar", "a", "a/b.tar"),
        ("b.tar", ".", "./b.tar"),
        ("/b.tar", "/", "/b.tar"),
        ("memory://b.tar", "memory://", "memory://b.tar"),
        ("s3://bucket/p/b.tar", "s3://bucket/p", "s3://bucket/p/b.tar"),
    ],
)
def test_urls_split_into_folder_and_name(url: str, folder: str, at: str) -> None:
    store, name = open_url(url)
    assert (store.url, name, store.at(name)) == (folder, "b.tar", at)


def test_a_store_reads_what_is_there_and_says_what_is_not(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"0123456789")
    for store in (Store(str(tmp_path)), Store(f"file://{tmp_path}")):
        assert store.read_range("x", 2, 5) == b"234"
        assert (store.size("x"), store.size("y"), store.names()) == (10, None, ["x"])
        with pytest.raises(ShardError, match=r"bytes 5\.\.12 \(7\), got 5"):
            store.read_range("x", 5, 12)


def test_summary_counts_samples_bytes_members_and_rejects(
    dataset_folder: Path, make_samples: MakeSamples
) -> None:
    summary = summarise(dataset_folder)
    samples = make_samples(13)
    depth = sum(len(sample.members["depth.png"]) for sample in samples)
    assert (summary["shards"], summary["samples"], summary["rejects"]) == (3, 13, {"decode:truncated": 3})
    assert summary["members"]["depth.png"] == {"samples": 13, "bytes": depth}
    assert summary["provenance"] == {"made": "by a test"}
    assert summary["digest"] == Dataset.open(dataset_folder).digest
    files = [path for path in dataset_folder.iterdir() if path.suffix in (".tar", ".parquet")]
    assert summary["bytes"] == sum(path.stat().st_size for path in files)
    assert summarise(dataset_folder / "part-000001.tar")["samples"] == 5


def test_inspect_prints_tables_and_json(dataset_folder: Path) -> None:
    shown = CliRunner().invoke(app, ["inspect", str(dataset_folder)])
    assert shown.exit_code == 0
    for word in ("samples", "13", "depth.png", "decode:truncated", "part-000002", "by a test"):
        assert word in shown.stdout
    as_json = CliRunner().invoke(app, ["inspect", "--json", str(dataset_folder)])
    assert json.loads(as_json.stdout) == summarise(dataset_folder)


@pytest.mark.parametrize("options", [[], ["--deep", "--quiet"]])
def test_verify_exits_0_when_intact(dataset_folder: Path, options: list[str]) -> None:
    done = CliRunner().invoke(app, ["verify", str(dataset_folder), *options])
    assert done.exit_code == 0, done.output


def test_verify_exits_1_with_the_list(dataset_folder: Path) -> None:
    (dataset_folder / "part-000000.tar").unlink()
    (dataset_folder / "part-000001.parquet").write_bytes(b"")
    done = CliRunner().invoke(app, ["verify", str(dataset_folder), "--deep"])
    assert done.exit_code == 1
    assert "file:missing" in done.stdout and "part-000000.tar" in done.stdout
    as_json = CliRunner().invoke(app, ["verify", "--json", str(dataset_folder)])
    assert as_json.exit_code == 1
    assert [found["kind"] for found in json.loads(as_json.stdout)["problems"]] == [
        "file:missing",
        "file:size",
    ]


def test_the_installed_command_names_a_missing_dataset(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from pipelines.cli import main; main()",
        "shards",
        "inspect",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and "manifest.json" in done.stderr

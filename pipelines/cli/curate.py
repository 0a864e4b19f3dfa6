"""`vitruvian curate`: annotate (models, once), select and explain (rules), materialise (bytes into
shards).
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, cast

import typer

from curation.job import Job
from pipelines.cli.calibrate import calibrate
from pipelines.cli.page import report
from shards.config import Config, load_config
from shards.errors import UsageError
from shards.manifest import Manifest
from shards.units import Outcome, close_stage, open_stage, pending

if TYPE_CHECKING:
    from curation.rules import RuleSet

app = typer.Typer(
    no_args_is_help=True, help="Decide, select and materialise images of people from a raw pool."
)


ConfigT = TypeVar("ConfigT", bound=Config)
Outcomes = Callable[..., Iterator[Outcome]]

Folder = Annotated[
    Path, typer.Option("--out", help="Output folder; an earlier run of the same is continued.")
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file; the defaults when not given.")]
Section = Annotated[str | None, typer.Option("--section", help="Dotted path in the YAML: curate.annotate.")]
Replace = Annotated[bool, typer.Option("--replace", help="Delete what another configuration made in --out.")]
Executor = Annotated[str, typer.Option("--executor", help="inline (this process) or ray.")]
Workers = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes under ray; one per CPU of the cluster.")
]
Gpus = Annotated[
    Literal["none", "auto", "one"],
    typer.Option("--gpus", help="For processes under ray: none, a share of one if there is any, or of one."),
]
GpuShare = Annotated[
    float, typer.Option("--gpu-share", min=0.01, max=1, help="Share of a GPU that each process takes.")
]
Stall = Annotated[
    float, typer.Option("--stall", min=1, help="Seconds without CPU time after which a process is killed.")
]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
PoolPath = Annotated[
    str, typer.Argument(help="A folder of images, a folder of tars, a dataset, or a tar; a path or a URL.")
]
Annotations = Annotated[str, typer.Argument(help="The output of `curate annotate`; a path or a URL.")]
Rules = Annotated[
    str | None,
    typer.Option(
        "--rules",
        help="A rule set: general, general-100m, general-300m, humans, humans-100m; or a YAML file.",
    ),
]
Memory = Annotated[float, typer.Option("--memory", min=0.1, help="GiB that resolving duplicates may take.")]
Scratch = Annotated[
    Path | None,
    typer.Option(
        "--scratch", help="Folder for temporary arrays, 40 to 340 bytes an input; in --out if not given."
    ),
]


@app.command()
def annotate(
    pool: PoolPath,
    out: Folder,
    config: ConfigFile = None,
    section: Section = None,
    detector: Annotated[
        str | None,
        typer.Option("--detector", help="A known detector, or a path that ends in .onnx; over --config."),
    ] = None,
    executor: Executor = "inline",
    workers: Workers = None,
    gpus: Gpus = "none",
    gpu_share: GpuShare = 1.0,
    stall: Stall = 1800.0,
    replace: Replace = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Measure every input of POOL once: decoding, quality, hashes, text, scores, people. Decides nothing."""
    from curation.annotate import AnnotateConfig, plan_annotate

    settings = _load(config, AnnotateConfig, section)
    if detector is not None:
        from curation.detectors import detector_config

        settings = settings.model_copy(update={"detector": detector_config(detector)})
    job = plan_annotate(cast(Any, _place(pool)), settings)
    outcomes = _outcomes(executor, workers, gpus=gpus, gpu_share=gpu_share, stall_s=stall)
    manifest = _run(job, out, outcomes, replace=replace, progress=not quiet)
    bad = _total_rejects(manifest)
    if as_json:
        _print_json({"out": str(out), "inputs": manifest.samples, "statuses": bad, "digest": manifest.digest})
    else:
        problems = ", ".join(f"{n} {reason}" for reason, n in bad.items()) or "all decoded"
        typer.echo(f"{out}: {manifest.samples} inputs annotated ({problems})")
    _end(manifest, out)


@app.command()
def select(
    annotations: Annotations,
    out: Folder,
    rules: Rules = None,
    config: ConfigFile = None,
    section: Section = None,
    share: Annotated[
        float | None, typer.Option("--share", help="Keep this share of what the rules keep, 0 to 1, by key.")
    ] = None,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Of --share; smaller shares lie within larger.")
    ] = 0,
    memory: Memory = 4.0,
    scratch: Scratch = None,
    compare: Annotated[
        str | None,
        typer.Option("--explain", help="A selection or a rule set: print what moves from there to this one."),
    ] = None,
    replace: Replace = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Keep or reject every annotated input for one reason; no pixel is read. Prints the funnel.

    The rules are those of --rules, or of --config and --section; `humans` (the paper's) when none is given.
    """
    from curation.decisions import funnel
    from curation.select import plan_select

    chosen = _rules(rules, config, section)
    if share is not None:
        chosen = _with_share(chosen, share, seed)
    place = _place(annotations)
    job = plan_select(place, chosen, memory=_bytes(memory), scratch=scratch)
    manifest = _run(job, out, _outcomes("inline", None), replace=replace, progress=False, quiet=quiet)
    if not manifest.quarantined:
        counts = funnel(out)
        told: dict[str, Any] = {"out": str(out), **counts}
        if compare is not None:
            with _selection(place, compare, memory, scratch) as other:
                told["explain"] = _explain(other, out)
        if as_json:
            _print_json(told)
        elif not quiet:
            _print_funnel(counts)
        if compare is not None and not as_json:
            _print_moves(told["explain"])
    _end(manifest, out)


@app.command()
def explain(
    annotations: Annotations,
    before: Annotated[
        str, typer.Argument(help="The output of `curate select`, or a rule set: name or YAML file.")
    ],
    after: Annotated[str, typer.Argument(help="The same: what BEFORE is compared with.")],
    thumbnails: Annotated[
        Path | None,
        typer.Option("--thumbnails", help="Write pictures of what moved: .html or .png. Needs --pool."),
    ] = None,
    pool: Annotated[
        str | None, typer.Option("--pool", help="The pool that was annotated, for --thumbnails.")
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Pictures of each move.")] = 12,
    memory: Memory = 4.0,
    scratch: Scratch = None,
    as_json: AsJson = False,
) -> None:
    """Compare two selections of the same annotations: how many inputs moved, from which reason to which.

    A rule set is applied on the fly, into a temporary folder.
    """
    from curation.explain import contact_sheet
    from curation.explain import explain as compare

    if thumbnails is not None and pool is None:
        raise UsageError("--thumbnails shows original pictures: say where they are with --pool")
    if thumbnails is not None and thumbnails.suffix not in (".html", ".png"):
        raise UsageError(f"--thumbnails {thumbnails}: expected a name that ends in .html or .png")
    place = _place(annotations)
    with (
        _selection(place, before, memory, scratch) as one,
        _selection(place, after, memory, scratch) as other,
    ):
        explanation = compare(one, other, samples if thumbnails else 0)
    if thumbnails is not None and pool is not None:
        contact_sheet(_place(pool), place, explanation, thumbnails)
    _print_json(explanation.to_json()) if as_json else _print_moves(explanation.to_json())


@app.command()
def materialise(
    pool: PoolPath,
    annotations: Annotations,
    selection: Annotated[Path, typer.Argument(help="The output of `curate select`.")],
    out: Folder,
    config: ConfigFile = None,
    section: Section = None,
    executor: Executor = "inline",
    workers: Workers = None,
    replace: Replace = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Copy the original bytes of every kept image of POOL into shards, with where they came from.

    With `resize` in the configuration each image becomes a square instead, for pretraining.
    """
    from curation.materialise import MaterialiseConfig, plan_materialise

    settings = _load(config, MaterialiseConfig, section)
    job = plan_materialise(_place(pool), _place(annotations), selection, out, settings)
    manifest = _run(job, out, _outcomes(executor, workers), replace=replace, progress=not quiet)
    if as_json:
        _print_json({"out": str(out), "samples": manifest.samples, "digest": manifest.digest})
    else:
        typer.echo(f"{out}: {manifest.samples} images in {len(manifest.shards)} shards")
    _end(manifest, out)


app.command()(report)
app.command()(calibrate)


def _place(url: str) -> str | Path:
    """A URL as it is (a path would lose a slash), anything else as a path."""
    return url if "://" in url else Path(url)


def _bytes(gib: float) -> int:
    return int(gib * 2**30)


def _rules(name: str | None, config: Path | None, section: str | None) -> "RuleSet":
    from curation.rules import load_rules

    if name is not None and config is not None:
        raise UsageError("give the rules once: with --rules, or with --config and --section")
    if config is None and section is not None:
        raise UsageError("--section is a place in the file of --config, which is not given")
    return load_rules(name or "humans") if config is None else load_rules(config, section)


def _with_share(rules: "RuleSet", share: float, seed: int) -> "RuleSet":
    from curation.rules import Subset
    from shards.config import parse_config

    subset = parse_config({"share": share, "seed": seed}, Subset, "--share, --seed")
    return rules.model_copy(update={"subset": subset})


@contextmanager
def _selection(annotations: str | Path, name: str, memory: float, scratch: Path | None) -> Iterator[Path]:
    """A finished selection: the folder `name`, or what the rule set `name` selects, in a temporary folder."""
    if Path(name).is_dir():
        yield Path(name)
        return
    from curation.rules import load_rules
    from curation.select import plan_select

    job = plan_select(annotations, load_rules(name), memory=_bytes(memory))
    with TemporaryDirectory(dir=scratch) as folder:
        manifest = _run(job, Path(folder), _outcomes("inline", None), replace=False, progress=False)
        _end(manifest, Path(folder))
        yield Path(folder)


def _explain(before: Path, after: Path) -> dict[str, Any]:
    from curation.explain import explain as compare

    return compare(before, after).to_json()


def _load(path: Path | None, model: type[ConfigT], section: str | None) -> ConfigT:
    return model() if path is None else load_config(path, model, section)


def _run(
    job: Job, out: Path, outcomes: Outcomes, *, replace: bool, progress: bool, quiet: bool = False
) -> Manifest:
    """Run the pending units of a job into `out`; returns the manifest."""
    stage = open_stage(out, job.name, job.key, replace=replace)
    waiting = pending(stage, job.units)
    with _progress(job.name, len(waiting), shown=progress and bool(waiting)) as advance:
        for outcome in outcomes(stage, waiting, job.worker):
            advance(outcome)
    if job.units and not waiting and not quiet:
        typer.echo(f"{out}: up to date: same key, same inputs, all {len(job.units)} units done", err=True)
    return close_stage(stage, job.units, job.provenance)


def _outcomes(executor: str, workers: int | None, **limits: Any) -> Outcomes:
    from pipelines.executors import run_units

    # run_units checks the names, and says what is allowed.
    return partial(run_units, executor=cast(Any, executor), workers=workers, **limits)


@contextmanager
def _progress(name: str, units: int, shown: bool) -> Iterator[Callable[[Outcome], None]]:
    """A bar on stderr over units, with samples, their rate and the time left; yields what advances it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    parts = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("units, {task.fields[samples]} samples, {task.fields[rate]:.1f}/s"),
        TimeRemainingColumn(),
    )
    with Progress(*parts, console=Console(stderr=True), disable=not shown) as bar:
        task, samples = bar.add_task(name, total=units, samples=0, rate=0.0), 0

        def advance(outcome: Outcome) -> None:
            nonlocal samples
            samples += outcome.samples
            elapsed = bar.tasks[task].elapsed or 1e-9
            bar.update(task, advance=1, samples=samples, rate=samples / elapsed)

        yield advance


def _end(manifest: Manifest, out: Path) -> None:
    """Exit with 3, listing them, when units are in quarantine."""
    if not manifest.quarantined:
        return
    typer.echo(f"{out}: {len(manifest.quarantined)} units in quarantine; run again to retry them:", err=True)
    for name in manifest.quarantined:
        reason = json.loads((out / ".stage" / "quarantine" / f"{name}.json").read_bytes())["error"]
        typer.echo(f"  {name}: {reason.strip().splitlines()[-1]}", err=True)
    raise typer.Exit(3)


def _total_rejects(manifest: Manifest) -> dict[str, int]:
    total = Counter[str]()
    for shard in manifest.shards:
        total.update(shard.rejects)
    return dict(sorted(total.items()))


def _print_json(content: dict[str, Any]) -> None:
    typer.echo(json.dumps(content, indent=1, ensure_ascii=False))


def _print_funnel(counts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    table.add_column("rule", overflow="fold")
    for header in ("entered", "rejected", "left", "reason", "count"):
        table.add_column(header, justify="left" if header == "reason" else "right", overflow="fold")
    for stage in counts["stages"]:
        numbers = [f"{stage[name]:,}" for name in ("entered", "rejected", "left")]
        reasons = list(stage["reasons"].items()) or [("", "")]
        for row, (reason, count) in enumerate(reasons):
            first = [stage["stage"], *numbers] if row == 0 else [""] * 4
            table.add_row(*first, reason, str(count))
    console = Console(markup=False)
    console.print(table)
    console.print(f"{counts['kept']:,} of {counts['inputs']:,} inputs kept")


def _print_moves(told: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for header in ("before", "after", "inputs"):
        table.add_column(header, justify="right" if header == "inputs" else "left", overflow="fold")
    for move in told["moves"]:
        table.add_row(move["before"], move["after"], f"{move['count']:,}")
    console = Console(markup=False)
    if told["moves"]:
        console.print(table)
    kept = told["kept"]
    console.print(
        f"{told['moved']:,} of {told['inputs']:,} inputs moved; "
        f"kept {kept['before']:,} before, {kept['after']:,} after"
    )

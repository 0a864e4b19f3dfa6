"""`vitruvian curate calibrate`: what the detector's scores are worth, on a labelled set."""

from pathlib import Path
from typing import Annotated, Any

import typer


def calibrate(
    annotations: Annotated[Path, typer.Argument(help="The output of `curate annotate` on labelled images.")],
    labels: Annotated[
        Path, typer.Argument(help="COCO's JSON, or a CSV with the columns source,person (0, 1).")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder for calibration.json and reliability.png.")],
    iou: Annotated[float, typer.Option("--iou", help="Overlap with a labelled person that is right.")] = 0.5,
    min_side: Annotated[
        float, typer.Option("--min-side", help="px; leave out boxes with a shorter side.")
    ] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Map the detector's score to precision; name the scores at which precision reaches 0.9, 0.95, 0.99."""
    from curation.calibrate import CalibrateConfig, write_calibration
    from curation.calibrate import calibrate as measure
    from shards.config import parse_config

    given = {"iou": iou, "min_side": float(min_side)}
    calibration = measure(annotations, labels, parse_config(given, CalibrateConfig, "calibrate"))
    write_calibration(out, calibration)
    if as_json:
        typer.echo(calibration.model_dump_json(indent=1))
        return
    judged = sum(block.count for block in calibration.blocks)
    typer.echo(f"{out}: {judged} {calibration.kind} judged in {calibration.images} images")
    for target, points in calibration.at_precision.items():
        typer.echo(
            f"  precision {target}: "
            + "; ".join(f"{_say(level)} ({bound})" for bound, level in points.items())
        )


def _say(level: Any) -> str:
    if level is None:
        return "not reached"
    return f"score > {level.score:.5f}, {level.correct} of {level.count} right, recall {level.recall:.3f}"

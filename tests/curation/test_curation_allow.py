"""What a pool was allowed to reach when it was annotated, it may reach when it is materialised."""

from collections.abc import Callable
from pathlib import Path

from curation.annotate import AnnotateConfig, plan_annotate
from curation.job import Job
from curation.materialise import MaterialiseConfig, plan_materialise
from curation.pool import PoolConfig
from curation.rules import RuleSet
from curation.select import plan_select
from shards.manifest import Manifest
from shards.reader import Dataset


def test_links_that_were_followed_are_followed_again(
    files_pool: Path, run_job: Callable[[Job, Path], Manifest], tmp_path: Path
) -> None:
    pool, target = tmp_path / "pool", files_pool / "people" / "astronaut.png"
    pool.mkdir()
    (pool / "linked.png").symlink_to(target)
    config = AnnotateConfig(pool=PoolConfig(allow=(str(files_pool),)))
    annotations, selection, out = (tmp_path / name for name in ("annotations", "selection", "curated"))
    run_job(plan_annotate(pool, config), annotations)
    run_job(plan_select(annotations, RuleSet(rules=())), selection)
    run_job(plan_materialise(pool, annotations, selection, out, MaterialiseConfig()), out)
    assert Dataset.open(out)[0].members["png"] == target.read_bytes()

"""Two gloo ranks against one: the same numbers, and the same end when something goes wrong on one of them.

torchrun runs this very file as `main` on two ranks; every case is a run of the real loop.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo import utils as dynamo
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode

from shards.errors import VitruvianError
from train.data.dataset import Batch
from train.engine.checkpoint import full_state, read_weights, save_weights
from train.engine.distributed import World, open_world, prepare_blocks, shard
from train.engine.loop import LoopConfig, Step, Watch, compute_gradients, fit, unwatched
from train.engine.optim import OptimConfig
from train.engine.resume import Checkpoints
from train.engine.stop import Stopped
from train.engine.telemetry import read_log
from train.models.initial import initialise
from train.models.mae import MAE, MAEConfig
from train.models.vit import ViTConfig

pytestmark = pytest.mark.usefixtures("one_thread")

VIT = ViTConfig(width=32, depth=3, heads=4, image_size=(64, 64))
CONFIG = MAEConfig(encoder=VIT, decoder_width=24, decoder_depth=2, decoder_heads=3)
OPTIM = OptimConfig(learning_rate=3e-3, warmup_steps=2)
STEPS, BATCH = 8, 8


@dataclass
class Pictures:
    """Smooth noise, a function of the position; rank `poisoned` gets a loss that is no number at step 5."""

    accumulate: int = 1
    poisoned: int = -1
    batch: int = BATCH

    def batches(self, start: int, stop: int, *, rank: int, world: int) -> Iterator[Batch]:
        share = self.batch // (self.accumulate * world)
        for step in range(start, stop):
            for part in range(self.accumulate):
                first = step * self.batch + (rank * self.accumulate + part) * share
                scale = torch.nan if step == 5 and rank == self.poisoned else 1.0
                yield {**pictures(range(first, first + share)), "scale": torch.tensor(scale)}


def pictures(places: range) -> Batch:
    images, noise = [], []
    for place in places:
        generator = torch.Generator().manual_seed(place)
        coarse = torch.rand(1, 3, 6, 6, generator=generator)
        images.append(nn.functional.interpolate(coarse, (64, 64), mode="bicubic")[0].mul(255).clamp(0, 255))
        noise.append(torch.rand(VIT.patches, generator=generator))
    return {
        "image": torch.stack(images).byte(),
        "noise": torch.stack(noise),
        "key": [f"k{p}" for p in places],
    }


def objective(model: nn.Module, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    return model(batch["image"], batch["noise"]).loss() * batch["scale"], {}


def build(world: World, **prepared: Any) -> MAE:
    model = MAE(CONFIG)
    prepare_blocks(model.units, **prepared)
    shard(model, model.units, world)
    initialise(model, 0)
    return model


def run(folder: Path, source: Pictures, world: World, watch: Watch = unwatched, **prepared: Any) -> MAE:
    """Train in `folder`, with a checkpoint at step 4, and write the weights beside the log."""
    model = build(world, **prepared)
    folder.mkdir(parents=True, exist_ok=True)
    loop = LoopConfig(steps=STEPS, log_every=1, checkpoint_every=4)
    fit(model, objective, source, loop, OPTIM, world, folder, watch=watch)
    weights = full_state(model)
    if world.is_main:
        save_weights(folder / "weights.safetensors", weights, {})
    return model


# --- what the ranks do

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "recomputed": {"checkpoint_activations": True},
    "compiled": {"compile": True, "backend": "aot_eager"},
    "both": {"checkpoint_activations": True, "compile": True, "backend": "aot_eager"},
}
SLOW = {"inductor": {"checkpoint_activations": True, "compile": True}}
ON_RANKS = ("plain", "both", "accumulated", "poisoned", "unwritable", "stopped")


def main(out: Path, *cases: str) -> None:
    """On every rank: the cases named, each of which leaves NAME-RANK.json (what the rank saw) in `out`."""
    out.mkdir(exist_ok=True)
    with open_world() as world:
        for name in cases:
            seen = CASES[name](out / name, world)
            (out / f"{name}-{world.rank}.json").write_text(json.dumps(seen))
            world.barrier()
    sys.stdout.flush()
    os._exit(0)  # gloo's threads may abort the interpreter's own end


def variant(name: str) -> Callable[[Path, World], Any]:
    """Returns the names of parameters, and how many graphs were compiled."""

    def case(out: Path, world: World) -> Any:
        torch._dynamo.reset()
        dynamo.counters.clear()
        model = run(out, Pictures(), world, **(VARIANTS | SLOW)[name])
        return {"names": list(model.state_dict()), "graphs": dynamo.counters["stats"]["unique_graphs"]}

    return case


def accumulated(out: Path, world: World) -> Any:
    """Returns how often gradients are reduced in a step of one and of two micro-batches."""
    run(out, Pictures(accumulate=2), world)
    counts = []
    for accumulate in (1, 2):
        model, source = build(world), Pictures(accumulate)
        micro = list(source.batches(0, 1, rank=world.rank, world=world.size))
        with Reductions() as counted:  # type: ignore[no-untyped-call]
            compute_gradients(model, objective, micro, 1.0)
        counts.append(counted.count)
    return counts


class Reductions(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the reductions of gradients over the ranks."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += "reduce_scatter" in str(func)
        return func(*args, **(kwargs or {}))


def poisoned(out: Path, world: World) -> Any:
    """Rank 1 alone meets a loss that is no number. Returns the message, and whether any weight changed."""
    model = build(world)
    before: dict[str, Tensor] = {}

    def watch(done: int, micro: list[Batch], step: Step) -> None:
        before.update({name: local(value).clone() for name, value in model.named_parameters()})

    out.mkdir(exist_ok=True)
    try:
        loop = LoopConfig(steps=STEPS, log_every=1, checkpoint_every=4)
        fit(model, objective, Pictures(poisoned=1), loop, OPTIM, world, out, watch=watch)
    except VitruvianError as error:
        same = all(torch.equal(before[name], local(value)) for name, value in model.named_parameters())
        return {"error": str(error), "same": same}


def local(value: Tensor) -> Tensor:
    """This rank's shard."""
    return value.to_local() if isinstance(value, DTensor) else value


def unwritable(out: Path, world: World) -> Any:
    """Rank 1's disk is full at the second save. Returns the error and the checkpoints that are whole."""
    from torch.distributed.checkpoint.filesystem import FileSystemWriter

    real: Any = FileSystemWriter.write_data

    def full(self: Any, *given: Any) -> Any:
        if world.rank == 1 and f"{STEPS:08d}" in str(self.path):
            raise OSError(28, "No space left on device")
        return real(self, *given)

    FileSystemWriter.write_data = full  # type: ignore[method-assign, assignment]
    try:
        run(out, Pictures(), world)
    except VitruvianError as error:
        return {"error": str(error), "steps": Checkpoints(out / "checkpoints", world).steps()}
    finally:
        FileSystemWriter.write_data = real  # type: ignore[method-assign]


def stopped(out: Path, world: World) -> Any:
    """SIGTERM reaches rank 1 alone after step 2; then the run is taken up again."""

    def watch(done: int, micro: list[Batch], step: Step) -> None:
        if done == 2 and world.rank == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    try:
        run(out, Pictures(), world, watch)
    except Stopped as error:
        steps = Checkpoints(out / "checkpoints", world).steps()
        world.barrier()
        run(out, Pictures(), world)
        return {"error": str(error), "code": error.exit_code, "steps": steps}


CASES: dict[str, Callable[[Path, World], Any]] = {
    **{name: variant(name) for name in VARIANTS | SLOW},
    "accumulated": accumulated,
    "poisoned": poisoned,
    "unwritable": unwritable,
    "stopped": stopped,
}


# --- what is expected of them


def launch(out: Path, *cases: str, ranks: int) -> None:
    """Run `main` on so many ranks; a single one has no process group."""
    command = [sys.executable, __file__, str(out), *cases]
    if ranks > 1:
        command[1:1] = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which two ranks have run all cases."""
    out = tmp_path_factory.mktemp("ranks")
    launch(out, *ON_RANKS, ranks=2)
    return out


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which one rank has run all variants (in its own process: here, types are checked by
    code that the compiler cannot read).
    """
    out = tmp_path_factory.mktemp("alone")
    launch(out, *VARIANTS, ranks=1)
    return out


@pytest.fixture(scope="module")
def one(alone: Path) -> Path:
    """A plain run of one rank."""
    return alone / "plain"


def losses(folder: Path) -> list[float]:
    found = [line["loss"] for line in read_log(folder)]
    assert len(found) == STEPS
    return found


def weights(folder: Path) -> dict[str, Tensor]:
    return read_weights(folder / "weights.safetensors")[0]


def seen(folder: Path, case: str) -> list[Any]:
    """What each rank saw."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob(f"{case}-*.json"))]


def same_bits(first: Path, second: Path) -> None:
    assert losses(first) == losses(second)
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def close(first: Path, second: Path) -> None:
    """Losses and weights within 1e-6; but not the biases of keys. Softmax cancels them, so their gradient is
    nothing but rounding, which AdamW blows up to steps of its usual size; no output depends on them.
    """
    assert losses(first) == pytest.approx(losses(second), abs=1e-6, rel=0)
    theirs = weights(second)
    for name, value in weights(first).items():
        difference = (value - theirs[name]).abs()
        if name.endswith("qkv.bias"):
            difference.view(3, -1)[1] = 0
        assert difference.max().item() <= 1e-6, name


def test_two_ranks_equal_one(ranks: Path, one: Path) -> None:
    close(ranks / "plain", one)


@pytest.mark.parametrize("name", ["recomputed", "compiled", "both"])
def test_recomputing_and_compiling_change_no_bit(alone: Path, name: str) -> None:
    same_bits(alone / name, alone / "plain")
    assert seen(alone, name)[0]["names"] == seen(alone, "plain")[0]["names"]
    # one graph for the encoder's blocks, one for the decoder's
    assert seen(alone, name)[0]["graphs"] == (0 if name == "recomputed" else 2)


def test_recomputing_and_compiling_change_no_bit_on_two_ranks(alone: Path, ranks: Path) -> None:
    same_bits(ranks / "both", ranks / "plain")
    assert seen(ranks, "both") == seen(alone, "both") * 2


def test_recomputing_keeps_no_activations_inside_blocks() -> None:
    def kept(**prepared: Any) -> int:
        sizes: list[int] = []

        def pack(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        model = build(World(0, 1, torch.device("cpu")), **prepared)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            objective(model, next(Pictures().batches(0, 1, rank=0, world=1)))
        return sum(sizes)

    assert kept(checkpoint_activations=True) < kept() / 2


@pytest.mark.slow
def test_inductor_changes_little_on_one_rank_and_on_two(one: Path, tmp_path: Path) -> None:
    for ranks in (1, 2):
        launch(tmp_path / str(ranks), "inductor", ranks=ranks)
        assert losses(tmp_path / str(ranks) / "inductor") == pytest.approx(losses(one), abs=1e-5)
        assert seen(tmp_path / str(ranks), "inductor")[0]["graphs"] == 2


@pytest.mark.parametrize("accumulate", [2, 4])
def test_accumulation_changes_nothing_but_memory(one: Path, accumulate: int, tmp_path: Path) -> None:
    run(tmp_path, Pictures(accumulate), World(0, 1, torch.device("cpu")))
    close(tmp_path, one)


def test_accumulation_on_two_ranks_reduces_gradients_once(ranks: Path, one: Path) -> None:
    close(ranks / "accumulated", one)
    units = VIT.depth + CONFIG.decoder_depth + 1
    assert seen(ranks, "accumulated") == [[units, units]] * 2


def test_a_bad_loss_on_one_rank_stops_both_and_names_its_samples(ranks: Path) -> None:
    first, second = seen(ranks, "poisoned")
    assert first == second
    assert first["same"]
    assert "step 5, rank 1: loss is not finite" in first["error"]
    assert "Samples: k44, k45, k46, k47." in first["error"]


def test_a_full_disk_on_one_rank_fails_both_and_keeps_the_former_checkpoint(ranks: Path) -> None:
    first, second = seen(ranks, "unwritable")
    assert first == second
    assert first["steps"] == [4]
    assert "step-00000008: the checkpoint could not be written (rank 1: OSError(28, 'No sp" in first["error"]


def test_sigterm_on_one_rank_stops_both_with_a_checkpoint(ranks: Path) -> None:
    first, second = seen(ranks, "stopped")
    assert first == second
    assert (first["steps"], first["code"]) == ([3], 143)
    assert "stopped by SIGTERM after step 3 of 8" in first["error"]
    same_bits(ranks / "stopped", ranks / "plain")  # as it was taken up again


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])

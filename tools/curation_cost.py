"""What annotating a pool takes: nodes, hours, requests, bytes and money, as Markdown.

    python tools/curation_cost.py [--rates overhead.json] [--images 1e9] [--gpu-rate 400 --gpu-price 1.0] ...

`--rates` is the last line of `make bench NAME=curation_overhead` on the machine type that will do the work.
Its `cpu_s_per_image`, `images_per_s_of_step` and `row_bytes` are the only measured numbers here; everything
else is an argument with a default that the output repeats. Prices are round numbers to be replaced by yours,
and a GPU is counted only if you say how many images a second it detects on (`--gpu-rate`).
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

KIB, MIB, GIB, TB = 1 << 10, 1 << 20, 1 << 30, 1e12


@dataclass(frozen=True)
class Plan:
    """The work of one pool. CPU seconds are a core's. `gpu_s_per_image`: 0 without GPUs."""

    images: float
    bytes_per_image: float
    images_per_unit: float
    row_bytes: float
    read_bytes: float
    reads: int
    cpu_s_per_image: float
    gpu_s_per_image: float

    @property
    def core_hours(self) -> float:
        return self.images * self.cpu_s_per_image / 3600

    @property
    def gpu_hours(self) -> float:
        return self.images * self.gpu_s_per_image / 3600

    @property
    def units(self) -> int:
        return math.ceil(self.images / self.images_per_unit)

    @property
    def pool_bytes(self) -> float:
        return self.images * self.bytes_per_image

    @property
    def gets(self) -> int:
        """Each unit is read `reads` times, in ranges of `read_bytes`."""
        per_unit = math.ceil(self.images_per_unit * self.bytes_per_image / self.read_bytes)
        return self.reads * self.units * per_unit

    @property
    def lists(self) -> int:
        """A thousand names an answer."""
        return math.ceil(self.units / 1000)


@dataclass(frozen=True)
class Node:
    """A machine: `cores` that work, `gpus`, and what an hour of it costs."""

    name: str
    cores: int
    gpus: int
    price_h: float


def hours(plan: Plan, node: Node, nodes: int) -> float:
    """How long `nodes` machines take: whichever of their cores and GPUs is the slower."""
    on_cores = plan.core_hours / (node.cores * nodes)
    on_gpus = plan.gpu_hours / (node.gpus * nodes) if node.gpus else 0.0
    return max(on_cores, on_gpus)


def nodes_for(plan: Plan, node: Node, within_h: float) -> int:
    """The fewest machines that are done within so many hours."""
    return max(1, math.ceil(hours(plan, node, 1) / within_h - 1e-9))


def load_rates(given: argparse.Namespace) -> tuple[float, float, float]:
    """CPU seconds an image, of all steps and of those that a GPU would not do; bytes of a row."""
    rates = json.loads(given.rates.read_text().strip().splitlines()[-1]) if given.rates else {}
    whole = given.cpu_s_per_image or rates.get("cpu_s_per_image")
    if whole is None:
        raise SystemExit("give --rates FILE (from curation_overhead) or --cpu-s-per-image SECONDS")
    steps = {step: 1 / rate for step, rate in rates.get("images_per_s_of_step", {}).items()}
    moved = sum(steps[step] for step in given.gpu_steps if step in steps) / (sum(steps.values()) or 1.0)
    return whole, whole * (1 - moved), given.row_bytes or rates.get("row_bytes", 1000.0)


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def times(plan: Plan, node: Node, within: Sequence[float]) -> list[list[str]]:
    """A row per deadline: machines, hours, machine-hours, money, bytes a second that each machine reads."""
    rows = []
    for limit in within:
        count = nodes_for(plan, node, limit)
        took = hours(plan, node, count)
        rate = plan.reads * plan.pool_bytes / (took * 3600 * count) / MIB
        cells = (f"{count:,}", f"{took:,.0f}", f"{count * took:,.0f}", f"{count * took * node.price_h:,.0f}")
        rows.append([node.name, f"{limit:g}", *cells, f"{rate:,.0f}"])
    return rows


def report(plans: Sequence[tuple[Plan, Node]], given: argparse.Namespace) -> str:
    """The whole page."""
    plan = plans[0][0]
    first = (
        f"{plan.images:,.0f} images of {plan.bytes_per_image / 1e3:,.0f} kB ({plan.pool_bytes / TB:,.0f} TB) "
        f"in {plan.units:,} units of {plan.images_per_unit:,.0f}; {plan.cpu_s_per_image:.3f} CPU s an image "
        f"({1 / plan.cpu_s_per_image:,.1f} images/s a core): {plan.core_hours:,.0f} core-hours."
    )
    header = ["node", "within h", "nodes", "hours", "node-hours", "$", "MiB/s a node"]
    machines = table(header, [row for each, node in plans for row in times(each, node, given.within)])
    return "\n\n".join([first, machines, requests(plan, given), assumptions(plans, given)])


def requests(plan: Plan, given: argparse.Namespace) -> str:
    """What the object store is asked for, and what comes out."""
    out, read = plan.images * plan.row_bytes, plan.reads * plan.pool_bytes
    rows = [
        ["GET (ranges)", f"{plan.gets:,}", f"{plan.gets / 1000 * given.get_price:,.0f}"],
        ["LIST", f"{plan.lists:,}", f"{plan.lists / 1000 * given.put_price:,.2f}"],
        ["read", f"{read / TB:,.0f} TB", f"{read / GIB * given.egress:,.0f}"],
        [
            "pool kept a month",
            f"{plan.pool_bytes / TB:,.0f} TB",
            f"{plan.pool_bytes / GIB * given.gb_month:,.0f}",
        ],
        ["tables written", f"{out / TB:,.2f} TB", f"{out / GIB * given.gb_month:,.0f}"],
        ["files written", f"{2 * plan.units:,}", "on the shared file system"],
    ]
    return table(["object store", "amount", "$"], rows)


def assumptions(plans: Sequence[tuple[Plan, Node]], given: argparse.Namespace) -> str:
    measured = f"from {given.rates}" if given.rates else "given by hand"
    nodes = "; ".join(f"{n.name}: {n.cores} cores, {n.gpus} GPUs, ${n.price_h:g}/h" for _, n in plans)
    lines = [
        f"Measured: CPU seconds an image ({measured}).",
        f"Assumed: {nodes}; ${given.get_price:g} per 1,000 GET, ${given.put_price:g} per 1,000 LIST or PUT, "
        f"${given.gb_month:g} per GiB and month, ${given.egress:g} per GiB read (0: same region); ranges of "
        f"{given.read_mib:g} MiB; {given.row_bytes:,.0f} bytes a row; all cores busy to the end.",
    ]
    if given.gpu_rate:
        steps = ", ".join(given.gpu_steps)
        lines.append(f"**Assumed, not measured**: {given.gpu_rate:g} images/s a GPU for: {steps}.")
    return "\n".join(f"* {line}" for line in lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rates", type=Path, help="JSON of curation_overhead")
    add("--cpu-s-per-image", type=float, help="instead of the measured one")
    add("--images", type=float, default=1e9)
    add("--bytes-per-image", type=float, default=200e3)
    add("--images-per-unit", type=float, default=5000, help="in a tar: 1 GB")
    add("--row-bytes", type=float, help="of a table, an image; measured, or 1000")
    add("--reads", type=int, default=2, help="of each unit: 2 with identity content, 1 with stat")
    add("--read-mib", type=float, default=16, help="bytes of one ranged GET")
    add("--within", type=float, nargs="+", default=[24, 72, 168], help="deadlines, hours")
    add("--cores", type=int, default=32, help="of a node")
    add("--node-price", type=float, default=0.5, help="$ an hour, spot")
    add("--gpu-rate", type=float, default=0.0, help="images/s of a GPU on --gpu-steps; 0: no GPU table")
    add("--gpu-steps", nargs="+", default=["detect"], help="steps that move to the GPU")
    add("--gpu-cores", type=int, default=32, help="of a node with GPUs")
    add("--gpus", type=int, default=1, help="of a node with GPUs")
    add("--gpu-price", type=float, default=1.0, help="$ an hour of a node with GPUs, spot")
    add("--get-price", type=float, default=0.0004, help="$ per 1,000")
    add("--put-price", type=float, default=0.005, help="$ per 1,000")
    add("--gb-month", type=float, default=0.023, help="$ per GiB and month")
    add("--egress", type=float, default=0.0, help="$ per GiB read; 0 within a region")
    return parser.parse_args()


def main() -> None:
    given = parse()
    whole, rest, given.row_bytes = load_rates(given)

    def plan(cpu_s: float, gpu_s: float) -> Plan:
        size = (given.images, given.bytes_per_image, given.images_per_unit, given.row_bytes)
        return Plan(*size, given.read_mib * MIB, given.reads, cpu_s, gpu_s)

    plans = [(plan(whole, 0.0), Node("CPU", given.cores, 0, given.node_price))]
    if given.gpu_rate:
        gpu = Node("GPU", given.gpu_cores, given.gpus, given.gpu_price)
        plans.append((plan(rest, 1 / given.gpu_rate), gpu))
    print(report(plans, given))


if __name__ == "__main__":
    main()

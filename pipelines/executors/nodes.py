"""How many processes a cluster takes, and how much of a node each may claim. Arithmetic but for `alive`."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CGROUP = Path("/sys/fs/cgroup/memory.max")


@dataclass(frozen=True)
class Node:
    """A live machine (or pod) of the cluster and what Ray may hand out there."""

    id: str
    cpus: float
    gpus: float


def alive(ray: Any) -> list[Node]:
    """The nodes that Ray holds for alive, those without CPUs (a head that only manages) included."""
    found = []
    for node in ray.nodes():
        if node["Alive"]:
            has = node["Resources"]
            found.append(Node(node["NodeID"], has.get("CPU", 0.0), has.get("GPU", 0.0)))
    return found


def capacity(nodes: Sequence[Node], gpu_share: float) -> int:
    """How many processes the cluster is for: one per CPU, or `1 / gpu_share` per GPU when they use GPUs."""
    if gpu_share:
        return sum(math.floor(node.gpus / gpu_share + 1e-9) for node in nodes)
    return max(1, sum(math.ceil(node.cpus) for node in nodes))


def cpu_share(nodes: Sequence[Node], workers: int) -> float:
    """CPUs that each of `workers` processes claims so that no node gives away its last one.

    Processes that claim every CPU leave nothing for whatever else Ray must run on the node, and it waits for
    ever (ray#44687). Of c CPUs, c - 1 are for the processes, of a single one the half.
    """
    return _floor(
        min((_room(node) / _on_node(node, nodes, workers) for node in _with_cpus(nodes)), default=1.0)
    )


def threads(nodes: Sequence[Node], workers: int) -> int:
    """Threads that each of `workers` processes may start so that no node runs more than it has CPUs."""
    per_node = (int(node.cpus) // _on_node(node, nodes, workers) for node in _with_cpus(nodes))
    return max(1, min(per_node, default=1))


def per_node(nodes: Sequence[Node], workers: int) -> int:
    """The most processes that a node is meant to carry."""
    return max((_on_node(node, nodes, workers) for node in _with_cpus(nodes)), default=workers)


def memory_bytes() -> int:
    """Physical memory of this machine, or what its container is limited to when that is less."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        limit = CGROUP.read_text().strip()
    except OSError:
        return physical
    return min(physical, int(limit)) if limit.isdigit() else physical


def _with_cpus(nodes: Sequence[Node]) -> list[Node]:
    return [node for node in nodes if node.cpus > 0]


def _on_node(node: Node, nodes: Sequence[Node], workers: int) -> int:
    total = sum(each.cpus for each in _with_cpus(nodes))
    return max(1, math.ceil(workers * node.cpus / total - 1e-9))


def _room(node: Node) -> float:
    return node.cpus - 1 if node.cpus >= 2 else node.cpus / 2


def _floor(share: float) -> float:
    # Ray counts in ten-thousandths of a CPU, and a process gains nothing from claiming more than one.
    return min(1.0, math.floor(share * 1e4 + 1e-6) / 1e4)

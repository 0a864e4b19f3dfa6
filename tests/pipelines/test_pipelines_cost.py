"""tools/curation_cost.py: the arithmetic, on numbers that can be done in the head."""

import json
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools" / "curation_cost.py"


def cost(*words: str) -> list[list[str]]:
    """The cells of all tables."""
    done = subprocess.run([sys.executable, str(TOOL), *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("|") and "---" not in line]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def row(cells: list[list[str]], *start: str) -> list[str]:
    (found,) = [line for line in cells if tuple(line[: len(start)]) == start]
    return found


def test_nodes_hours_requests_and_money(tmp_path: Path) -> None:
    # 0.36 s an image: 1e6 images are 100 core-hours; 10 images/s of detection are 0.1 s of it.
    rates = {
        "cpu_s_per_image": 0.36,
        "images_per_s_of_step": {"decode": 5.0, "detect": 10.0},
        "row_bytes": 1e6,
    }
    (tmp_path / "rates.json").write_text("noise\n" + json.dumps(rates) + "\n")
    what = [
        "--images",
        "1e6",
        "--bytes-per-image",
        "1048576",
        "--images-per-unit",
        "1024",
        "--read-mib",
        "64",
    ]
    nodes = ["--cores", "10", "--node-price", "2", "--within", "4", "10"]
    gpus = ["--gpu-rate", "10", "--gpus", "2", "--gpu-cores", "2", "--gpu-price", "3"]
    cells = cost("--rates", str(tmp_path / "rates.json"), *what, *nodes, *gpus)
    assert row(cells, "CPU", "10")[2:6] == ["1", "10", "10", "20"]
    assert row(cells, "CPU", "4")[2:6] == ["3", "3", "10", "20"]
    # 0.1 s of a GPU an image are 28 GPU-hours, 14 on a node; its two cores take 33 hours for the rest.
    assert row(cells, "GPU", "4")[2:6] == ["9", "4", "33", "100"]
    assert row(cells, "GET (ranges)")[1] == f"{2 * 977 * 16:,}"  # 977 units, 16 ranges, twice
    assert row(cells, "LIST")[1] == "1"
    assert row(cells, "tables written")[1] == "1.00 TB"


def test_a_pool_known_by_stat_is_read_once() -> None:
    by_hand = ["--cpu-s-per-image", "0.1", "--images", "5e6"]
    twice, once = cost(*by_hand), cost(*by_hand, "--reads", "1")
    assert (row(twice, "read")[1], row(once, "read")[1]) == ("2 TB", "1 TB")


def test_without_a_rate_nothing_is_made_up() -> None:
    done = subprocess.run([sys.executable, str(TOOL)], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "--rates" in done.stderr
    assert not [line for line in cost("--cpu-s-per-image", "0.1") if line[0] == "GPU"]

"""docs/conventions.md: every test it names exists, and every problem of the checks is explained."""

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "conventions.md").read_text(encoding="utf-8")


def test_every_convention_names_a_test_that_exists() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in HERE.glob("test_annotation_*.py"))
    defined = set(re.findall(r"^def (test_\w+)", sources, re.MULTILINE))
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 35
    assert named - defined == set()


def test_every_row_with_a_test_column_names_one() -> None:
    for table in re.findall(r"(?:^\|.*\n)+", PAGE, re.MULTILINE):
        header, _, *rows = table.strip().split("\n")
        if header.rstrip(" |").endswith("test"):
            assert [row for row in rows if "`test_" not in row.rsplit("|", 2)[1]] == []


def test_every_problem_is_explained() -> None:
    source = (HERE.parents[1] / "annotation" / "checks.py").read_text(encoding="utf-8")
    problems = set(re.findall(r'Problem\(\s*"([a-z]+:[a-z-]+)"', source))
    assert len(problems) == 17
    assert problems == set(re.findall(r"`([a-z]+:[a-z-]+)`", PAGE))

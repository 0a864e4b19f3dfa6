"""What all tests share."""

import sys

import pytest

_STATUS = pytest.StashKey[int]()


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[_STATUS] = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Tests that load Blender end as the command line does; the others as pytest does."""
    if "bpy" in sys.modules and _STATUS in config.stash:
        from pipelines.cli import (
            leave,
        )  # not at the top: what is imported before jaxtyping's hook goes unchecked

        leave(config.stash[_STATUS])

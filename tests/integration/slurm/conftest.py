"""One Slurm cluster for all tests that launch on it: making one takes 20 s."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.slurm import machine
from tests.integration.slurm.cluster import SlurmCluster


@pytest.fixture(scope="session")
def slurm(request: pytest.FixtureRequest) -> Iterator[SlurmCluster]:
    """A running cluster; skips where the machine cannot have one, unless REQUIRE_ALL is set."""
    missing = machine.lacks()
    if missing is not None:
        assert not os.environ.get("REQUIRE_ALL"), missing
        pytest.skip(missing)
    with SlurmCluster(request.getfixturevalue("sky_python")) as cluster:
        yield cluster
    assert not files_open_below(cluster.folder)


def files_open_below(folder: Path) -> list[str]:
    """Open files of any process: another way to find those that outlived the cluster."""
    found = []
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            target = os.readlink(link)
        except OSError:  # closed since, or its process has ended
            continue
        if target.startswith(f"{folder}/"):
            found.append(f"{link} {target}")
    return found

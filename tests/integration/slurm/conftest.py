"""One Slurm cluster for all tests that launch on it: making one takes 20 s."""

import os
from collections.abc import Iterator

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

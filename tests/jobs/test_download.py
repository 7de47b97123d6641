"""Downloads from a Hub that falls silent: seen, told, and gone on with."""

import json
import os
import subprocess
import sys

import pytest

from tests.jobs.hub_server import COMMIT, Hub
from tests.jobs.short_job import ROOT

SIZE = 30_000_000  # huggingface_hub writes ten megabytes at a time

DOWNLOAD = """
import sys
from jobs.download import DownloadStalled, from_hub
from jobs.outcome import BadInput
try:
    print("folder", from_hub(sys.argv[1], None, "model.id", stall_seconds=6.0, report_seconds=0.5))
except (DownloadStalled, BadInput) as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def hub(tmp_path):
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    (folder / "model.safetensors").write_bytes(os.urandom(SIZE))
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    server = Hub(folder)
    yield server
    server.end()


@pytest.fixture
def download(hub, tmp_path):
    """In a process of its own: the address and the cache are read when the library is imported."""

    def run(repository="me/model"):
        done = subprocess.run(
            [sys.executable, "-P", "-c", DOWNLOAD, repository],
            env=os.environ
            | {"PYTHONPATH": str(ROOT), "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"),
               "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
               "HF_HUB_OFFLINE": "0"},
            capture_output=True,
            text=True,
            timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


def test_the_commit_s_folder_without_pickles(hub, download):
    folder = download().split()[-1]
    assert folder.endswith(COMMIT)
    assert sorted(os.listdir(folder)) == ["config.json", "model.safetensors"]


def test_silence_is_told_and_ends_the_download(hub, download):
    hub.silent_after = SIZE // 2
    said = download()
    assert "downloading: " in said
    assert "DownloadStalled DOWNLOAD_STALLED: no byte for 6 s" in said
    place = hub.folder.parent / "home" / "hub" / "models--me--model"
    assert not list(place.rglob("*.incomplete"))  # nobody could go on with it
    hub.silent_after = None
    hub.released.set()
    assert whole(hub, download())


def whole(hub, said):
    """Whether what arrived is what was served."""
    found = os.path.join(said.split()[-1], "model.safetensors")
    with open(found, "rb") as file:
        return file.read() == (hub.folder / "model.safetensors").read_bytes()


def test_a_broken_connection_is_gone_on_with_where_it_ended(hub, download):
    hub.silent_after, hub.breaks_off = SIZE // 2, True
    assert whole(hub, download())
    begun = [int(asked.removeprefix("bytes=").split("-")[0]) for asked in hub.ranges]
    assert begun
    assert 0 < begun[-1] <= SIZE // 2


def test_a_repository_that_there_is_not_is_bad_input(download):
    assert "BadInput model.id: me/other@main: 404" in download("me/other")

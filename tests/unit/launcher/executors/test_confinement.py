"""The engine's command line for a job, word for word."""

from pathlib import Path

import msgspec
import pytest

from jobs.spec import Data, Model, ResolvedSpec
from launcher.executors.confinement import Cell, arguments, needs_network, outermost
from launcher.executors.engines import Engine, EngineFailed, is_missing, quoted_mount

SPEC = ResolvedSpec(
    model=Model(id="/models/base"),
    data=Data(train="/rows/train.jsonl", validation="/rows/held out, apart.jsonl"),
    run_id="run-1",
    strategy="lora",
    dtype="fp32",
    device="cpu",
    quantization=None,
)
CELL = Cell(
    name="loralift-run-1-abcd",
    image="loralift-train:0123",
    work=Path("/state/work/run-1"),
    module="jobs.train",
    memory_bytes=4_000_000_000,
    user=("--user", "1000:1000"),
    environment=(
        "OMP_NUM_THREADS",
        "AWS_SECRET_ACCESS_KEY",
        "HF_TOKEN",
        "HTTPS_PROXY",
        "https_proxy",
    ),
)


def test_a_local_job_sees_its_files_and_no_network() -> None:
    assert arguments(SPEC, CELL) == [
        *("run", "--detach", "--name", "loralift-run-1-abcd", "--label", "loralift.run=run-1"),
        *("--read-only", "--tmpfs", "/tmp:rw,exec,nosuid,nodev,size=2147483648"),
        *("--security-opt", "no-new-privileges", "--cap-drop", "ALL", "--user", "1000:1000"),
        *("--pids-limit", "4096", "--shm-size", "2147483648"),
        *("--memory", "4000000000", "--memory-swap", "4000000000"),
        *("--network", "none"),
        "--mount=type=bind,source=/state/work/run-1,target=/state/work/run-1",
        "--mount=type=bind,source=/models/base,target=/models/base,readonly",
        '--mount=type=bind,"source=/rows/held out, apart.jsonl",'
        '"target=/rows/held out, apart.jsonl",readonly',
        "--mount=type=bind,source=/rows/train.jsonl,target=/rows/train.jsonl,readonly",
        *("--workdir", "/state/work/run-1"),
        *("--env=HOME=/tmp", "--env=USER=loralift", "--env=HF_HOME=/state/work/run-1/hub"),
        "--env=OMP_NUM_THREADS",
        *("--entrypoint", "/opt/loralift/venv/bin/python", "loralift-train:0123"),
        *("-P", "-m", "jobs.contained", "jobs.train"),
    ]


@pytest.mark.parametrize("parent", ["hub:me/adapter", None])
def test_what_is_on_the_hub_needs_a_network_and_a_token_in_a_file(parent: str | None) -> None:
    model = "/models/base" if parent else "Qwen/Qwen2.5-0.5B"
    spec = msgspec.structs.replace(SPEC, model=Model(id=model), resume_from=parent)
    assert needs_network(spec)
    given = arguments(spec, msgspec.structs.replace(CELL, token=Path("/state/work/.run-1.token")))
    assert "--network" not in given
    assert [word for word in given if word.lower().endswith("_proxy")] == [
        "--env=HTTPS_PROXY",
        "--env=https_proxy",
    ]
    assert "--env=HF_TOKEN_PATH=/run/secrets/hf_token" in given
    mount = "type=bind,source=/state/work/.run-1.token,target=/run/secrets/hf_token,readonly"
    assert f"--mount={mount}" in given
    assert not any(word.startswith(("--env=HF_TOKEN=", "--env=AWS")) for word in given)


def test_each_engine_is_asked_for_a_gpu_in_its_own_words() -> None:
    assert Engine("docker").gpu("1", "GPU-abc") == ["--gpus", "device=GPU-abc"]
    assert Engine("podman").gpu("1", "GPU-abc") == ["--device", "nvidia.com/gpu=1"]
    cell = msgspec.structs.replace(CELL, gpus=("--gpus", "all"), gpu_uuids=("GPU-abc",))
    assert "--env=LORALIFT_GPUS=GPU-abc" in arguments(SPEC, cell)


def test_a_model_folder_of_links_brings_what_they_lead_to(tmp_path: Path) -> None:
    """As the Hub's cache has it: snapshots/COMMIT/config.json -> ../../blobs/HASH."""
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshots" / "c0ffee"
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    (blobs / "1234").touch()
    (snapshot / "config.json").symlink_to("../../blobs/1234")
    spec = msgspec.structs.replace(SPEC, model=Model(id=str(snapshot)))
    mounts = [word for word in arguments(spec, CELL) if word.startswith("--mount")]
    blob = blobs / "1234"
    assert f"--mount=type=bind,source={blob},target={blob},readonly" in mounts
    assert not any(f"source={folder}," in word for folder in (tmp_path, blobs) for word in mounts)


def test_what_a_link_leads_to_stands_where_the_link_says(tmp_path: Path) -> None:
    """The cache below a folder that is a link itself, as /home often is."""
    (tmp_path / "disk" / "blobs").mkdir(parents=True)
    (tmp_path / "disk" / "blobs" / "1234").touch()
    (tmp_path / "home").symlink_to("disk")
    snapshot = tmp_path / "home" / "snapshot"
    snapshot.mkdir()
    (snapshot / "config.json").symlink_to("../blobs/1234")
    spec = msgspec.structs.replace(SPEC, model=Model(id=str(snapshot)))
    source, target = tmp_path / "disk" / "blobs" / "1234", tmp_path / "home" / "blobs" / "1234"
    assert f"--mount=type=bind,source={source},target={target},readonly" in arguments(spec, CELL)


@pytest.mark.parametrize(
    ("said", "missing"),
    [
        ("docker image: Error: No such image: loralift-train:1", True),
        ("podman container: no such container", True),
        ("podman image: loralift-train:1: image not known", True),
        ("docker image: dial unix /var/run/docker.sock: no such file or directory", False),
    ],
)
def test_a_daemon_that_is_down_is_no_missing_image(said: str, missing: bool) -> None:
    assert is_missing(EngineFailed(said)) is missing


def test_what_lies_below_another_mount_is_not_mounted_again() -> None:
    assert outermost(map(Path, ["/a/b/c", "/a/b", "/a/bc", "/a/b"])) == [
        Path("/a/b"),
        Path("/a/bc"),
    ]


def test_a_quote_in_a_path_is_doubled() -> None:
    assert quoted_mount(type="bind", source='/a"b') == 'type=bind,"source=/a""b"'

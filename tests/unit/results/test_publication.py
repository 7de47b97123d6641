"""What of a run is published, and what must hold of it first."""

import json
import subprocess
from pathlib import Path

import msgspec
import pytest

from jobs import layout
from jobs.spec import Model, Parent, encode
from results.hub import git_blob
from results.publication import (
    Unpublishable,
    exported,
    gather,
    places,
    require_clean,
    require_lineage,
    sealed,
)
from tests.unit.results.test_card import LINEAGE, SPEC

SAFETENSORS = b"\x02\0\0\0\0\0\0\0{}"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A run's folder as far as its files' names and their lineage go."""
    adapter = tmp_path / "run" / layout.ADAPTER
    adapter.mkdir(parents=True)
    config = {
        "base_model_name_or_path": "/home/me/cache/model",
        "r": 16,
        "lora_alpha": 32,
        "target_modules": ["v_proj", "q_proj"],
        "revision": None,
    }
    (adapter / "adapter_config.json").write_bytes(msgspec.json.encode(config))
    (adapter / "adapter_model.safetensors").write_bytes(SAFETENSORS)
    (adapter / "README.md").write_text("[More Information Needed] /home/me")
    (adapter / layout.LINEAGE).write_bytes(encode(LINEAGE))
    (adapter.parent / layout.LINEAGE).write_bytes(encode(LINEAGE))
    return adapter.parent


def test_the_adapter_lies_on_top_and_names_its_base_as_others_do(home: Path) -> None:
    files = gather(home, SPEC, require_lineage(home, SPEC))
    assert set(files) == {"adapter_config.json", "adapter_model.safetensors", layout.LINEAGE}
    config = msgspec.json.decode(files["adapter_config.json"])
    assert config["base_model_name_or_path"] == "Qwen/Qwen2.5-7B-Instruct"
    assert config["revision"] == "c0ffee"
    require_clean(files, ["/home/me"])


def test_a_generated_base_comes_along(home: Path) -> None:
    (home / layout.BASE).mkdir()
    (home / layout.BASE / "model.safetensors").write_bytes(SAFETENSORS)
    spec = msgspec.structs.replace(SPEC, model=Model(id="/home/me/tiny", init="random"))
    base = msgspec.structs.replace(LINEAGE.base, id="/home/me/tiny", seed=17)
    parent = Parent(source="/home/me/runs/before", adapter_sha256="9")
    files = gather(home, spec, msgspec.structs.replace(LINEAGE, base=base, parent=parent))
    assert "base/model.safetensors" in files
    assert msgspec.json.decode(files["adapter_config.json"])["base_model_name_or_path"] == "base"
    told = msgspec.json.decode(files[layout.LINEAGE])
    assert (told["base"]["id"], told["parent"]["source"]) == ("tiny", "before")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"run_id": "another"}, "its run_id is another"),
        ({"seed": 3}, "its seed is another"),
        ({"train_sha256": "99"}, "its train data is another"),
        ({"strategy": "full"}, "its lora is another"),
        ({"model": Model(id="other/model")}, "its base is another"),
    ],
)
def test_lineage_of_another_job_is_found(home: Path, changes: dict, said: str) -> None:
    (home / layout.MODEL).mkdir()
    (home / layout.MODEL / layout.LINEAGE).write_bytes(encode(LINEAGE))
    with pytest.raises(Unpublishable, match=said):
        require_lineage(home, msgspec.structs.replace(SPEC, **changes))


def test_an_adapter_with_another_lineage_is_found(home: Path) -> None:
    other = msgspec.structs.replace(LINEAGE, run_id="other")
    (home / layout.ADAPTER / layout.LINEAGE).write_bytes(encode(other))
    with pytest.raises(Unpublishable, match=r"adapter/lineage\.json is another"):
        require_lineage(home, SPEC)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("training_args.bin", b"\x80\x04K\x01."),
        ("adapter_model.safetensors", b"\x80\x04K\x01."),
        ("model-q8_0.gguf", b"PK\x03\x04"),
        ("tokenizer.model", b"\x80\x04K\x01."),
        ("vocabulary.txt", b"a\0b"),
        ("adapter_model.bin", b"cposix\nsystem\n(Vid\ntR."),  # a pickle of protocol 0
        ("merged/modeling_x.PY", b"import os\n"),
    ],
)
def test_what_may_run_code_is_not_published(name: str, content: bytes) -> None:
    with pytest.raises(Unpublishable, match=f"{name} is neither safetensors nor text"):
        require_clean({name: content}, [])


def test_what_cannot_run_code_is() -> None:
    files = {
        "adapter_model.safetensors": SAFETENSORS,
        "m.gguf": b"GGUF\x03",
        "tokenizer.model": b"\n\x0e\n\x05<unk>",
        "chat_template.jinja": "{{ 'ü' }}".encode(),
    }
    require_clean(files, ["/home/me"])


def test_a_place_on_this_machine_is_found_in_any_file(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"_name_or_path": "/home/me/models/x"}')
    with pytest.raises(Unpublishable, match=r"config\.json names a place .* /home/me"):
        require_clean({"config.json": tmp_path / "config.json"}, ["/home/me"])
    with pytest.raises(Unpublishable, match=r"m\.gguf names a place"):
        require_clean({"m.gguf": b"GGUF" + b"/home/me/x"}, ["/home/me"])


@pytest.mark.parametrize("ascii_only", [True, False])
@pytest.mark.parametrize("slash", ["/", "\\/"])
def test_a_place_is_found_however_json_writes_it(ascii_only: bool, slash: str) -> None:
    config = json.dumps({"path": "/home/josé/m"}, ensure_ascii=ascii_only).replace("/", slash)
    with pytest.raises(Unpublishable, match="names a place on this machine, /home/josé\n"):
        require_clean({"config.json": config.encode()}, ["/home/josé"])


@pytest.mark.parametrize("token", ["hf_" + "aB3" * 11, "AKIA" + "A7" * 8])
def test_what_looks_like_a_token_is_not_published(token: str) -> None:
    files = {"tokenizer_config.json": f'{{"t":"{token}"}}'.encode()}
    with pytest.raises(Unpublishable, match=r"config\.json holds what looks like") as error:
        require_clean(files, [])
    assert token not in str(error.value)
    require_clean({"notes.txt": b"hf_transfer, AKIA, " + token[:12].encode()}, [])


def test_places_are_the_runs_its_datas_and_a_home(home: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", "/root")
    found = places(home, SPEC)
    assert found == [str(home), str(home.parent), "/root/", *(
        f"/home/me/secret/{name}" for name in ("train.jsonl", "validation.jsonl", "checks.py"))
    ]  # fmt: skip


def test_an_export_whose_every_file_was_rejected_is_none(tmp_path: Path) -> None:
    with pytest.raises(Unpublishable, match="no file of the export passed its gates"):
        exported(tmp_path, None, ())


def test_the_checksums_are_what_sha256sum_reads(tmp_path: Path) -> None:
    files = sealed({"a/b.txt": b"one\n", "c.txt": b"two\n"})
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        assert isinstance(content, bytes)
        (tmp_path / name).write_bytes(content)
    command = ["sha256sum", "--check", "--quiet", "--strict", layout.SUMS]
    assert subprocess.run(command, cwd=tmp_path).returncode == 0


def test_a_blob_has_the_name_that_git_gives_it(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"some text\n" * 1000)
    told = subprocess.run(
        ["git", "hash-object", str(tmp_path / "a")], capture_output=True, text=True, check=True
    )
    assert git_blob(tmp_path / "a") == told.stdout.strip()
    assert git_blob(b"some text\n" * 1000) == told.stdout.strip()

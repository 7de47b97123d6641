import hashlib

import pytest

from jobs.outcome import BadInput
from jobs.sources import data_file, model_folder


def test_a_hub_id_is_no_folder(tmp_path):
    assert model_folder("Qwen/Qwen2.5-7B-Instruct", tmp_path) is None
    assert model_folder("gpt2", tmp_path) is None


def test_a_folder_beside_the_spec_goes_before_a_hub_id(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "config.json").write_text("{}")
    assert model_folder("a/b", tmp_path) == tmp_path / "a" / "b"


@pytest.mark.parametrize("path", ["/no/such", "./a", "../a/b", "~/no-such", "a/b/c", "a b", "a/"])
def test_what_looks_like_a_path_is_never_looked_up(tmp_path, path):
    with pytest.raises(BadInput, match=r"model\.id: no folder"):
        model_folder(path, tmp_path)


def test_a_folder_without_a_model(tmp_path):
    with pytest.raises(BadInput, match=r"no config\.json"):
        model_folder(str(tmp_path), tmp_path)


def test_a_missing_file_names_its_key(tmp_path):
    with pytest.raises(BadInput, match=r"data\.train: no file .*rows\.jsonl"):
        data_file("rows.jsonl", "data.train", tmp_path, None)


def test_data_that_changed_since_the_plan_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("{}\n")
    planned = hashlib.sha256(b"{}\n").hexdigest()
    assert data_file("rows.jsonl", "data.train", tmp_path, planned) == path
    path.write_text("{}\n{}\n")
    with pytest.raises(BadInput, match=r"data\.train: .* has changed since the run was planned"):
        data_file("rows.jsonl", "data.train", tmp_path, planned)

import pytest

from launcher.inputs.hub_data import is_id, splits_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("org/name", True),
        ("org/name@refs/convert/parquet:train_sft", True),
        ("o_r.g/na-me.v2:test", True),
        ("org/rows.jsonl", False),
        ("/data/rows", False),
        ("./data/rows", False),
        ("../rows", False),
        ("name", False),
        ("a/b/c", False),
        ("rows-{date}.jsonl", False),
    ],
)
def test_what_reads_as_an_id(text: str, expected: bool) -> None:
    assert is_id(text) is expected


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["rows.jsonl", "README.md", "dataset_infos.json"], {"train": ["rows.jsonl"]}),
        (
            ["train.csv", "dev.csv", "my-test-rows.csv", "extra.csv"],
            {"train": ["train.csv"], "validation": ["dev.csv"], "test": ["my-test-rows.csv"]},
        ),
        (["data/train/a.jsonl", "data/valid/b.jsonl"],
         {"train": ["data/train/a.jsonl"], "validation": ["data/valid/b.jsonl"]}),
        (["contest.csv", "latest.csv"], {"train": ["contest.csv", "latest.csv"]}),
        (
            ["data/train_sft-00001-of-00002-0a1b.parquet", "data/train_sft-00000-of-00002.parquet"],
            {"train_sft": ["data/train_sft-00000-of-00002.parquet",
                           "data/train_sft-00001-of-00002-0a1b.parquet"]},
        ),
        ([], {}),
    ],
)  # fmt: skip
def test_files_by_split(names, expected) -> None:
    assert splits_of(names) == expected

import sys
from pathlib import Path

import pytest

from results import s3_uploads
from results.stores import Damaged, Store, StoreError, open_store, sha256_of, written_aside
from tests.fixtures.store_contract import StoreContract


class TestFolder(StoreContract):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return open_store(str(tmp_path / "store"))


def test_an_interrupted_put_is_no_object(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.put("run/file", b"content", None)
    (tmp_path / "run" / "other.1234.part").write_bytes(b"hal")
    assert list(store.sizes("run/")) == ["run/file"]
    store.clear("run/")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["file"]


def test_links_in_a_folder_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "store" / "run").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    secret = tmp_path / "elsewhere" / "secret"
    secret.write_bytes(b"secret")
    (tmp_path / "store" / "run" / "job.log").symlink_to(secret)
    (tmp_path / "store" / "run" / "adapter").symlink_to(secret.parent)
    (tmp_path / "by-link").symlink_to(tmp_path / "store")
    for store in (open_store(str(tmp_path / "store")), open_store(str(tmp_path / "by-link"))):
        store.put("run/file", b"content", store.find("run/file"))
        for key in ("run/job.log", "run/adapter/secret"):
            with pytest.raises(Damaged, match="is a link, or behind one"):
                store.find(key)
            with pytest.raises(Damaged, match="is a link"):
                store.read(key)
            with pytest.raises(Damaged, match="is a link"):
                store.get(key, tmp_path / "brought")
            with pytest.raises(Damaged, match="is a link"):
                store.put(key, b"other", None)
    assert secret.read_bytes() == b"secret"
    assert not (tmp_path / "brought").exists()


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "store").write_text("no folder")
    store = open_store(str(tmp_path / "store"))
    with pytest.raises(StoreError, match=r"cannot write run/file: Not a directory\nlook at the"):
        store.put("run/file", b"content", None)


def test_an_address_of_another_kind_is_refused() -> None:
    with pytest.raises(StoreError, match="gs:// is none that is known"):
        open_store("gs://bucket/runs")


def test_an_address_needs_a_bucket() -> None:
    with pytest.raises(StoreError, match="no bucket"):
        open_store("s3:///runs")


def test_without_boto3_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(StoreError, match=r"pip install 'loralift\[s3\]'"):
        open_store("s3://bucket/runs")


@pytest.mark.parametrize("size", [s3_uploads.PART_BYTES + 1, 3 * s3_uploads.PART_BYTES, 200 << 30])
def test_parts_cover_the_file_in_equal_lengths(size: int) -> None:
    parts = s3_uploads.parts_of(size, sha256_of(b"content"))
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert [part.start for part in parts] == [0, *(part.end for part in parts[:-1])]
    assert parts[-1].end == size
    assert len({part.end - part.start for part in parts[:-1]}) <= 1
    assert len(parts) <= s3_uploads.PARTS


def test_other_content_has_parts_of_another_length() -> None:
    lengths = {s3_uploads.parts_of(1 << 30, sha256_of(b"%d" % i))[0].end for i in range(20)}
    assert len(lengths) == 20


def test_two_that_fetch_one_file_do_not_tread_on_each_other(tmp_path: Path) -> None:
    target = tmp_path / "adapter" / "weights"
    with written_aside(target) as one, written_aside(target) as other:
        one.write_bytes(b"weights")
        other.write_bytes(b"wei")
        assert one.read_bytes() == b"weights"
        other.write_bytes(b"weights")
    assert target.read_bytes() == b"weights"
    assert list(target.parent.iterdir()) == [target]

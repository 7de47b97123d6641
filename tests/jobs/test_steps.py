import pytest

from jobs.shipping import steps


def write(text):
    return lambda aside: aside.write_text(text)


def never(aside):
    pytest.fail("made again")


def test_a_step_is_done_once(tmp_path):
    target = tmp_path / "product"
    first = steps.once(target, {"a": "1"}, write("one"))
    assert steps.once(target, {"a": "1"}, never) == first
    assert steps.once(target, {"a": "2"}, write("two")) != first
    assert target.read_text() == "two"


def test_a_product_that_changed_is_made_again(tmp_path):
    target = tmp_path / "product"
    steps.once(target, {}, write("whole"))
    target.write_text("torn")
    steps.once(target, {}, write("whole"))
    assert target.read_text() == "whole"


def test_a_step_that_fails_leaves_what_was_there(tmp_path):
    target = tmp_path / "product"
    steps.once(target, {"a": "1"}, write("one"))

    def fail(aside):
        aside.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        steps.once(target, {"a": "2"}, fail)
    assert target.read_text() == "one"
    assert steps.once(target, {"a": "1"}, never)


def test_a_folder_is_known_by_its_names_and_contents(tmp_path):
    def folder(aside):
        (aside / "in").mkdir(parents=True)
        (aside / "in" / "a").write_text("1")

    target = tmp_path / "folder"
    made = steps.once(target, {}, folder)
    assert steps.once(target, {}, never) == made
    (target / "in" / "a").rename(target / "in" / "b")
    assert steps.sha256(target) != made


def test_shipping_again_leaves_nothing_beside(tmp_path):
    made, target = tmp_path / "made", tmp_path / "target"
    for text in ("one", "one", "two"):
        if not made.exists() or made.read_text() != text:
            made.unlink(missing_ok=True)
            made.write_text(text)
        steps.ship(made, target)
        assert target.read_text() == text
    assert {p.name for p in tmp_path.iterdir()} == {"made", "target"}

"""No question in two sets, whatever the data; and the launcher's counts are the job's."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.data import read_data
from jobs.spec import (
    Data,
    JobSpec,
    Message,
    MessagesRow,
    Model,
    PromptCompletionRow,
    ResolvedSpec,
    ScoresRow,
    TextRow,
)
from jobs.spec.counting import held_out_rows
from jobs.spec.rows import question_text
from jobs.spec.splits import arrange, hold_out, identity, warnings_of
from launcher.inputs.scanning import scan_data

SHARES = {"validation": 0.1, "test": 0.1}


def numbered(questions) -> list[bytes]:
    """Digests as `identity` makes them, one for each number."""
    return [identity(TextRow(str(question))).question for question in questions]


def chat(question: str, answer: str) -> MessagesRow:
    return MessagesRow([Message("user", question), Message("assistant", answer)])


def test_a_question_is_itself_in_any_white_space_and_shape() -> None:
    one = identity(chat("What  about\ndogs?", "no"))
    assert identity(chat("What about dogs?", "no ")) == one
    assert identity(chat("What about dogs?", "yes")).question == one.question
    assert identity(chat("What about dogs?", "yes")).whole != one.whole
    assert identity(PromptCompletionRow(" What about dogs? ", "no")).question == one.question
    assert identity(chat("what about dogs?", "no")).question != one.question
    in_parts = MessagesRow(chat("a", "b").messages, context=1)
    assert identity(in_parts) == identity(chat("a", "b"))


def conversation(number: int, turns: int) -> MessagesRow:
    pairs = [chat(f"{number}: question {t}", f"{number}: answer {t}") for t in range(turns)]
    return MessagesRow([message for pair in pairs for message in pair.messages])


def test_a_conversation_that_grows_from_row_to_row_stays_in_one_set() -> None:
    """Each row teaches all of its answers, those of the shorter rows too."""
    rows = [conversation(number, turns) for number in range(30) for turns in (1, 2, 3)]
    sets = arrange({"train": rows}, identity, SHARES, seed=1).sets
    asked = {name: {row.messages[0].content for row in part} for name, part in sets.items()}
    assert len(asked["train"] | asked["validation"] | asked["test"]) == 30
    assert sum(map(len, asked.values())) == 30
    assert len({identity(row).whole for row in rows}) == 90


def test_a_conversation_s_question_is_what_its_first_taught_answer_is_given_to() -> None:
    messages = conversation(1, 2).messages
    assert identity(MessagesRow(messages)).question == identity(chat("1: question 0", "")).question
    later = MessagesRow(messages, context=3)
    assert question_text(later) == "\n".join(m.content for m in messages[:3])
    greeted = MessagesRow([Message("assistant", "Hello"), *messages])
    assert question_text(greeted) == "Hello\n1: question 0"


def test_what_asks_nothing_is_told_apart_by_what_it_says() -> None:
    story, other = PromptCompletionRow("", "a story"), PromptCompletionRow(" ", "another")
    assert identity(story).question != identity(other).question
    only = MessagesRow([Message("assistant", "a")]), MessagesRow([Message("assistant", "b")])
    assert identity(only[0]).question != identity(only[1]).question


def test_scores_make_a_row_another_but_not_its_question() -> None:
    one, other = (identity(ScoresRow("t", {"clear": score})) for score in (1.0, 2.0))
    assert one.question == other.question
    assert one.whole != other.whole


def test_rows_that_stand_in_a_judging_set_are_left_out_and_counted() -> None:
    rows = {
        "train": [chat("a", "1"), chat("a", "2"), chat("b", "1"), chat("c", "1"), chat("c", "1")],
        "validation": [chat("a", "1"), chat("d", "1")],
        "test": [chat("d", "2"), chat("b", "9")],
    }
    found = arrange(rows, identity, {}, seed=1)
    assert found.sets == {
        "test": rows["test"],
        "validation": [chat("a", "1")],
        "train": [chat("c", "1"), chat("c", "1")],
    }
    assert {k: (v.rows, v.exact) for k, v in found.left_out.items()} == {
        "train": (3, 1),
        "validation": (1, 0),
    }
    assert {k: (v.rows, v.exact) for k, v in found.repeated.items()} == {"train": (1, 1)}
    assert "3 rows of data.train are left out" in warnings_of(found)[1]
    assert "(1 of them word for word)" in warnings_of(found)[1]


def test_a_set_that_is_wholly_another_is_refused() -> None:
    rows = [chat("a", "1"), chat("b", "1")]
    with pytest.raises(ValueError, match=r"every question of data\.train stands in the rows"):
        arrange({"train": rows, "validation": rows}, identity, {}, seed=1)


@pytest.mark.parametrize(
    ("questions", "said"),
    [([1], "1 rows cannot"), ([1, 1, 1, 2, 2], r"5 rows with 2 different question\(s\) cannot")],
)
def test_too_little_to_hold_anything_out(questions, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        hold_out(numbered(questions), [0.1, 0.1], seed=1)


def test_different_questions_are_split_80_10_10_by_seed() -> None:
    train, validation, test = hold_out(numbered(range(1000)), [0.1, 0.1], seed=1)
    assert (len(train), len(validation), len(test)) == (800, 100, 100)
    assert hold_out(numbered(range(1000)), [0.1, 0.1], seed=1) == [train, validation, test]
    assert len(set(hold_out(numbered(range(1000)), [0.1, 0.1], seed=2)[2]) & set(test)) < 30


def test_new_rows_leave_most_held_out_rows_where_they_are() -> None:
    _, before = hold_out(numbered(range(1000)), [0.1], seed=1)
    _, after = hold_out(numbered(range(1100)), [0.1], seed=1)
    assert len(set(before) & set(after)) >= 85


questions = st.lists(st.integers(0, 30), min_size=3, max_size=120).filter(
    lambda found: len(set(found)) >= 3
)


@given(questions, st.integers(0, 2**70), st.sampled_from([(0.1,), (0.1, 0.1), (0.3, 0.05)]))
def test_no_question_in_two_sets_and_sizes_as_near_as_questions_allow(found, seed, shares) -> None:
    parts = hold_out(numbered(found), shares, seed)
    assert sorted(i for part in parts for i in part) == list(range(len(found)))
    asked = [{found[i] for i in part} for part in parts]
    assert all(asked)
    assert sum(map(len, asked)) == len(set(found))
    if len(shares) == 1:  # with two, one question is kept back for the second
        (wanted,) = held_out_rows(len(found), *shares)
        sizes = [found.count(question) for question in asked[0]]
        missed = wanted - len(parts[1])
        assert abs(missed) <= min(sizes) / 2 or len(sizes) == 1 or len(asked[0]) == 1


def write(path: Path, rows: list[tuple[int, int]]) -> str:
    lines = [{"prompt": f"q{q}", "completion": f"a{a}"} for q, a in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


rows = st.lists(st.tuples(st.integers(0, 25), st.integers(0, 2)), min_size=30, max_size=80)


@given(rows, rows, st.booleans(), st.booleans(), st.integers(0, 2**40))
def test_launcher_and_job_split_alike(first, second, validated, tested, seed) -> None:
    with tempfile.TemporaryDirectory() as folder:
        data = Data(
            train=write(Path(folder, "train.jsonl"), [*first, *((q, 0) for q in range(90, 99))]),
            validation=write(Path(folder, "v.jsonl"), second) if validated else None,
            test=write(Path(folder, "t.jsonl"), [(50, 1), *second[:3]]) if tested else None,
        )
        job = JobSpec(model=Model(id="a/b"), data=data, seed=seed)
        if validated and tested and {q for q, _ in second} <= {50, *(q for q, _ in second[:3])}:
            return  # nothing is left of the validation rows: refused, see above
        facts = scan_data(job)
        resolved = ResolvedSpec(
            model=job.model, data=data, seed=seed, run_id="r", strategy="lora", dtype="fp32",
            device="cpu", quantization=None, train_sha256=facts.sha256,
            validation_sha256=facts.validation_sha256, test_sha256=facts.test_sha256,
        )  # fmt: skip
        found = read_data(resolved, Path(folder))
    sets = [found.train, found.validation, found.test]
    assert [len(s) for s in sets] == [facts.train_rows, facts.validation_rows, facts.test_rows]
    characters = [sum(len(x.row.prompt + x.row.completion) for x in s) for s in sets]
    assert characters == [
        facts.train_characters, facts.validation_characters, facts.test_characters
    ]  # fmt: skip
    assert found.warnings == facts.warnings
    asked = [{x.row.prompt for x in s} for s in sets]
    assert sum(map(len, asked)) == len(set().union(*asked))
    kept = sum(len(s) for s in sets)
    total = len(first) + 9 + len(second) * validated + min(4, len(second) + 1) * tested
    assert kept + facts.left_out_rows == total

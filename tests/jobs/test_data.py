import json
import re
from pathlib import Path

import msgspec
import pytest
import trl
import yaml
from transformers import AddedToken

from jobs.data import Line, read_data, read_lines
from jobs.encode import IGNORED, Encoder, doubts_of, opened
from jobs.outcome import BadInput
from jobs.spec import Data, JobSpec, Message, MessagesRow, Model, ResolvedSpec

JOBS = Path(__file__).parents[2] / "jobs"
SAMPLE = JOBS / "sample"
TEMPLATES = Path(trl.__file__).parent / "chat_templates"
# That TRL has a marked copy of, but for those of images, which want lists of parts.
WITH_TEXT = sorted(
    {path.stem.removesuffix("_training") for path in TEMPLATES.glob("*_training.jinja")}
    - {"idefics3", "llava_next", "smolvlm"}
)

pytestmark = pytest.mark.filterwarnings("default")  # the libraries' own are not ours to mend

CHAT = {
    "messages": [
        {"role": "user", "content": "What about dogs?"},
        {"role": "assistant", "content": "floor 2 only"},
        {"role": "user", "content": "And cats?"},
        {"role": "assistant", "content": "the same"},
    ]
}
# As models ship it: nothing marks the assistant's turn.
UNMARKED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def load():
    from jobs.tokenizer import load_tokenizer

    return lambda: load_tokenizer(str(SAMPLE / "model"), None)


@pytest.fixture
def tokenizer(load):
    return load()


@pytest.fixture
def rows(tmp_path):
    def write(*lines):
        path = tmp_path / "rows.jsonl"
        path.write_text("".join(f"{x if isinstance(x, str) else json.dumps(x)}\n" for x in lines))
        return path

    return write


def supervised(tokenizer, encoded):
    """What carries loss, as text, and the labels' own tokens where they stand."""
    for token, label in zip(encoded["input_ids"], encoded["labels"], strict=True):
        assert label in (token, IGNORED)
    return tokenizer.decode([label for label in encoded["labels"] if label != IGNORED])


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        ([CHAT, '{"messages": ['], r"rows\.jsonl:2: .*truncated"),
        ([CHAT, "", "not json"], r"rows\.jsonl:3: .*malformed"),
        ([{"prompt": "a"}], r"rows\.jsonl:1: .*`completion`"),
        ([{"question": "a"}], r"rows\.jsonl:1: expected `messages`"),
        ([{"messages": [{"role": "robot", "content": "a"}]}], r"rows\.jsonl:1: .*robot"),
        ([], r"rows\.jsonl: .*no rows"),
        (["", " "], r"rows\.jsonl: .*no rows"),
    ],
)
def test_bad_rows_name_file_and_line(rows, lines, what):
    with pytest.raises(BadInput, match=what):
        read_lines(rows(*lines))


def test_parquet_holds_what_json_lines_hold(rows, tmp_path):
    """Written as `datasets` writes it: rows of one shape have nulls for the keys of the other."""
    from datasets import Dataset

    other = {"messages": None, "prompt": "q", "completion": "a"}
    table = [{**CHAT, "prompt": None, "completion": None}, other] * 700  # more than one batch
    path = tmp_path / "rows.parquet"
    Dataset.from_list(table).to_parquet(path)
    lines, same = read_lines(path), read_lines(rows(*table))
    assert [(x.row, x.number, x.shape) for x in lines] == [(x.row, x.number, x.shape) for x in same]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(BadInput, match=r"rows\.parquet: not a whole Parquet file"):
        read_lines(path)


@pytest.mark.parametrize("template", [None, UNMARKED], ids=["marked", "unmarked"])
def test_every_answer_is_supervised_with_its_end_token(tokenizer, rows, template):
    tokenizer.chat_template = template or tokenizer.chat_template
    encoded = Encoder(tokenizer, 512, True).encode(read_lines(rows(CHAT))[0])
    text = supervised(tokenizer, encoded)
    assert text.replace("\n", "") == "floor 2 only<|im_end|>the same<|im_end|>"
    assert encoded["labels"].count(tokenizer.eos_token_id) == 2


def test_a_known_template_gets_trl_s_marked_copy(tokenizer, rows):
    from trl.chat_template_utils import qwen2_5_chat_template

    tokenizer.chat_template = qwen2_5_chat_template
    text = supervised(tokenizer, Encoder(tokenizer, 512, True).encode(read_lines(rows(CHAT))[0]))
    assert "floor 2 only<|im_end|>" in text
    assert "cats" not in text


def test_the_pad_token_is_never_the_end_token(load, tmp_path):
    from jobs.tokenizer import load_tokenizer

    for pad in ("<|im_end|>", None):
        tokenizer = load()
        tokenizer.pad_token = pad
        tokenizer.save_pretrained(tmp_path)
        again = load_tokenizer(str(tmp_path), None)
        assert again.pad_token == "<|endoftext|>"
        assert again.eos_token == "<|im_end|>"
        assert len(again) == len(tokenizer)


def test_a_row_without_anything_to_learn_is_refused(tokenizer, rows):
    question = {"messages": CHAT["messages"][:1]}
    lines = read_lines(rows(CHAT, question))
    with pytest.raises(BadInput, match=r"rows\.jsonl:2: no supervised tokens$"):
        Encoder(tokenizer, 512, True).encode(lines[1])


def test_so_is_one_that_truncation_leaves_without_labels(tokenizer, rows):
    long = {"prompt": "word " * 40, "completion": "answer"}
    with pytest.raises(BadInput, match=r"rows\.jsonl:1: no supervised tokens after cutting"):
        Encoder(tokenizer, 32, True).encode(read_lines(rows(long))[0])


def test_prompt_and_completion_supervise_the_completion(tokenizer, rows):
    line = read_lines(rows({"prompt": "Dogs?", "completion": " floor 2 only"}))[0]
    encoder = Encoder(tokenizer, 512, True)
    assert supervised(tokenizer, encoder.encode(line)) == " floor 2 only<|im_end|>"
    assert encoder.question(line).reference == " floor 2 only"


def test_text_is_supervised_throughout(tokenizer, rows):
    line = read_lines(rows({"text": "All of it."}))[0]
    encoder = Encoder(tokenizer, 512, True)
    assert supervised(tokenizer, encoder.encode(line)) == "All of it.<|im_end|>"
    assert encoder.question(line) is None


def test_a_question_ends_where_the_last_answer_begins(tokenizer, rows):
    question = Encoder(tokenizer, 512, True).question(read_lines(rows(CHAT))[0])
    assert question.text == "And cats?"
    assert question.reference == "the same"
    assert question.prompt.endswith("And cats?<|im_end|>\n<|im_start|>assistant\n")


def asking(tokenizer, template, *turns):
    """An encoder with a template of TRL's and the tokens that it writes, and a row of those turns,
    the first a user's."""
    tokenizer.chat_template = (TEMPLATES / f"{template}.jinja").read_text()
    roles = ("user", "assistant")
    messages = [Message(roles[i % 2], turn) for i, turn in enumerate(turns)]
    line = Line(MessagesRow(messages), Path("rows.jsonl"), 1)
    try:
        text = opened(tokenizer, msgspec.to_builtins(messages))[0]
    except Exception:  # what some templates make of such a row is for the test to see
        text = ""
    ends = (
        "<|END_RESPONSE|>",
        "<|return|>",
        "<|user|>",
        "<end_of_turn>",
        "<|end|>",
        "<|eot|>",
        "<|eot_id|>",
    )
    written = {*re.findall(r"<[^<>\s]+>", text), *ends, "<｜end▁of▁sentence｜>", "</think>"}
    tokenizer.add_tokens(
        [AddedToken(t, special="think" not in t, normalized=False) for t in sorted(written)]
    )
    return Encoder(tokenizer, 512, True), line


@pytest.mark.parametrize("answer", ['{"answer": "yes"}', "think", "end", "user"])
@pytest.mark.parametrize("template", WITH_TEXT)
def test_a_perfect_model_says_the_expected_answer(tokenizer, template, answer):
    """What training shows after the question, decoded as an answer is."""
    tokenizer.bos_token = "<|endoftext|>"
    encoder, line = asking(tokenizer, template, "What is a user? end", answer)
    ids, labels = encoder.whole(line)
    question = encoder.question(line)
    asked = tokenizer(question.prompt, add_special_tokens=False)["input_ids"]
    assert ids[: len(asked)] == asked
    learnt = [label for label in labels[len(asked) :] if label != IGNORED]
    said = tokenizer.batch_decode([learnt], skip_special_tokens=True)[0]
    assert said.strip() == question.reference == answer
    assert bool(question.doubt) == template.startswith(("deepseek", "nemotron")), question.doubt


def test_earlier_turns_are_asked_as_they_are_served(tokenizer):
    encoder, line = asking(tokenizer, "qwen3", "a", "b", "c", "d")
    assert encoder.question(line).prompt == (
        "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n"
        "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )


@pytest.mark.parametrize("template", ["qwen3", "qwen3_5_think"])
def test_thoughts_that_are_part_of_the_answer_are_not_given_away(tokenizer, template):
    answer = "<think>\nsums\n</think>\n\n4"
    encoder, line = asking(tokenizer, template, "2 + 2?", answer)
    question = encoder.question(line)
    assert question.prompt.endswith("<|im_start|>assistant\n")
    assert (question.reference, question.doubt) == (answer, "")


@pytest.mark.parametrize("template", ["qwen3", "glm4moe"])
def test_an_empty_answer_is_asked_for_as_any(tokenizer, template):
    encoder, line = asking(tokenizer, template, "a", "")
    assert encoder.question(line).prompt.strip().endswith("</think>")


def test_blanks_before_an_answer_are_left_to_it(tokenizer):
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
        "{% else %} {{ m.content }}</s>{% endif %}{% endfor %}"
    )
    assert opened(tokenizer, CHAT["messages"][:2])[0].endswith("[/INST]")


def test_an_answer_that_the_template_leaves_out_cannot_be_asked_for(tokenizer):
    encoder, line = asking(tokenizer, "smolvlm", "a", "b")
    with pytest.raises(BadInput, match=r"rows\.jsonl:1: .*it leaves the answer out"):
        encoder.question(line)


def test_doubts_are_told_once_with_how_many_rows_have_them(tokenizer):
    encoder, line = asking(tokenizer, "deepseekv3", "a", "b")
    (doubt,) = doubts_of([encoder.question(line)] * 3)
    assert doubt.startswith("3 questions: the model's own chat template opens an answer with")
    assert repr("<｜Assistant｜><think>\n") in doubt
    encoder, line = asking(tokenizer, "deepseekv3", "a", "<think>\nb\n</think>\nc")
    assert encoder.question(line).doubt


@pytest.mark.parametrize("assistant_only", [True, False])
def test_what_stands_in_a_chat_prompt_carries_no_loss(tokenizer, rows, assistant_only):
    turns = CHAT["messages"]
    line = read_lines(rows({"prompt": turns[:3], "completion": turns[3:]}))[0]
    encoder = Encoder(tokenizer, 512, assistant_only)
    text = supervised(tokenizer, encoder.encode(line))
    assert text.replace("\n", "") == "the same<|im_end|>"
    assert encoder.question(line).text == "And cats?"


def test_the_shapes_are_said_and_what_judges_is_not_trained_on(rows, tmp_path, capsys):
    alpaca = [{"instruction": f"q{i}", "output": "a"} for i in range(20)]
    train = rows(*alpaca, CHAT, CHAT)
    test = tmp_path / "test.json"
    test.write_text(json.dumps(alpaca[:3]))
    job = ResolvedSpec(
        model=Model(id="a/b"), data=Data(train=str(train), test=str(test)), run_id="r",
        strategy="lora", dtype="fp32", device="cpu", quantization=None,
    )  # fmt: skip
    found = read_data(job, tmp_path)
    assert [len(x) for x in (found.train, found.validation, found.test)] == [17, 2, 3]
    (warning,) = found.warnings
    assert warning.startswith("3 rows of data.train are left out")
    found.say()
    said = capsys.readouterr().out
    assert "data.test: 3 rows (3 alpaca)\n" in said
    assert "2 messages)" in said  # one question: together, wherever the draw put it
    assert warning in said


def test_chats_need_a_template(tokenizer, rows):
    tokenizer.chat_template = None
    with pytest.raises(BadInput, match=r"rows\.jsonl:1: the model has no chat template"):
        Encoder(tokenizer, 512, True).encode(read_lines(rows(CHAT))[0])


def test_tokens_and_labels_are_those_that_trl_makes(tokenizer, tmp_path):
    """The sample and a completion row, against SFTTrainer's own preparation."""
    from datasets import Dataset
    from transformers import AutoConfig, AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(SAMPLE / "model"))
    lines = read_lines(SAMPLE / "train.jsonl")[:20]
    chats = [msgspec.to_builtins(line.row) for line in lines]
    turns = CHAT["messages"]
    parts = [{"prompt": turns[:3], "completion": turns[3:]}]
    completions = [{"prompt": "Dogs? ", "completion": "floor 2 only"}]
    tables = [(chats, lines)]
    for name, table in (("parts", parts), ("completions", completions)):
        path = tmp_path / f"{name}.jsonl"
        path.write_text(json.dumps(table[0]))
        tables.append((table, read_lines(path)))
    for table, own in tables:
        args = SFTConfig(
            output_dir=str(tmp_path),
            assistant_only_loss=table is not completions,
            max_length=512,
            bf16=False,
            use_cpu=True,
            report_to="none",
        )
        trainer = SFTTrainer(
            model=model, args=args, train_dataset=Dataset.from_list(table),
            processing_class=tokenizer,
        )  # fmt: skip
        encoder = Encoder(tokenizer, 512, True)
        for line, theirs in zip(own, trainer.train_dataset, strict=True):
            assert encoder.encode(line) == {k: theirs[k] for k in ("input_ids", "labels")}


def test_the_sample_s_longest_row_is_not_cut(tokenizer):
    job = msgspec.convert(yaml.safe_load((JOBS / "recipes" / "sample.yaml").read_text()), JobSpec)
    encoder = Encoder(tokenizer, 10_000, True)
    lines = read_lines(SAMPLE / "train.jsonl") + read_lines(SAMPLE / "validation.jsonl")
    assert max(len(encoder.encode(line)["input_ids"]) for line in lines) <= job.train.seq_len
    answers = [tokenizer(encoder.question(line).reference)["input_ids"] for line in lines]
    assert max(map(len, answers)) + 1 <= job.eval.max_new_tokens

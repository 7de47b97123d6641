"""The model card: its text whole, its front matter as the Hub reads it, and what stays text."""

import html
import re
from pathlib import Path

import msgspec
import pytest
import yaml
from markdown_it import MarkdownIt  # rich's own

from jobs.spec import (
    BaseModel,
    Data,
    Failure,
    Gate,
    GateResult,
    Interval,
    Lineage,
    Lora,
    Measured,
    Model,
    Parent,
    Quantization,
    Regression,
    ResolvedEvaluation,
    ResolvedSpec,
    Result,
)
from results.card import Card, fenced, metadata, render
from results.portable import recipe, without_folders
from results.receipt import Line, Receipt
from results.report import markdown

GOLDEN = Path(__file__).parents[2] / "golden" / "model-card.md"

SPEC = ResolvedSpec(
    model=Model(id="Qwen/Qwen2.5-7B-Instruct", revision="main"),
    data=Data(train="/home/me/secret/train.jsonl", validation="/home/me/secret/validation.jsonl"),
    name="citations",
    run_id="citations-1121",
    strategy="qlora",
    dtype="bf16",
    lora=Lora(r=16, alpha=32, targets=("q_proj", "v_proj")),
    gates=(Gate(metric="json_citation_rate", min=0.9),),
    device="cuda",
    quantization=Quantization(),
    eval=ResolvedEvaluation(metrics=("/home/me/secret/checks.py:tone",)),
)
LINEAGE = Lineage(
    run_id="citations-1121",
    task="sft",
    base=BaseModel(
        id="Qwen/Qwen2.5-7B-Instruct",
        revision="c0ffee",
        config_sha256="11",
        weights_sha256="22",
        tokenizer_sha256="33",
        chat_template_sha256="44",
    ),
    quantization=Quantization(),
    dtype="bf16",
    lora=SPEC.lora,
    data_sha256={"train": "55", "validation": "66"},
    seed=17,
    versions={"torch": "2.13.0", "peft": "0.21.2"},
)
NEAR = Interval(low=0.85, high=0.97, n=100, method="Wilson, 95 %")
RESULT = Result(
    run_id="citations-1121",
    status="success",
    metrics={
        "base": {"loss": 2.5, "json_citation_rate": 0.1},
        "tuned": {"loss": 0.5, "json_citation_rate": 0.93, "perplexity": float("inf")},
    },
    intervals={"tuned": {"json_citation_rate": NEAR}},
    gates=(
        GateResult(
            metric="json_citation_rate", min=0.9, max=None, value=0.93, passed=True,
            low=0.85, high=0.97, n=100,
        ),
    ),
)  # fmt: skip
RECEIPT = Receipt(
    run_id="citations-1121",
    state="SUCCEEDED",
    reason=None,
    provider="runpod",
    instance="1x_RTX4090_SECURE",
    attempts=1,
    max_cost_microusd=10_000_000,
    spent_microusd=1_250_000,
    lines=(
        Line(name="time", unit="hours", planned=2.0, planned_upper=3.0, actual=1.5),
        Line(
            name="memory", unit="bytes", planned=9 << 30, planned_upper=None, actual=8 << 30,
            note="cuda max_memory_allocated",
        ),
    ),
)  # fmt: skip
CARD = Card(
    repository="me/citations",
    spec=SPEC,
    lineage=LINEAGE,
    result=RESULT,
    receipt=RECEIPT,
    rows={"train": 900, "validation": 100},
    licence="apache-2.0",
)


def changed(card: Card = CARD, **changes: object) -> Card:
    return msgspec.structs.replace(card, **changes)


def of_spec(**changes: object) -> Card:
    return changed(spec=msgspec.structs.replace(SPEC, **changes))


def test_the_whole_card() -> None:
    assert render(CARD) == GOLDEN.read_text()


def test_no_path_of_the_machine_is_in_it() -> None:
    parent = Parent(source="/home/me/runs/yesterday", adapter_sha256="77")
    card = of_spec(
        model=Model(id="/home/me/models/mine"),
        data=Data(train="/home/me/a.jsonl", replay="/home/me/old.jsonl"),
        resume_from="/home/me/runs/yesterday",
        eval=ResolvedEvaluation(golden="/home/me/golden.jsonl", schema="/home/me/schema.json"),
    )
    text = render(changed(card, lineage=msgspec.structs.replace(LINEAGE, parent=parent)))
    assert "/home" not in text
    assert "went on from yesterday: `77`" in text
    assert "golden: golden.jsonl" in text
    assert "base_model:" not in text
    assert 'from_pretrained("FOLDER OF THE BASE")' in text


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("/home/me/runs/a/adapter: this PEFT drops x", "adapter: this PEFT drops x"),
        ("see '~/runs/a' and /mnt/b/c.jsonl:3", "see 'a' and c.jsonl:3"),
        ("of https://huggingface.co/a/b, 3/4 rows", "of https://huggingface.co/a/b, 3/4 rows"),
        ("see file:///home/me/runs/a.json", "see a.json"),
        ("no such file: '/home/my name/runs/a b.json'", "no such file: 'a b.json'"),
    ],
)
def test_a_message_loses_its_folders(message: str, said: str) -> None:
    assert without_folders(message) == said
    result = msgspec.structs.replace(RESULT, warnings=(message,))
    assert f"- warning: {said}" in render(changed(result=result))


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("cannot read /home/A B/acme/train set.jsonl: gone", "cannot read train set.jsonl: gone"),
        ("see file:///home/A B/acme/other.jsonl, too", "see other.jsonl, too"),
        ("/database/x and /data", "x and /data"),
        ("/data/x.jsonl, https://a.example/data/x", "x.jsonl, https://a.example/data/x"),
    ],
)
def test_a_message_loses_folders_with_spaces_that_are_known(message: str, said: str) -> None:
    places = ("/home/A B", "/home/A B/acme/train set.jsonl", "/data/")
    assert without_folders(message, places) == said
    result = msgspec.structs.replace(RESULT, warnings=(message,))
    assert f"- warning: {said}" in render(changed(result=result, places=places))


def test_text_of_models_and_data_stays_text() -> None:
    nasty = "<script>x</script>|[a](http://b)`*\n---\nlicense: mit"
    gate = GateResult(metric=nasty, min=0.9, max=None, value=0.1, passed=False)
    result = msgspec.structs.replace(
        RESULT,
        metrics={"tuned": {nasty: 0.1}},
        gates=(gate,),
        warnings=(nasty,),
        failure=Failure(reason="ERROR", message=nasty),
    )
    card = changed(
        of_spec(data=Data(train=f"/x/{nasty.replace('/', '')}")), result=result, objections=(nasty,)
    )
    text = render(card)
    front, body = re.fullmatch(r"---\n(.*?)\n---\n(.*)", text, re.DOTALL).groups()
    before, after = re.fullmatch(r"(.*)\n````*yaml\n.*?\n````*\n(.*)", body, re.DOTALL).groups()
    for part in (before, after):
        assert "<script" not in part
        assert "](http" not in part.replace("](https://huggingface.co", "")
        assert "\nlicense: mit" not in part
    told = yaml.safe_load(front)
    assert told["license"] == "apache-2.0"
    named = told["model-index"][0]["results"][0]["metrics"][0]["name"]
    assert named == " ".join(nasty.split())


@pytest.mark.parametrize(
    "text",
    [
        "def __init__(self): _x_ = _y", "~~gone~~", "\\[a](http://b)", "**b** > `c` < d",
        "> quoted", "a|b", "![x](http://b/x.png)", "&lt;", "json_citation_rate", "_(a)_", "é_b_",
    ],
)  # fmt: skip
def test_a_reader_of_markdown_shows_text_as_it_was(text: str) -> None:
    reader = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    assert reader.render(f"- {markdown.escape(text)}").strip() == (
        f"<ul>\n<li>{html.escape(text)}</li>\n</ul>"
    )


def test_a_value_in_a_code_span_is_shown_as_it_is() -> None:
    base = msgspec.structs.replace(LINEAGE.base, revision="a*b[0] & c` <b>")
    text = render(changed(lineage=msgspec.structs.replace(LINEAGE, base=base)))
    assert "- base revision: `a*b[0] & c <b>`\n" in text


def test_names_of_metrics_stay_legible() -> None:
    assert markdown.escape("json_citation_rate, mae/a_b") == "json_citation_rate, mae/a_b"


def test_a_fence_is_longer_than_any_within() -> None:
    assert fenced("a\n````\nb", "yaml") == "`````yaml\na\n````\nb\n`````"


def test_the_recipe_is_one_that_trains_the_same() -> None:
    found = yaml.safe_load(recipe(SPEC))
    assert found["data"]["train"] == "train.jsonl"
    assert found["eval"]["metrics"] == ["checks.py:tone"]
    assert found["lora"] == {"r": 16, "alpha": 32, "dropout": 0.05, "targets": ["q_proj", "v_proj"]}
    assert not {"run_id", "deadline", "device", "wire_version"} & found.keys()


def test_rows_held_out_of_the_training_file_are_counted() -> None:
    text = render(changed(rows={"train": 900, "validation": 100, "test": 1100, "replay": 0}))
    assert "| test | held out of train | 1,100 |  |" in text
    assert "| replay |" not in text


def test_without_a_licence_none_is_claimed() -> None:
    text = render(changed(licence=None))
    assert "license" not in metadata(changed(licence=None))
    assert "Its author names none." in text
    assert "The licence of the base, [Qwen/Qwen2.5-7B-Instruct]" in text


@pytest.mark.parametrize(
    ("card", "tags", "library"),
    [
        (CARD, ["peft", "trl", "qlora", "loralift"], "peft"),
        (of_spec(strategy="lora", quantization=None), ["peft", "trl", "lora", "loralift"], "peft"),
        (of_spec(strategy="full", quantization=None), ["trl", "full", "loralift"], "transformers"),
    ],
)
def test_what_the_hub_finds_it_by(card: Card, tags: list[str], library: str) -> None:
    found = metadata(card)
    assert (found["tags"], found["library_name"]) == (tags, library)
    assert found["base_model"] == "Qwen/Qwen2.5-7B-Instruct"
    assert found["base_model_relation"] == ("finetune" if library == "transformers" else "adapter")
    names = [m["name"] for m in found["model-index"][0]["results"][0]["metrics"]]
    assert names == ["loss", "json_citation_rate"]  # an infinite one is none


def test_what_failed_says_so_before_anything_else() -> None:
    text = render(changed(objections=("FAIL: exact_match 0.1, at least 0.9",)))
    first = text.split("---\n")[2].strip().splitlines()
    assert first[0] == "> **Not good by its own gates; published nevertheless.**"
    assert first[2] == "> - FAIL: exact_match 0.1, at least 0.9"


def test_a_student_says_what_it_scores_and_how_it_is_loaded() -> None:
    card = of_spec(
        task="regression",
        regression=Regression(dimensions=("depth", "hype|cost"), high=5),
        eval=ResolvedEvaluation(),
    )
    text = render(card)
    assert "a score from 0 to 5 for each of: depth, hype&#124;cost" in text
    assert "AutoPeftModelForSequenceClassification" in text
    assert "num_labels=2" in text
    assert metadata(card)["pipeline_tag"] == "text-classification"
    assert "trl" not in metadata(card)["tags"]


def test_quantised_files_are_told_of_with_what_they_lost() -> None:
    file = Measured(
        quantization="q4_k_m", file="c-q4_k_m.gguf", size_bytes=4_680_000_000, sha256="8",
        perplexity=1.5, perplexity_change=0.02, metrics={"loss": 0.4, "exact_match": 0.9},
        prompt_tokens_per_second=1.0, generated_tokens_per_second=1.0, prompt_speed_ratio=1.0,
        generated_speed_ratio=1.0, gates=(), asked=True, shipped=True,
    )  # fmt: skip
    rejected = msgspec.structs.replace(file, file="c-q3_k_m.gguf.rejected", shipped=False)
    text = render(changed(files=(file, rejected), merged=True))
    assert "| c-q4_k_m.gguf | 4.68 GB | 1.5 | +2.00% | 0.900 |" in text
    assert "rejected" not in text
    assert "`merged/` is the whole tuned model" in text
    alone = msgspec.structs.replace(file, perplexity_change=None)
    assert "| 1.5 | n/a | 0.900 |" in render(changed(files=(alone,), merged=True))

"""What is sent for one text, and the key that tells its answer from every other."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from jobs.oracle.texts import Row, draw, prefilter
from jobs.outcome import BadInput
from jobs.spec.label import Dimension, Endpoint, LabelSpec

PLACEHOLDER = re.compile(r"\{(\w+)\}")

# What the endpoint's chat template puts around a message: roles, and a system prompt of its own.
# SmolLM2's takes 30 (llama.cpp reports 31 prompt tokens for the message "x", 2026-11-21).
# Assumption: no template adds more than this.
TEMPLATE_TOKENS = 256


@dataclass(frozen=True)
class Question:
    """One different text and the most tokens that asking it can be counted as."""

    key: str  # SHA-256
    id: str | int  # of the first row with this text
    text: str
    tokens_in_at_most: int


def read_template(path: Path) -> str:
    """A prompt that holds `{text}`. Other braces stand for themselves, so JSON needs no doubling.

    Raises `BadInput` when there is no `{text}`, or another `{word}` that nothing would fill.
    """
    try:
        template = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"prompt: {path}: {error}") from None
    names = PLACEHOLDER.findall(template)
    unknown = sorted(set(names) - {"text"})
    if unknown:
        raise BadInput(
            f"prompt: {path}: nothing fills {', '.join('{' + n + '}' for n in unknown)}; "
            "{text} is all that is filled"
        )
    if not names:
        raise BadInput(f"prompt: {path}: no {{text}}, so every text would be asked the same")
    return template


def scores_schema(dimensions: Mapping[str, Dimension]) -> dict[str, Any]:
    """JSON schema of an answer: every dimension, nothing else."""
    properties = {}
    for name, dimension in dimensions.items():
        whole = dimension.type == "integer"
        properties[name] = {
            "type": dimension.type,
            "minimum": int(dimension.min) if whole else dimension.min,
            "maximum": int(dimension.max) if whole else dimension.max,
        }
        if dimension.description is not None:
            properties[name]["description"] = dimension.description
    return {
        "type": "object",
        "properties": properties,
        "required": list(dimensions),
        "additionalProperties": False,
    }


def response_format(endpoint: Endpoint, schema: dict[str, Any]) -> dict[str, Any]:
    """The request's fields that ask for the answer's shape."""
    if endpoint.answer == "json_schema":
        named = {"name": "scores", "strict": True, "schema": schema}
        return {"response_format": {"type": "json_schema", "json_schema": named}}
    if endpoint.answer == "json_object":
        return {"response_format": {"type": "json_object"}}
    return {}


@dataclass(frozen=True)
class Form:
    """How texts are asked about: the spec and its prompt, made into requests."""

    spec: LabelSpec
    template: str

    def body(self, text: str) -> dict[str, Any]:
        """The request's fields, without the limit of its answer."""
        endpoint = self.spec.endpoint
        prompt = PLACEHOLDER.sub(lambda _: text, self.template)
        body: dict[str, Any] = {
            "model": endpoint.model,
            "messages": [{"role": "user", "content": prompt}],
            **response_format(endpoint, scores_schema(self.spec.dimensions)),
        }
        if endpoint.temperature is not None:
            body["temperature"] = endpoint.temperature
        return body

    def question(self, row: Row) -> Question:
        """The key covers all that shapes the answer: model, prompt, text, dimensions, answer form
        and temperature. The address is left out, so that a local server may change its port."""
        body = self.body(row.text)
        dimensions = msgspec.to_builtins(self.spec.dimensions)
        digest = hashlib.sha256(msgspec.json.encode([body, dimensions], order="sorted"))
        # A token of a byte-level or byte-fallback vocabulary covers at least one byte of UTF-8, so
        # bytes bound tokens from above; endpoints may put the schema into the prompt too.
        sent = len(body["messages"][0]["content"].encode())
        sent += len(msgspec.json.encode(body.get("response_format", "")))
        return Question(digest.hexdigest(), row.id, row.text, sent + TEMPLATE_TOKENS)


@dataclass(frozen=True)
class Selection:
    """What is to be asked: the sampled rows, each with its question's key, and the questions."""

    rows: int
    prefiltered: dict[str, int]
    sampled: Sequence[Row]
    keys: Sequence[str]
    questions: Mapping[str, Question]  # by key; rows with the same text share one


def select(form: Form, rows: Sequence[Row]) -> Selection:
    """Prefilter, sample, and one question for each different text. Raises `BadInput` for none."""
    wanted = form.spec.texts
    passed, prefiltered = prefilter(rows, wanted)
    if not passed:
        raise BadInput(f"texts: the prefilter took out all {len(rows)} rows: {prefiltered}")
    sampled = draw(passed, wanted.sample, wanted.seed)
    asked = [form.question(row) for row in sampled]
    questions: dict[str, Question] = {}
    for question in asked:
        questions.setdefault(question.key, question)
    return Selection(len(rows), prefiltered, sampled, [q.key for q in asked], questions)

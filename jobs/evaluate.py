"""Answers of base and tuned model, generated greedily.

As a command it judges a finished run again, see jobs/evaluate_run.py.
"""

import contextlib
import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch
from transformers import GenerationConfig

from jobs.aside import write_aside
from jobs.encode import Question
from jobs.spec import ResolvedEvaluation


class BaseAnswer(msgspec.Struct, frozen=True):
    key: str
    answer: str


@contextlib.contextmanager
def untouched(model: Any) -> Iterator[None]:
    """The base model inside; outside, the adapter again. A model without one is as it is."""
    if not hasattr(model, "disable_adapter"):
        yield
        return
    with model.disable_adapter():
        yield


def generate(
    model: Any, tokenizer: Any, questions: Sequence[Question], settings: ResolvedEvaluation
) -> Iterator[tuple[int, str]]:
    """(index, answer) of every question, greedy, in batches of similar length, longest first.

    The model's own generation settings (temperature, repetition penalty) play no part.
    """
    own, model.generation_config = model.generation_config, greedy(model, tokenizer, settings)
    side, tokenizer.padding_side = tokenizer.padding_side, "left"
    training = model.training
    model.eval()
    order = sorted(range(len(questions)), key=lambda i: -len(questions[i].prompt))
    try:
        for start in range(0, len(order), settings.batch):
            batch = order[start : start + settings.batch]
            asked = [questions[i] for i in batch]
            yield from zip(batch, _answer(model, tokenizer, asked), strict=True)
    finally:
        model.generation_config, tokenizer.padding_side = own, side
        model.train(training)


def answers(
    model: Any,
    tokenizer: Any,
    questions: Sequence[Question],
    settings: ResolvedEvaluation,
    touch: Callable[[], None] = lambda: None,
) -> list[str]:
    """The answers in the questions' order. `touch` is called as each is there: a sign of life."""
    found = {}
    for i, answer in generate(model, tokenizer, questions, settings):
        found[i] = answer
        touch()
    return [found[i] for i in range(len(questions))]


def _answer(model: Any, tokenizer: Any, asked: list[Question]) -> list[str]:
    # As in training: a plain prompt gets the tokenizer's special tokens, a rendered chat has them.
    ids = [tokenizer(q.prompt, add_special_tokens=not q.templated)["input_ids"] for q in asked]
    inputs = tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(model.device)
    with torch.inference_mode():
        output = model.generate(**inputs, use_cache=True)
    new = output[:, inputs["input_ids"].shape[1] :]
    texts: list[str] = tokenizer.batch_decode(new, skip_special_tokens=True)
    return texts


def greedy(model: Any, tokenizer: Any, settings: ResolvedEvaluation) -> GenerationConfig:
    """Stop at the tokenizer's end token and at those the model names."""
    named = model.generation_config.eos_token_id
    ends = set(named if isinstance(named, list) else [] if named is None else [named])
    return GenerationConfig(
        do_sample=False,
        max_new_tokens=settings.max_new_tokens,
        eos_token_id=sorted(ends | {tokenizer.eos_token_id}),
        pad_token_id=tokenizer.pad_token_id,
    )


def base_answers(
    path: Path,
    model: Any,
    tokenizer: Any,
    questions: Sequence[Question],
    settings: ResolvedEvaluation,
) -> list[str]:
    """The untouched model's answers; those that an earlier attempt wrote down are reused."""
    keys = [_key(question, settings) for question in questions]
    known = {a.key: a.answer for a in _read(path)}
    write_aside(path, b"".join(_line(BaseAnswer(k, a)) for k, a in known.items()))
    missing = [i for i, key in enumerate(keys) if key not in known]
    asked = [questions[i] for i in missing]
    with path.open("ab") as file, untouched(model):
        for i, answer in generate(model, tokenizer, asked, settings):
            key = keys[missing[i]]
            known[key] = answer
            file.write(_line(BaseAnswer(key, answer)))
            file.flush()
    return [known[key] for key in keys]


def _key(question: Question, settings: ResolvedEvaluation) -> str:
    asked = f"{settings.max_new_tokens}\n{question.prompt}"
    return hashlib.sha256(asked.encode()).hexdigest()


def _line(value: msgspec.Struct) -> bytes:
    return msgspec.json.encode(value) + b"\n"


def _read(path: Path) -> Iterator[BaseAnswer]:
    """Whole lines; one torn by a crash is left out."""
    for line in path.read_bytes().splitlines() if path.exists() else ():
        with contextlib.suppress(msgspec.DecodeError):
            yield msgspec.json.decode(line, type=BaseAnswer)


if __name__ == "__main__":
    from jobs.evaluate_run import main

    sys.exit(main(sys.argv[1:]))

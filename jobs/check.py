"""`python -m jobs.check spec.json`: every row encoded as the job would, before a machine is paid.

Prints one JSON object, a `DataCheck`. No model is loaded and nothing is fetched: the tokenizer is a
folder's, or lies in the Hub's cache; where it does not, the answer says so. Exit codes: 0 looked
at or skipped, 2 no spec.
"""

import contextlib
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from jobs.data import Line, Rows, read_data
from jobs.golden import read_golden
from jobs.outcome import BadInput
from jobs.replay import with_replay
from jobs.sources import data_file, model_folder, read_wire, set_environment, without_torch
from jobs.spec import Regression, ResolvedSpec, ScoresRow, encode
from jobs.spec.check import DataCheck, TemplateUse

PROBLEMS_SHOWN = 3

Looked = tuple[Line, int, str]  # a row, its tokens before it is cut, why the job would refuse it


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m jobs.check spec.json", file=sys.stderr)
        return 2
    spec_file = Path(arguments[0]).resolve()
    try:
        job = read_wire(spec_file, ResolvedSpec)
    except BadInput as error:
        print(error, file=sys.stderr)
        return 2
    with contextlib.redirect_stdout(sys.stderr):  # the answer stands alone on stdout
        found = checked(job, spec_file.parent)
    sys.stdout.buffer.write(encode(found))
    return 0


def checked(job: ResolvedSpec, folder: Path) -> DataCheck:
    """What the job would find in its rows, as far as it can be known here."""
    try:
        local = model_folder(job.model.id, folder)
        rows = with_replay(job, read_data(job, folder), folder)
        golden = golden_lines(job, folder)
        set_environment(job, model_is_local=True)  # offline: nothing is fetched for a check
        source = str(local) if local is not None else cached(job.model.id, job.model.revision)
        if source is None:
            return DataCheck(skipped=f"the tokenizer of {job.model.id} is not in the Hub's cache")
        return encoded(job, rows, golden, *tokenizer_of(source))
    except BadInput as error:
        return DataCheck(refused=1, problems=(str(error),))


def golden_lines(job: ResolvedSpec, folder: Path) -> list[Line]:
    if job.eval.golden is None:
        return []
    path = data_file(job.eval.golden, "eval.golden", folder, job.golden_sha256)
    return [row.line for row in read_golden(path)]


def cached(model_id: str, revision: str | None) -> str | None:
    """The folder of a Hub model's tokenizer in the cache; None where it is not there."""
    from huggingface_hub import try_to_load_from_cache

    for name in ("tokenizer_config.json", "tokenizer.json"):
        found = try_to_load_from_cache(model_id, name, revision=revision)
        if isinstance(found, str):
            return os.path.dirname(found)
    return None


def tokenizer_of(source: str) -> tuple[Any, str | None]:
    """The tokenizer as the job loads it, and the pad token that it came with."""
    from transformers import AutoTokenizer

    from jobs.tokenizer import load_tokenizer

    try:
        own = AutoTokenizer.from_pretrained(source).pad_token
        return load_tokenizer(source, None), own
    except BadInput:
        raise
    except Exception as error:  # transformers', tokenizers' and their parsers' share no base
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadInput(f"model.id: no tokenizer can be loaded from {source}: {said}") from error


def encoded(
    job: ResolvedSpec, rows: Rows, golden: list[Line], tokenizer: Any, own_pad: str | None
) -> DataCheck:
    sets = {"train": rows.train, "validation": rows.validation, "test": rows.test}
    lines = [line for found in sets.values() for line in found]
    template: TemplateUse = "none"
    doubts: list[str] = []
    if job.regression is not None:
        looked = scored(tokenizer, lines, job.train.seq_len, job.regression)
    else:
        from jobs.encode import Encoder, Question, doubts_of

        questions: list[Question] = []

        def questioned(line: Line) -> tuple[int, str]:
            """Raises `BadInput` for what cannot be rendered. What it takes is not trained on."""
            question = encoder.question(line)
            questions.extend([question] if question is not None else [])
            return 0, ""

        encoder = Encoder(tokenizer, job.train.seq_len, job.train.assistant_only_loss)
        template = encoder.template_use
        asked = [*rows.validation, *rows.test, *golden] if job.eval.generate else []
        looked = [
            *(looked_at(line, lambda line: learnt(encoder, line)) for line in lines),
            *(looked_at(line, questioned) for line in asked),
        ]
        doubts = doubts_of(questions)
    longest = max(looked, key=lambda found: found[1])
    problems = list(dict.fromkeys(why for _, _, why in looked if why))
    return DataCheck(
        rows={name: len(found) for name, found in (*sets.items(), ("golden", golden)) if found},
        refused=len(problems),
        problems=tuple(problems[:PROBLEMS_SHOWN]),
        longest_tokens=longest[1],
        longest_at=str(longest[0]),
        cut=sum(tokens > job.train.seq_len for _, tokens, _ in looked),
        seq_len=job.train.seq_len,
        pad_token=tokenizer.pad_token,
        own_pad_token=own_pad,
        template=template,
        doubts=tuple(doubts),
    )


def looked_at(line: Line, what: Callable[[Line], tuple[int, str]]) -> Looked:
    try:
        return (line, *what(line))
    except BadInput as error:
        return line, 0, str(error)


def learnt(encoder: Any, line: Line) -> tuple[int, str]:
    """The row's tokens, and what is wrong with those that carry loss."""
    ids, labels = encoder.whole(line)
    try:
        encoder.cut(line, ids, labels)
    except BadInput as error:
        return len(ids), str(error)
    return len(ids), ""


def scored(tokenizer: Any, lines: Iterable[Line], seq_len: int, asked: Regression) -> list[Looked]:
    """The texts of a regression: each needs a token to be read at, and all of its scores."""
    from jobs.regression import targets_of

    def scores(line: Line) -> tuple[int, str]:
        targets_of([line], asked)
        text = line.row.text if isinstance(line.row, ScoresRow) else ""
        count = len(tokenizer(text)["input_ids"])
        return count, "" if count else f"{line}: the text has no token"

    return [looked_at(line, scores) for line in lines]


if __name__ == "__main__":
    without_torch()
    sys.exit(main(sys.argv[1:]))

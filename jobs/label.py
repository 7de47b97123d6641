"""`python -m jobs.label label.json`: score texts with an expensive model, for a student to learn.

Needs msgspec and `openai` (extra `label`), nothing else. A whole label.json, defaults in
`jobs.spec.label`:

    {
      "texts": {"file": "articles.jsonl", "text_field": "body", "id_field": "url",
                "min_characters": 200, "max_characters": 20000, "include": null,
                "exclude": "(?i)all rights reserved", "sample": 5000, "seed": 17},
      "endpoint": {"base_url": "https://api.openai.com/v1", "model": "gpt-4o-mini",
                   "key_variable": "OPENAI_API_KEY", "answer": "json_schema", "temperature": 0,
                   "max_output_tokens": 128, "output_limit": "max_tokens",
                   "timeout_seconds": 60},
      "prompt": "prompt.txt",
      "dimensions": {"impact": {}, "evidence": {"min": 0, "max": 5, "type": "integer",
                                                "description": "sources that are named"}},
      "prices": {"usd_per_million_input": 0.15, "usd_per_million_output": 0.60},
      "limits": {"max_tokens": 20000000, "max_usd": 5},
      "pace": {"concurrency": 8, "requests_per_minute": 500, "tokens_per_minute": 200000},
      "retries": {"errors": 5, "invalid": 2, "give_up_after": 20},
      "output": "labels"
    }

prompt.txt holds {text}. The prices are an example: take them from the endpoint's own list.
The output folder gets answers.jsonl (all that was sent and answered, written as it happens),
labelled.jsonl (`{"id", "text", "scores"}` in the input's order) and label_summary.json. Another
start asks only what is missing; another prompt, model or dimension asks anew, into the same
journal and under the same limits. SIGTERM and SIGINT wait for what is in flight; a second one does
not. Exit codes: 0 every text is labelled, 1 some are not (the last line says how to go on), 2 bad
input.
"""

import asyncio
import random
import signal
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from jobs import layout
from jobs.aside import write_aside
from jobs.oracle.admission import Admission, End, Meter, Spending
from jobs.oracle.asking import Asking
from jobs.oracle.endpoint import connect, hide, in_the_clear, read_key
from jobs.oracle.journal import Journal, Past
from jobs.oracle.question import Form, Question, Selection, read_template, select
from jobs.oracle.summary import summarise
from jobs.oracle.texts import read_rows
from jobs.outcome import BadInput
from jobs.spec import encode
from jobs.spec.label import LabelSpec, LabelSummary


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python -m jobs.label label.json", file=sys.stderr)
        return 2
    key = ""
    try:
        spec_file = Path(arguments[0]).resolve()
        spec = read_spec(spec_file)
        key = read_key(spec.endpoint.key_variable)
        summary = label(spec, spec_file.parent, key)
    except BadInput as error:
        print(f"bad input: {hide(key, str(error))}", file=sys.stderr)
        return 2
    except (Exception, KeyboardInterrupt, asyncio.CancelledError) as error:
        if isinstance(error, Exception):
            print(hide(key, traceback.format_exc()), file=sys.stderr)
        print("broken off; what is answered is kept: start again to go on", file=sys.stderr)
        return 1
    print(hide(key, outcome_line(summary)), flush=True)
    return 0 if summary.labelled == summary.texts else 1


def read_spec(path: Path) -> LabelSpec:
    try:
        return msgspec.json.decode(path.read_bytes(), type=LabelSpec)
    except (OSError, msgspec.DecodeError) as error:
        raise BadInput(f"{path}: {error}") from None


def label(spec: LabelSpec, folder: Path, key: str) -> LabelSummary:
    """Select, ask, write. Relative paths of the spec start at `folder`."""
    rows = read_rows(folder / Path(spec.texts.file).expanduser(), spec.texts)
    form = Form(spec, read_template(folder / Path(spec.prompt).expanduser()))
    chosen = select(form, rows)
    client = connect(spec.endpoint, key)
    output = folder / Path(spec.output).expanduser()
    journal = open_journal(output)

    def say(line: str) -> None:
        print(hide(key, line), flush=True)

    warnings = list(cautions(spec, journal.past, key))
    known = {k: scores for k, scores in journal.past.scores.items() if k in chosen.questions}
    admission = Admission(
        Spending.since(journal.past, spec.limits, spec.prices),
        Meter(spec.pace.requests_per_minute),
        Meter(spec.pace.tokens_per_minute),
    )
    asking = Asking(form, client, key, journal, admission, say, scores=dict(known))
    missing = [q for k, q in chosen.questions.items() if k not in known and asking.tries_left(k)]
    # By chance, so that what a limit leaves labelled is a sample, not the file's beginning.
    random.Random(spec.texts.seed).shuffle(missing)
    say(
        f"{chosen.rows} rows, {len(chosen.sampled)} sampled, {len(chosen.questions)} different "
        f"texts, {len(known)} labelled before; asking about {len(missing)}, "
        f"{sum(q.tokens_in_at_most for q in missing)} tokens in at most"
    )
    asyncio.run(ask(asking, missing))
    if asking.above_worst_case:
        warnings.append(
            f"{asking.above_worst_case} answers were reported with more tokens than the most that "
            "was reckoned with: the limits may be passed by as much"
        )
    write_aside(output / layout.LABELLED, labelled_rows(chosen, asking.scores))
    summary = summarise(chosen, asking, len(known), warnings)
    write_aside(output / layout.LABEL_SUMMARY, encode(summary))
    journal.close()
    for warning in warnings:
        say(f"warning: {warning}")
    return summary


def open_journal(output: Path) -> Journal:
    try:
        output.mkdir(parents=True, exist_ok=True)
        return Journal(output / layout.ORACLE_ANSWERS)
    except OSError as error:
        raise BadInput(f"output: {output}: {error.strerror}") from None


def labelled_rows(chosen: Selection, scores: Mapping[str, dict[str, float]]) -> bytes:
    """What regression training reads: JSON lines in the input's order."""
    rows = zip(chosen.sampled, chosen.keys, strict=True)
    found = ({"id": r.id, "text": r.text, "scores": scores[k]} for r, k in rows if k in scores)
    return b"".join(msgspec.json.encode(row) + b"\n" for row in found)


async def ask(asking: Asking, missing: Sequence[Question]) -> None:
    """Ask until done, a limit or a signal; what is in flight is waited for."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def interrupted(name: str) -> None:
        if asking.admission.end is not None:
            task.cancel()
            return
        asking.say(f"{name}: waiting for {asking.admission.spending.requests_in_flight} answers")
        asking.admission.stop(End("signal", f"ended by {name}: start again to go on"))

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, interrupted, number.name)
    async with asking.client:
        await asking.all(missing)


def cautions(spec: LabelSpec, past: Past, key: str) -> Iterator[str]:
    """What someone should know who reads only the summary."""
    if key and in_the_clear(spec.endpoint.base_url):
        yield "endpoint.base_url: the key crosses a network unencrypted"
    if past.unreadable_lines:
        yield f"{layout.ORACLE_ANSWERS}: {past.unreadable_lines} unreadable lines, torn by a crash"


def outcome_line(summary: LabelSummary) -> str:
    cost = "no prices given" if summary.microusd is None else f"${summary.microusd / 1e6:.6f}"
    return (
        f"{summary.labelled} of {summary.texts} texts labelled ({summary.kept} kept, "
        f"{summary.invalid} invalid, {summary.failed} failed, {summary.unasked} unasked), "
        f"{summary.tokens_in} tokens in, {summary.tokens_out} out, {cost}: {summary.message}"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

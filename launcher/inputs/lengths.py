"""Pure: rows that are clearly longer than what a job trains on, told before it is started.

Which row is too long by how much only the tokenizer knows: `jobs.check` looks at each, where the
training environment is at hand. A plan has the rows' characters, and warns where these leave no
doubt.
"""

from jobs.spec import JobSpec
from launcher.types import DataFacts

# How far above seq_len a row's tokens, estimated from its characters, leave no doubt: at 1.5 with
# the assumed rate, text of up to 6 characters a token; at 1.1 with a counted one. Assumptions.
CLEARLY_BY_ASSUMPTION, CLEARLY_BY_COUNT = 1.5, 1.1


def warnings_of(job: JobSpec, data: DataFacts) -> tuple[str, ...]:
    """What happens to the rows above train.seq_len, and what to do; nothing where none is
    clearly above it, or the rows themselves are assumed."""
    clearly = CLEARLY_BY_COUNT if data.tokenizer_rows else CLEARLY_BY_ASSUMPTION
    most = (clearly * job.train.seq_len - data.template_tokens_per_row) / data.tokens_per_character
    judged = 0 if job.eval.golden is not None else data.longest_judged_characters
    characters = max(data.longest_characters, judged)
    if characters <= most or not data.sha256:
        return ()
    if data.longest_characters > most:
        count = _longer(most, data)
        which = f"about {count:,} of {data.train_rows:,} training rows are clearly longer"
    else:
        which = "held-out rows are clearly longer"
    tokens = round(characters * data.tokens_per_character + data.template_tokens_per_row)
    rate = "counted" if data.tokenizer_rows else "assumed"
    return (
        f"{which} than train.seq_len, {job.train.seq_len:,} tokens; the longest of all has "
        f"{characters:,} characters, about {tokens:,} tokens ({data.tokens_per_character:.3g} a "
        f"character, {rate}): {_what_happens(job)}; raise it (--set train.seq_len=N), or leave "
        "these rows out",
    )


def _longer(most: float, data: DataFacts) -> int:
    """Training rows of more characters than `most`, at least the longest."""
    groups, rows = data.row_characters, data.train_rows
    within = sum(characters <= most for characters in groups)
    return max(1, rows - rows * within // len(groups)) if groups else 1


def _what_happens(job: JobSpec) -> str:
    if job.task == "regression":
        return "the student reads no more of a text than that"
    return "what is beyond is cut away, and a row that has nothing left to learn stops the job"

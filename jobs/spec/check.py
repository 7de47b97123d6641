"""What the training environment says of a job's rows before it is started."""

from typing import Literal

from msgspec import Struct

# none: the rows need none · marked: it says itself where answers stand · copied: TRL has a marked
# copy of it · spans: answers are found by rendering turn after turn
TemplateUse = Literal["none", "marked", "copied", "spans"]


class DataCheck(Struct, frozen=True, kw_only=True):
    """Every row as the job would encode it. Sound: nothing skipped, and no problems."""

    skipped: str = ""  # why no row could be looked at; "": all were
    rows: dict[str, int] = {}  # by set, golden questions too
    refused: int = 0  # rows that the job would stop at
    problems: tuple[str, ...] = ()  # the first of them, each with file and line
    longest_tokens: int = 0  # of one row, before it is cut
    longest_at: str = ""  # file and line
    cut: int = 0  # rows longer than seq_len
    seq_len: int = 0
    pad_token: str = ""
    own_pad_token: str | None = None  # the tokenizer's; None: it has none, and another one serves
    template: TemplateUse = "none"
    doubts: tuple[str, ...] = ()  # why answers may not be judged as they are trained and served

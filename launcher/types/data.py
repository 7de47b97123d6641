"""What is known of a job's data before it is trained on."""

from msgspec import Struct

TOKENS_PER_CHARACTER = 0.25  # where no tokenizer was asked. Assumption, of English text


DATA_FILES = (
    "train",
    "validation",
    "test",
    "replay",
)  # the keys of a recipe's `data:` that name files


class Judged(Struct, frozen=True, kw_only=True):
    """What the rows show whose answers a job is judged by: which metrics they can give."""

    where: str  # golden, test or validation
    asked: int  # rows that ask something
    json: int  # of them: whose answer is a JSON object
    citing: int  # of these: that cite something
    refusing: int  # of these: that refuse
    sourced: int = 0  # of the golden rows: that say what may be cited
    tiers: tuple[str, ...] = ()  # that a scored row is in


class DataFacts(Struct, frozen=True, kw_only=True):
    """What the launcher knows of the data without a tokenizer."""

    train_path: str
    validation_path: str | None
    train_rows: int
    validation_rows: int
    train_characters: int  # all text of the training rows, template not counted
    longest_characters: int  # of one row
    longest_judged_characters: int = 0  # of one row that is asked or measured, not trained on
    # Mean characters of the training rows in groups of as many, the shortest first; empty: not
    # known. Of n rows in g groups the i-th ends at row n * (i + 1) // g.
    row_characters: tuple[float, ...] = ()
    validation_characters: int
    sha256: str  # of the training file
    validation_sha256: str | None = None
    test_rows: int = 0
    test_characters: int = 0
    test_sha256: str | None = None
    shapes: dict[str, int] = {}  # rows of all sets by the shape they were recognised as
    repeated_rows: int = 0  # whose question stands earlier in their set too; they stay
    left_out_rows: int = 0  # whose question stands in a set that judges theirs
    warnings: tuple[str, ...] = ()
    judged: Judged | None = None  # None: no rows are there to be read
    choosing: Judged | None = None  # the rows that an epoch is chosen by; None: as above
    golden_rows: int = 0  # of eval.golden, asked instead of the held-out rows
    golden_sha256: str | None = None
    schema_sha256: str | None = None
    metrics_sha256: dict[str, str] = {}  # file of eval.metrics → its digest
    replay_rows: int = 0  # of train_rows: drawn from the old file, at most
    replay_sha256: str | None = None
    tokens_per_character: float = TOKENS_PER_CHARACTER
    template_tokens_per_row: float = 12.0  # assumption
    tokenizer_rows: int = 0  # that the model's tokenizer counted for these two; 0: assumed

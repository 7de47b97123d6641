"""What the training environment and llama.cpp's tell each other, as JSON. msgspec alone."""

from msgspec import Struct


class Tools(Struct, frozen=True, kw_only=True):
    """What the environment of images/export.lock holds."""

    llama_cpp: str  # llama.cpp's source folder: convert_hf_to_gguf.py, conversion/, gguf-py/
    site_packages: str  # for what the converter needs beyond the training environment
    versions: dict[str, str]


class SupervisedRow(Struct, frozen=True):
    """A row of token ids; labels are ids, or -100 where nothing is to be predicted."""

    ids: list[int]
    labels: list[int]


class Prompt(Struct, frozen=True):
    """A question as rendered for the model, with Transformers' ids for it."""

    text: str
    ids: list[int]
    templated: bool  # the text holds its special tokens already


class MeasureRequest(Struct, frozen=True):
    rows: list[SupervisedRow]
    prompts: list[Prompt]
    max_new_tokens: int


class Answers(Struct, frozen=True, kw_only=True):
    """What a GGUF file said."""

    # Mean negative log-likelihood of the supervised tokens, natural log. None: no finite number,
    # or no such tokens.
    loss: float | None
    supervised_tokens: int
    answers: list[str]
    tokenised_otherwise: int  # prompts for which llama.cpp's own tokens are not Transformers'


class Speed(Struct, frozen=True, kw_only=True):
    """Tokens per second of wall-clock time inside llama.cpp."""

    prompt: float
    generated: float

"""The tokenizer as every part of a job loads it: alone, without torch's models."""

from typing import Any

from transformers import AutoTokenizer

from jobs.outcome import BadInput

# Names that model makers gave a token for padding; taken where a tokenizer has one but says its
# pad token is the end token. Qwen, Llama 3, Gemma and T5, BERT, Phi-3, Pythia.
PAD_NAMES = (
    "<|endoftext|>",
    "<|finetune_right_pad_id|>",
    "<pad>",
    "[PAD]",
    "<|pad|>",
    "<|padding|>",
    "<|placeholder6|>",
)


def load_tokenizer(source: str, revision: str | None) -> Any:
    """The tokenizer, with a pad token that is not its end token.

    A pad token that is the end token makes common collators drop the end token from the labels,
    and the model never learns to stop. No embedding is added: padding is masked everywhere, so
    any other token serves.
    """
    tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
    if tokenizer.eos_token is None:
        raise BadInput(f"model.id: the tokenizer of {source} has no end token")
    if tokenizer.pad_token is None or tokenizer.pad_token == tokenizer.eos_token:
        tokenizer.pad_token = _other_token(tokenizer)
    return tokenizer


def _other_token(tokenizer: Any) -> str:
    vocabulary = tokenizer.get_vocab()
    named = [name for name in PAD_NAMES if name in vocabulary]
    special = [t for t in (tokenizer.unk_token, tokenizer.bos_token) if t is not None]
    plain = [tokenizer.convert_ids_to_tokens(i) for i in (0, 1)]
    return next(t for t in (*named, *special, *plain) if t != tokenizer.eos_token)

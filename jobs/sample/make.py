"""Makes the sample task: `python -m jobs.sample.make [FOLDER]`; the same bytes every time.

Closed-book questions about twenty policies. The answer is JSON, `{"answer": ..., "citation":
"POL-07"}`; what the handbook does not cover is refused with a null answer and a null citation.
Validation asks in sentences that training never showed. The model folder holds an architecture
and a tokenizer, no weights: `model.init: random` draws them from the run's seed.
"""

import json
import random
import sys
from pathlib import Path

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from jobs.sample.policies import OFF_TOPIC, POLICIES, TRAIN_CARRIERS, VALIDATION_CARRIERS

SEED = 7
TRAIN_ROWS_PER_POLICY = 30  # of 84 carrier × name pairs
TRAIN_ROWS_OFF_TOPIC = 300
VALIDATION_ROWS_PER_POLICY = 4
VALIDATION_ROWS_OFF_TOPIC = 20

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
BPE_TOKENS = 765  # at most: with the three special tokens three blocks of a K-quant

# Qwen2's, letter for letter: GGUF converters know a tokenizer by how it splits.
# https://huggingface.co/Qwen/Qwen2.5-7B-Instruct/blob/main/tokenizer.json
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' }}"
    "{%- if message.role == 'assistant' %}"
    "{% generation %}{{- message.content + '<|im_end|>' }}{% endgeneration %}{{- '\\n' }}"
    "{%- else %}{{- message.content + '<|im_end|>\\n' }}{%- endif %}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)


def answer(fact: str | None, citation: str | None) -> str:
    return json.dumps({"answer": fact, "citation": citation})


def rows(carriers: tuple[str, ...], per_policy: int, off_topic: int, seed: int) -> list[dict]:
    """Chats, shuffled: `per_policy` of each policy and `off_topic` to refuse."""
    rng = random.Random(seed)
    pairs = []
    for policy in POLICIES:
        asked = [carrier.format(name) for carrier in carriers for name in policy.names]
        reply = answer(policy.fact, policy.id)
        pairs += [(question, reply) for question in rng.sample(asked, per_policy)]
    asked = [carrier.format(topic) for carrier in carriers for topic in OFF_TOPIC]
    pairs += [(question, answer(None, None)) for question in rng.sample(asked, off_topic)]
    rng.shuffle(pairs)
    return [
        {
            "messages": [
                {"role": "user", "content": question},
                {"role": "assistant", "content": reply},
            ]
        }
        for question, reply in pairs
    ]


def tokenizer(texts: list[str]) -> Tokenizer:
    """A byte-level BPE of the texts that splits as Qwen2's does."""
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    bpe.post_processor = processors.ByteLevel(trim_offsets=False)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    bpe.train_from_iterator(
        texts,
        trainers.BpeTrainer(vocab_size=BPE_TOKENS, initial_alphabet=alphabet, show_progress=False),
    )
    bpe.add_special_tokens(
        [AddedToken(t, special=True, normalized=False) for t in (PAD, START, END)]
    )
    return bpe


def tokenizer_config() -> dict:
    return {
        "tokenizer_class": "Qwen2Tokenizer",
        "add_prefix_space": False,
        "bos_token": None,
        "chat_template": CHAT_TEMPLATE,
        "clean_up_tokenization_spaces": False,
        "eos_token": END,
        "model_max_length": 512,
        "pad_token": PAD,
        "unk_token": None,
    }


def model_config(vocabulary: Tokenizer) -> dict:
    """A Qwen2 of three layers; rows are multiples of 256, so that K-quants can hold them."""
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "hidden_size": 256,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "vocab_size": -(-vocabulary.get_vocab_size() // 256) * 256,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "initializer_range": 0.05,
        "tie_word_embeddings": False,
        "use_cache": True,
        "attention_dropout": 0.0,
        "bos_token_id": None,
        "eos_token_id": vocabulary.token_to_id(END),
        "pad_token_id": vocabulary.token_to_id(PAD),
        "dtype": "float32",
    }


def main(folder: Path) -> None:
    train = rows(TRAIN_CARRIERS, TRAIN_ROWS_PER_POLICY, TRAIN_ROWS_OFF_TOPIC, SEED)
    validation = rows(
        VALIDATION_CARRIERS, VALIDATION_ROWS_PER_POLICY, VALIDATION_ROWS_OFF_TOPIC, SEED + 1
    )
    vocabulary = tokenizer([m["content"] for row in train for m in row["messages"]])
    model = folder / "model"
    model.mkdir(parents=True, exist_ok=True)
    for name, table in (("train", train), ("validation", validation)):
        lines = "".join(json.dumps(row) + "\n" for row in table)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    vocabulary.save(str(model / "tokenizer.json"))
    for name, table in (
        ("config", model_config(vocabulary)),
        ("tokenizer_config", tokenizer_config()),
    ):
        text = json.dumps(table, indent=2) + "\n"
        (model / f"{name}.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)

"""`python -m jobs.shipping.converter LLAMA_CPP SITE_PACKAGES ARGUMENT...`: llama.cpp's own
convert_hf_to_gguf.py, which names a tokenizer's splitting rule where llama.cpp's list cannot.

That list knows a tokenizer by the hash of how it encodes one text, hence only published
vocabularies. A vocabulary of one's own that splits text by a published rule is known by the rule.
"""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

# The rule as tokenizer.json spells it → llama.cpp's name for it. From the comments beside each
# rule in llama.cpp's src/llama-vocab.cpp (b9222).
RULES = {
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": "qwen2",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+": "llama-bpe",
}


def splitting_rule(tokenizer_file: Path) -> str | None:
    """llama.cpp's name for how this tokenizer splits text before BPE, None where it has none."""
    parts = (json.loads(tokenizer_file.read_bytes()).get("pre_tokenizer") or {}).get(
        "pretokenizers"
    )
    match parts:
        case [
            {"type": "Split", "pattern": {"Regex": rule}, "behavior": "Isolated", "invert": False},
            {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
        ]:
            return RULES.get(rule)
    return None


def main(llama_cpp: str, site_packages: str, *arguments: str) -> None:
    sys.path.insert(0, llama_cpp)
    sys.path.append(site_packages)  # last: only for what this environment does not have
    from conversion.base import TextModel

    listed = TextModel.get_vocab_base_pre

    def named(model: Any, tokenizer: Any) -> str:
        try:
            return listed(model, tokenizer)
        except NotImplementedError:
            name = splitting_rule(Path(model.dir_model) / "tokenizer.json")
            if name is None:
                raise
            return name

    TextModel.get_vocab_base_pre = named
    script = str(Path(llama_cpp) / "convert_hf_to_gguf.py")
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])

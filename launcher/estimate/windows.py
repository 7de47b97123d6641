"""Which layers of a config.json slide, as transformers 5.23 reads it."""

from typing import Any

from launcher.estimate.tensors import Window

# Families whose models look at the window only where the config says so as well.
_SWITCHED = ("qwen2", "qwen3", "qwen2_moe", "qwen3_moe")
_GEMMA3_PATTERN = 6  # configuration_gemma3.py: every sixth layer sees all


def window_of(config: dict[str, Any], layers: int) -> Window | None:
    """None where every layer sees all.

    A `sliding_window` that is not said counts as none, though Mistral's and Gemma's config classes
    then take 4,096: every published config of theirs says it. Gemma 2 is left out: its attention
    keeps all pairs of tokens anyway (unlike_llama.py).
    """
    tokens, family = config.get("sliding_window"), config["model_type"]
    switched_off = family in _SWITCHED and not config.get("use_sliding_window", False)
    if not isinstance(tokens, int) or switched_off or family == "gemma2":
        return None
    types = config.get("layer_types")
    if isinstance(types, list):
        sliding = types[:layers].count("sliding_attention")
    elif family.startswith("gemma3"):
        sliding = layers - layers // config.get("sliding_window_pattern", _GEMMA3_PATTERN)
    elif family in _SWITCHED:  # configuration_qwen2.py: the layers from max_window_layers on
        sliding = max(0, layers - config.get("max_window_layers", 28))
    else:
        sliding = layers
    return Window(tokens=tokens, layers=sliding) if sliding else None

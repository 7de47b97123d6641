"""Which layers of a config.json slide, as transformers 5.23 reads it."""

from launcher.estimate.fields import Fields
from launcher.estimate.tensors import Window

# Families whose models look at the window only where the config says so as well.
_SWITCHED = ("qwen2", "qwen3", "qwen3_moe", "smollm3")
# Of these, the layers from max_window_layers on (configuration_qwen2.py); all of the others'
# (modeling_qwen3_moe.py Qwen3MoeModel.forward).
_FROM_A_LAYER_ON = ("qwen2", "qwen3")
_GEMMA3_PATTERN = 6  # configuration_gemma3.py: every sixth layer sees all
_QWEN_FULL_LAYERS = 28  # configuration_qwen2.py: a silent max_window_layers


def window_of(config: Fields, layers: int) -> Window | None:
    """None where every layer sees all. Raises `BadInput` for fields that make no window.

    A `sliding_window` that is not said counts as none, though Mistral's and Gemma's config classes
    then take 4,096: every published config of theirs says it. Gemma 2 is left out: its attention
    keeps all pairs of tokens anyway (unlike_llama.py). A field that nothing reads is not looked at.
    """
    family = config.get("model_type")
    if family == "gemma2" or (family in _SWITCHED and not config.flag("use_sliding_window")):
        return None
    tokens = config.count_or_none("sliding_window")
    if tokens is None:
        return None
    if config.get("layer_types") is not None:
        sliding = _types(config)[:layers].count("sliding_attention")
    elif family.startswith("gemma3"):
        pattern = config.over({"sliding_window_pattern": _GEMMA3_PATTERN})
        sliding = layers - layers // pattern.count("sliding_window_pattern")
    elif family in _FROM_A_LAYER_ON:
        full = config.over({"max_window_layers": _QWEN_FULL_LAYERS})
        sliding = max(0, layers - full.count("max_window_layers", least=0))
    else:
        sliding = layers
    return Window(tokens=tokens, layers=sliding) if sliding else None


def _types(config: Fields) -> list[str]:
    types = config.get("layer_types")
    if not isinstance(types, list) or not all(isinstance(name, str) for name in types):
        raise config.refused("layer_types", f"expected a list of a name a layer, got {types!r}")
    return types

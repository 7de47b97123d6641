"""What we say a layer keeps and needs, against what autograd keeps of real layers on a CPU.

Storages are counted as operations make them and as they go; weights are left out.
"""

from typing import Any

import msgspec
import pytest

from launcher.estimate.activations import layer_at_work, shared_by_layers
from launcher.estimate.batch import Batch, Widths
from launcher.estimate.shapes import from_config
from tests.integration.measured import measured

COUNT = """
import json, sys, warnings, weakref
warnings.filterwarnings("ignore")
import torch
from peft import LoraConfig, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoConfig, AutoModelForCausalLM

class Storages(TorchDispatchMode):
    def __init__(self, known):
        super().__init__()
        self.now = self.most = 0
        self.seen = {t.untyped_storage()._cdata for t in known}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self.count(tensor.untyped_storage())
        return made

    def count(self, storage):
        key, size = storage._cdata, storage.nbytes()
        if key in self.seen or not size:
            return
        self.seen.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self.gone, key, size)

    def gone(self, key, size):
        self.seen.discard(key)
        self.now -= size

def step(case, checkpointing):
    narrow = case["compute"] == 2
    dtype = torch.bfloat16 if narrow else torch.float32
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**case["config"]), dtype=dtype)
    lora = LoraConfig(task_type="CAUSAL_LM", r=2, lora_dropout=case["dropout"],
                      target_modules=case["targets"])
    model = get_peft_model(model, lora)
    causal = model.base_model.model
    if checkpointing:
        causal.gradient_checkpointing_enable({"use_reentrant": False})
    body = getattr(causal, causal.base_model_prefix)
    model.train()
    x = torch.randn(1, case["tokens"], body.config.hidden_size, dtype=dtype, requires_grad=True)
    gradient = torch.ones_like(x)
    counted = Storages([*model.parameters(), *model.buffers(), x, gradient])
    with counted:
        with torch.autocast("cpu", torch.bfloat16, enabled=narrow):
            y = body(inputs_embeds=x, use_cache=False).last_hidden_state
        kept = counted.now
        y.backward(gradient.to(y.dtype))
    return kept, counted.most

found = {}
for name, case in json.load(sys.stdin).items():
    found[name] = [step(case, False)[0], step(case, True)[1]]
print(json.dumps(found))
"""

TOKENS, LAYERS, HIDDEN = 384, 3, 256
SMALL = {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": 4,
         "vocab_size": 128, "pad_token_id": 0}  # fmt: skip
GATED = {**SMALL, "intermediate_size": 640, "num_key_value_heads": 2, "head_dim": 64}
MIXTURE = {**GATED, "moe_intermediate_size": 192, "num_experts": 16, "num_experts_per_tok": 4}
ATTENTION = ("q_proj", "k_proj", "v_proj", "o_proj")
SEVEN = (*ATTENTION, "gate_proj", "up_proj", "down_proj")
NEOX = ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")
LAYERS_OF = {
    "llama": ({**GATED, "model_type": "llama"}, SEVEN),
    "gemma": ({**GATED, "model_type": "gemma"}, SEVEN),
    "gemma2": ({**GATED, "model_type": "gemma2"}, SEVEN),
    "gpt_neox": ({**SMALL, "model_type": "gpt_neox", "intermediate_size": 1024}, NEOX),
    "gpt_neox, in turn": (
        {**SMALL, "model_type": "gpt_neox", "intermediate_size": 1024,
         "use_parallel_residual": False}, NEOX),
    "falcon": ({**SMALL, "model_type": "falcon"}, NEOX),
    "falcon, new": (
        {**SMALL, "model_type": "falcon", "new_decoder_architecture": True, "num_kv_heads": 2},
        NEOX),
    "falcon, alibi": (
        {**SMALL, "model_type": "falcon", "multi_query": False, "alibi": True, "bias": True,
         "parallel_attn": False}, NEOX),
    "mixtral": (
        {**GATED, "model_type": "mixtral", "num_local_experts": 8, "num_experts_per_tok": 2},
        ATTENTION),
    "qwen3_moe": ({**MIXTURE, "model_type": "qwen3_moe"}, ATTENTION),
    "qwen3_moe, experts adapted": ({**MIXTURE, "model_type": "qwen3_moe"}, SEVEN),
}  # fmt: skip


class Case(msgspec.Struct):
    config: dict[str, Any]
    targets: tuple[str, ...]
    compute: int
    dropout: float
    tokens: int = TOKENS


def cases() -> dict[str, Case]:
    """fp32 with dropout and bf16 without: where no two linear layers share one kept input."""
    found = {}
    for name, (config, targets) in LAYERS_OF.items():
        dropout = 0.0 if "adapted" in name else 0.05
        found[f"{name}, fp32"] = Case(config, targets, 4, dropout)
        found[f"{name}, bf16"] = Case(config, targets, 2, 0.0)
    return found


CASES = cases()


@pytest.fixture(scope="module")
def real(train_python: str) -> dict[str, tuple[int, int]]:
    """Bytes kept by whole layers, and the most at once with checkpoints, by case."""
    return measured(train_python, COUNT, CASES, dict[str, tuple[int, int]])


@pytest.mark.parametrize("name", CASES)
def test_what_layers_keep_and_need_is_what_autograd_shows(
    name: str, real: dict[str, tuple[int, int]]
) -> None:
    case, (kept, most) = CASES[name], real[name]
    shape = from_config(case.config)
    w = Widths(
        compute=case.compute,
        stream=case.compute,
        adapter=4,
        rank=2,
        autocast=case.compute == 2,
        dropout=case.dropout > 0,
        full=False,
        nf4=False,
    )
    batch = Batch(rows=1, length=TOKENS, masked=False)
    layer = layer_at_work(shape, w, case.targets, batch)
    shared = shared_by_layers(shape, w, batch)
    stream = TOKENS * HIDDEN * case.compute
    through = shared + stream + 4 * TOKENS * HIDDEN  # the output, and what the last norm keeps
    kept_share = (LAYERS * layer.kept + through) / kept
    # As launcher/estimate/vram.py `_layer`: two gradients wait while the layer is computed again.
    at_work = max(layer.again + 2 * stream, layer.backward)
    peak_share = (LAYERS * stream + shared + at_work) / most
    print(f"{name}: kept {kept_share:.3f}, peak {peak_share:.3f}")
    assert 0.97 < kept_share < 1.25
    assert 0.98 < peak_share < 1.45

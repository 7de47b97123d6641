"""How fast one CPU core trains: the source of the CPU constants in launcher/estimate/passes.py.

Run with the training environment's interpreter, on an idle machine:
    OMP_NUM_THREADS=1 python benchmarks/cpu_rate.py
Prints the fp32 matmul rate, seconds per micro-step of small random Qwen2 models over token counts
(the intercept is the fixed cost of a micro-step), the same steps with an NF4 base, and one layer in
NF4 computed in fp32 and in bf16.
"""

import argparse
import time
from collections.abc import Callable

import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
LAYER = (576, 1536)
SIZES = {  # hidden, intermediate, layers, heads, kv heads, vocabulary
    "tiny": (256, 768, 4, 4, 2, 512),
    "half-billion, 6 of 24 layers": (896, 4864, 6, 14, 2, 512),
    "1.5 billion, 4 of 28 layers": (1536, 8960, 4, 12, 2, 512),
}


def best_seconds(work: Callable[[], object], repeats: int) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def matmul_gflops(tokens: int, size_in: int, size_out: int) -> float:
    a, b = torch.randn(tokens, size_in), torch.randn(size_in, size_out)
    return 2e-9 * tokens * size_in * size_out / best_seconds(lambda: a @ b, 7)


def lora_model(size: tuple[int, ...], nf4: bool) -> torch.nn.Module:
    hidden, intermediate, layers, heads, kv_heads, vocab = size
    config = Qwen2Config(
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        vocab_size=vocab,
        tie_word_embeddings=True,
    )
    model = Qwen2ForCausalLM(config)
    if nf4:
        quantise(model)
    model.gradient_checkpointing_enable()
    peft = get_peft_model(model, LoraConfig(r=16, lora_dropout=0.05, target_modules=TARGETS))
    peft.enable_input_require_grads()
    return peft.train()


def quantise(model: torch.nn.Module) -> None:
    for block in model.model.layers:
        for parent in (block.self_attn, block.mlp):
            for name, old in list(parent.named_children()):
                if not isinstance(old, torch.nn.Linear):
                    continue
                setattr(parent, name, nf4_of(old, torch.float32))


def nf4_of(old: torch.nn.Linear, dtype: torch.dtype) -> torch.nn.Module:
    """The layer in four bits, computed in that type."""
    from bitsandbytes.nn import Linear4bit

    new = Linear4bit(
        old.in_features,
        old.out_features,
        bias=old.bias is not None,
        compute_dtype=dtype,
        quant_type="nf4",
        compress_statistics=True,
    )
    new.load_state_dict(old.state_dict())
    return new.to("cpu")


def layer_seconds(dtype: torch.dtype, tokens: int, repeats: int) -> float:
    """One layer forward and backward."""
    layer = nf4_of(torch.nn.Linear(*LAYER), dtype)
    rows = torch.randn(tokens, LAYER[0], dtype=dtype, requires_grad=True)
    return best_seconds(lambda: layer(rows).sum().backward(), repeats)


def step_seconds(model: torch.nn.Module, tokens: int, vocab: int, repeats: int) -> float:
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    ids = torch.randint(0, vocab, (1, tokens))

    def step() -> None:
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return best_seconds(step, repeats)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokens", type=int, nargs="+", default=[32, 128, 512])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    print(f"threads {torch.get_num_threads()}")
    for shape in ((512, 256, 768), (512, 896, 4864), (512, 1536, 8960)):
        print(f"fp32 matmul {shape}: {matmul_gflops(*shape):.1f} GFLOP/s")
    for dtype in (torch.float32, torch.bfloat16):
        seconds = layer_seconds(dtype, 512, args.repeats)
        print(f"one NF4 layer of {LAYER}, 512 tokens, {dtype}: {1000 * seconds:.0f} ms")
    for name, size in SIZES.items():
        for nf4 in (False, True):
            model = lora_model(size, nf4)
            for tokens in args.tokens:
                seconds = step_seconds(model, tokens, size[-1], args.repeats)
                print(f"{name}: {'nf4 ' if nf4 else 'fp32'} {tokens:5d} tokens {seconds:.4f} s")


if __name__ == "__main__":
    main()

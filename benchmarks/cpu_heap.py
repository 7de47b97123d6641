"""What glibc's heap keeps on top of a CPU training step: the source of CPU_HEAP_SHARE in vram.py.

Run with the training environment's interpreter:
    OMP_NUM_THREADS=1 python benchmarks/cpu_heap.py layers --rows 4 --length 512 [--whole]
    OMP_NUM_THREADS=1 python benchmarks/cpu_heap.py loss --rows 4 --length 512
once as it is and once with MALLOC_MMAP_THRESHOLD_=1000000, which hands every large block back to
the system when it is freed. `--whole` turns activation checkpointing off.
"""

import argparse
import resource

import torch

SHAPE = {  # SmolLM2-135M
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
}
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def layers(rows: int, length: int, whole: bool) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModel

    base = AutoModel.from_config(AutoConfig.for_model("llama", **SHAPE))
    model = get_peft_model(base, LoraConfig(r=16, lora_dropout=0.05, target_modules=TARGETS))
    if not whole:
        model.enable_input_require_grads()
        base.activation_checkpointing_enable()
    model.train()
    ids = torch.randint(0, 1000, (rows, length))
    before = peak_gib()
    hidden = model(input_ids=ids).last_hidden_state
    forward = peak_gib()
    hidden.sum().backward()
    print(f"layers: forward {forward - before:.3f} GiB, peak {peak_gib() - before:.3f} GiB")


def loss(rows: int, length: int) -> None:
    from trl.kernels import ChunkedLogProbFunction

    tokens, chunk = rows * length, 32768
    hidden = torch.randn(tokens, SHAPE["hidden_size"], requires_grad=True)
    weight = torch.randn(SHAPE["vocab_size"], SHAPE["hidden_size"])
    labels = torch.randint(0, SHAPE["vocab_size"], (tokens,))
    before = peak_gib()
    outputs = ("log_probs", "entropy", "is_top1")
    found = ChunkedLogProbFunction.apply(
        hidden, weight, None, labels, 1.0, chunk, None, 1.0, outputs
    )
    found[0].sum().backward()
    tile = min(tokens, 4096) * chunk * 4 / 2**30
    used = peak_gib() - before
    print(f"loss: peak {used:.3f} GiB, {used / tile:.2f} fp32 tiles")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["layers", "loss"])
    parser.add_argument("--rows", type=int, default=4)
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--whole", action="store_true")
    args = parser.parse_args()
    if args.what == "layers":
        layers(args.rows, args.length, args.whole)
    else:
        loss(args.rows, args.length)


if __name__ == "__main__":
    main()

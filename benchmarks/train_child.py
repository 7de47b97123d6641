"""One variant of benchmarks/train.py, in the training interpreter; prints one line of JSON.

`trl` is the script that TRL's own quick start leads to: SFTTrainer with a LoraConfig and nothing
else set but the batch, length and rate that all variants share.
"""

import json
import resource
import sys
import time
from pathlib import Path

import torch


def peak_bytes() -> int:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def say(tokens: int, seconds: float, cpu_seconds: float) -> None:
    print()
    print(
        json.dumps(
            {
                "tokens_per_second": tokens / seconds,
                "tokens_per_cpu_second": tokens / cpu_seconds,
                "peak_bytes": peak_bytes(),
            }
        )
    )


def base(folder: Path, config: str, tokenizer: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**json.loads(config)))
    model.save_pretrained(folder / "base")
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(folder / "base")
    print("{}")


def ours(folder: Path) -> None:
    """The job's own main, with the clocks of its training phase read around it."""
    from jobs import attempt, layout, train

    clocks: list[float] = []
    trained = attempt.train

    def timed(*arguments: object) -> None:
        began = time.perf_counter(), time.process_time()
        trained(*arguments)
        clocks.extend((time.perf_counter() - began[0], time.process_time() - began[1]))

    from jobs import sft

    sft.train = timed
    if train.main([str(folder / layout.SPEC)]):
        sys.exit((folder / layout.RESULT).read_text())
    result = json.loads((folder / layout.RESULT).read_text())
    say(result["tokens"], *clocks)


def trl(folder: Path, settings: dict[str, object]) -> None:
    from datasets import load_dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig
    from trl import SFTConfig, SFTTrainer

    lora, train = settings["lora"], settings["ours"]
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[settings["dtype"]]
    nf4 = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
    )
    model = AutoModelForCausalLM.from_pretrained(
        folder / "base",
        dtype=dtype,
        quantization_config=nf4 if settings["strategy"] == "qlora" else None,
        device_map={"": 0 if settings["device"] == "cuda" else "cpu"},
    )
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(folder / "out"),
            num_train_epochs=train["epochs"],
            learning_rate=train["learning_rate"],
            max_length=train["seq_len"],
            per_device_train_batch_size=train["micro_batch"],
            gradient_accumulation_steps=train["effective_batch"] // train["micro_batch"],
            bf16=settings["dtype"] == "bf16",
            use_cpu=settings["device"] == "cpu",
            logging_steps=1,
            save_strategy="no",
            report_to="none",
        ),
        train_dataset=load_dataset("json", data_files=str(folder / "rows.jsonl"), split="train"),
        peft_config=LoraConfig(
            r=lora["r"], lora_alpha=lora["alpha"], lora_dropout=lora["dropout"],
            target_modules="all-linear",
        ),
    )  # fmt: skip
    began = time.perf_counter(), time.process_time()
    trainer.train()
    seconds, cpu_seconds = time.perf_counter() - began[0], time.process_time() - began[1]
    say(int(trainer._total_train_tokens), seconds, cpu_seconds)


if __name__ == "__main__":
    action, folder, *rest = sys.argv[1:]
    if action == "base":
        base(Path(folder), *rest)
    elif action == "ours":
        ours(Path(folder))
    else:
        trl(Path(folder), json.loads(rest[0]))

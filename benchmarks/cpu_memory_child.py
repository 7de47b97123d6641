"""One case of cpu_memory.py, in the training interpreter: writes or trains a random model."""

import json
import resource
import sys

import torch
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, models
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PreTrainedTokenizerFast,
)
from trl import SFTConfig, SFTTrainer

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def write(folder: str, config: dict[str, object], dtype: torch.dtype) -> None:
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=dtype)
    model.save_pretrained(folder)


def train(folder: str, case: dict[str, object], dtype: torch.dtype) -> None:
    nf4 = None
    if case["strategy"] == "qlora":
        nf4 = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        )
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, quantization_config=nf4)
    loaded = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    length = case["seq_len"]
    ids = [torch.randint(0, 1000, (length,)).tolist() for _ in range(2 * case["micro_batch"])]
    words = Tokenizer(models.WordLevel({"a": 0, "b": 1}, unk_token="a"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="a", eos_token="b")
    args = SFTConfig(
        output_dir=folder + "/out",
        max_length=length,
        per_device_train_batch_size=case["micro_batch"],
        gradient_checkpointing=case["checkpointing"],
        max_steps=2,
        optim="adamw_torch",
        bf16=case["dtype"] == "bf16",
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = SFTTrainer(
        model=model,
        args=args,
        train_dataset=Dataset.from_dict({"input_ids": ids}),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=case["r"], lora_dropout=0.05, target_modules=TARGETS),
    )
    for parameter in trainer.model.parameters():  # as jobs/strategies.py widen_adapter
        if parameter.requires_grad and case["dtype"] != "bf16":
            parameter.data = parameter.data.to(torch.float32)
    trainer.train()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"peak_bytes": peak, "loading_bytes": loaded}))


def main() -> None:
    action, folder, text = sys.argv[1:]
    case = json.loads(text)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[case["dtype"]]
    if action == "write":
        write(folder, case["config"], dtype)
    else:
        train(folder, case, dtype)


if __name__ == "__main__":
    main()

"""What we say that answering needs, against the storages of a real generate() on a CPU."""

import pytest

from launcher.estimate.batch import Batch, Widths
from launcher.estimate.inference import Asked, first_token, last_token, layers_at_work
from launcher.estimate.shapes import from_config
from tests.integration.measured import measured
from tests.integration.test_kept_activations import CASES, COUNT

# Storages, as that file counts them.
STORAGES = COUNT[: COUNT.index("def step(")]
ROWS, PROMPT, NEW = 6, 256, 4

ANSWER = f"""
{STORAGES}
from transformers import GenerationConfig

def answer(case):
    dtype = torch.bfloat16 if case["compute"] == 2 else torch.float32
    torch.manual_seed(0)
    config = AutoConfig.for_model(**case["config"])
    model = AutoModelForCausalLM.from_config(config, dtype=dtype)
    lora = LoraConfig(task_type="CAUSAL_LM", r=2, lora_dropout=case["dropout"],
                      target_modules=case["targets"])
    model = get_peft_model(model, lora).eval()
    model.generation_config = GenerationConfig(
        do_sample=False, max_new_tokens={NEW}, min_new_tokens={NEW}, pad_token_id=0)
    ids = torch.randint(1, 100, ({ROWS}, {PROMPT}))
    mask = torch.ones_like(ids)
    mask[1:, :5] = 0
    counted = Storages([*model.parameters(), *model.buffers()])
    with counted, torch.inference_mode():
        model.generate(input_ids=ids, attention_mask=mask, use_cache=True)
    return counted.most

print(json.dumps({{name: answer(case) for name, case in json.load(sys.stdin).items()}}))
"""


@pytest.fixture(scope="module")
def real(train_python: str) -> dict[str, int]:
    """The most bytes at once beside the weights, by case."""
    return measured(train_python, ANSWER, CASES, dict[str, int])


@pytest.mark.parametrize("name", CASES)
def test_answering_needs_what_generate_shows(name: str, real: dict[str, int]) -> None:
    case = CASES[name]
    shape = from_config(case.config)
    w = Widths(
        compute=case.compute,
        stream=case.compute,
        adapter=4,
        rank=2,
        autocast=False,
        dropout=case.dropout > 0,
        full=False,
        nf4=False,
    )
    asked = Asked(autocast=False, cached=True, adapters=True, own_positions=True)
    prompts = Batch(rows=ROWS, length=PROMPT, masked=True)
    ours = max(
        layers_at_work(shape, w, case.targets, prompts, asked),
        first_token(shape, w, prompts, asked),
        last_token(shape, w, case.targets, ROWS, PROMPT + NEW - 2, asked),
    )
    share = ours / real[name]
    print(f"{name}: {share:.3f}")
    assert 0.96 < share < 1.03

"""Merging an adapter that was trained beside 4-bit weights, by the numbers."""

import json
import shutil
from pathlib import Path

import msgspec
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

from jobs import layout
from jobs.lineage import bind, own_lineage
from jobs.outcome import BadInput
from jobs.shipping.merge import merge
from jobs.spec import Data, Lora, Model, Quantization, ResolvedSpec, encode
from jobs.strategies import build_base

SAMPLE = Path(__file__).parents[2] / "jobs" / "sample" / "model"
LORA = Lora(r=8, alpha=24, dropout=0.0)
NF4 = BitsAndBytesConfig(
    load_in_4bit=True,
    bnb_4bit_quant_type="nf4",
    bnb_4bit_use_double_quant=True,
    bnb_4bit_compute_dtype=torch.float32,
)

pytestmark = pytest.mark.filterwarnings("default")  # the libraries' own are not ours to mend


def job(run):
    return ResolvedSpec(
        run_id="r",
        model=Model(id=str(SAMPLE), init="random"),
        data=Data(train="t.jsonl"),
        strategy="qlora",
        dtype="fp32",
        device="cpu",
        lora=LORA,
        quantization=Quantization(),
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A QLoRA adapter with weights drawn by a seed, saved as a job saves it."""
    folder = tmp_path_factory.mktemp("run")
    build_base(SAMPLE, folder / layout.BASE, seed=17)
    base = AutoModelForCausalLM.from_pretrained(
        folder / layout.BASE, quantization_config=NF4, device_map="cpu", dtype=torch.float32
    )
    config = LoraConfig(r=LORA.r, lora_alpha=LORA.alpha, target_modules=list(LORA.targets))
    model = get_peft_model(base, config)
    torch.manual_seed(5)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    model.save_pretrained(folder / layout.ADAPTER)
    AutoTokenizer.from_pretrained(SAMPLE).save_pretrained(folder / layout.ADAPTER)
    return folder


@pytest.fixture(scope="module")
def merged(run, tmp_path_factory):
    target = tmp_path_factory.mktemp("out") / "merged"
    merge(job(run), run, target)
    return target


def test_merged_is_the_unquantised_base_plus_the_scaled_product(run, merged):
    base = load_file(run / layout.BASE / "model.safetensors")
    adapter = load_file(run / layout.ADAPTER / "adapter_model.safetensors")
    found = load_file(merged / "model.safetensors")
    prefix, targets = "base_model.model.", 0
    for name, weight in base.items():
        a = adapter.get(f"{prefix}{name.removesuffix('.weight')}.lora_A.weight")
        if a is None:
            assert torch.equal(found[name], weight), name
            continue
        b = adapter[f"{prefix}{name.removesuffix('.weight')}.lora_B.weight"]
        expected = weight.double() + LORA.alpha / LORA.r * b.double() @ a.double()
        assert (found[name].double() - expected).abs().max() < 1e-6, name
        assert (found[name] - weight).abs().max() > 1e-3
        targets += 1
    assert targets == 3 * 7
    assert found.keys() == base.keys()


def test_merging_into_4_bit_weights_would_have_been_far_off(run, merged, record_property):
    """Why the base is loaded anew: what the same library makes of the quantised one."""
    base = AutoModelForCausalLM.from_pretrained(
        run / layout.BASE, quantization_config=NF4, device_map="cpu", dtype=torch.float32
    )
    ids = torch.arange(40)[None]
    right = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32)
    whole = AutoModelForCausalLM.from_pretrained(run / layout.BASE, dtype=torch.float32)
    rounded = PeftModel.from_pretrained(base, run / layout.ADAPTER)
    with pytest.warns(UserWarning, match="rounding errors"):
        rounded = rounded.merge_and_unload()
    with torch.inference_mode():
        exact = PeftModel.from_pretrained(whole, run / layout.ADAPTER)(ids).logits
        wrong, ours = rounded(ids).logits, right(ids).logits
    print(f"off by {(ours - exact).abs().max():.2g}, into 4 bits {(wrong - exact).abs().max():.2g}")
    assert (ours - exact).abs().max() < 1e-3
    assert (wrong - exact).abs().max() > 100 * (ours - exact).abs().max()


def test_an_adapter_that_changes_nothing_is_refused(run, tmp_path):
    for name in (layout.BASE, layout.ADAPTER):
        (tmp_path / name).mkdir()
        for path in (run / name).iterdir():
            (tmp_path / name / path.name).write_bytes(path.read_bytes())
    from safetensors.torch import save_file

    weights = load_file(run / layout.ADAPTER / "adapter_model.safetensors")
    zero = {k: v * 0 if "lora_B" in k else v for k, v in weights.items()}
    save_file(zero, tmp_path / layout.ADAPTER / "adapter_model.safetensors")
    with pytest.raises(BadInput, match="zero, as if never trained"):
        merge(job(tmp_path), tmp_path, tmp_path / "merged")


@pytest.fixture
def bound(run, tmp_path):
    """The same run with the lineage that its job would have left."""
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    tokenizer = AutoTokenizer.from_pretrained(SAMPLE)
    own = msgspec.structs.replace(job(run), data=Data(train=str(SAMPLE / "config.json")))
    lineage = own_lineage(own, folder, folder / layout.BASE, tokenizer)
    (folder / layout.LINEAGE).write_bytes(encode(lineage))
    bind(folder, folder / layout.ADAPTER)
    return folder


def test_as_it_was_trained_it_is_merged(bound, merged, tmp_path):
    merge(job(bound), bound, tmp_path / "merged")
    ours = (tmp_path / "merged" / "model.safetensors").read_bytes()
    assert ours == (merged / "model.safetensors").read_bytes()


def test_another_base_or_adapter_than_its_lineage_binds_is_not_merged(bound, run, tmp_path):
    build_base(SAMPLE, tmp_path / "other", seed=18)
    shutil.rmtree(bound / layout.BASE)
    elsewhere = msgspec.structs.replace(job(bound), model=Model(id=str(tmp_path / "other")))
    with pytest.raises(BadInput, match="is another base than the adapter's: its weights is"):
        merge(elsewhere, bound, tmp_path / "merged")
    shutil.copytree(tmp_path / "other", bound / layout.BASE)
    with pytest.raises(BadInput, match=r"merge: .* base/ is another base"):
        merge(job(bound), bound, tmp_path / "merged")
    shutil.copytree(run / layout.BASE, bound / layout.BASE, dirs_exist_ok=True)
    weights = bound / layout.ADAPTER / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    with pytest.raises(BadInput, match=r"adapter_model\.safetensors has changed"):
        merge(job(bound), bound, tmp_path / "merged")


def test_a_base_that_is_quantised_itself_is_refused(run, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(
        run / layout.BASE, quantization_config=NF4, device_map="cpu", dtype=torch.float32
    )
    model.save_pretrained(tmp_path / layout.BASE)
    config = json.loads((tmp_path / layout.BASE / "config.json").read_text())
    assert "quantization_config" in config
    with pytest.raises(BadInput, match="export needs the unquantised base"):
        merge(msgspec.structs.replace(job(run), run_id="q"), tmp_path, tmp_path / "merged")

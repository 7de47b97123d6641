"""A trained run to files that a server loads, through the real converter and llama.cpp itself."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs import layout
from launcher.executors import environment
from tests.integration.command import LAUNCH, ROOT, Command

STAND_IN = ROOT / "tests" / "fixtures" / "ollama_stand_in.py"
TO = ("--to", "merged", "--to", "gguf:q8_0", "--to", "ollama")
GATES = ("--gate", "perplexity_change<=0.05", "--gate", "agreement>=0.95")

# Through another face of llama.cpp than the one that measured: it renders the chat with the
# template that the file itself carries, as a server does.
ASK = """
import sys
from cyllama import LLM, GenerationConfig
config = GenerationConfig(max_tokens=32, temperature=0.0, n_ctx=256)
llm = LLM(sys.argv[1], config=config, verbose=False)
for question in sys.argv[2:]:
    print(llm.chat([{"role": "user", "content": question}]).text.strip())
"""

COMPARE = """
import sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer
run, merged, *questions = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(merged)
base = AutoModelForCausalLM.from_pretrained(f"{run}/base", dtype=torch.float32)
two = PeftModel.from_pretrained(base, f"{run}/adapter").eval()
one = AutoModelForCausalLM.from_pretrained(merged, dtype=torch.float32).eval()
for question in questions:
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True,
        return_tensors="pt", return_dict=True)
    with torch.inference_mode():
        print(float((one(**ids).logits - two(**ids).logits).abs().max()))
        for model in (one, two):
            out = model.generate(**ids, max_new_tokens=32, do_sample=False)
            new = out[0, ids["input_ids"].shape[1]:]
            print(tokenizer.decode(new, skip_special_tokens=True))
"""


def samples(home: Path, count: int = 5) -> list[dict]:
    return [json.loads(s) for s in (home / layout.SAMPLES).read_text().splitlines()[:count]]


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def export(launch: Command, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*LAUNCH, "export", *arguments],
        cwd=launch.folder,
        env={**launch.environment, **more},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def tools_python() -> str:
    say = lambda line: print(line, file=sys.stderr)  # noqa: E731
    return str(environment.kept_python(environment.EXPORT, say))


@pytest.fixture(scope="module")
def exported(main_run, tools_python, tmp_path_factory) -> tuple[Path, dict, dict]:
    """The run's export, what the command said, and what the `ollama` on PATH was told."""
    launch, answer = main_run
    program = tmp_path_factory.mktemp("bin") / "ollama"
    program.write_text(f"#!{sys.executable}\n" + STAND_IN.read_text())
    program.chmod(0o755)
    record = program.with_name("record.json")
    done = export(
        launch,
        *(answer["run_id"], *TO, *GATES, "--name", "policies", "--json"),
        PATH=f"{program.parent}{os.pathsep}{os.environ['PATH']}",
        OLLAMA_STAND_IN_RECORD=str(record),
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    return Path(said["folder"]), said, json.loads(record.read_text())


def test_each_file_is_measured_and_passes(exported, main_run) -> None:
    folder, said, _ = exported
    assert folder == Path(main_run[1]["folder"] + layout.EXPORT_SUFFIX)
    files = {f["quantization"]: f for f in said["files"]}
    print(json.dumps(files, indent=1))
    assert list(files) == ["f16", "q8_0", "q4_k_m"]
    sizes = [f["size_bytes"] for f in files.values()]
    assert sizes == sorted(sizes, reverse=True)
    trained = main_run[1]["result"]["metrics"]["tuned"]
    for name, found in files.items():
        assert found["shipped"] is (name != "f16")
        assert found["file"] == ("work/" if name == "f16" else "") + f"policies-{name}.gguf"
        assert found["sha256"] == sha256(folder / found["file"])
        assert found["size_bytes"] == (folder / found["file"]).stat().st_size
        assert abs(found["metrics"]["loss"] - trained["loss"]) < 0.05
        assert set(trained) <= set(found["metrics"])
        assert found["metrics"]["agreement"] >= 0.95
        assert {g["metric"] for g in found["gates"]} == {
            *("json_citation_rate", "refusal_precision"),  # the run's own
            *("perplexity_change", "agreement"),  # this export's
        }
        assert all(g["passed"] and g["value"] is not None for g in found["gates"])
        assert found["prompt_tokens_per_second"] > 0
        assert found["generated_tokens_per_second"] > 0
    assert files["f16"]["perplexity_change"] == 0
    assert files["f16"]["prompt_speed_ratio"] == 1
    assert not any("tokens" in warning for warning in said["warnings"])
    assert json.loads((folder / layout.QUANTISATION).read_text())["files"] == said["files"]


def test_the_quantised_file_answers(exported, main_run, tools_python: str) -> None:
    folder, _, _ = exported
    asked = samples(Path(main_run[1]["folder"]))
    command = [tools_python, "-c", ASK, str(folder / "policies-q4_k_m.gguf")]
    done = subprocess.run(
        [*command, *(s["question"] for s in asked)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    right = [a == s["reference"] for a, s in zip(done.stdout.splitlines(), asked, strict=True)]
    assert sum(right) >= 4, done.stdout


def test_the_merged_folder_is_base_plus_adapter(exported, main_run, train_python: str) -> None:
    folder, said, _ = exported
    assert said["merged"] == layout.MERGED
    home = main_run[1]["folder"]
    questions = [s["question"] for s in samples(Path(home))]
    command = [train_python, "-c", COMPARE, home, str(folder / layout.MERGED), *questions]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for off, merged, adapted in zip(lines[::3], lines[1::3], lines[2::3], strict=True):
        assert float(off) < 1e-3
        assert merged == adapted


def test_ollama_is_told_what_to_serve(exported) -> None:
    folder, said, told = exported
    assert said["ollama_model"] == told["name"] == "policies"
    assert told["from"] == str(folder / "policies-q4_k_m.gguf")
    assert told["parameters"] == [["stop", "<|im_end|>"]]
    assert told["template"][0].startswith("{{ range .Messages }}")
    assert told["system"] == []
    assert said["next"] == ["ollama run policies"]


def test_the_run_stays_closed(exported, main_run) -> None:
    """An export writes nothing into the run's own folder, which its checksums vouch for."""
    launch, answer = main_run
    assert launch("collect", answer["run_id"]).returncode == 0


def test_a_file_that_fails_its_gate_is_not_shipped(exported, main_run, tmp_path) -> None:
    folder, _, _ = exported
    launch, answer = main_run
    before = (folder / layout.EXPORT_WORK / "policies-f16.gguf").stat().st_mtime_ns
    arguments = (answer["run_id"], "--to", "ollama", "--name", "policies")
    done = export(launch, *arguments, "--gate", "exact_match>=1.01")
    assert done.returncode == 5, done.stderr
    assert "FAIL exact_match" in done.stdout
    assert "not shipped: policies-q4_k_m.gguf.rejected failed its gates" in done.stderr
    assert not (folder / "policies-q4_k_m.gguf").exists()
    assert not (folder / layout.MODELFILE).exists()
    assert (folder / "policies-q4_k_m.gguf.rejected").is_file()
    # What was made and measured already was not made again; passing once more, it is shipped.
    assert (folder / layout.EXPORT_WORK / "policies-f16.gguf").stat().st_mtime_ns == before
    done = export(launch, *arguments)
    assert done.returncode == 0, done.stderr
    command = f"next: ollama create policies -f {folder / layout.MODELFILE}"
    assert command in done.stdout
    assert (folder / "policies-q4_k_m.gguf").is_file()
    assert not (folder / "policies-q4_k_m.gguf.rejected").exists()
    # What was shipped before and is not asked for again stays, and is told.
    said = json.loads((folder / layout.EXPORT_RESULT).read_text())
    shipped = [f["file"] for f in said["files"] if f["shipped"]]
    assert shipped == ["policies-q4_k_m.gguf", "policies-q8_0.gguf"]
    assert (said["merged"], said["modelfile"]) == (layout.MERGED, layout.MODELFILE)
    assert not list(folder.rglob(f"*{layout.TEMPORARY_SUFFIX}"))


def test_a_whole_model_is_served_as_its_recipe_says(exported, main_run, tools_python, tmp_path):
    """Strategy full has nothing to merge; the system prompt is part of what is measured."""
    launch, answer = main_run
    run = tmp_path / "whole"
    shutil.copytree(exported[0] / layout.MERGED, run / layout.MODEL)
    spec = json.loads((Path(answer["folder"]) / layout.SPEC).read_text())
    system = "Cite the handbook."
    spec |= {"strategy": "full", "quantization": None, "run_id": "whole", "gates": []}
    spec["serve"] = {"system": system, "temperature": 0.0, "num_ctx": 256, "quantization": "q8_0"}
    (run / layout.SPEC).write_text(json.dumps(spec))
    done = export(launch, str(run), "--to", "ollama", "--limit", "3", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert [f["quantization"] for f in said["files"]] == ["f16", "q8_0"]
    asked = json.loads((Path(said["folder"]) / layout.EXPORT_WORK / "questions.json").read_text())
    assert len(asked["prompts"]) == 3
    for prompt in asked["prompts"]:
        assert prompt["text"].startswith(
            f"<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user"
        )
    assert "agreement" not in said["files"][0]["metrics"]  # the run answered other prompts
    modelfile = (Path(said["folder"]) / layout.MODELFILE).read_text()
    assert modelfile.startswith("FROM ./whole-q8_0.gguf\nTEMPLATE ")
    assert "PARAMETER temperature 0\nPARAMETER num_ctx 256\nPARAMETER stop" in modelfile
    assert modelfile.endswith(f'SYSTEM """{system}"""\n')


def test_killed_on_the_way_it_leaves_nothing_half(main_run, tools_python: str, tmp_path) -> None:
    launch, answer = main_run
    out = tmp_path / "out"
    arguments = [answer["folder"], "--to", "gguf:q3_k_m", "--limit", "10", "--out", str(out)]
    started = launch.start("export", *arguments)
    merged = out / layout.EXPORT_WORK / (layout.MERGED + layout.MADE_SUFFIX)
    deadline = time.monotonic() + 600
    while not merged.exists():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
    children = Path(f"/proc/{started.pid}/task/{started.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    _, errors = started.communicate()
    assert started.returncode == 4
    assert "ended without leaving a result" in errors
    assert not list(out.glob("*.gguf*"))
    done = export(launch, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["files"][-1]
    assert (found["quantization"], found["shipped"]) == ("q3_k_m", True)
    assert sha256(out / found["file"]) == found["sha256"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("RUN", "--to", "gguf:q9"), "--to gguf:q9: unknown type; TYPE is one of f16, q8_0"),
        (("RUN", "--to", "merged", "--gate", "loss<1"), "expected METRIC>=NUMBER"),
        (("RUN", "--to", "merged", "--rows", "no.jsonl"), "--rows no.jsonl: no such file"),
        (("RUN", "--to", "merged", "--name", "A/B"), "--name A/B: expected lower-case"),
        (("RUN", "--to", "merged", "--out", "."), "--out .: not empty, and no earlier export"),
        (("RUN",), "Missing option '--to'"),
        (("nobody", "--to", "merged"), "no run nobody"),
        (("no/folder", "--to", "merged"), "no/folder is no run's folder"),
    ],
)
def test_bad_input_is_one_line(main_run, arguments, said: str) -> None:
    launch, answer = main_run
    done = export(launch, *(answer["run_id"] if a == "RUN" else a for a in arguments))
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""

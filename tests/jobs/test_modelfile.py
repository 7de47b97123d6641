import pytest

from jobs.outcome import BadInput
from jobs.shipping.modelfile import modelfile
from jobs.shipping.templates import FAMILIES, Match
from jobs.spec import Serve

CHATML, _, GEMMA, *_ = FAMILIES

WHOLE = '''FROM ./policies-q4_k_m.gguf
TEMPLATE """{{ range .Messages }}{{ if eq .Role "system" }}<|im_start|>system
{{ .Content }}<|im_end|>
{{ else if eq .Role "user" }}<|im_start|>user
{{ .Content }}<|im_end|>
{{ else if eq .Role "assistant" }}<|im_start|>assistant
{{ .Content }}<|im_end|>
{{ end }}{{ end }}<|im_start|>assistant
"""
PARAMETER temperature 0.2
PARAMETER top_p 1
PARAMETER top_k 40
PARAMETER repeat_penalty 1.05
PARAMETER num_ctx 1048576
PARAMETER stop "<|im_end|>"
SYSTEM """Answer in JSON.
Cite "POL" ids."""
'''


def test_the_whole_of_it():
    serve = Serve(
        system='Answer in JSON.\nCite "POL" ids.',
        temperature=0.2,
        top_p=1.0,
        top_k=40,
        repeat_penalty=1.05,
        num_ctx=1048576,
    )
    matched = Match(CHATML, None, takes_system=True)
    assert modelfile("policies-q4_k_m.gguf", serve, matched) == WHOLE


def test_what_is_not_said_is_not_written():
    assert modelfile("m.gguf", Serve(), None) == "FROM ./m.gguf\n"
    assert modelfile("m.gguf", Serve(temperature=0.0), None) == (
        "FROM ./m.gguf\nPARAMETER temperature 0\n"
    )


def test_the_templates_own_system_prompt_is_kept_unless_the_recipe_has_one():
    matched = Match(CHATML, "You are helpful.", takes_system=True)
    assert modelfile("m.gguf", Serve(), matched).endswith('SYSTEM """You are helpful."""\n')
    said = modelfile("m.gguf", Serve(system="Be brief."), matched)
    assert said.endswith('SYSTEM """Be brief."""\n')
    assert "helpful" not in said


def test_what_cannot_be_held_is_refused():
    with pytest.raises(BadInput, match=r"serve\.system: the chat template of this model takes no"):
        modelfile("m.gguf", Serve(system="x"), Match(GEMMA, None, takes_system=False))
    with pytest.raises(BadInput, match=r"serve\.system: a Modelfile cannot hold"):
        modelfile("m.gguf", Serve(system='say """'), None)

"""Families against Jinja templates as models bring them, through Transformers' own renderer."""

from pathlib import Path

import pytest
import trl
from transformers import AutoTokenizer

from jobs.shipping.templates import match, own, served

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
SAMPLE = Path(__file__).parents[2] / "jobs" / "sample" / "model"

pytestmark = pytest.mark.filterwarnings("default")  # the libraries' own are not ours to mend

# Of the kinds that models bring: a default system prompt, heads with trimmed content, a system
# prompt that is refused or folded into a user's turn, an answer that begins with a space.
CHATML_WITH_DEFAULT = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are kind.<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA_3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA_WITHOUT_SYSTEM = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content | trim }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
GEMMA_THAT_FOLDS = (
    "{{ bos_token }}{% set head = '' %}{% if messages[0].role == 'system' %}"
    "{% set head = messages[0].content + '\n\n' %}{% set messages = messages[1:] %}{% endif %}"
    "{% for m in messages %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{% if loop.first %}{{ head }}{% endif %}{{ m.content }}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL_THAT_FOLDS_LAST = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set s = messages[0].content %}"
    "{% set messages = messages[1:] %}{% endif %}{% for m in messages %}{% if m.role == 'user' %}"
    "[INST] {% if loop.last and s is defined %}{{ s + '\n\n' }}{% endif %}{{ m.content }}[/INST]"
    "{% else %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
ALPACA = "{% for m in messages %}### {{ m.role }}:\n{{ m.content }}\n\n{% endfor %}"


@pytest.fixture
def tokenizer():
    return AutoTokenizer.from_pretrained(SAMPLE)


def matched(tokenizer, template, start="<|bos|>", end="</s>"):
    tokenizer.chat_template = template
    tokenizer.bos_token, tokenizer.eos_token = start, end
    return match(own(tokenizer), start)


def test_a_start_token_that_opens_every_turn_is_not_cut_off(tokenizer):
    """As SmolLM2's: its start token is ChatML's own."""
    found = matched(tokenizer, CHATML_WITH_DEFAULT, start="<|im_start|>")
    assert (found.family.name, found.default_system) == ("ChatML", "You are kind.")


def test_the_samples_template_is_chatml(tokenizer):
    found = match(own(tokenizer))
    assert (found.family.name, found.default_system, found.takes_system) == ("ChatML", None, True)


@pytest.mark.parametrize(
    ("template", "name", "default", "takes_system"),
    [
        (CHATML_WITH_DEFAULT, "ChatML", "You are kind.", True),
        (LLAMA_3, "Llama 3", None, True),
        (GEMMA_WITHOUT_SYSTEM, "Gemma", None, False),
        (GEMMA_THAT_FOLDS, "Gemma", None, True),
    ],
)
def test_a_known_family(tokenizer, template, name, default, takes_system):
    found = matched(tokenizer, template)
    assert (found.family.name, found.default_system) == (name, default)
    assert found.takes_system is takes_system


def test_what_training_shows_before_an_answer_is_served_too(tokenizer):
    """A model tuned on Qwen3's template would else say its empty thought to whoever asks."""
    tokenizer.chat_template = (TEMPLATES / "qwen3.jinja").read_text()
    family = served(tokenizer).family
    assert family.opening == "<|im_start|>assistant\n<think>\n\n</think>\n\n"
    assert family.go().endswith("{{ end }}{{ end }}" + family.opening)
    assert "<think>" not in family.assistant
    tokenizer.chat_template = CHATML_WITH_DEFAULT
    assert served(tokenizer) == match(own(tokenizer))


@pytest.mark.parametrize("template", [ALPACA, LLAMA_3 + "!", MISTRAL_THAT_FOLDS_LAST])
def test_what_differs_by_one_letter_is_left_to_ollama(tokenizer, template):
    assert matched(tokenizer, template) is None


def test_mistrals_that_differ_in_spaces_alone(tokenizer):
    plain = (
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}BEFORE{{ m.content }}AFTER"
        "{% elif m.role == 'assistant' %}GAP{{ m.content }}{{ eos_token }}"
        "{% else %}{{ raise_exception('no') }}{% endif %}{% endfor %}"
    )
    for name, pieces in {
        "Mistral v1": ("[INST] ", " [/INST]", " "),
        "Mistral v3": ("[INST] ", "[/INST]", " "),
        "Mistral Nemo": ("[INST]", "[/INST]", ""),
    }.items():
        template = plain
        for mark, piece in zip(("BEFORE", "AFTER", "GAP"), pieces, strict=True):
            template = template.replace(mark, piece)
        assert matched(tokenizer, template).family.name == name

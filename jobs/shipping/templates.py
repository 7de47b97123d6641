"""Chat templates that Ollama can be told of: its own are Go templates, models bring Jinja ones.

A family is a few pieces of text. Python writes them out as Go and renders them itself; a family
is taken only when its rendering of a whole chat equals that of the model's own template, letter
for letter. What matches none is left to Ollama, which knows templates by a list of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jobs.encode import opened

Chat = Sequence[tuple[str, str]]  # (role, content)
Render = Callable[[Chat], str]  # a model's own template, the answer opened; may raise

HOLE = "{}"


@dataclass(frozen=True)
class Family:
    """One way to write a chat. `{}` is where the content stands.

    `system` None: the first user's turn begins with the system prompt and an empty line.
    """

    name: str
    system: str | None
    user: str
    assistant: str
    opening: str  # what stands before an answer
    stop: tuple[str, ...]

    def render(self, chat: Chat) -> str:
        """The chat with its answer opened."""
        folded, text = "", ""
        for role, content in chat:
            if role == "system" and self.system is None:
                folded = content + "\n\n"
                continue
            if role == "user":
                content, folded = folded + content, ""
            text += self._piece(role).replace(HOLE, content, 1)
        return text + self.opening

    def go(self) -> str:
        """The same as a Go template over Ollama's `.Messages` and `.System`."""
        if self.system is not None:
            turns = [(role, self._piece(role), "") for role in ("system", "user", "assistant")]
            start = ""
        else:
            system = "{{ if $.System }}{{ $.System }}\n\n{{ end }}"
            fold = "{{ if $first }}" + system + "{{ $first = false }}{{ end }}"
            turns = [("user", self.user, fold), ("assistant", self.assistant, "")]
            start = "{{ $first := true }}"
        cases = [
            f'if eq .Role "{role}" }}}}' + piece.replace(HOLE, fold + "{{ .Content }}", 1)
            for role, piece, fold in turns
        ]
        body = "{{ " + "{{ else ".join(cases) + "{{ end }}"
        return f"{start}{{{{ range .Messages }}}}{body}{{{{ end }}}}{self.opening}"

    def _piece(self, role: str) -> str:
        pieces = {"system": self.system or "", "user": self.user, "assistant": self.assistant}
        return pieces[role]


def _headed(name: str, before: str, after: str, end: str) -> Family:
    """A family in which every turn is alike: a head that names the role, the content, an end."""
    turn = {role: before + role + after for role in ("system", "user", "assistant")}
    return Family(
        name,
        turn["system"] + HOLE + end,
        turn["user"] + HOLE + end,
        turn["assistant"] + HOLE + end,
        turn["assistant"],
        (end.strip(),),
    )


# As the models' own tokenizer_config.json render a chat: Qwen2.5-0.5B-Instruct, SmolLM2-135M-
# Instruct (ChatML); Meta-Llama-3-8B-Instruct; gemma-3-1b-it; Mistral-7B-Instruct-v0.1 to v0.3 and
# Mistral-Nemo-Instruct-2407, which differ in their spaces alone. Written from memory of those
# files, and harmless where it is wrong: a family whose rendering differs is not used.
FAMILIES = (
    _headed("ChatML", "<|im_start|>", "\n", "<|im_end|>\n"),
    _headed("Llama 3", "<|start_header_id|>", "<|end_header_id|>\n\n", "<|eot_id|>"),
    Family(
        "Gemma",
        None,
        "<start_of_turn>user\n{}<end_of_turn>\n",
        "<start_of_turn>model\n{}<end_of_turn>\n",
        "<start_of_turn>model\n",
        ("<end_of_turn>",),
    ),
    Family("Mistral v1", None, "[INST] {} [/INST]", " {}</s>", "", ("</s>",)),
    Family("Mistral v3", None, "[INST] {}[/INST]", " {}</s>", "", ("</s>",)),
    Family("Mistral Nemo", None, "[INST]{}[/INST]", "{}</s>", "", ("</s>",)),
)

_SYSTEM = ("system", "be brief")
_TURNS = (("user", "one?"), ("assistant", "two."), ("user", "three?"))


@dataclass(frozen=True)
class Match:
    family: Family
    default_system: str | None  # what the template says where the chat has no system prompt
    takes_system: bool


def match(render: Render, start: str = "") -> Match | None:
    """The family that writes chats exactly as `render` does, if there is one.

    `start` is the tokenizer's start token: where the template writes it first, llama.cpp and Ollama
    put it there by themselves.
    """
    plain, full = _try(render, _TURNS), _try(render, (_SYSTEM, *_TURNS))
    if plain is None:
        return None
    found = _match(plain, full)
    if found is None and start and plain.startswith(start):
        return _match(plain.removeprefix(start), full and full.removeprefix(start))
    return found


def _match(plain: str, full: str | None) -> Match | None:
    for family in FAMILIES:
        default = _default_system(family, plain)
        if default is None and plain != family.render(_TURNS):
            continue
        if full is None or full == family.render((_SYSTEM, *_TURNS)):
            return Match(family, default, takes_system=full is not None)
    return None


def _default_system(family: Family, plain: str) -> str | None:
    """The system prompt that a template adds by itself."""
    if family.system is None:
        return None
    before, _, after = family.system.partition(HOLE)
    rest = after + family.render(_TURNS)
    if plain.startswith(before) and plain.endswith(rest):
        return plain[len(before) : -len(rest)] or None
    return None


def _try(render: Render, chat: Chat) -> str | None:
    try:
        return render(chat)
    except Exception:  # templates raise errors of their own kinds
        return None


def served(tokenizer: Any) -> Match | None:
    """The family that writes chats as the tokenizer's template does, and opens an answer as the
    run's questions did: with what a tuned model would else say itself, as an empty thought."""
    found = match(own(tokenizer), tokenizer.bos_token or "")
    if found is None:
        return None
    messages = [{"role": role, "content": content} for role, content in _TURNS]
    prompt, _ = opened(tokenizer, [*messages, {"role": "assistant", "content": "four."}])
    asked = own(tokenizer)(_TURNS)
    if not prompt.startswith(asked):
        return None
    opening = found.family.opening + prompt.removeprefix(asked)
    return replace(found, family=replace(found.family, opening=opening))


def own(tokenizer: Any) -> Render:
    """How a Transformers tokenizer renders, with the answer opened."""

    def render(chat: Chat) -> str:
        messages = [{"role": role, "content": content} for role, content in chat]
        text: str = tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return text

    return render

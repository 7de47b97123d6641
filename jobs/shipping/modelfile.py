"""Ollama's Modelfile. Grammar: https://github.com/ollama/ollama/blob/main/docs/modelfile.md"""

from jobs.outcome import BadInput
from jobs.shipping.templates import Match
from jobs.spec import Serve

QUOTES = '"""'  # around text of several lines; nothing escapes them


def modelfile(file: str, serve: Serve, template: Match | None) -> str:
    """`file` is the GGUF's name beside the Modelfile.

    Raises `BadInput` for a system prompt that the grammar or the model's template cannot hold.
    """
    lines = [f"FROM ./{file}"]
    stops: tuple[str, ...] = ()
    system = serve.system
    if template is not None:
        if system is not None and not template.takes_system:
            raise BadInput("serve.system: the chat template of this model takes no system prompt")
        lines.append(f"TEMPLATE {QUOTES}{template.family.go()}{QUOTES}")
        stops = template.family.stop
        system = system if system is not None else template.default_system
    for name in ("temperature", "top_p", "top_k", "repeat_penalty", "num_ctx"):
        value = getattr(serve, name)
        if value is not None:
            lines.append(
                f"PARAMETER {name} {value if isinstance(value, int) else format(value, 'g')}"
            )
    lines += [f'PARAMETER stop "{stop}"' for stop in stops]
    if system is not None:
        if QUOTES in system:
            raise BadInput(f"serve.system: a Modelfile cannot hold {QUOTES} in the system prompt")
        lines.append(f"SYSTEM {QUOTES}{system}{QUOTES}")
    return "\n".join(lines) + "\n"

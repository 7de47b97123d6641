"""Whether PEFT can put LoRA's adapters where a job wants them."""

from jobs.spec import Lora
from launcher.errors import BadInput
from launcher.estimate.tensors import ModelShape


def require_adapters(shape: ModelShape, lora: Lora) -> None:
    """Raises `BadInput` for targets or a dropout that PEFT 0.21 refuses on this model."""
    tensors = shape.tensors(lora.targets)
    for tensor in tensors:
        named = [name for name in tensor.answers_to if name in lora.targets]
        if named and not tensor.target:
            missing = ", ".join(name for name in tensor.answers_to if name not in lora.targets)
            raise BadInput(
                f"lora.targets: {named[0]} needs {missing} beside it:"
                f" this model's experts have both in one tensor\n"
                f"name both, or neither"
            )
    if not any(t.target for t in tensors):
        raise BadInput(
            f"lora.targets: none of {', '.join(lora.targets)} is a layer of this model\n"
            f"its layers: {', '.join(shape.target_names)}"
        )
    stacked = [name for t in tensors if t.target and t.kind != "linear" for name in t.answers_to]
    if stacked and lora.dropout:  # tuners/lora/layer.py ParamWrapper.__init__
        others = ", ".join(name for t in tensors if t.kind == "linear" for name in t.answers_to)
        raise BadInput(
            f"lora.dropout: {lora.dropout:g}, but there is none for adapters on experts or their"
            f" router ({', '.join(stacked)})\n"
            f"set lora.dropout to 0, or lora.targets to other layers: {others}"
        )

"""Whether PEFT can put LoRA's adapters where a job wants them."""

from functools import lru_cache

from jobs.spec import Lora
from launcher.errors import BadInput
from launcher.estimate.tensors import ModelShape


@lru_cache(maxsize=256)  # a plan asks the same of every offer
def require_adapters(shape: ModelShape, lora: Lora) -> None:
    """Raises `BadInput` for targets or a dropout that PEFT 0.21 refuses on this model.

    And for those that our job could not train or ship: its embedding and its head.
    """
    tensors = shape.tensors(lora.targets)
    _require_none_at_the_ends(shape, lora.targets)
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


def _require_none_at_the_ends(shape: ModelShape, targets: tuple[str, ...]) -> None:
    """PEFT finds both by the last part of their names, as it finds layers.

    An embedding's adapter is saved with the whole embedding (peft 0.21 utils/save_and_load.py
    get_peft_model_state_dict), and merged into a tied one it would change the head as well. The
    head's weight is read by the loss itself (trl 1.16 sft_trainer.py raises). A regression student
    has a head of its own, which is trained whole.
    """
    embeddings = [t.module for t in shape.body if t.kind == "embedding"]
    for name in targets:
        last = name.rsplit(".", 1)[-1]
        if last in embeddings:
            why = "an adapter there is saved with the whole embedding, and cannot always be merged"
        elif last == "lm_head" and not shape.outputs:
            why = "the loss reads its weight directly, so that an adapter there is never trained"
        else:
            continue
        raise BadInput(
            f"lora.targets: {name} is no layer: {why}\n"
            f"leave it out; this model's layers: {', '.join(shape.target_names)}"
        )

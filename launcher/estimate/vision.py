"""The vision tower that Gemma 3 carries from 4 B on: in memory, and idle in a job on text."""

from collections.abc import Callable

from launcher.estimate.tensors import Tensor

FIELDS = ("hidden_size", "intermediate_size", "num_hidden_layers", "image_size", "patch_size")


def siglip(count: Callable[[str], int], text_size: int) -> tuple[Tensor, ...]:
    """The tower and its projection to the text model's width, `text_size`.

    `count` gives a field of the vision config. As transformers 5.23 siglip/modeling_siglip.py
    SiglipVisionModel without its pooling head, and gemma3/modeling_gemma3.py
    Gemma3MultiModalProjector.
    """
    hidden, inner, layers, image, patch = (count(field) for field in FIELDS)
    embeddings, layer = "vision_tower.embeddings", "vision_tower.encoder.layers.*"
    once: list[tuple[str, tuple[int, ...]]] = [
        (f"{embeddings}.patch_embedding.weight", (hidden, 3, patch, patch)),
        (f"{embeddings}.patch_embedding.bias", (hidden,)),
        (f"{embeddings}.position_embedding.weight", ((image // patch) ** 2, hidden)),
        ("vision_tower.post_layernorm.weight", (hidden,)),
        ("vision_tower.post_layernorm.bias", (hidden,)),
        ("multi_modal_projector.mm_input_projection_weight", (hidden, text_size)),
        ("multi_modal_projector.mm_soft_emb_norm.weight", (hidden,)),
    ]
    matrices = {f"self_attn.{name}_proj": (hidden, hidden) for name in ("q", "k", "v", "out")}
    matrices |= {"mlp.fc1": (inner, hidden), "mlp.fc2": (hidden, inner)}
    found = [Tensor(f"model.{name}", shape, "vision", 1) for name, shape in once]
    for name, shape in matrices.items():
        weight = f"model.{layer}.{name}.weight"
        found.append(Tensor(weight, shape, "vision", layers, four_bit=True))
        found.append(Tensor(f"model.{layer}.{name}.bias", shape[:1], "vision", layers))
    found += [
        Tensor(f"model.{layer}.layer_norm{i}.{part}", (hidden,), "vision", layers)
        for i in (1, 2)
        for part in ("weight", "bias")
    ]
    return tuple(found)

"""The adapter's update, added to the weights it was trained for, unquantised.

W + alpha / r × B A. A QLoRA adapter was trained beside 4-bit weights, but rounding the sum to
4 bits again errs far more than adding it to the weights those were made from: on the sample model
the logits were off by 5.3, and by 1e-5 here (tests/jobs/test_merge.py, 2026-11-21).
"""

from pathlib import Path

from jobs import adapters, layout
from jobs.download import from_hub
from jobs.lineage import lineage_of, require_bound, require_same_base
from jobs.outcome import BadInput
from jobs.sources import base_of
from jobs.spec import ResolvedSpec


def merge(job: ResolvedSpec, run: Path, target: Path) -> None:
    """Write the merged model and its tokenizer to the folder `target`, in the base's own dtype.

    The sum is rounded once, to the base's dtype; a student's head goes with it. Raises `BadInput`
    where adapter or base are not what the lineage binds, the base's weights are quantised
    themselves, or the adapter changes nothing.
    """
    from transformers import AutoConfig, AutoTokenizer

    from jobs import strategies

    require_bound(run / layout.ADAPTER, "merge")
    source, revision = base_of(job, run)
    local = Path(source) if Path(source).is_dir() else from_hub(source, revision, "model.id")
    require_same_base(lineage_of(run / layout.ADAPTER), local)
    config = AutoConfig.from_pretrained(local)
    if getattr(config, "quantization_config", None) is not None:
        raise BadInput(
            f"model.id: the weights of {source} are quantised; export needs the unquantised base"
        )
    tokenizer = AutoTokenizer.from_pretrained(run / layout.ADAPTER)
    kind, options = strategies.model_class(job, tokenizer)
    base = kind.from_pretrained(local, dtype="auto", **options)
    adapter = adapters.open_adapter(run / layout.ADAPTER)
    adapters.require([adapters.trained(adapter), adapters.finite(adapter)])
    model = adapters.load(base, adapter)
    merged = model.merge_and_unload(safe_merge=True)  # raises on a sum that is no number
    merged.save_pretrained(target)
    tokenizer.save_pretrained(target)

import msgspec
import pytest

from jobs.spec import ResolvedSpec
from launcher.estimate import vram
from tests.unit.launcher.estimate.test_estimate import (
    QWEN_7B,
    RTX_4090,
    shape_for,
    spec_for,
    terms_of,
)


def among(processes: int, sharding: str = "none", strategy: str = "lora") -> ResolvedSpec:
    spec = spec_for(QWEN_7B, strategy, effective_batch=16, micro_batch=2)
    kind = msgspec.convert(sharding, type=ResolvedSpec.__annotations__["sharding"])
    return msgspec.structs.replace(spec, processes=processes, sharding=kind)


def terms(spec: ResolvedSpec) -> dict[str, int]:
    return terms_of(vram.memory(shape_for(QWEN_7B), spec, RTX_4090))


def test_each_process_copies_the_gradients_of_what_is_trained() -> None:
    alone, two = terms(among(1)), terms(among(2))
    assert "gradient buckets" not in alone
    assert two.pop("gradient buckets") == 4 * 40_370_176
    assert {n: b for n, b in two.items() if n in alone} == alone


def test_processes_that_fill_the_batch_at_once_have_no_earlier_gradients() -> None:
    assert terms(among(4))["gradients"] > 0
    assert vram.timeline(shape_for(QWEN_7B), among(8), RTX_4090).moments[0].gradients == 0


@pytest.mark.parametrize("processes", [2, 8])
def test_shards_hold_their_part_and_gather_two_layers_and_the_root(processes: int) -> None:
    alone, shard = terms(among(1)), terms(among(processes, "full"))
    shape = shape_for(QWEN_7B)
    assert shard["base weights"] == -(-alone["base weights"] // processes)
    assert shard["adapters"] == -(-4 * 40_370_176 // processes)
    assert shard["gathered root"] == 2 * 2 * 152_064 * 3584
    layers = 2 * shape.parameters - shard["gathered root"]
    assert shard["gathered layers"] == pytest.approx(2 * layers / shape.layers, rel=1e-6)


def test_the_quantisation_state_is_not_shared_out() -> None:
    alone, shard = (terms(among(n, s, "qlora")) for n, s in ((1, "none"), (4, "full")))
    assert shard["quantisation state"] == alone["quantisation state"]
    assert shard["base weights"] == alone["base weights"] // 4
    assert shard["adapters"] == 4 * 40_370_176 // 4  # widened, where the only process has bf16
    assert alone["adapters"] == 2 * 40_370_176

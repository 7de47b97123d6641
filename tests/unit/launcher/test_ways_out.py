import msgspec
import pytest

from launcher.types import Budget
from launcher.ways_out import ways_out
from tests.unit.launcher.planning import JOB, cloud, dollars, local, planned


def test_nothing_to_say_when_something_is_chosen():
    assert ways_out(planned([cloud("RTX4090", 0.74)], Budget(max_cost_microusd=dollars(10)))) == ()


def test_the_cap_and_the_hours_that_would_do_cheapest_first():
    made = planned(
        [cloud("A100-80GB", 16.0), cloud("RTX4090", 9.0), local("cpu", 20)],
        Budget(max_cost_microusd=dollars(10), max_hours=8),
    )
    assert ways_out(made) == (
        "--max-hours 660 allows this machine's CPU (660.0 h worst)",
        "--max-cost 17 allows A100-80GB on RunPod (worst $16.93)",
        "--max-cost 18 allows RTX4090 on RunPod (worst $17.98)",
    )


def test_without_a_cap_the_one_that_is_needed():
    made = planned([cloud("RTX4090", 0.74)], Budget())
    assert ways_out(made) == ("--max-cost 1.5 allows RTX4090 on RunPod (worst $1.48)",)


@pytest.mark.parametrize("usd_per_hour", [0.07, 0.74, 5.123456, 33.333333])
def test_following_the_advice_chooses(usd_per_hour):
    offer = cloud("RTX4090", usd_per_hour)
    (way,) = ways_out(planned([offer], Budget(max_cost_microusd=0)))
    cap = float(way.split()[1])
    assert planned([offer], Budget(max_cost_microusd=dollars(cap))).chosen is not None


def test_a_job_that_fits_no_card_must_shrink():
    job = msgspec.structs.replace(JOB, strategy="full")
    made = planned([cloud("A100-80GB", 1.79)], Budget(max_cost_microusd=dollars(10)), job)
    assert ways_out(made) == (
        "needs 145.0 GiB and the largest has 74.5: --set train.seq_len=N may shrink it",
        "--strategy qlora instead of full keeps the base in 4 bits",
    )


def test_what_holds_a_job_up_is_named():
    train = msgspec.structs.replace(JOB.train, micro_batch=8, activation_checkpointing=False)
    job = msgspec.structs.replace(JOB, strategy="full", train=train)
    way, _ = ways_out(planned([cloud("A100-80GB", 1.79)], Budget(max_cost_microusd=0), job))
    assert "--set train.micro_batch=auto or --set train.activation_checkpointing=auto" in way


def test_filters_that_leave_nothing_are_named():
    budget = Budget(max_cost_microusd=dollars(10), providers=("aws",))
    made = planned([cloud("RTX4090", 0.74)], budget)
    assert ways_out(made) == ("drop --on and --gpu: no offer they leave can run this job",)

import pytest

from launcher.catalog.gpus import GPUS
from launcher.catalog.providers import NOBODY
from launcher.errors import BadInput
from launcher.planning.refusals import answer_of, fits
from launcher.planning.unpriced import unpriced
from launcher.types import Budget, Offer, Plan
from tests.unit.launcher.plans import TEN, cloud, dollars, local, planned

TODAY = "2026-11-22"
HERE = local("cpu", 8)
LAMBDA = cloud("A10G", 0.75, "lambda")


def names(offers: list[Offer], budget: Budget) -> list[str]:
    return [f"{o.count} {o.device.name}" for o in unpriced(offers, budget, TODAY)]


def asked(budget: Budget, *offers: Offer) -> Plan:
    return planned([*offers, *unpriced(offers, budget, TODAY)], budget)


@pytest.mark.parametrize("card", [card.name for card in GPUS])
def test_every_card_of_the_table_can_be_asked_for_once_and_more(card: str) -> None:
    assert names([HERE], Budget(gpu=card)) == [f"1 {card}"]
    assert names([HERE], Budget(gpu=f"{card}:4")) == [f"4 {card}"]


@pytest.mark.parametrize(
    ("budget", "made"),
    [
        (Budget(), []),
        (Budget(gpu="A10G"), []),
        (Budget(gpu="A10G:2"), ["2 A10G"]),
        (Budget(gpu="A10G", providers=("aws",)), ["1 A10G"]),
        (Budget(gpu="A100"), ["1 A100-40GB", "1 A100-80GB"]),
        (Budget(gpu="mps"), ["1 M1, 8 GB", "1 M1, 16 GB"]),
        (Budget(gpu="mps:2"), []),
        (Budget(gpu="cpu"), []),
        (Budget(gpu="A10:none"), []),
    ],
)
def test_only_what_is_asked_for_and_offered_by_nobody(budget: Budget, made: list[str]) -> None:
    assert names([HERE, LAMBDA], budget) == made


@pytest.mark.parametrize("cap", [None, 0, dollars(1_000)])
def test_it_is_never_chosen_nor_a_fallback(cap: int | None) -> None:
    made = asked(Budget(gpu="RTX3090", max_cost_microusd=cap), HERE, LAMBDA)
    assert made.chosen is None
    assert made.fallbacks == ()
    (card,) = (c for c in made.candidates if c.offer.provider == NOBODY)
    assert card.verdict == "rejected"
    assert card.offer.executor is None
    assert card.reason == "holds it; no offer has RTX3090, so it has no price"


def test_nobody_is_no_provider_to_ask_for() -> None:
    with pytest.raises(BadInput, match="no such provider"):
        asked(Budget(gpu="RTX3090", providers=(NOBODY,)), HERE)


def test_what_was_not_asked_for_is_never_the_answer() -> None:
    answer = answer_of(asked(Budget(gpu="RTX3090", providers=("lambda",)), HERE, LAMBDA))
    assert answer is not None
    assert answer.offer.device.name == "RTX3090"
    assert "no offer on Lambda has RTX3090" in answer.reason
    assert answer_of(planned([HERE], Budget(gpu="A10G"))) is None


@pytest.mark.parametrize(
    ("budget", "fit", "why"),
    [
        (Budget(gpu="RTX3090"), True, "holds it"),
        (Budget(gpu="RTX3060Ti"), False, "needs 9.0 GiB, 7.5 usable"),
        (Budget(gpu="T4", max_hours=0.5), False, "5 h 04 m worst > --max-hours 0.5"),
    ],
)
def test_its_memory_and_its_hours_are_judged(budget: Budget, fit: bool, why: str) -> None:
    made = asked(budget, HERE)
    answer = answer_of(made)
    assert answer is not None
    assert answer.reason.startswith(f"{why}; no offer has ")
    assert fits(answer, made.budget) is fit


def test_what_is_offered_stands_before_what_is_not() -> None:
    made = asked(Budget(gpu="A100", max_cost_microusd=TEN.max_cost_microusd), cloud("A100-80GB", 2))
    assert [c.offer.device.name for c in made.candidates] == ["A100-80GB", "A100-40GB"]
    assert made.chosen is not None

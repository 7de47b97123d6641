"""Rendered tasks through SkyPilot's own parser, which refuses what it does not know.

Every shipped recipe under every strategy on every provider; every offer; every provider's image.
SkyPilot takes seconds to import, so one child reads all tasks.
"""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from launcher import paths
from launcher.catalog import clusters, skypilot
from launcher.catalog.offers import embedded_offers
from launcher.catalog.providers import CLUSTERS, IMAGES_NEED, PROVIDERS
from launcher.plans import COMPARED
from launcher.render import JOB_RECOVERY, task
from launcher.types import Budget, Candidate, Offer, Plan
from tests.integration.command import ROOT
from tests.integration.skypilot import output
from tests.unit.launcher.catalog.real_rows import place
from tests.unit.launcher.catalog.test_clusters import asked, share
from tests.unit.launcher.plans import JOB, dollars, estimator, planned
from tests.unit.launcher.test_shipped_recipes import plan

STORE, SECRETS = "s3://bucket/runs", ("AWS_ACCESS_KEY_ID", "HF_TOKEN")
IMAGE = "registry.example/me/train:1"
# No limit but the cards' own.
WIDE = Budget(max_cost_microusd=dollars(1_000_000), max_hours=10_000, spot=True)
RECIPES_WIDE = ("budget.max_cost=1000000", "budget.max_hours=10000", "budget.spot=true",
                f"budget.providers=[{', '.join(PROVIDERS)}]")  # fmt: skip

PROGRAM = """
import json, sys, yaml, sky
assert sky.__spec__.origin is not None, "an empty namespace called sky"
for path in sys.argv[1:]:
    task = sky.Task.from_yaml_config(yaml.load(open(path), yaml.CSafeLoader))
    (resources,) = task.resources
    stop = resources.autostop_config
    print(json.dumps({
        "name": task.name, "cloud": str(resources.cloud).lower(),
        "accelerators": resources.accelerators, "cpus": resources.cpus,
        "image": resources.extract_docker_image(), "disk": resources.disk_size,
        "spot": resources.use_spot, "labels": resources.labels, "recovery": resources.job_recovery,
        "stop": [stop.down, stop.idle_minutes] if stop else None,
        "secrets": [ref.name for ref in task.managed_secret_refs],
        "mounts": sorted(task.file_mounts), "setup": bool(task.setup), "run": bool(task.run),
    }))
"""


class Case(NamedTuple):
    """What one task was rendered from."""

    made: Plan
    candidate: Candidate
    recipe: str = ""
    strategy: str = ""
    managed: bool = False

    @property
    def provider(self) -> str:
        return self.candidate.offer.provider

    def text(self) -> str:
        secrets = SECRETS if self.managed else ()
        store = STORE if self.managed else ""
        return task(self.made, self.candidate, store=store, secrets=secrets, managed=self.managed)


class Parsed(NamedTuple):
    recipes: list[tuple[Case, dict]]
    offers: list[tuple[Case, dict]]
    images: list[tuple[Case, dict]]
    template: dict
    refused: dict[tuple[str, str, str], str]  # recipe, strategy, provider → why


@pytest.fixture(scope="module")
def parsed(sky_python: str, tmp_path_factory: pytest.TempPathFactory) -> Parsed:
    folder = tmp_path_factory.mktemp("tasks")
    offers = all_offers(folder)
    rows = folder / "train.jsonl"
    rows.write_text('{"text": "a"}\n')
    job = msgspec.structs.replace(JOB, data=msgspec.structs.replace(JOB.data, train=str(rows)))
    small = estimator({"qlora": 9.0}, 165.0)
    any_offer = planned(list(offers), WIDE, job, estimator=small)
    with_image = planned(
        list(offers), msgspec.structs.replace(WIDE, image=IMAGE), job, estimator=small
    )
    refused: dict[tuple[str, str, str], str] = {}
    cases = [
        list(of_recipes(offers, folder, refused)),
        [Case(any_offer, c, managed=c.offer.spot) for c in possible(any_offer)],
        [Case(with_image, c) for c in one_of_each_provider(with_image)],
    ]
    texts = [case.text() for group in cases for case in group]
    for name in ("jobs", "results", "images", "sky"):  # the template's paths: the project's
        (folder / name).symlink_to(ROOT / name)
    texts.append((paths.packaged("sky") / "train.yaml").read_text())
    found = iter(parse(sky_python, texts, folder))
    groups = [[(case, next(found)) for case in group] for group in cases]
    return Parsed(*groups, next(found), refused)


def parse(python: str, texts: list[str], folder: Path) -> list[dict]:
    files = []
    for number, text in enumerate(texts):
        files.append(folder / f"{number}.yaml")
        files[-1].write_text(text)
    lines = output(python, folder, PROGRAM, *map(str, files))
    return [json.loads(line) for line in lines if line.startswith("{")]


def all_offers(folder: Path) -> tuple[Offer, ...]:
    """The snapshot's, those of SkyPilot's catalogs, and clusters' at their owners' prices."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SKY_RUNTIME_DIR", str(place(folder)))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        listed = skypilot.listing().offers
    lent = [share("", partition="cpu")]
    for provider, card in product(CLUSTERS, ("A100-80GB", "H100", "T4")):
        lent.append(share(card, provider=provider, partition="gpu" * (provider == "slurm")))
    return (*embedded_offers(), *listed, *clusters.offered(asked(*lent)).offers)


def of_recipes(
    offers: tuple[Offer, ...], folder: Path, refused: dict[tuple[str, str, str], str]
) -> Iterator[Case]:
    """The cheapest of each provider under each strategy; what is refused is written down."""
    for recipe, strategy in product(sorted(paths.recipes()), COMPARED):
        made = plan(recipe, folder, offers, f"strategy={strategy}", *RECIPES_WIDE)
        best = {c.offer.provider: c for c in one_of_each_provider(made)}
        for provider in PROVIDERS:
            if provider in best:
                yield Case(made, best[provider], recipe, strategy)
            else:
                why = [c.reason for c in made.candidates if c.offer.provider == provider]
                refused[recipe, strategy, provider] = why[0]


def possible(made: Plan) -> list[Candidate]:
    return [c for c in made.candidates if c.verdict != "rejected"]


def one_of_each_provider(made: Plan) -> list[Candidate]:
    """The cheapest on demand."""
    found: dict[str, Candidate] = {}
    for candidate in possible(made):
        if not candidate.offer.spot:
            found.setdefault(candidate.offer.provider, candidate)
    return list(found.values())


def is_as_rendered(case: Case, found: dict) -> None:
    offer = case.candidate.offer
    assert found["name"] == case.made.run_id
    assert found["cloud"] == offer.provider
    held = found["accelerators"]
    assert list(held.values()) == [offer.count] if held else offer.device.kind == "cpu"
    assert found["spot"] is offer.spot
    assert found["labels"] == {"loralift-run": case.made.run_id}
    assert found["image"] == (offer.image or None)
    assert found["stop"] == (None if case.managed else [True, 5])
    assert (found["setup"], found["run"]) == (True, True)


def test_every_recipe_by_every_strategy_on_every_provider(parsed: Parsed) -> None:
    everything = set(product(paths.recipes(), COMPARED, PROVIDERS))
    rendered = {(case.recipe, case.strategy, case.provider) for case, _ in parsed.recipes}
    assert len(rendered) == len(parsed.recipes)
    assert rendered | parsed.refused.keys() == everything
    for case, found in parsed.recipes:
        is_as_rendered(case, found)
        assert "~/loralift/run/data/train.jsonl" in found["mounts"]
    # None is left out: a strategy is rendered on every provider, for some recipe.
    assert {key[0] for key in rendered} == set(paths.recipes())
    assert {key[1:] for key in rendered} == set(product(COMPARED, PROVIDERS))
    print(f"\n{len(rendered)} of {len(everything)} are rendered; the planner refuses")
    reasons = Counter((recipe, strategy) for recipe, strategy, _ in parsed.refused)
    for (recipe, strategy), times in reasons.items():
        whys = sorted({w for k, w in parsed.refused.items() if k[:2] == (recipe, strategy)})
        print(f"  {recipe} by {strategy} on {times} providers: {whys[0]}")


def test_every_offer_of_the_catalogs(parsed: Parsed) -> None:
    assert {case.provider for case, _ in parsed.offers} == set(PROVIDERS)
    assert len(parsed.offers) >= 60
    for case, found in parsed.offers:
        is_as_rendered(case, found)
        assert found["disk"] == 100


def test_spot_is_a_managed_job_that_is_started_again_when_it_was_told_to_go(parsed: Parsed) -> None:
    managed = [found for case, found in parsed.offers if case.managed]
    assert managed
    for found in managed:
        assert found["recovery"].items() >= JOB_RECOVERY.items()
        assert found["secrets"] == list(SECRETS)
    assert not any(found["secrets"] for case, found in parsed.offers if not case.managed)


def test_an_image_on_every_provider_that_runs_one(parsed: Parsed) -> None:
    assert {case.provider for case, _ in parsed.images} == PROVIDERS.keys() - IMAGES_NEED.keys()
    for case, found in parsed.images:
        is_as_rendered(case, found)
        assert found["image"] == IMAGE


def test_the_template_is_a_task_by_itself(parsed: Parsed) -> None:
    assert parsed.template["accelerators"] == {"RTX4090": 1}

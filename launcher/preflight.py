"""What can be checked before a paid second: a plan's data, Hub, store, machine, provider and price.

All at once, each within its own time. What could not be asked is unknown and said, never taken for
sound. A plan that costs nothing gets the checks that take no time.
"""

import importlib
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from os import environ
from pathlib import Path

from jobs.spec.weights import weight_files
from launcher import paths, tracking
from launcher.catalog import enabled, refresh
from launcher.catalog.providers import LOCAL, display_name
from launcher.checking.checks import Check, Question, asked
from launcher.checking.data_check import SECONDS as DATA_SECONDS
from launcher.checking.data_check import data_check
from launcher.checking.fitness import fitness
from launcher.checking.fresh_price import SECONDS as SKYPILOT_SECONDS
from launcher.checking.fresh_price import Asking, fresh_price, not_enabled
from launcher.errors import BadInput, NothingFits, OutsideFailed, one_line
from launcher.executors import environment
from launcher.inputs import registered
from launcher.paths import is_remote
from launcher.planning.refusals import gib
from launcher.types import MICROUSD, Candidate, Plan

# How long SkyPilot's last word on a provider's credentials counts. Assumption.
CHECK_LASTS = timedelta(days=1)
STORE_SECONDS = 10.0  # four requests to a bucket. Assumption
_SLACK_SECONDS = 2.0  # beyond the time that an asker gives up by itself
# The checks that another offer may pass; all others are of the job, wherever it runs.
OF_THE_OFFER = ("dtype", "card", "driver", "disk", "provider", "skypilot", "price")
OF_THE_PROVIDER = ("skypilot",)  # what one of a provider's offers fails, all of them do


def checks(plan: Plan, store: str | None = None, hub: str | None = None) -> list[Check]:
    """Everything that can be known of the plan's chosen offer before it is submitted.

    `store` is where the run will be kept, a folder or s3://; `hub` the ORG/NAME to publish to.
    """
    if plan.chosen is None:
        raise NothingFits("nothing is chosen, so there is nothing to check; see the plan")
    today = datetime.now(UTC).date().isoformat()
    return every(plan, plan.chosen, store, hub, Asking(plan.chosen.offer.provider, today))


def every(
    plan: Plan, candidate: Candidate, store: str | None, hub: str | None, asking: Asking
) -> list[Check]:
    """What can be known of the job, and of this candidate's offer."""
    questions = [*_at_work(plan, candidate, hub)]
    if store is not None and is_remote(store):
        questions.append(Question("store", STORE_SECONDS, partial(_remote_store, store)))
    questions += _renting(candidate, asking)
    return [*immediate(plan, candidate, store), *asked(questions)]


def of_the_offer(plan: Plan, candidate: Candidate, asking: Asking) -> list[Check]:
    """What can be known of another offer, for a job of which all is known."""
    return [*immediate(plan, candidate, None), *asked(_renting(candidate, asking))]


def immediate(plan: Plan, candidate: Candidate, store: str | None) -> list[Check]:
    """What takes no time."""
    found = list(fitness(candidate, own_python=environment.PYTHON_VARIABLE in environ))
    if candidate.offer.provider == LOCAL:
        found.append(_local_disk(candidate, plan.run_id))
    if plan.job.model.id.startswith("/") and plan.job.model.init == "pretrained":
        found.append(_weights(Path(plan.job.model.id)))
    if store is not None and not is_remote(store):
        found.append(_folder("store", store))
    if plan.job.track is not None:
        found.append(tracking.check(plan.job.track, candidate.offer.provider))
    return found


def of_publishing(hub: str | None) -> list[Check]:
    """Whether the run may be published where it is to be."""
    return asked(list(_publishing(hub))) if hub is not None else []


def require_publishable(hub: str | None, licence: str | None = None) -> None:
    """Raises BadInput, or OutsideFailed, where `of_publishing` finds that it may not."""
    _require(of_publishing(hub))
    if licence is not None:
        require_licence(licence)


def require_licence(licence: str) -> None:
    """Raises BadInput for a licence that the Hub does not know: it would refuse the card."""
    from launcher.checking import hub_access

    seconds = hub_access.SECONDS + _SLACK_SECONDS
    _require(asked([Question("licence", seconds, partial(hub_access.licence, licence))]))


def _require(found: list[Check]) -> None:
    failed = [check for check in found if check.state == "failed"]
    if failed:
        kind = OutsideFailed if all(check.outside for check in failed) else BadInput
        raise kind("\n".join(check.line for check in failed))


def _local_disk(chosen: Candidate, run_id: str) -> Check:
    """What the run itself writes. The environment is made before it, and a base model from the Hub
    lies in the Hub's own cache, if not there already: neither is counted."""
    assert chosen.spec is not None, "a chosen candidate has a spec"
    assert chosen.estimate is not None, "and an estimate"
    elsewhere = ["environment"]
    if chosen.spec.model.init == "pretrained":
        elsewhere.append("base model")
    need = sum(term.bytes for term in chosen.estimate.disk if term.name not in elsewhere)
    place = _existing(paths.work_folder(run_id))
    free = shutil.disk_usage(place).free
    found = f"needs {gib(need)} GiB, {gib(free)} are free in {place}"
    if free < need:
        how = "make room, or set XDG_STATE_HOME to another disk"
        return Check(name="disk", state="failed", found=found, next=how, outside=True)
    return Check(name="disk", state="ok", found=found)


def _weights(folder: Path) -> Check:
    """Whether a model's folder has what the job would load; only their names are read."""
    try:
        files = weight_files(folder)
    except ValueError as error:
        return Check(name="model", state="failed", found=str(error))
    except OSError as error:
        found = f"{error.filename} cannot be read: {error.strerror}"
        return Check(name="model", state="failed", found=found)
    return Check(name="model", state="ok", found=f"{folder} has {len(files)} file(s) of weights")


def _folder(name: str, where: str) -> Check:
    """Whether files can be made in a folder that is there or can be made; leaves nothing."""
    place = _existing(Path(where).expanduser().absolute())
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        found = f"no file can be made in {place}: {error.strerror or error}"
        return Check(name=name, state="failed", found=found, next="name another --store")
    return Check(name=name, state="ok", found=f"{place} is writable")


def _existing(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.exists())


def _remote_store(url: str) -> Check:
    """Written to, read and removed by what will keep the run there."""
    try:
        stores = importlib.import_module("results.stores")
    except ImportError:
        found = f"{url} was not looked at: this version has nothing that writes there"
        return Check(name="store", state="unknown", found=found)
    try:
        stores.require_writable(stores.open_store(url))
    except stores.StoreError as error:
        found = one_line(error)
        return Check(name="store", state="failed", found=found, outside=True)
    return Check(name="store", state="ok", found=f"{url} is writable")


def _at_work(plan: Plan, candidate: Candidate, hub: str | None) -> Iterator[Question]:
    """Of the job, wherever it runs: its data, its model, what the Hub must allow."""
    # HTTP and TLS, 30 ms: not for a plan that costs nothing
    from launcher.checking import hub_access

    spec, job = candidate.spec, plan.job
    assert spec is not None, "a chosen candidate has a spec"
    yield Question("data", DATA_SECONDS + _SLACK_SECONDS, partial(data_check, spec))
    seconds = 2 * hub_access.SECONDS + _SLACK_SECONDS
    yield Question("token", seconds, hub_access.token)
    if not job.model.id.startswith("/"):
        model = partial(hub_access.model, "model", job.model.id, job.model.revision, "config.json")
        yield Question("model", seconds, model)
    parent = (job.resume_from or "").partition("hub:")[2]
    if parent:
        where, _, revision = parent.partition("@")
        adapter = partial(
            hub_access.model, "parent", where, revision or None, "adapter_config.json"
        )
        yield Question("parent", seconds, adapter)
    if candidate.offer.image:
        from launcher.executors import registry

        ask = partial(_image, candidate.offer.image)
        yield Question("image", registry.SECONDS + _SLACK_SECONDS, ask)
    yield from _publishing(hub)


def _image(reference: str) -> Check:
    """Whether a machine can pull it. Its jobs and lock are not asked for: set-up brings its own."""
    from launcher.checking import image_checks
    from launcher.executors import registry

    if not registry.is_askable():
        why = f"whether its registry has {reference} is seen when the machine pulls it"
        how = "with skopeo installed it is asked before"
        return Check(name="image", state="skipped", found=why, next=how)
    try:
        found = registry.look(reference)
    except registry.NotThere as error:
        return Check(name="image", state="failed", found=one_line(error))
    registered.keep(reference, found)
    return image_checks.pullable(reference, found)


def _publishing(hub: str | None) -> Iterator[Question]:
    """Whether there is what publishes, and it may."""
    if hub is None:
        return
    from launcher.checking import hub_access

    yield Question("client", _SLACK_SECONDS, hub_access.client)
    seconds = 2 * hub_access.SECONDS + _SLACK_SECONDS
    yield Question("push", seconds, partial(hub_access.push, hub))


def _renting(chosen: Candidate, asking: Asking) -> list[Question]:
    if chosen.offer.provider == LOCAL:
        return []
    seconds = SKYPILOT_SECONDS + _SLACK_SECONDS
    return [
        Question("skypilot", seconds, partial(credentials, asking, datetime.now(UTC))),
        Question("price", seconds, partial(_price, chosen, asking)),
    ]


def credentials(asking: Asking, now: datetime) -> Check:
    """Whether SkyPilot may rent from the provider: as it said within a day, else asked now.

    Raises OutsideFailed where it gives no answer.
    """
    provider, where = asking.provider, display_name(asking.provider)
    try:
        refresh.skypilot_python()
    except OutsideFailed as error:
        return Check(name="skypilot", state="failed", found=str(error), outside=True)
    known = enabled.last_check()
    if known is not None and known.knows(provider):
        age = now - datetime.fromisoformat(known.checked_at)
        if age < CHECK_LASTS:
            hours = age.total_seconds() / 3600
            found = f"{where} was enabled {hours:.0f} h ago (SkyPilot {known.skypilot})"
            return Check(name="skypilot", state="ok", found=found)
    answer = asking.answer()
    if provider in answer.enabled:
        found = f"{where} is enabled (SkyPilot {answer.version}, asked now)"
        return Check(name="skypilot", state="ok", found=found)
    found = f"{where}: {not_enabled(answer, provider)}"
    return Check(name="skypilot", state="failed", found=found, outside=True)


def _price(chosen: Candidate, asking: Asking) -> Check:
    try:
        if credentials(asking, datetime.now(UTC)).state == "failed":
            found = "SkyPilot, which reads it, may not rent there"
            return Check(name="price", state="skipped", found=found)
        now = fresh_price(chosen, asking)
    except OutsideFailed as error:
        found = one_line(error)
        return Check(name="price", state="failed", found=found, outside=True)
    before, after = chosen.offer.microusd_per_hour / MICROUSD, now.microusd_per_hour / MICROUSD
    moved = f"${before:.3f} an hour" if before == after else f"${before:.3f} → ${after:.3f} an hour"
    return Check(name="price", state="ok", found=f"{moved}, of {now.as_of}")

"""`launch canary`: part after part, each a run like any other, and nothing left behind.

A part stands in the ledger before its machine is asked for, so that `launch status`, `cancel` and
`guard` find it whatever becomes of this process. A part that is not proved is the last. Whatever
happens in a part, an interrupt too, its machine is ended before anything else is done.
"""

import platform
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from launcher import __version__, paths
from launcher.catalog.refresh import skypilot_python
from launcher.display.canary import canary_text
from launcher.errors import BadInput, LaunchError, NothingFits, OutsideFailed
from launcher.events import StateChanged
from launcher.executors.base import Say, name_of
from launcher.executors.skypilot_calls import CallFailed, Calls
from launcher.guard import UNSEEN
from launcher.planning.canary import (
    PARTS,
    CanaryReceipt,
    Part,
    PartName,
    PartReceipt,
    Verdict,
    choosing,
    parts_of,
    plan_of,
    verdict_of,
)
from launcher.planning.refusals import usd
from launcher.running.canary.acts import ACTS, Acting
from launcher.running.canary.halting import Unproved
from launcher.running.clock import at_its_price, spent, utc_now
from launcher.running.collecting import collect
from launcher.running.finishing import released
from launcher.running.reconciling import ledger, open_machines
from launcher.running.runs import submit
from launcher.times import stamp
from launcher.types import Plan

JSON, TEXT = "canary.json", "canary.txt"


def prove(plan: Plan, names: Sequence[PartName], store: Path, say: Say) -> CanaryReceipt:
    """Run these parts of a plan that `planning.canary.affordable` made.

    Returns what was proved, and keeps it in <store>/<canary's id>/ after each part. What fails is
    said there; BadInput alone is raised, where nothing can be started.
    """
    folder = store.absolute() / plan.run_id
    canary = _Canary(plan, folder, say)
    for name in names:
        canary.add(name, names)
    return canary.receipt


class _Canary:
    def __init__(self, plan: Plan, folder: Path, say: Say) -> None:
        self._plan, self._folder, self._say = plan, folder, say
        self._book, self._calls = ledger(), Calls()
        self._started_at = self._ended_at = stamp(utc_now())
        self._versions = _versions()
        self._parts: list[PartReceipt] = []

    @property
    def receipt(self) -> CanaryReceipt:
        assert self._plan.chosen is not None, "a canary's plan has a choice"
        return CanaryReceipt(
            canary_id=self._plan.run_id,
            provider=self._plan.chosen.offer.provider,
            verdict=verdict_of(self._parts),
            started_at=self._started_at,
            ended_at=self._ended_at,
            max_cost_microusd=self._cap,
            spent_microusd=self._spent,
            versions=self._versions,
            parts=tuple(self._parts),
        )

    @property
    def _cap(self) -> int:
        return self._plan.budget.max_cost_microusd or 0

    @property
    def _spent(self) -> int:
        return sum(part.spent_microusd for part in self._parts)

    def add(self, name: PartName, names: Sequence[PartName]) -> None:
        """Run the part and keep its receipt; after one that was not proved it is not run."""
        if verdict_of(self._parts) != "proved":
            part = PartReceipt(
                name=name, verdict="not run", found="the part before it was not proved"
            )
        else:
            part = self._run(name, names[names.index(name) :])
        self._parts.append(part)
        self._ended_at = stamp(utc_now())
        content = msgspec.json.format(msgspec.json.encode(self.receipt), indent=2)
        try:
            paths.write_aside(self._folder / JSON, content)
            paths.write_aside(self._folder / TEXT, canary_text(self.receipt).encode())
        except OSError as error:  # the receipt is printed, too
            self._say(f"{self._folder} cannot be written: {error}")

    def _run(self, name: PartName, names: Sequence[PartName]) -> PartReceipt:
        """The part, on the machine that the plan chose; `names` are those to come, it the first."""
        chosen, now = self._plan.chosen, utc_now()
        assert chosen is not None, "a canary's plan has a choice"
        left = msgspec.structs.replace(
            self._plan.budget, max_cost_microusd=max(0, self._cap - self._spent)
        )
        part, *others = parts_of(chosen, left, names, now.date().isoformat())
        needed = part.cap_microusd + sum(other.cap_microusd for other in others)
        if needed > (left.max_cost_microusd or 0):
            rest = usd(left.max_cost_microusd or 0)
            found = f"what is to come needs {usd(needed)} at worst, and {rest} is left"
            return PartReceipt(name=name, verdict="over budget", found=found)
        made = plan_of(self._plan, part, self._plan.run_id, now)
        self._say(f"{name}: {PARTS[name]}; {usd(part.cap_microusd)} at most")
        verdict, found = self._acted(made, name)
        self._stay_with(made.run_id)
        return self._account(part, made, verdict, found)

    def _acted(self, made: Plan, name: PartName) -> tuple[Verdict, str]:
        try:
            submit(made, str(self._folder), self._say)
            return "proved", ACTS[name](Acting(self._book, made.run_id, self._calls, self._say))
        except Unproved as error:
            return "failed", str(error)
        except NothingFits as error:
            return "over budget", str(error)
        except LaunchError as error:
            if isinstance(error, BadInput) and self._book.find(made.run_id) is None:
                raise  # nothing was started
            return "outside failed", str(error)
        finally:
            self._end(made.run_id)

    def _end(self, run_id: str) -> None:
        """Whatever of the run may still cost money."""
        run = self._book.find(run_id)
        for attempt in open_machines(run) if run is not None else ():
            assert run is not None
            self._say(f"ending the machine of {run_id}")
            over = StateChanged(
                attempt=attempt.attempt,
                state="CANCELLED",
                reason="CANCELLED",
                message="ended by the canary, which had seen enough or was broken off",
            )
            try:
                released(self._book, run, attempt, UNSEEN, over)
            except OutsideFailed as error:
                self._say(f"{error}\n`launch guard --watch` goes on trying")

    def _stay_with(self, run_id: str) -> None:
        """The later parts go where this one found a machine."""
        run = self._book.find(run_id)
        if run is not None:
            used = at_its_price(self._book.plan(run_id), run.attempts[-1])
            self._plan = choosing(self._plan, used)

    def _account(self, part: Part, made: Plan, verdict: Verdict, found: str) -> PartReceipt:
        run = self._book.find(made.run_id)
        if run is None:
            return PartReceipt(name=part.name, verdict=verdict, found=found)
        last, cost = run.attempts[-1], spent(run, utc_now())
        offer = made.candidates[last.candidate].offer
        if verdict == "proved" and open_machines(run):
            verdict, found = "failed", f"{found}\nbut its machine may still be there"
        if verdict == "proved" and cost > part.cap_microusd:
            verdict, found = "failed", f"{found}\nbut it took more than its cap"
        accounts = [a.account_microusd for a in run.attempts if a.account_microusd is not None]
        return PartReceipt(
            name=part.name,
            verdict=verdict,
            found=found,
            run_id=run.run_id,
            provider=last.provider,
            instance=last.instance,
            region=self._region(last.handle) or offer.region,
            gpu=offer.device.name,
            started_at=run.attempts[0].started_at,
            ended_at=last.gone_at or "",
            planned_microusd=part.planned_microusd,
            cap_microusd=part.cap_microusd,
            spent_microusd=cost,
            accounted_microusd=sum(accounts) if accounts else None,
            folder=self._brought_home(run.run_id),
        )

    def _region(self, handle: str) -> str:
        """Where SkyPilot had it; empty where it does not say."""
        with suppress(CallFailed, OutsideFailed):
            account = self._calls("cost", cluster=name_of(handle))
            return str((account or {}).get("region") or "")
        return ""

    def _brought_home(self, run_id: str) -> str:
        """The folder of its log, report and receipt; empty where they could not be brought."""
        with suppress(LaunchError):
            return str(collect(run_id))
        return ""


def _versions() -> dict[str, str]:
    found = {"loralift": __version__, "Python": platform.python_version(), "SkyPilot": "unknown"}
    ask = "from importlib.metadata import version; print(version('skypilot'))"
    with suppress(OutsideFailed, OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [skypilot_python(), "-I", "-c", ask],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        found["SkyPilot"] = done.stdout.strip()
    return found | {"system": f"{platform.system()} {platform.machine()}"}

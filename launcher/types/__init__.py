"""What flows inside the launcher. Frozen, serialisable; no behaviour beyond small properties.

Money is integer micro-dollars (`*_microusd`), memory is bytes, durations are hours where a plan
is made and seconds where something was measured. Dates are ISO 8601. One module a purpose; import
the names from here.
"""

from launcher.types.climbs import Account, Escalate, Move, Origin, Refused, Step, Story, Tried
from launcher.types.data import DATA_FILES, TOKENS_PER_CHARACTER, DataFacts, Judged
from launcher.types.estimates import (
    AROUND_THE_WORK,
    CALIBRATION,
    DiskTerm,
    Estimate,
    Measurement,
    MemoryTerm,
    Seen,
    TimeTerm,
)
from launcher.types.limits import COLLECT_MINUTES, MOST_USD, Budget, lowest
from launcher.types.offers import Device, Offer, Terms
from launcher.types.plans import (
    Candidate,
    Escalation,
    Ladder,
    ModelFacts,
    Plan,
    Rung,
    RungPlan,
    Setting,
)
from launcher.types.portfolios import (
    Member,
    Portfolio,
    PortfolioReceipt,
    Skipped,
    Standing,
)
from launcher.types.runs import ENDED, Attempt, MachineState, Reason, Run, RunState, View
from launcher.types.units import GIB, MIB, MICROUSD

__all__ = [
    "AROUND_THE_WORK",
    "CALIBRATION",
    "COLLECT_MINUTES",
    "DATA_FILES",
    "ENDED",
    "GIB",
    "MIB",
    "MICROUSD",
    "MOST_USD",
    "TOKENS_PER_CHARACTER",
    "Account",
    "Attempt",
    "Budget",
    "Candidate",
    "DataFacts",
    "Device",
    "DiskTerm",
    "Escalate",
    "Escalation",
    "Estimate",
    "Judged",
    "Ladder",
    "MachineState",
    "Measurement",
    "Member",
    "MemoryTerm",
    "ModelFacts",
    "Move",
    "Offer",
    "Origin",
    "Plan",
    "Portfolio",
    "PortfolioReceipt",
    "Reason",
    "Refused",
    "Run",
    "RunState",
    "Rung",
    "RungPlan",
    "Seen",
    "Setting",
    "Skipped",
    "Standing",
    "Step",
    "Story",
    "Terms",
    "TimeTerm",
    "Tried",
    "View",
    "lowest",
]

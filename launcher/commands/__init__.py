"""The commands beside the main one."""

from launcher.commands.finished import export, predict, publish
from launcher.commands.planning import doctor, estimate, offers
from launcher.commands.runs import cancel, collect, guard, logs, report, runs, status

ALL = (
    *(cancel, collect, doctor, estimate, export, guard),
    *(logs, offers, predict, publish, report, runs, status),
)

"""The commands beside the main one."""

from launcher.commands.canary import canary
from launcher.commands.finished import export, predict, publish
from launcher.commands.images import images
from launcher.commands.planning import doctor, estimate, offers
from launcher.commands.runs import adopt, cancel, collect, guard, logs, report, runs, status

ALL = (
    *(adopt, canary, cancel, collect, doctor, estimate, export, guard),
    *(images, logs, offers, predict, publish, report, runs, status),
)

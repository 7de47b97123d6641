"""The cluster by hand: `python -m tests.integration.slurm up`, then `status` and `down`."""

import argparse
import shlex
import sys

from tests.integration.environments import skypilot_python
from tests.integration.slurm import machine
from tests.integration.slurm.cluster import SlurmCluster


def main() -> str | None:
    """What went wrong, for sys.exit."""
    parser = argparse.ArgumentParser(prog="python -m tests.integration.slurm", description=__doc__)
    parser.add_argument("verb", choices=("up", "down", "status"))
    parser.add_argument("--name", default="by-hand", help="of several, which")
    chosen = parser.parse_args()
    missing = machine.lacks()
    if missing is not None:
        return missing
    cluster = SlurmCluster(skypilot_python(), chosen.name)
    if cluster.folder.exists() == (chosen.verb == "up"):
        there = (
            "is there already: `down` ends it"
            if chosen.verb == "up"
            else "is not there: `up` makes it"
        )
        return f"the cluster {cluster.folder} {there}"
    if chosen.verb == "up":
        cluster.start()
        print("# For a shell that is to use it:")
        for name, value in cluster.client.settings().items():
            print(f"export {name}={shlex.quote(value)}")
    elif chosen.verb == "down":
        cluster.stop()
    else:
        for node, state in sorted(cluster.states().items()):
            print(f"{node:12} {state}")
        for held in cluster.held():
            until = "now" if held.end is None else f"{held.end:%F %T}"
            print(f"{held.node:12} {held.name} {held.state}, {held.start:%F %T} to {until} UTC")
        for pid, command in sorted(cluster.processes_left().items()):
            print(f"{pid:12} {command[:100]}")
    return None


if __name__ == "__main__":
    sys.exit(main())

"""`launch` with an engine's variables, and the short run that the tests compare."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jobs import layout
from tests.integration.command import ROOT, Command

SHORT = ("--set", "train.epochs=0.3", "--set", "eval.limit=2", "--set", "gates=[]")

# A metric of the user's own runs inside the job: what it may do, the job may.
PROBES = """
import os, socket

def _refused(act):
    try:
        act()
    except OSError:
        return 1.0
    return 0.0

def _write(path):
    with open(path, "a") as file:
        file.write("here")

def _connect():
    with socket.create_connection(("192.0.2.1", 80), timeout=3):  # TEST-NET-1
        pass

def confined(answers, references, questions):
    if not os.path.isdir("adapter"):
        return {{}}  # tried, by the launcher's checks and by the job, before anything is trained
    _refused(lambda: _write({outside!r}))  # into the container's own /tmp, or nowhere
    status = dict(line.split(":\\t") for line in open("/proc/self/status") if ":\\t" in line)
    return {{
        "no_write_to_data": _refused(lambda: _write({data!r})),
        "no_write_to_image": _refused(lambda: _write("/opt/loralift/here")),
        "no_network": _refused(_connect),
        "interfaces": len(os.listdir("/sys/class/net")),
        "no_capabilities": float(int(status["CapEff"], 16) == 0),
        "no_new_privileges": float(status["NoNewPrivs"].strip()),
        "uid": os.getuid(),
        "process_1": float("contained" in open("/proc/1/cmdline").read()),
    }}
"""


@dataclass
class ContainerCommand(Command):
    """`launch` of a user whose engine is this one."""

    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | dict(self.variables)


def lay_out_data(launch: Command) -> Path:
    """The sample's training rows, in a copy that the run's probes may try to change."""
    data = launch.folder / "train.jsonl"
    shutil.copyfile(ROOT / "jobs" / "sample" / "train.jsonl", data)
    return data


def short_run(launch: Command, run_id: str, *flags: str) -> tuple[Path, dict, str]:
    """A few steps of the sample job, and its own account of what it could do: the run's folder, its
    result, and what stood on stderr."""
    outside, data = launch.folder / "outside", lay_out_data(launch)
    outside.touch()
    metric = launch.folder / "probes.py"
    metric.write_text(PROBES.format(outside=str(outside), data=str(data)))
    own = ("--data", str(data), "--set", f"eval.metrics=[{metric}:confined]")
    done = launch("sample", "--run-id", run_id, "--json", *SHORT, *own, *flags, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout)
    return Path(answer["folder"]), answer["result"], done.stderr


def losses(folder: Path) -> list[tuple]:
    """Step, loss and norm of the gradients, of each step."""
    lines = map(json.loads, (folder / layout.METRICS).read_text().splitlines())
    return [(r["step"], r["loss"], r["grad_norm"]) for r in lines if r["event"] == "step"]

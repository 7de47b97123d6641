"""SkyPilot as a judge: programs run in an environment that has it, with catalogs placed by hand.

No credentials, and no network: where the kernel lets us, SkyPilot runs in a network namespace of
its own that has none.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.servers.ports import free_port

OFFLINE = ["unshare", "--user", "--map-root-user", "--net"]
Kind = tuple[str, str, int, bool]  # cloud, accelerator as SkyPilot names it, count, spot

# Of groups of resources the one that SkyPilot takes, with its price for an hour.
OPTIMIZE = """
import json, sys
from unittest import mock
import sky
from sky import check, optimizer
from sky.utils import registry
wanted = json.loads(sys.argv[1])
clouds = [registry.CLOUD_REGISTRY.from_str(name) for name in sorted({w[0] for w in wanted})]
answers = []
with mock.patch.object(check, "get_cached_enabled_clouds_or_refresh", return_value=clouds):
    for group in json.loads(sys.argv[2]):
        task = sky.Task(run="true")
        task.set_resources({
            sky.Resources(infra=cloud, accelerators={gpu: count}, use_spot=spot)
            for cloud, gpu, count, spot in (wanted[i] for i in group)
        })
        dag = sky.Dag()
        dag.add(task)
        optimizer.Optimizer.optimize(dag, quiet=True)
        best = task.best_resources
        answers.append([str(best.cloud).lower(), best.accelerators, best.use_spot,
                        best.get_cost(3600)])
print(json.dumps(answers))
"""

# What `sky check` keeps after asking each cloud for credentials, of which there are none.
ENABLE = """
import sys
from sky import check, global_user_state, skypilot_config
from sky.clouds import cloud
workspace = skypilot_config.get_active_workspace()
for capability in cloud.CloudCapability:
    global_user_state.set_enabled_clouds(sys.argv[1:], capability, workspace)
allowed = check._get_workspace_allowed_clouds(workspace)
global_user_state.set_allowed_clouds(allowed, workspace)
"""
BOOTED = "Request skypilot-server-on-boot-check finished"  # it forgets what is enabled
BOOT_SECONDS = 300.0


def offline() -> list[str]:
    works = shutil.which("unshare") is not None and (
        subprocess.run([*OFFLINE, "true"], capture_output=True).returncode == 0
    )
    return OFFLINE if works else []


def output(python: str, home: Path, program: str, *arguments: str) -> list[str]:
    """What a program prints in SkyPilot's environment, line by line."""
    done = subprocess.run(
        [*offline(), python, "-c", program, *arguments],
        cwd=home,
        env={
            "HOME": str(home),
            "PATH": "/usr/bin:/bin",
            "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
        },
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def ask(python: str, home: Path, program: str, *arguments: str) -> Any:
    """The JSON that SkyPilot's last line of output is."""
    return json.loads(output(python, home, program, *arguments)[-1])


@contextmanager
def api_server(
    python: str, home: Path, clouds: Iterable[str]
) -> Iterator[tuple[dict[str, str], int]]:
    """SkyPilot's API server for one home, on a free port, that takes these clouds for enabled: what
    its clients' environment must be, and the session of its processes."""
    port = str(free_port())
    variables = {
        "HOME": str(home),
        "PATH": "/usr/bin:/bin",
        "SKY_RUNTIME_DIR": str(home),
        "SKYPILOT_API_SERVER_LOCAL_PORT": port,
        "SKYPILOT_DISABLE_USAGE_COLLECTION": "1",
    }
    log = home / "server.log"
    sky = str(Path(python).with_name("sky"))
    command = [sky, "api", "start", "--foreground", "--host", "127.0.0.1"]
    with open(log, "wb") as out:
        server = subprocess.Popen(
            command, cwd=home, env=variables, stdout=out, stderr=out, start_new_session=True
        )
    try:
        deadline = time.monotonic() + BOOT_SECONDS
        while BOOTED not in (said := log.read_text(errors="replace")):
            late = server.poll() is not None or time.monotonic() > deadline
            assert not late, f"SkyPilot's server did not start: {said[-800:]}"
            time.sleep(0.5)
        subprocess.run([python, "-c", ENABLE, *clouds], check=True, cwd=home, env=variables)
        yield variables, server.pid
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            server.wait(20)
        with suppress(ProcessLookupError):  # its workers outlive it
            os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def name_cards(home: Path, kinds: Iterable[Kind]) -> None:
    """SkyPilot's list of who has which card, beside the placed rows."""
    clouds: dict[str, set[str]] = {}
    for cloud, accelerator, _, _ in kinds:
        clouds.setdefault(accelerator, set()).add(cloud)
    lines = [f'{name},"{sorted(found)}"' for name, found in sorted(clouds.items())]
    common = home / ".sky" / "catalogs" / "v8" / "common"
    common.mkdir()
    (common / "accelerators.csv").write_text("\n".join(["AcceleratorName,Clouds", *lines]) + "\n")

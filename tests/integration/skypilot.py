"""SkyPilot as a judge: programs run in an environment that has it, with catalogs placed by hand.

No credentials, and no network: where the kernel lets us, SkyPilot runs in a network namespace of
its own that has none.
"""

import json
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

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


def name_cards(home: Path, kinds: Iterable[Kind]) -> None:
    """SkyPilot's list of who has which card, beside the placed rows."""
    clouds: dict[str, set[str]] = {}
    for cloud, accelerator, _, _ in kinds:
        clouds.setdefault(accelerator, set()).add(cloud)
    lines = [f'{name},"{sorted(found)}"' for name, found in sorted(clouds.items())]
    common = home / ".sky" / "catalogs" / "v8" / "common"
    common.mkdir()
    (common / "accelerators.csv").write_text("\n".join(["AcceleratorName,Clouds", *lines]) + "\n")

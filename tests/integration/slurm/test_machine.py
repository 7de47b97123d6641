"""Which processes are a cluster's: it ends them all."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.slurm import machine


@contextmanager
def sleeping(title: str, folder: Path | str = "/", **environment: str) -> Iterator[int]:
    """A process with this title for its command."""
    command = ["bash", "-c", 'exec -a "$0" sleep 60', title]
    with subprocess.Popen(command, cwd=folder, env=environment) as started:
        shown = Path(f"/proc/{started.pid}/cmdline")
        try:
            machine.until(title, lambda: shown.read_text().startswith(title), 10)
            yield started.pid
        finally:
            started.kill()


def test_a_stranger_s_that_has_the_client_s_environment_is_none(tmp_path: Path) -> None:
    mark = f"{tmp_path}/"
    with sleeping("editor", HOME=f"{mark}home") as pid:
        assert pid not in machine.processes(None, mark)


def test_what_lies_in_its_folder_names_it_or_is_a_daemon_is_one(tmp_path: Path) -> None:
    mark, home = f"{tmp_path}/", tmp_path / "home"
    home.mkdir()
    with (
        sleeping("editor", folder=home) as inside,
        sleeping(f"{mark}daemon") as named,
        sleeping("SkyPilot:worker:long", HOME=str(home)) as worker,
        sleeping("slurmstepd: [2.batch]", SLURM_CONF=f"{mark}slurm.conf") as step,
        sleeping("python spawn", HOME=str(home), IS_SKYPILOT_SERVER="true") as below,
    ):
        assert {inside, named, worker, step, below} <= set(machine.processes(None, mark))

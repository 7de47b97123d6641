"""A managed job that is told in time: it saves, leaves with PREEMPTED's code, and goes on."""

from tests.integration.conftest import sky_python, train_python
from tests.integration.slurm.conftest import slurm
from tests.integration.slurm.managed import (
    Managed,
    client_packages,
    goes_on_after,
    managed,
    server,
)

__all__ = ["client_packages", "managed", "server", "sky_python", "slurm", "train_python"]


def test_a_run_with_notice_goes_on_from_its_last_step(managed: Managed) -> None:
    def give_notice(managed: Managed, run_id: str) -> None:
        (home,) = managed.slurm.home.glob(f".sky_clusters/loralift-{run_id}-1-*")
        (home / "loralift" / "notice").touch()

    goes_on_after(managed, "told", give_notice)

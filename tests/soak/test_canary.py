"""All parts of a canary, each within the time that is reserved for it: some 25 minutes."""

from pathlib import Path

from launcher.planning.canary import PARTS
from tests.integration.conftest import sky_python, train_python
from tests.integration.slurm.cluster import SlurmCluster
from tests.integration.slurm.conftest import slurm
from tests.integration.slurm.test_launch import processes_of, until
from tests.soak.canaries import proves

__all__ = ["sky_python", "slurm", "train_python"]


def test_a_canary_proves_the_cluster(
    slurm: SlurmCluster, train_python: str, tmp_path: Path
) -> None:
    receipt = proves(slurm, tmp_path, *PARTS)
    for part in receipt["parts"]:
        print(part["name"], part["found"], part["spent_microusd"], part["accounted_microusd"])
    assert set(slurm.states().values()) == {"idle"}
    until("the run's last process", lambda: processes_of(slurm.user) == [])

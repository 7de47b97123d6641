"""A canary on the cluster, in the part that takes the least time; tests/soak has all of them."""

from pathlib import Path

from tests.integration.slurm.canary import proves
from tests.integration.slurm.cluster import SlurmCluster


def test_a_canary_proves_plan_to_receipt(
    slurm: SlurmCluster, train_python: str, tmp_path: Path
) -> None:
    receipt = proves(slurm, tmp_path, "receipt")
    assert "all gates passed" in receipt["parts"][0]["found"]

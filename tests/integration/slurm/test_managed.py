"""A managed job whose node is lost is started again, and goes on from its checkpoint."""

from tests.integration.slurm.managed import (
    NODE,
    Managed,
    client_packages,
    goes_on_after,
    managed,
    server,
)

__all__ = ["client_packages", "managed", "server"]  # the fixtures


def test_a_run_whose_node_is_lost_goes_on_from_its_checkpoint(managed: Managed) -> None:
    def lose(managed: Managed, run_id: str) -> None:
        managed.slurm.down(NODE)
        managed.slurm.up(NODE)

    goes_on_after(managed, "lost", lose)
    first, *_ = managed.held("lost")
    assert first.state == "NODE_FAIL"

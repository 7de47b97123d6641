"""`sky launch` takes what `launch --dry-run --show task` prints, as it is."""

import subprocess
from pathlib import Path

from tests.integration.slurm.cluster import SlurmCluster
from tests.integration.slurm.launching import Story


def test_sky_launch_takes_the_printed_task(slurm: SlurmCluster, tmp_path: Path) -> None:
    """Its client and server parse it, and its optimizer finds the node that was planned."""
    story = Story(slurm, "printed", tmp_path / "printed", {})
    story.launch("offers", "--refresh")
    where = ("--on", "slurm", "--gpu", "A10G", "--max-cost", "5", "--run-id", "printed")
    printed = tmp_path / "task.yaml"
    printed.write_text(story.launch(story.recipe(), *where, "--dry-run", "--show", "task").stdout)
    done = subprocess.run(
        [slurm.client.program("sky"), "launch", "--dryrun", "--yes", printed],
        cwd=tmp_path,
        env=slurm.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert "Dryrun finished" in done.stdout + done.stderr
    assert "A10G:1" in done.stdout + done.stderr
    assert not [held for held in slurm.held() if "printed" in held.name]

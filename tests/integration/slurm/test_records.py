"""What is read from Slurm's record of its jobs."""

from tests.integration.slurm.records import read

ENDED = (
    "JobId=7 Name=lost JobState=NODE_FAIL NodeList=a100"
    " StartTime=2026-11-22T06:13:26 EndTime=2026-11-22T06:13:31"
)
KNOWN = "JobId=7 JobName=lost JobState={state} StartTime=2026-11-22T{start} NodeList={node}"


def test_a_job_that_has_ended_is_said_once() -> None:
    (held,) = read([ENDED], [KNOWN.format(state="NODE_FAIL", start="06:13:26", node="a100")])
    assert (held.job, held.state, held.end is not None) == (7, "NODE_FAIL", True)


def test_a_job_that_was_requeued_has_a_node_again() -> None:
    waiting = KNOWN.format(state="PENDING", start="06:15:32", node="(null)")
    assert [held.state for held in read([ENDED], [waiting])] == ["NODE_FAIL"]
    first, again = read([ENDED], [KNOWN.format(state="RUNNING", start="06:15:33", node="a100")])
    assert (first.state, again.state, again.end) == ("NODE_FAIL", "RUNNING", None)

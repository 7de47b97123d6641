"""Old rows beside the new ones, so that a continued adapter does not forget them."""

from dataclasses import replace
from pathlib import Path

from jobs.data import Line, Rows, read_lines
from jobs.outcome import BadInput
from jobs.sources import data_file
from jobs.spec import ResolvedSpec, draw, replayed
from jobs.spec.splits import identity


def with_replay(job: ResolvedSpec, rows: Rows, run_folder: Path) -> Rows:
    """The rows with `data.replay_share` of the training mix drawn from `data.replay`; the log says
    how many. Without `data.replay` they are as they were."""
    if job.data.replay is None:
        return rows
    file = data_file(job.data.replay, "data.replay", run_folder, job.replay_sha256)
    old = read_lines(file, job.regression)
    known = [_question(line) for line in (*rows.train, *rows.validation, *rows.test)]
    wanted = replayed(len(rows.train), job.data.replay_share)
    drawn = draw(old, [_question(line) for line in old], known, wanted, job.seed)
    if not drawn:
        raise BadInput(f"data.replay: {file}: no row that is not among the new ones already")
    share = len(drawn) / (len(rows.train) + len(drawn))
    few = "" if len(drawn) == wanted else f"; {wanted} were asked for, there are no more"
    print(
        f"replay: {len(drawn)} of {len(old)} old rows beside {len(rows.train)} new ones, "
        f"{share:.1%} of the mix{few}",
        flush=True,
    )
    return replace(rows, train=[*rows.train, *drawn])


def _question(line: Line) -> bytes:
    return identity(line.row).question

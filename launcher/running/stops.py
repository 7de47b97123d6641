"""Whether somebody has stopped what would come after a run."""

from launcher.errors import BadInput
from launcher.ledger import Decided, Ledger


def require_not_stopped(book: Ledger, run_id: str, stood: Decided | None = None) -> None:
    """To be asked in the transaction that writes what comes after the run. Raises BadInput where
    somebody has decided that nothing does; `stood` is a stop that was known of."""
    why = stopped(book, run_id, stood)
    if why is not None:
        raise BadInput(f"nothing comes after run {run_id}: {why}")


def stopped(book: Ledger, run_id: str, stood: Decided | None = None) -> str | None:
    """Why nothing comes after the run, where that was decided since `stood` was read."""
    said = book.decided(run_id)
    return said.why if said is not None and said.move == "stop" and said != stood else None

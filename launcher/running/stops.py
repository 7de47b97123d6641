"""Whether somebody has stopped what would come after a run."""

from launcher.errors import BadInput
from launcher.events import Decided
from launcher.ledger import Ledger
from launcher.running import launchers


def require_not_stopped(book: Ledger, run_id: str, stood: Decided | None = None) -> None:
    """To be asked in the transaction that writes what comes after the run. Raises BadInput where
    somebody has decided that nothing does; `stood` is a stop that was known of."""
    why = stopped(book, run_id, stood)
    if why is not None:
        raise BadInput(f"nothing comes after run {run_id}: {why}")


def require_portfolio_goes_on(book: Ledger, portfolio_id: str) -> None:
    """To be asked in the transaction that writes a member's start. Raises BadInput where somebody
    has stopped the portfolio."""
    why = book.ended(portfolio_id)
    if why:
        raise BadInput(f"nothing more of portfolio {portfolio_id} is begun: {why}")


def known_stop(book: Ledger, run_id: str) -> Decided | None:
    """What was decided to come of the run by now: who asks for it to go on does so in spite of
    that. A launcher that nobody has asked goes on in spite of nothing."""
    return None if launchers.is_unasked() else book.decided(run_id)


def stopped(book: Ledger, run_id: str, stood: Decided | None = None) -> str | None:
    """Why nothing comes after the run, where that was decided since `stood` was read."""
    said = book.decided(run_id)
    return said.why if said is not None and said.move == "stop" and said != stood else None

"""A long table, shortened for reading."""

from collections.abc import Sequence

import msgspec

from results.report.page import Table


def thinned(table: Table, most: int) -> Table:
    """At most so many rows, evenly spread, the first and the last among them.

    Of rows that are rarer, since the others have no figure in their last column, as many again.
    """
    count = len(table.rows)
    if count <= most:
        return table
    rare = [i for i, row in enumerate(table.rows) if row[-1]]
    rare = _spread(rare, most) if len(rare) < count else []
    kept = sorted({*_spread(range(count), most), *rare})
    caption = f"{table.caption}, {len(kept)} of {count} rows"
    rows = tuple(table.rows[i] for i in kept)
    return msgspec.structs.replace(table, caption=caption, rows=rows)


def _spread(found: Sequence[int], most: int) -> list[int]:
    if len(found) <= most:
        return list(found)
    return [found[round(i * (len(found) - 1) / (most - 1))] for i in range(most)]

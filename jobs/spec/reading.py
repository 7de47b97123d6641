"""Reading a data file as launcher and job both do: its rows, their shapes, what is wrong where."""

from collections.abc import Iterator
from typing import NamedTuple

import msgspec

from jobs.spec.job import Regression
from jobs.spec.row_shapes import row_of
from jobs.spec.rows import Row
from jobs.spec.tables import BadTable, Fields, read_table, unit_of


class Found(NamedTuple):
    """A row, the number it has in its file, the name of its shape, and all that stood there."""

    number: int
    shape: str
    row: Row
    fields: Fields


def read_rows(path: str, asked: Regression | None = None) -> Iterator[Found]:
    """Every row of the file in its order; `asked` is what a regression task wants scored.

    Raises `BadTable` for the first that is wrong, and when there is none; `OSError` for no file.
    """
    unit, any_row = unit_of(path), False
    for number, fields in read_table(path):
        try:
            shape, row = row_of(fields, asked)
        except msgspec.ValidationError as error:
            why = str(error)
            raise BadTable(why[0].lower() + why[1:], number, unit) from None
        except ValueError as error:
            raise BadTable(str(error), number, unit) from None
        any_row = True
        yield Found(number, shape, row, fields)
    if not any_row:
        raise BadTable("the data set is empty: no rows; expected at least one")

"""Many rows in one statement.

Python's SQLite module gives up the interpreter lock for each step of a statement and has to win it back from the
threads that carry images; a row at a time that costs more than SQLite itself. So on SQLite a whole batch travels
as one JSON array through ``json_each`` in a single step; other databases get the driver's `executemany`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, insert, update


class BulkUpdate:
    """Sets columns of rows found by their key.

    Parameters
    ----------
    table : sqlalchemy.Table
    columns : tuple[str, ...]
        Columns that each row gives, after the key.
    constant : Mapping[str, Any]
        Columns that get the same value in every row (texts and None only).
    key : str
    """

    def __init__(
        self, table: Table, columns: tuple[str, ...], constant: Mapping[str, str | None] | None = None, key: str = "id"
    ) -> None:
        fixed = dict(constant or {})
        self._names = columns
        sets = [f"{name}=j.c{n}" for n, name in enumerate(columns, 1)]
        sets += [f"{name}={_literal(value)}" for name, value in fixed.items()]
        picks = ", ".join(f"json_extract(value,'$[{n}]') AS c{n}" for n in range(len(columns) + 1))
        self._one_step = (
            f"UPDATE {table.name} SET {', '.join(sets)} FROM (SELECT {picks} FROM json_each(?)) AS j "  # noqa: S608
            f"WHERE {table.name}.{key}=j.c0"
        )
        values: dict[str, Any] = {name: bindparam("b_" + name) for name in columns}
        self._each = update(table).where(table.c[key] == bindparam("b_key")).values(**values, **fixed)

    def execute(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        """Rows are tuples: the key, then the columns in their order."""
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(self._one_step, (_json(rows),))
            return
        names = ("b_key", *("b_" + n for n in self._names))
        connection.execute(self._each, [dict(zip(names, row, strict=True)) for row in rows])


class BulkInsert:
    """Inserts rows whose columns are given in a fixed order."""

    def __init__(self, table: Table, columns: tuple[str, ...]) -> None:
        self._names = columns
        picks = ", ".join(f"json_extract(value,'$[{n}]')" for n in range(len(columns)))
        self._one_step = f"INSERT INTO {table.name} ({', '.join(columns)}) SELECT {picks} FROM json_each(?)"  # noqa: S608
        self._each = insert(table)

    def execute(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(self._one_step, (_json(rows),))
            return
        connection.execute(self._each, [dict(zip(self._names, row, strict=True)) for row in rows])


class BulkReplace:
    """Inserts rows in place of those that have the same key: the first of `columns`."""

    def __init__(self, table: Table, columns: tuple[str, ...]) -> None:
        self._names = columns
        picks = ", ".join(f"json_extract(value,'$[{n}]')" for n in range(len(columns)))
        self._one_step = (
            f"INSERT OR REPLACE INTO {table.name} ({', '.join(columns)}) "  # noqa: S608
            f"SELECT {picks} FROM json_each(?)"
        )
        self._clear = delete(table).where(table.c[columns[0]] == bindparam("b_key"))
        self._each = insert(table)

    def execute(self, connection: Connection, rows: Sequence[tuple[Any, ...]]) -> None:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql(self._one_step, (_json(rows),))
            return
        connection.execute(self._clear, [{"b_key": row[0]} for row in rows])
        connection.execute(self._each, [dict(zip(self._names, row, strict=True)) for row in rows])


Bulk = BulkUpdate | BulkInsert | BulkReplace


_json = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


def _literal(value: str | None) -> str:
    if value is None:
        return "NULL"
    return "'" + value.replace("'", "''") + "'"

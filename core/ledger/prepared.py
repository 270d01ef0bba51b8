"""Statements of the hot path: compiled once for each kind of database, and handed to the driver as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, CursorResult, Insert, Select, Table, Update, bindparam, insert
from sqlalchemy.sql.compiler import SQLCompiler


class Prepared:
    """A statement whose parameters are single values that the driver takes as they are.

    SQLAlchemy looks up a statement's compiled form at each execution, which for one row costs several times what
    SQLite does.
    """

    def __init__(self, statement: Insert | Select[Any] | Update) -> None:
        self._statement = statement
        self._compiled: dict[str, tuple[str, tuple[str, ...] | None, dict[str, Any]]] = {}

    def execute(self, connection: Connection, values: Mapping[str, Any]) -> CursorResult[Any]:
        """`values` are the bound parameters by name."""
        text, order, fixed = self._compiled.get(connection.dialect.name) or self._compile(connection)
        if order is None:
            return connection.exec_driver_sql(text, {**fixed, **values})
        if fixed:
            values = {**fixed, **values}
        return connection.exec_driver_sql(text, tuple([values[name] for name in order]))

    def _compile(self, connection: Connection) -> tuple[str, tuple[str, ...] | None, dict[str, Any]]:
        compiled = self._statement.compile(dialect=connection.dialect)
        assert isinstance(compiled, SQLCompiler)
        fixed = {name: compiled.params[name] for bound, name in compiled.bind_names.items() if not bound.required}
        order = tuple(compiled.positiontup) if compiled.positiontup is not None else None
        found = self._compiled[connection.dialect.name] = (str(compiled), order, fixed)
        return found


def new_row(table: Table, *columns: str) -> Prepared:
    """Inserts a row of which `columns` are given by their names; the result is its `id`."""
    names = frozenset(columns)
    given: dict[str, Any] = {name: bindparam(name) for name in columns}
    for column in table.columns:
        default = column.default
        if column.name not in names and default is not None and default.is_scalar:
            given[column.name] = default.arg  # type: ignore[attr-defined]
    return Prepared(insert(table).values(given).returning(table.c.id))

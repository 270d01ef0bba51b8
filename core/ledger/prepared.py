"""Statements of the hot path: compiled once for each kind of database, and handed to the driver as they are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, CursorResult
from sqlalchemy.sql.dml import UpdateBase


class Prepared:
    """An INSERT, UPDATE or DELETE whose parameters are single values that the driver takes as they are.

    SQLAlchemy looks up a statement's compiled form at each execution, which for one row costs several times what
    SQLite does.
    """

    def __init__(self, statement: UpdateBase) -> None:
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
        fixed = {name: value for name, value in compiled.params.items() if value is not None}
        order = tuple(compiled.positiontup) if compiled.positiontup is not None else None
        found = self._compiled[connection.dialect.name] = (str(compiled), order, fixed)
        return found

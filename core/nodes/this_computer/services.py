"""The DIMSE services that this computer offers besides storage and verification, by abstract syntax."""

from __future__ import annotations

from collections.abc import Callable

from core.nodes.base import OpenContext
from core.nodes.this_computer.get_scp import GET_ROOTS, GetService
from core.nodes.this_computer.known_callers import KnownCallers
from core.nodes.this_computer.landing import LandingPlace
from core.nodes.this_computer.move_scp import MOVE_ROOTS, MoveService
from core.nodes.this_computer.query_scp import FIND_ROOTS, QueryService
from core.nodes.this_computer.report_scp import STORAGE_COMMITMENT, ReportService
from core.nodes.this_computer.serving import Service
from core.spool.spool import Spool


def services_of(
    context: OpenContext, aet: str, spool: Callable[[], Spool], landing: LandingPlace, known: KnownCallers
) -> dict[str, Service]:
    """Query/Retrieve over what the spool holds (PS3.4 Annex C), and reports of storage commitment (Annex J).

    Parameters
    ----------
    context : OpenContext
        What the node was opened with: its name, and how others are opened.
    aet : str
        Our AE title.
    """
    find = QueryService(aet, lambda: spool().catalogue)
    get = GetService(context.name, spool)
    move = MoveService(context.name, aet, spool, known, context.node)
    return {
        **dict.fromkeys(FIND_ROOTS, find),
        **dict.fromkeys(GET_ROOTS, get),
        **dict.fromkeys(MOVE_ROOTS, move),
        STORAGE_COMMITMENT: ReportService(landing),
    }

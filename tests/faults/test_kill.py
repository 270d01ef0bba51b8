"""kill -9 of the running program, aimed at every state: nothing is lost and nothing verified is sent again."""

from __future__ import annotations

import collections
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import OrthancPair
from tests.faults.kills import STATES, Death, Moment, Round, aims, had_in_hand, histogram
from tests.support.ferry import FerryRun
from tests.support.orthanc import OrthancServer

Record = Callable[[str, object], None]
IN_ONE_ROUND = 13
ROUNDS_AT_MOST = 3  # times as many as would do without a run that ends before its kill


@pytest.mark.parametrize("orthanc_pair", ["1.12>1.10"], indirect=True)
def test_kills(orthanc_pair: OrthancPair, tmp_path: Path, record_property: Record) -> None:
    """25 kills, five or more in each state, in moves from 1.12 to 1.10 and back."""
    _kill_all(orthanc_pair, tmp_path, aims(5, seed=1), record_property)


@pytest.mark.soak
@pytest.mark.parametrize("orthanc_pair", ["1.12>1.10"], indirect=True)
def test_a_hundred_kills(orthanc_pair: OrthancPair, tmp_path: Path, record_property: Record) -> None:
    """100 kills: fifteen in each state, and 25 at any time."""
    _kill_all(orthanc_pair, tmp_path, aims(15, seed=2, blind=25), record_property)


def _kill_all(pair: OrthancPair, folder: Path, left: list[tuple[str, Moment]], record: Record) -> None:
    deaths: list[Death] = []
    servers = list(pair)
    most = ROUNDS_AT_MOST * (len(left) // IN_ONE_ROUND + 1)
    for number in range(1, most + 1):
        if not left:
            break
        source, destination = servers
        deaths += _one_round(folder / str(number), source, destination, number, left)
        servers.reverse()
    record("what the kills hit", histogram(deaths))
    assert not left, f"{len(left)} kills never found their moment"
    hits = collections.Counter(death.aim for death in deaths if had_in_hand(death))
    assert all(hits[state] >= 5 for state in STATES), histogram(deaths)


def _one_round(
    folder: Path, source: OrthancServer, destination: OrthancServer, seed: int, left: list[tuple[str, Moment]]
) -> list[Death]:
    """Kill a move again and again, taking aims from `left`, then let it end and hold it to the promises."""
    source.wipe()
    destination.wipe()
    round_ = Round(folder, source, destination, seed)
    try:
        kills = min(IN_ONE_ROUND, len(left))
        round_.fill(4 + 2 * kills)
        for _ in range(kills):
            aim, moment = left[0]
            found = round_.kill(aim, moment)
            if isinstance(found, FerryRun):
                break  # nothing was left to kill: the aim waits for the next round
            left.pop(0)
        round_.finish(found if isinstance(found, FerryRun) else None)
    finally:
        round_.close()
    return round_.deaths

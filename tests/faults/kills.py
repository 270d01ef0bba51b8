"""Killing the running program at chosen moments, and counting what it had in hand when it died."""

from __future__ import annotations

import collections
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.eye import Eye, Look
from tests.support.ferry import Ferry, FerryRun, RunningFerry
from tests.support.orthanc import OrthancServer
from tests.support.proxy import Fault, FaultProxy
from tests.support.studies import Study, make_studies, merged_digests
from tests.support.waiting import wait_for

STATES = ("planned", "sending", "sent", "verified", "deleting")
STORE = r"^POST /instances$"
DELETE = r"^DELETE /instances/"
MARK = r"^PUT /studies/[^/]+/metadata/"
INSTANCES = 12  # of each study: a chunk is a study, so several chunks are under way at a time


@dataclass
class Death:
    """What was so when the program was killed.

    Attributes
    ----------
    aim : str
        The state that the kill was aimed at ("any" for none).
    look : Look
        The ledger, read after the death.
    received : dict[str, int]
        How often each instance that was verified by then had reached the destination.
    """

    aim: str
    look: Look
    received: dict[str, int]


@dataclass
class Moment:
    """A moment to kill at: faults that widen it, one of which must have been met, and the ledger's sign for it.

    `arm` makes the faults; `then`, once the program is sending, those that must not meet it earlier.
    """

    arm: Callable[[Round], list[Fault]]
    is_there: Callable[[Look], bool]
    then: Callable[[Round], list[Fault]] | None = None


@dataclass
class Round:
    """One move of some studies between two servers, killed over and over, at last left to end."""

    folder: Path
    source: OrthancServer
    destination: OrthancServer
    seed: int
    studies: list[Study] = field(default_factory=list)
    foreign: dict[str, str] = field(default_factory=dict)
    deaths: list[Death] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.before_source = FaultProxy(self.source.url).start()
        self.before_destination = FaultProxy(self.destination.url).start()
        self.ferry = Ferry(self.folder)
        for name, proxy in (("from", self.before_source), ("to", self.before_destination)):
            self.ferry.run("node", "add", "orthanc", name, "--url", proxy.url).expect()
        self.eye = Eye(self.ferry.home / "ledger.sqlite")

    def close(self) -> None:
        self.ferry.close()
        self.before_source.close()
        self.before_destination.close()

    def fill(self, studies: int) -> None:
        """Put studies at the source, and at the destination an image of its own under the UID of one of them."""
        self.studies = make_studies(studies, seed=self.seed, instances=INSTANCES, size_bytes=1400)
        self.source.upload([instance for study in self.studies for instance in study])
        first = self.studies[0]
        other = make_studies(1, seed=self.seed, instances=1, size_bytes=1400, InstitutionName="Elsewhere")[0]
        assert other.sop_uids[0] == first.sop_uids[0]
        self.destination.upload(other)
        self.destination.forget_received()
        self.foreign = other.digests()

    def start(self) -> RunningFerry:
        return self.ferry.start(
            "run", "forward", "--source", "from", "--destination", "to", "--after", "move", "--workers", "4",
            "--retry-delays", "0.2", "--max-attempts", "20", "--json",
        )  # fmt: skip

    def kill(self, aim: str, moment: Moment) -> Death | FerryRun:
        """Start the program, kill it at the moment, and look at what it had in hand.

        The run itself where it came to its end before that moment.
        """
        for proxy in (self.before_source, self.before_destination):
            proxy.forget()
        faults = moment.arm(self)
        then = moment.then
        running = self.start()

        def there() -> bool:
            nonlocal then
            if not running.running:
                return True
            look = self.eye.look()
            if then is None:
                return moment.is_there(look) and any(fault.hits for fault in faults)
            if look.states["sending"] and self.before_destination.count(STORE):
                faults[:] = then(self)
                then = None
            return False

        wait_for(there, what=f"a moment to kill at: {aim}", interval=0.003)
        if not running.running:
            self._calm()
            return running.result()
        running.kill()
        self._calm()
        verified = self.eye.uids("verified")
        received = self.destination.received()
        death = Death(aim, self.eye.look(), {uid: received[uid] for uid in verified})
        self.deaths.append(death)
        return death

    def _calm(self) -> None:
        for proxy in (self.before_source, self.before_destination):
            proxy.clear()
            proxy.cut_connections()

    def finish(self, run: FerryRun | None = None) -> None:
        """Let the program go on to its end (unless it has come there), and hold the outcome to every promise."""
        run = run or self.start().result()
        run.expect(1)  # the image that is different at the destination
        original = merged_digests(self.studies)
        assert self.destination.digests() == {**original, **self.foreign}
        assert self.source.digests() == {uid: original[uid] for uid in self.foreign}, "exactly the verified are gone"
        finished = run.finished
        assert finished["planned"] == len(original)
        outcomes = ("verified", "skipped", "conflict", "failed", "cancelled", "sent", "committed")
        assert sum(finished[name] for name in outcomes) == finished["planned"]
        assert (finished["verified"], finished["conflict"]) == (len(original) - 1, 1), run.describe()
        received = self.destination.received()
        for number, death in enumerate(self.deaths, 1):
            again = {uid: received[uid] - n for uid, n in death.received.items() if received[uid] != n}
            assert not again, f"verified before kill {number} ({death.aim}) and sent again: {again}"
        assert received.keys() == original.keys() - self.foreign.keys()


def _by_identifier(round_: Round) -> bool:
    return round_.destination.version == "1.10"


def _hold_confirmation(round_: Round) -> list[Fault]:
    asks = r"^(GET /instances/|POST /tools/lookup)" if _by_identifier(round_) else r"^POST /tools/find"
    return [round_.before_destination.hang(asks)]


def _slow_stores(round_: Round) -> list[Fault]:
    return [round_.before_destination.delay(0.05, STORE)]


def _asks_held(round_: Round) -> list[Fault]:
    return [round_.before_destination.hang(r"^POST /tools/")]


def _slow_inventory(round_: Round) -> list[Fault]:
    # Once all is listed, the question what the destination has already is the moment instead.
    return [round_.before_source.delay(0.05, r"^(GET /series/|POST /tools/)"), *_asks_held(round_)]


def _planned(look: Look) -> bool:
    return look.states["planned"] > 0


def _sending(look: Look) -> bool:
    return look.states["sending"] > 0


def _sent(look: Look) -> bool:
    return look.states["sent"] > 0


def _verified(look: Look) -> bool:
    return look.kept_but_verified


def _deleting(look: Look) -> bool:
    return look.at_source["deleting"] > 0


MOMENTS: dict[str, list[Moment]] = {
    "planned": [Moment(_slow_inventory, _planned), Moment(_asks_held, _planned)],
    "sending": [
        # Before a byte has reached the server, in mid-body, and stored but never acknowledged.
        Moment(lambda r: [r.before_destination.hang(STORE)], _sending),
        Moment(lambda r: [r.before_destination.hang_request(700, STORE)], _sending),
        Moment(lambda r: [r.before_destination.hang_response(0, STORE)], _sending),
    ],
    "sent": [Moment(_slow_stores, _sent, then=_hold_confirmation)],
    "verified": [
        # Before the first deletion the program makes sure that these are two servers.
        Moment(lambda r: [r.before_destination.hang(MARK)], _verified),
        Moment(lambda r: [r.before_destination.hang_response(0, MARK)], _verified),
    ],
    "deleting": [
        # Before the first DELETE has arrived, after some, and deleted but never acknowledged.
        Moment(lambda r: [r.before_source.hang(DELETE)], _deleting),
        Moment(lambda r: [r.before_source.delay(0.02, DELETE)], _deleting),
        Moment(lambda r: [r.before_source.hang_response(0, DELETE)], _deleting),
    ],
}
IS_THERE = {"planned": _planned, "sending": _sending, "sent": _sent, "verified": _verified, "deleting": _deleting}


def had_in_hand(death: Death) -> bool:
    """Whether the ledger of the killed program shows what the kill was aimed at."""
    return death.aim in IS_THERE and IS_THERE[death.aim](death.look)


def aims(each: int, seed: int, *, blind: int = 0) -> list[tuple[str, Moment]]:
    """`each` kills for every state, all variants in turn, and `blind` ones at any time; shuffled."""
    chance = random.Random(seed)
    found = [(state, MOMENTS[state][n % len(MOMENTS[state])]) for state in STATES for n in range(each)]
    found += [("any", _after_requests(chance.randrange(5, 250))) for _ in range(blind)]
    chance.shuffle(found)
    return found


def _after_requests(count: int) -> Moment:
    """The moment when so many requests have been made, whatever the program is at then."""
    counted: list[FaultProxy] = []

    def arm(round_: Round) -> list[Fault]:
        counted[:] = [round_.before_source, round_.before_destination]
        return [round_.before_source.delay(0.0)]  # hit by any request

    return Moment(arm, lambda _look: sum(proxy.count() for proxy in counted) >= count)


def histogram(deaths: Sequence[Death]) -> str:
    """What was hit, as a table: kills by the state aimed at, and how much of each state lay in the ledger."""
    hits = collections.Counter(death.aim for death in deaths if had_in_hand(death))
    lines = [f"{len(deaths)} kills"]
    for state in STATES:
        mine = [d.look.at_source[state] if state == "deleting" else d.look.states[state] for d in deaths]
        lines.append(
            f"  {state:9} {'#' * hits[state]:20} {hits[state]:3} hit; "
            f"in the ledger at {sum(n > 0 for n in mine)} deaths, {sum(mine)} in all"
        )
    return "\n".join(lines)

"""The limit of associations that all services of a node share, and the pool for C-STORE that lives within it."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from core.model.errors import TransportError, TransportFault
from core.model.outcome import FailureClass
from core.wire.abort import Abort
from core.wire.dimse import limit as limit_module
from core.wire.dimse.errors import NoTurn
from core.wire.dimse.limit import AssociationLimit
from core.wire.dimse.negotiation import Refusal
from core.wire.dimse.peer import Peer
from core.wire.dimse.status import dimse_failure
from core.wire.dimse.store import NoContext, StoreAssociations
from tests.support.dimse_acts import Answer, Silence
from tests.support.dimse_peer import FaultyPeer
from tests.support.waiting import wait_for

CT, MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
IMPLICIT, EXPLICIT, JPEG = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.70"


@pytest.fixture
def pacs(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyPeer]:
    """What is in the images doesn't matter here, so it keeps none."""
    with FaultyPeer() as peer:
        monkeypatch.setattr(peer.archive, "keep", lambda syntax, request: None)
        yield peer


class Pools:
    """Pools with short times, closed at the end of the test."""

    def __init__(self, pacs: FaultyPeer, closing: ExitStack) -> None:
        self._pacs = pacs
        self._closing = closing

    def __call__(self, most: int = 2, *, idle: float = 60.0) -> StoreAssociations:
        peer = Peer("PACS", self._pacs.host, self._pacs.port, "FAULTY", "FERRY", answer_timeout=10, idle_timeout=10)
        pool = StoreAssociations(peer, AssociationLimit(most), idle=idle)
        self._closing.callback(pool.close)
        return pool


@pytest.fixture
def pools(pacs: FaultyPeer) -> Iterator[Pools]:
    with ExitStack() as closing:
        yield Pools(pacs, closing)


def store(pool: StoreAssociations, sop_class: str = CT, syntax: str = EXPLICIT, uid: str = "1.2.3") -> int:
    return pool.store(sop_class, uid, syntax, b"\x08\x00\x05\x00CS\x00\x00").status


# --- the limit


def test_no_more_than_allowed_at_once() -> None:
    limit = AssociationLimit(2)
    most, now, lock = 0, 0, threading.Lock()

    def work(_n: int) -> None:
        nonlocal most, now
        with limit.take():
            with lock:
                now += 1
                most = max(most, now)
            with lock:
                now -= 1

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(400)))
    assert most <= 2
    assert limit.held == 0


def test_first_come_first_served() -> None:
    limit = AssociationLimit(1)
    served: list[int] = []
    threads = []

    def work(n: int) -> None:
        with limit.take():
            served.append(n)

    def waiting(count: int) -> bool:
        return len(limit._queue) == count

    with limit.take():
        for n in range(6):
            threads.append(threading.Thread(target=work, args=(n,)))
            threads[-1].start()
            wait_for(functools.partial(waiting, n + 1), what="its place in the row")
    for thread in threads:
        thread.join()
    assert served == list(range(6))


def test_waiting_ends_in_time_and_by_the_switch() -> None:
    limit, abort = AssociationLimit(1), Abort()
    with limit.take():
        with pytest.raises(TransportError) as caught, limit.take(patience=0.1):
            pass
        assert (caught.value.fault, caught.value.request_sent) == (TransportFault.TIMEOUT, False)
        threading.Timer(0.1, abort.abort).start()
        with pytest.raises(TransportError) as caught, limit.take(abort=abort):
            pass
        assert caught.value.fault is TransportFault.ABORTED
    with limit.take():  # those who gave up hold nothing
        assert limit.held == 1


def test_complaints_lower_it_and_time_raises_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    limit = AssociationLimit(4)
    with limit.take(), limit.take():
        assert limit.fewer()
        assert limit.allowed == 2
        limit.strained()
        assert limit.allowed == 1
    assert not limit.fewer()
    assert limit.allowed == 1
    for expected in (2, 3, 4, 4):
        now += limit_module._RECOVERY + 1
        with limit.take():
            assert limit.allowed == expected


# --- the pool


def test_what_is_expected_is_proposed_at_once_each_in_its_own_syntax(pacs: FaultyPeer, pools: Pools) -> None:
    pool = pools()
    pool.expect([(CT, EXPLICIT), (CT, JPEG), (MR, IMPLICIT)])
    for sop_class, syntax in ((MR, IMPLICIT), (CT, JPEG), (CT, EXPLICIT)):
        assert store(pool, sop_class, syntax) == 0
    assert pacs.count("associate") == 1


def test_what_was_not_expected_is_learned(pacs: FaultyPeer, pools: Pools) -> None:
    """Each new kind costs one association; after that there is one for all of them."""
    pool = pools(1)
    for _ in range(3):
        for sop_class in (CT, MR):
            assert store(pool, sop_class) == 0
    assert pacs.count("associate") == 2


def test_the_default_transfer_syntax_is_proposed_too_as_long_as_there_is_room(pacs: FaultyPeer, pools: Pools) -> None:
    """PS3.5 section 10.1; what is sent is in its own syntax all the same."""
    offered: list[tuple[str, str]] = []

    def hear(abstract: str, syntax: str) -> bool:
        offered.append((abstract, syntax))
        return False

    pacs.refuses = hear
    pool = pools(1)
    kinds = [f"1.2.3.{number}" for number in range(100)]
    pool.expect((kind, JPEG) for kind in kinds)
    assert store(pool, kinds[0], JPEG) == 0
    assert offered[:100] == [(kind, JPEG) for kind in kinds]
    assert offered[100:] == [(kind, IMPLICIT) for kind in kinds[:28]]


def test_more_than_128_kinds_take_several_associations(pacs: FaultyPeer, pools: Pools) -> None:
    pool = pools(2)
    kinds = [(f"1.2.840.10008.5.1.4.1.1.{n}", EXPLICIT) for n in range(200)]
    pool.expect(kinds)
    for sop_class, syntax in [*kinds[::7], *kinds[::11]]:
        assert store(pool, sop_class, syntax) == 0
    assert pacs.count("associate") == 2


def test_a_refused_kind_is_told_without_asking_again(pacs: FaultyPeer, pools: Pools) -> None:
    pacs.refuses = lambda abstract, syntax: syntax == JPEG
    pool = pools()
    for _ in range(3):
        with pytest.raises(NoContext) as caught:
            store(pool, syntax=JPEG)
        assert caught.value.refusal is Refusal.TRANSFER_SYNTAX
    assert pacs.count("associate") == 1
    assert pacs.count("store") == 0
    assert pool.accepted(CT, (EXPLICIT, JPEG, IMPLICIT)) == (EXPLICIT, IMPLICIT)
    assert store(pool) == 0
    assert pacs.count("associate") == 2


@pytest.mark.parametrize("uid", ["", "1." * 40, "1.2.ä"])
def test_an_impossible_uid_fails_alone(pacs: FaultyPeer, pools: Pools, uid: str) -> None:
    pool = pools()
    pool.expect([(uid, EXPLICIT), (CT, uid), (CT, EXPLICIT)])
    assert store(pool) == 0
    with pytest.raises(NoContext) as caught:
        store(pool, uid)
    assert caught.value.refusal is Refusal.IMPOSSIBLE
    assert store(pool) == 0
    assert pool.accepted(CT, (uid, EXPLICIT)) == (EXPLICIT,)
    assert pacs.count("associate") == 1


def test_associations_are_shared_within_the_limit(pacs: FaultyPeer, pools: Pools) -> None:
    pool = pools(3)
    with ThreadPoolExecutor(8) as threads:
        assert set(threads.map(lambda n: store(pool, uid=f"1.2.{n}"), range(100))) == {0}
    assert pacs.most_associations <= 3
    assert pacs.count("associate") <= 3
    assert pacs.count("store") == 100


def test_idle_associations_are_released(pacs: FaultyPeer, pools: Pools) -> None:
    pool = pools(idle=0.2)
    store(pool)
    pacs.wait_idle()
    assert pacs.count("released") == 1
    wait_for(lambda: not pool.limit.held, what="its place")
    assert store(pool) == 0
    assert pacs.count("associate") == 2


def test_another_service_gets_the_place_of_an_idle_association(pacs: FaultyPeer, pools: Pools) -> None:
    pool = pools(1)
    store(pool)
    with pool.limit.take(patience=5):
        pacs.wait_idle()
        assert pool.limit.held == 1
    assert store(pool) == 0


def test_another_service_has_its_turn_beside_busy_senders(pacs: FaultyPeer, pools: Pools) -> None:
    pool = pools(1)
    stop = threading.Event()

    def send() -> None:
        while not stop.is_set():
            store(pool)

    with ThreadPoolExecutor(3) as threads:
        senders = [threads.submit(send) for _ in range(3)]
        wait_for(lambda: pacs.count("store") > 5, what="busy senders")
        for _ in range(5):
            with pool.limit.take(patience=10):
                pass
        stop.set()
        for sender in senders:
            sender.result()


def test_an_association_whose_answer_is_late_is_never_used_again(pacs: FaultyPeer, pools: Pools) -> None:
    pool = pools(1)
    pool.peer = Peer("PACS", pacs.host, pacs.port, "FAULTY", "FERRY", answer_timeout=0.3)
    pacs.on("store", Silence(), times=1)
    with pytest.raises(TransportError) as caught:
        store(pool)
    assert (caught.value.fault, caught.value.request_sent) == (TransportFault.TIMEOUT, True)
    assert pool.limit.held == 0
    assert store(pool) == 0
    assert pacs.count("associate") == 2


def test_out_of_resources_lowers_the_limit(pacs: FaultyPeer, pools: Pools) -> None:
    pool = pools(4)
    pacs.on("store", Answer(0xA700), times=1)
    assert store(pool) == 0xA700
    assert pool.limit.allowed == 1


def test_a_source_that_fails_leaves_the_association_to_others(pacs: FaultyPeer, pools: Pools) -> None:
    class Broken:
        length: int | None = 100

        def readinto(self, view: memoryview, /) -> int:
            raise OSError("the disk is gone")

    pool = pools(1)
    with pytest.raises(OSError, match="disk"):
        pool.store(CT, "1.2.3", EXPLICIT, Broken())
    assert store(pool) == 0
    assert pacs.count("associate") == 1


def test_after_closing_nothing_is_open_and_nothing_starts(pacs: FaultyPeer, pools: Pools) -> None:
    pool = pools()
    store(pool)
    pool.close()
    pool.close()
    pacs.wait_idle()
    wait_for(lambda: not pool.limit.held, what="its place")
    with pytest.raises(TransportError) as caught:
        store(pool)
    assert caught.value.fault is TransportFault.ABORTED


def test_the_switch_of_one_instance_leaves_the_others_alone(pacs: FaultyPeer, pools: Pools) -> None:
    pool, abort = pools(2), Abort()
    fault = pacs.on("store", Silence(), times=1)
    with ThreadPoolExecutor(1) as threads:
        stuck = threads.submit(lambda: pool.store(CT, "1.2.3", EXPLICIT, b"\x08\x00\x05\x00CS\x00\x00", abort=abort))
        fault.wait_hit()
        assert store(pool) == 0
        abort.abort()
        error = stuck.exception(timeout=10)
    assert isinstance(error, TransportError)
    assert error.fault is TransportFault.ABORTED
    assert store(pool) == 0
    with pytest.raises(TransportError):
        pool.store(CT, "1.2.3", EXPLICIT, b"", abort=abort)
    assert store(pool) == 0


def test_threads_of_the_pool_end_with_its_associations(pacs: FaultyPeer, pools: Pools) -> None:
    def sweepers() -> list[str]:
        return [thread.name for thread in threading.enumerate() if thread.name.startswith("idle associations")]

    def check() -> bool:
        return not sweepers()

    wait_for(check, what="those of other tests")
    pool = pools(idle=0.1)
    store(pool)
    assert sweepers()
    wait_for(check, what="the thread that releases idle associations")


def test_waiting_for_ourselves_is_no_trouble_of_the_node() -> None:
    """A C-MOVE may hold the only association for hours: nobody is to think that the node is down."""
    limit = AssociationLimit(1)
    with limit.take(), pytest.raises(NoTurn) as caught, limit.take(patience=0.05):
        pass
    failure = dimse_failure(caught.value, side="source", node="PACS")
    assert failure.cls is FailureClass.BUSY
    assert failure.code == "association-all-in-use"

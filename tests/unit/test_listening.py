"""Nodes that listen while the engine runs, and what an opened node knows of its surroundings."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from core.app import App
from core.engine import listening
from core.engine.engine import Engine
from core.ledger.book import Verb
from core.model.errors import ConfigurationError, LocalError
from core.model.events import EngineChanged, LogLevel, NodeChanged, NodeHealth
from core.model.job import JobState
from core.model.node import NodeRecord
from core.nodes.base import Arrivals, DicomAddress, Reports
from core.surroundings import Surroundings, folder_name
from tests.support.engine_bench import Bench
from tests.support.memory_node import MemoryNode
from tests.support.servers import free_port
from tests.support.waiting import PATIENCE, wait_for


class ListeningNode(MemoryNode):
    """A node in memory that listens to nobody, and counts how often it began and ended to."""

    aet = "HERE"

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.taken = False  # its port
        self.closed = False
        self.began = self.ended = 0

    def listen(self) -> None:
        if self.taken:
            raise LocalError("The port 11112 is taken.", "Choose another one.", code="port-in-use")
        if not self.is_listening:
            self.began += 1

    def stop_listening(self) -> None:
        if self.is_listening:
            self.ended += 1

    @property
    def is_listening(self) -> bool:
        return self.began > self.ended

    def close(self) -> None:
        self.closed = True

    def expect(
        self, sop_uids: Collection[str], *, sender: str = "", originator: str = ""
    ) -> AbstractContextManager[Arrivals]:
        raise AssertionError

    def expect_report(self, transaction_uid: str) -> AbstractContextManager[Reports]:
        raise AssertionError


class ListeningBench(Bench):
    """Nodes of the kind "listens" are opened by the engine; each opening gives a new object."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.opened: dict[str, list[ListeningNode]] = {}
        self.taken: set[str] = set()

    def register(self, name: str, **fields: str) -> None:
        self.ledger.save_node(NodeRecord(name=name, kind="listens", fields=dict(fields)))

    def last(self, name: str) -> ListeningNode:
        return self.opened[name][-1]

    def listens(self, name: str) -> bool:
        return bool(self.opened.get(name)) and self.last(name).is_listening

    def start(self) -> None:
        self.engine = Engine(
            self.ledger,
            lambda name: self.open_node(name),
            self.events.append,
            listening=lambda: [r.name for r in self.ledger.nodes() if r.kind == "listens"],
        )
        self._thread = threading.Thread(target=self.engine.run, daemon=True)
        self._thread.start()

    def open_node(self, name: str) -> MemoryNode:
        if name in self.nodes:
            return self.nodes[name]
        node = ListeningNode(name)
        node.fill(1, 3)
        node.taken = name in self.taken
        self.opened.setdefault(name, []).append(node)
        return node

    def health(self, name: str) -> list[NodeHealth]:
        return [e.health for e in self.events if isinstance(e, NodeChanged) and e.name == name]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ListeningBench]:
    monkeypatch.setattr(listening, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(listening, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr("core.engine.engine.LOOK_SECONDS", 0.05)
    made = ListeningBench(tmp_path)
    yield made
    made.stop()
    made.ledger.close()


def test_a_node_listens_for_as_long_as_the_engine_runs(bench: ListeningBench) -> None:
    bench.register("here")
    bench.start()
    bench.wait(lambda: bench.listens("here"), "listening")
    bench.wait(lambda: bench.health("here") == [NodeHealth.WORKS], "the event")
    assert bench.engine is not None
    assert bench.engine.landing() is bench.last("here")
    bench.wait(
        lambda: any(isinstance(e, EngineChanged) and e.listeners == 1 for e in bench.events), "the number of listeners"
    )
    node = bench.last("here")
    bench.stop()
    assert (node.began, node.ended, node.closed) == (1, 1, True)


def test_jobs_use_the_very_node_that_listens_and_leave_it_listening(bench: ListeningBench) -> None:
    bench.register("here")
    bench.node("B")
    job = bench.job(source=["here"], destination=["B"])
    bench.start()
    bench.wait(lambda: bench.ledger.job(job).state is JobState.FINISHED, "the job's end")  # type: ignore[union-attr]
    assert len(bench.nodes["B"].held) == 3
    assert len(bench.opened["here"]) == 1
    assert bench.last("here").began == 1
    assert bench.listens("here")


def test_a_port_that_is_taken_is_told_with_what_to_do_and_tried_again(bench: ListeningBench) -> None:
    bench.taken.add("here")
    bench.register("here")
    bench.start()
    bench.wait(lambda: bench.health("here") == [NodeHealth.DOWN], "the event")
    bench.wait(lambda: bool(bench.ledger.log(level=LogLevel.WARNING)), "the log")
    (line,) = bench.ledger.log(level=LogLevel.WARNING)
    assert line.text == "The port 11112 is taken. Choose another one."
    assert line.node == "here"
    assert bench.engine is not None
    assert bench.engine.landing() is None
    bench.last("here").taken = False
    bench.wait(lambda: bench.listens("here"), "listening")
    bench.wait(lambda: bench.health("here") == [NodeHealth.DOWN, NodeHealth.WORKS], "the second event, and no third")
    assert len(bench.ledger.log(level=LogLevel.WARNING)) == 1


def test_a_job_that_works_does_not_hide_that_nobody_can_call(bench: ListeningBench) -> None:
    bench.taken.add("here")
    bench.register("here")
    bench.node("B")
    job = bench.job(source=["here"], destination=["B"])
    bench.start()
    bench.wait(lambda: bench.ledger.job(job).state is JobState.FINISHED, "the job's end")  # type: ignore[union-attr]
    assert set(bench.health("here")) == {NodeHealth.DOWN}
    assert NodeHealth.WORKS in bench.health("B")


def test_nodes_that_come_and_go_while_the_engine_runs(bench: ListeningBench) -> None:
    bench.start()
    bench.register("here")
    bench.wait(lambda: bench.listens("here"), "the new node")
    bench.register("there")
    bench.wait(lambda: bench.listens("there"), "the other new node")
    node = bench.last("here")
    bench.ledger.remove_node("here")
    bench.wait(lambda: node.closed, "the removed node's end")
    assert not node.is_listening
    assert bench.last("there").began == 1
    assert bench.listens("there")
    bench.register("here")
    bench.wait(lambda: bench.listens("here"), "the node that came back")
    assert bench.last("here") is not node


@pytest.mark.parametrize("commanded", [True, False])
def test_an_edited_node_listens_anew_and_the_others_are_not_disturbed(bench: ListeningBench, commanded: bool) -> None:
    bench.register("here", port="1")
    bench.register("there", port="2")
    bench.start()
    bench.wait(lambda: bench.listens("here") and bench.listens("there"), "both")
    before, other = bench.last("here"), bench.last("there")
    bench.register("here", port="3")
    if commanded:  # else somebody forgot to tell the engine
        bench.command(Verb.NODE_CHANGED)
    bench.wait(lambda: before.closed and bench.listens("here"), "the edited node")
    assert not before.is_listening
    assert len(bench.opened["here"]) == 2
    assert (other.began, other.ended, other.closed) == (1, 0, False)
    assert bench.opened["there"] == [other]


def test_only_a_secret_was_changed(bench: ListeningBench) -> None:
    bench.register("here")
    bench.start()
    bench.wait(lambda: bench.listens("here"), "listening")
    before = bench.last("here")
    bench.register("here")  # what the node book does when a secret is given and no field
    bench.command(Verb.NODE_CHANGED)
    bench.wait(lambda: before.closed and bench.listens("here"), "the renewed node")


def test_an_edit_lets_running_jobs_go_on_with_the_node_that_listens(bench: ListeningBench) -> None:
    bench.register("here")
    destination = bench.node("B")
    begun, go_on = threading.Event(), threading.Event()

    def wait_in_store(_: object) -> None:
        begun.set()
        go_on.wait(PATIENCE)

    destination.on_store = wait_in_store
    job = bench.job(source=["here"], destination=["B"])
    bench.start()
    assert begun.wait(PATIENCE)
    bench.command(Verb.NODE_CHANGED)
    go_on.set()
    bench.wait(lambda: bench.ledger.job(job).state is JobState.FINISHED, "the job's end")  # type: ignore[union-attr]
    assert bench.ledger.job(job).counts.verified == 3  # type: ignore[union-attr]
    assert len(bench.opened["here"]) == 1
    assert bench.last("here").ended == 0


def test_an_edit_disturbs_only_the_jobs_that_use_the_node(bench: ListeningBench) -> None:
    for name in ("A", "B", "C", "D", "X"):
        bench.ledger.save_node(NodeRecord(name=name, kind="memory", fields={"through": "X"} if name == "D" else {}))
    for name in ("A", "C"):
        bench.node(name).fill(1, 1, prefix=f"1.{ord(name)}")
    for name in ("B", "D"):
        bench.node(name)
    left, right = (
        bench.job(source=["A"], destination=["B"], follow=True),
        bench.job(source=["C"], destination=["D"], follow=True),
    )
    bench.start()
    bench.wait(lambda: bool(bench.nodes["B"].held) and bool(bench.nodes["D"].held), "both jobs")
    engine = bench.engine
    assert engine is not None
    wait_for(lambda: {left, right} <= set(engine._runs), what="both runs")
    before = dict(engine._runs)
    bench.ledger.save_node(NodeRecord(name="X", kind="memory", fields={"url": "other"}))  # D is reached through it
    bench.command(Verb.NODE_CHANGED)
    bench.wait(lambda: engine._runs.get(right) not in (None, before[right]), "the new run")
    assert engine._runs[left] is before[left]
    bench.ledger.save_node(NodeRecord(name="B", kind="memory", fields={"url": "other"}))
    bench.command(Verb.NODE_CHANGED)
    after = dict(engine._runs)
    bench.wait(lambda: engine._runs.get(left) not in (None, before[left]), "the other new run")
    assert engine._runs[right] is after[right]


def test_a_job_that_starts_as_its_node_is_edited_gets_the_edited_node(bench: ListeningBench) -> None:
    """Both wishes are read at once: the job must not take the node that is about to be closed."""
    for name in ("A", "B", "C", "D"):
        bench.ledger.save_node(NodeRecord(name=name, kind="memory", fields={}))
    for name in ("A", "C"):
        bench.node(name).fill(1, 1, prefix=f"1.{ord(name)}")
    for name in ("B", "D"):
        bench.node(name)
    old = bench.nodes["B"]
    begun, go_on = threading.Event(), threading.Event()

    def slow(_ref: object) -> None:
        begun.set()
        go_on.wait(PATIENCE)

    old.on_store = slow
    first = bench.job(source=["C"], destination=["B"], follow=True)
    bench.start()
    assert begun.wait(PATIENCE)
    engine = bench.engine
    assert engine is not None
    edited = bench.node("B")
    bench.ledger.save_node(NodeRecord(name="B", kind="memory", fields={"url": "other"}))
    values = {"source": ["A"], "destination": ["B"], "retry_delays": [0.05]}
    second = bench.ledger.add_job("clone", "test", values, follow=False, state=JobState.RUNNING)  # type: ignore[arg-type]
    bench.ledger.command(Verb.NODE_CHANGED)
    bench.ledger.command(Verb.START, job_id=second)
    engine.nudge()
    bench.wait(lambda: [c.verb for c in bench.ledger.open_commands()] == [Verb.START], "the first command")
    assert second not in engine._runs
    assert not engine.is_moving(second)
    go_on.set()
    bench.wait(lambda: bench.ledger.job(second).state is JobState.FINISHED, "the second job")  # type: ignore[union-attr]
    assert f"1.{ord('A')}.0.1.0" in edited.held
    assert f"1.{ord('A')}.0.1.0" not in old.held
    wait_for(lambda: first in engine._runs, what="the first job's new run")
    assert engine._runs[first].gates["B"].node is edited


def test_an_edit_that_waits_holds_back_the_starts_behind_it_and_nothing_else(bench: ListeningBench) -> None:
    """Another job is just being started: the edit waits for it, a start behind the edit must not overtake it."""
    for name in ("A", "B", "C", "D"):
        bench.ledger.save_node(NodeRecord(name=name, kind="memory", fields={}))
    for name in ("A", "C"):
        bench.node(name).fill(1, 1, prefix=f"1.{ord(name)}")
    old = bench.node("B")
    bench.node("D")
    first = bench.job(source=["C"], destination=["B"], follow=True)
    bench.start()
    bench.wait(lambda: bool(old.held), "the first job")
    engine = bench.engine
    assert engine is not None
    opening, opened = threading.Event(), threading.Event()
    hold_open = bench.open_node

    def slow_to_open(name: str) -> MemoryNode:
        opening.set()
        opened.wait(PATIENCE)
        return hold_open(name)

    bench.open_node = slow_to_open  # type: ignore[method-assign]
    values = {"source": ["A"], "retry_delays": [0.05]}
    starting = bench.ledger.add_job(
        "clone", "test", {**values, "destination": ["D"]}, follow=False, state=JobState.RUNNING
    )
    bench.command(Verb.START, job_id=starting)
    assert opening.wait(PATIENCE)
    edited = bench.node("B")
    bench.ledger.save_node(NodeRecord(name="B", kind="memory", fields={"url": "other"}))
    second = bench.ledger.add_job(
        "clone", "test", {**values, "destination": ["B"]}, follow=False, state=JobState.RUNNING
    )
    bench.ledger.command(Verb.NODE_CHANGED)
    bench.ledger.command(Verb.START, job_id=second)
    paused = bench.ledger.command(Verb.PAUSE, job_id=first)
    engine.nudge()
    bench.wait(lambda: bench.ledger.is_handled(paused), "the pause, which waits for nobody")
    assert [c.verb for c in bench.ledger.open_commands()] == [Verb.NODE_CHANGED, Verb.START]
    assert second not in engine._runs
    assert not engine.is_moving(second)
    opened.set()
    for job in (starting, second):
        bench.wait(lambda job=job: bench.ledger.job(job).state is JobState.FINISHED, "both jobs")  # type: ignore[misc]
    assert f"1.{ord('A')}.0.1.0" in edited.held
    assert f"1.{ord('A')}.0.1.0" not in old.held


def test_a_node_that_fell_silent_listens_again(bench: ListeningBench) -> None:
    bench.register("here")
    bench.start()
    bench.wait(lambda: bench.listens("here"), "listening")
    bench.last("here").ended += 1  # its threads died
    bench.wait(lambda: bench.last("here").began == 2, "listening again")


# surroundings ---------------------------------------------------------------------------------------------


class DicomNode(MemoryNode):
    """A node in memory that has a DICOM address."""

    def __init__(self, name: str, address: DicomAddress | None) -> None:
        super().__init__(name)
        self.address = address

    def dicom_address(self) -> DicomAddress:
        if self.address is None:
            raise LocalError("It can't be asked now.")
        return self.address


WEST = DicomAddress("WEST", "10.0.0.1", 104)


def test_peers_are_the_others_that_speak_dicom() -> None:
    nodes = {"west": DicomNode("west", WEST), "folder": MemoryNode("folder"), "down": DicomNode("down", None)}
    around = Surroundings(lambda name, _: nodes[name], lambda: ["west", "folder", "down", "here"], None)
    context = around.context("here", lambda _: None, None)
    assert [(peer.name, peer.address) for peer in context.peers()] == [("west", WEST)]
    assert around.context("west", lambda _: None, None).peers() == []
    nodes["down"] = DicomNode("down", DicomAddress("DOWN", "h", 1))
    around.forget()
    assert {peer.name for peer in context.peers()} == {"west", "down"}


def test_an_address_that_was_told_is_believed_while_its_node_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.surroundings.ADDRESSES_SECONDS", 0.0)
    node = DicomNode("west", WEST)
    around = Surroundings(lambda _name, _within: node, lambda: ["west"], None)
    context = around.context("here", lambda _: None, None)
    assert [peer.address for peer in context.peers()] == [WEST]
    node.address = None
    assert [peer.address for peer in context.peers()] == [WEST]


def test_a_node_that_hangs_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.surroundings.ASK_SECONDS", 0.2)
    end = threading.Event()

    def opened(name: str, _within: tuple[str, ...]) -> MemoryNode:
        if name == "hangs":
            end.wait(PATIENCE)
        return DicomNode(name, WEST)

    around = Surroundings(opened, lambda: ["hangs", "west"], None)
    assert [peer.name for peer in around.context("here", lambda _: None, None).peers()] == ["west"]
    end.set()
    context = around.context("here", lambda _: None, None)
    wait_for(lambda: len(context.peers()) == 2, what="the one that hung")


def test_nodes_that_are_reached_through_each_other_are_told_apart_from_a_way() -> None:
    around: Surroundings

    def opened(name: str, within: tuple[str, ...]) -> MemoryNode:
        context = around.context(name, lambda _: None, None, within)
        assert context.node is not None
        return context.node("b" if name == "a" else "a")  # type: ignore[return-value]

    around = Surroundings(opened, lambda: ["a", "b"], None)
    with pytest.raises(ConfigurationError, match="a, which is reached through b, which is reached through a"):
        opened("a", ())


def test_folders_of_nodes_are_apart_and_fit_every_file_system(tmp_path: Path) -> None:
    names = ["MRI 2 (west)", "MRI-2--west-", "放射線科", "aux", "x" * 64, "…", "a.b. "]
    found = [folder_name(name) for name in names]
    assert len(set(found)) == len(found)
    for one in found:
        assert one.isascii()
        assert len(one) <= 49
        (tmp_path / one).mkdir()
    assert found[0].startswith("MRI-2--west-")


def test_a_home_gives_each_node_a_folder_and_no_landing_without_an_engine(tmp_path: Path) -> None:
    app = App.open(tmp_path / "home")
    try:
        context = app.nodes.surroundings.context("here", lambda _: None, None)
        assert context.folder == tmp_path / "home" / "nodes" / folder_name("here")
        assert not context.folder.exists()
        assert context.landing() is None
    finally:
        app.close()


def test_this_computer_listens_for_a_while_without_any_job(tmp_path: Path) -> None:
    app = App.open(tmp_path / "home")
    try:
        with app.listening():  # nobody does
            pass
        app.nodes.add(
            "this-computer",
            "here",
            {"aet": "FERRY", "port": free_port(), "reserve": 0.1, "callers": ["*@127.0.0.1"]},
            {},
        )
        landing = app.nodes.surroundings.context("pacs", lambda _: None, None).landing
        with app.listening():
            assert landing() is not None
        assert landing() is None
        handle = app.engine(lambda _event: None, only=frozenset(), listen=False)
        handle.wait_listening()
        assert landing() is None
    finally:
        app.close()

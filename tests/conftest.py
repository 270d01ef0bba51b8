"""Fixtures for all tests: real servers, a screen, a keyring, a home for the program; what failed children said."""

from __future__ import annotations

import atexit
import os
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

# Before Qt or the program are imported: no window on a machine without a screen, nothing in the home of
# whoever runs the tests, and none of his keyring.
if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.pop("DBUS_SESSION_BUS_ADDRESS", None)
# Numbers and days are written alike wherever the tests run.
os.environ["LC_ALL"] = "C.UTF-8"
os.environ.pop("LANGUAGE", None)
_HOME = tempfile.TemporaryDirectory(prefix="dicom-ferry-tests-")
atexit.register(_HOME.cleanup)  # before Python warns that nobody did
os.environ["DICOM_FERRY_HOME"] = str(Path(_HOME.name) / "home")

import pytest  # noqa: E402
from hypothesis import HealthCheck, settings  # noqa: E402

from core.logs import forget_concealed  # noqa: E402
from tests import on_windows  # noqa: E402
from tests.support.ferry import Ferry, FerryRun, RunningFerry  # noqa: E402
from tests.support.keyrings import SecretService, no_keyring  # noqa: E402
from tests.support.orthanc import OrthancServer, running_servers  # noqa: E402
from tests.support.processes import children_of_this_test, forget_children  # noqa: E402
from tests.support.proxy import FaultProxy  # noqa: E402
from tests.support.screen import Screen  # noqa: E402
from tests.support.servers import ORTHANC_VERSIONS, orthanc_launcher_folder  # noqa: E402

# A machine that is slow just now fails no test of made-up values; the time limit of each test is what ends it.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# The demo takes the Orthanc that it finds on the PATH.
if (_launcher := orthanc_launcher_folder()) is not None:
    os.environ["PATH"] = f"{_launcher}{os.pathsep}{os.environ['PATH']}"

# --- what is shown when a test fails


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    on_windows.note(item)
    forget_children()
    forget_concealed()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    on_windows.excuse(item, call, report)
    if report.failed:
        for child in children_of_this_test():
            report.sections.append((f"child process {child.pid}", child.describe()))
        for server in running_servers():
            report.sections.append((f"{server.name} {server.version} at {server.url}", server.complaints()))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests have recorded (`record_property`): figures that a person wants to see although all is well."""
    for report in terminalreporter.getreports("passed"):
        if report.when == "call":
            for name, value in report.user_properties:
                terminalreporter.section(f"{name} ({report.nodeid})")
                terminalreporter.write_line(str(value))


collect_ignore = on_windows.left_out()


# Files that take minutes, and folders of the others, the slowest first.
_LONGEST = ("test_kill", "test_cli_commands", "test_gateway_day", "test_gateway_kill", "test_receive_kill")
_FOLDERS = ("faults", "real", "gui")


def _turn(item: pytest.Item) -> int:
    if item.path.stem in _LONGEST:
        return 0
    folder = item.path.parent.name
    return 1 + (_FOLDERS.index(folder) if folder in _FOLDERS else len(_FOLDERS))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long runs only when asked for (``-m soak``); what takes longest first, so that no worker waits at the end."""
    items.sort(key=_turn)
    if sys.platform == "win32":
        on_windows.leave_to_linux(items)
    if "soak" in (config.getoption("markexpr") or ""):
        return
    long_runs = [item for item in items if item.get_closest_marker("soak")]
    if long_runs:
        config.hook.pytest_deselected(items=long_runs)
        items[:] = [item for item in items if not item.get_closest_marker("soak")]


# --- Orthanc


class OrthancPair(NamedTuple):
    """A server to take from and one to bring to."""

    source: OrthancServer
    destination: OrthancServer


class _Pool:
    """Servers that last for the whole run; each use starts with an empty one."""

    def __init__(self) -> None:
        self._servers: dict[tuple[str, str], OrthancServer] = {}

    def empty(self, version: str, name: str) -> OrthancServer:
        key = (version, name)
        if key not in self._servers:
            server = OrthancServer(version, name=name, dicomweb=True)
            server.start()
            self._servers[key] = server
            return server
        return self._servers[key].wipe()

    def close(self) -> None:
        for server in self._servers.values():
            server.close()


@pytest.fixture(scope="session")
def _orthanc_pool() -> Iterator[_Pool]:
    pool = _Pool()
    yield pool
    pool.close()


@pytest.fixture
def orthanc_110(_orthanc_pool: _Pool) -> OrthancServer:
    """An empty Orthanc 1.10 with DICOMweb and no login."""
    return _orthanc_pool.empty("1.10", "SOURCE")


@pytest.fixture
def orthanc_112(_orthanc_pool: _Pool) -> OrthancServer:
    """An empty Orthanc 1.12 with DICOMweb and no login."""
    return _orthanc_pool.empty("1.12", "SOURCE")


@pytest.fixture(params=ORTHANC_VERSIONS)
def orthanc(request: pytest.FixtureRequest, _orthanc_pool: _Pool) -> OrthancServer:
    """An empty Orthanc, of each version in turn."""
    return _orthanc_pool.empty(request.param, "SOURCE")


@pytest.fixture(params=ORTHANC_VERSIONS)
def orthanc_pair(request: pytest.FixtureRequest, _orthanc_pool: _Pool) -> OrthancPair:
    """Two empty Orthancs of one version, each version in turn.

    ``@pytest.mark.parametrize("orthanc_pair", ["1.12", "1.10>1.12"], indirect=True)`` chooses others.
    """
    source, _, destination = request.param.partition(">")
    return OrthancPair(_orthanc_pool.empty(source, "SOURCE"), _orthanc_pool.empty(destination or source, "DESTINATION"))


@pytest.fixture
def start_orthanc() -> Iterator[Callable[..., OrthancServer]]:
    """Starts further servers with the arguments of `OrthancServer`; they end with the test."""
    servers: list[OrthancServer] = []

    def start(version: str = "1.12", **options: Any) -> OrthancServer:
        server = OrthancServer(version, **{"name": f"ORTHANC{len(servers) + 1}", **options})
        servers.append(server)
        return server.start()

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def fault_proxy() -> Iterator[Callable[[OrthancServer | str], FaultProxy]]:
    """Puts a `FaultProxy` in front of a server; it ends with the test."""
    proxies: list[FaultProxy] = []

    def put_before(target: OrthancServer | str) -> FaultProxy:
        proxy = FaultProxy(target if isinstance(target, str) else target.url)
        proxies.append(proxy)
        return proxy.start()

    yield put_before
    for proxy in proxies:
        proxy.close()


# --- screen and keyring


@pytest.fixture(scope="session")
def xvfb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Screen]:
    """A screen of 1280×800 with a window manager; give ``xvfb.env`` to the process that shows itself."""
    screen = Screen(tmp_path_factory.mktemp("screen"))
    yield screen.start()
    screen.close()


@pytest.fixture(scope="session")
def xvfb_with_tray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Screen]:
    """A screen with a place for tray icons."""
    screen = Screen(tmp_path_factory.mktemp("tray-screen"), tray=True)
    yield screen.start()
    screen.close()


@pytest.fixture
def secret_service(tmp_path: Path) -> Iterator[SecretService]:
    """An unlocked keyring; ``secret_service.env`` makes a process use it."""
    service = SecretService(tmp_path / "keyring")
    try:
        yield service.start()
    finally:
        service.close()


@pytest.fixture
def locked_secret_service(secret_service: SecretService) -> SecretService:
    """A keyring that is locked, and nobody there to unlock it."""
    secret_service.lock()
    return secret_service


@pytest.fixture
def no_secret_service(tmp_path: Path) -> dict[str, str]:
    """Variables of a machine that has no keyring."""
    return no_keyring(tmp_path)


# --- the program


@pytest.fixture
def ferry(tmp_path: Path) -> Iterator[Ferry]:
    """Runs of the program on a home of this test's own."""
    program = Ferry(tmp_path / "ferry")
    yield program
    program.close()


@pytest.fixture
def ferry_home(ferry: Ferry, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home folder (not made yet) of `ferry`, and of this process too."""
    monkeypatch.setenv("DICOM_FERRY_HOME", str(ferry.home))
    return ferry.home


@pytest.fixture
def run_ferry(ferry: Ferry) -> Callable[..., FerryRun]:
    """``run_ferry("node", "list", env={…}, stdin="…", timeout=60)`` → `FerryRun`."""
    return ferry.run


@pytest.fixture
def start_ferry(ferry: Ferry) -> Callable[..., RunningFerry]:
    """``start_ferry("run", "clone", …)`` → `RunningFerry`, which can be killed, interrupted, waited for."""
    return ferry.start

"""Wine: a prefix of its own in which Windows programs run, and end with the run."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PureWindowsPath

# Debian's /usr/bin/wine is a script that looks for the 32-bit loader and warns; everything here is 64-bit.
LOADERS = ("/usr/lib/wine/wine64", "/usr/lib/x86_64-linux-gnu/wine/wine64")


class WineError(Exception):
    """A Windows program failed; the text carries what it said."""


@functools.cache
def loader() -> str:
    """The 64-bit loader.

    Raises
    ------
    WineError
        Wine is not installed.
    """
    for name in (*LOADERS, shutil.which("wine64") or "", shutil.which("wine") or ""):
        if name and Path(name).exists():
            return name
    raise WineError("Wine is not installed (on Debian: apt-get install wine wine64).")


class Wine:
    """One prefix (a drive C: with a registry), made on first use.

    Parameters
    ----------
    prefix : Path
        Its folder.
    env : Mapping[str, str] | None
        Further variables for the Windows programs. Wine drops those that begin with ``QT_``: give
        ``WINEQT_QPA_PLATFORM`` for ``QT_QPA_PLATFORM``.
    """

    def __init__(self, prefix: Path, env: Mapping[str, str] | None = None) -> None:
        self.prefix = prefix
        self.more = dict(env or {})

    @property
    def drive(self) -> Path:
        """Drive C:."""
        return self.prefix / "drive_c"

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """Nothing of whoever builds but what Wine needs: no proxies, no Python settings, no desktop."""
        kept = ("PATH", "TMPDIR", "DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR", "LANG")
        return {
            **{name: os.environ[name] for name in kept if name in os.environ},
            "HOME": str(self.prefix),
            "LC_ALL": "C.UTF-8",
            "WINEPREFIX": str(self.prefix),
            "WINEARCH": "win64",
            "WINEDEBUG": "-all",
            # No offers to download .NET and a browser, no entries in the desktop's menus.
            "WINEDLLOVERRIDES": "mscoree=d;mshtml=d;winemenubuilder.exe=d",
            "WINEQT_QPA_PLATFORM": "offscreen",
            **self.more,
            **(env or {}),
        }

    def make(self) -> Wine:
        """Make the prefix if it isn't there, as Windows 10."""
        if (self.prefix / "made").exists():
            return self
        shutil.rmtree(self.prefix, ignore_errors=True)
        self.prefix.mkdir(parents=True)
        self.run(["wineboot", "--init"], timeout=300)
        self.run(["winecfg", "-v", "win10"], timeout=120)
        self.settle()
        # Wine shows a person's own desktop and documents to Windows programs: here they have their own.
        for link in [path for path in self.drive.glob("users/*/*") if path.is_symlink()]:
            link.unlink()
            link.mkdir()
        (self.prefix / "made").touch()
        return self

    def start(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: str | None = None,
    ) -> subprocess.Popen[str]:
        """Start a Windows program. Its output is a pipe: with a terminal or a file, Windows Python dies at start."""
        process = subprocess.Popen(
            [loader(), *(str(word) for word in command)],
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=self.environment(env),
            cwd=cwd,
        )
        if stdin is not None:
            assert process.stdin is not None
            process.stdin.write(stdin)
            process.stdin.close()
        return process

    def run(
        self,
        command: Sequence[str | Path],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdin: str | None = None,
        timeout: float = 600,
        expect: int | None = 0,
        show: bool = False,
    ) -> str:
        """Run a Windows program to its end; what it wrote.

        Parameters
        ----------
        timeout : float
            Seconds.
        expect : int | None
            The exit status that it must have (Linux sees its lowest eight bits); None takes any.
        show : bool
            Write what it says as it says it.

        Raises
        ------
        WineError
            It ended otherwise, or not in time.
        """
        process = self.start(command, env=env, cwd=cwd, stdin=stdin)
        said: list[str] = []
        try:
            with self._ended_after(process, timeout, said):
                assert process.stdout is not None
                for line in process.stdout:
                    said.append(line)
                    if show:
                        print(line, end="", flush=True)
                process.wait()
        finally:
            process.kill()
            process.wait()
        text = "".join(said)
        if expect is not None and process.returncode != expect & 0xFF:
            words = " ".join(str(word) for word in command)
            raise WineError(f"{words}\nended with {process.returncode} instead of {expect}:\n{text[-8000:]}")
        return text

    @contextlib.contextmanager
    def _ended_after(self, process: subprocess.Popen[str], seconds: float, said: list[str]) -> Iterator[None]:
        """End the process, and all others of the prefix, when the block takes longer: whatever it started holds its
        output open, and would be listened to for ever."""
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()
            self.end()

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()
        if late.is_set():
            text = "".join(said)[-8000:]
            raise WineError(f"{process.args!r}\nwas still running after {seconds:.0f} s, and was ended:\n{text}")

    def settle(self) -> None:
        """Wait until no program runs in the prefix; the registry is on disk then."""
        self._server("-w", timeout=60)

    def end(self) -> None:
        """End all programs of this prefix."""
        self._server("-k", timeout=30)

    def _server(self, option: str, timeout: float) -> None:
        server = next(
            (p for p in ("/usr/lib/wine/wineserver", shutil.which("wineserver")) if p and Path(p).exists()), ""
        )
        if server:
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run([server, option], env=self.environment(), check=False, timeout=timeout)

    def __enter__(self) -> Wine:
        return self.make()

    def __exit__(self, *exc: object) -> None:
        self.end()

    def path(self, windows: str) -> Path:
        """Where a Windows path such as ``C:\\Program Files`` lies on this machine."""
        pure = PureWindowsPath(windows)
        root = self.drive if pure.drive.upper() == "C:" else Path("/")
        return root.joinpath(*pure.parts[1:])

    def registry(self, key: str, value: str | None = None) -> str | None:
        """A value of the registry (None: the key's listing); None where it isn't there.

        Parameters
        ----------
        key : str
            Such as ``HKCU\\Software\\Microsoft\\Windows\\CurrentVersion\\Run``.
        """
        which = ["/v", value] if value is not None else []
        text = self.run(["reg", "query", key, *which], expect=None, timeout=60)
        if "REG_" not in text and key.split("\\")[-1] not in text:
            return None
        if value is None:
            return text
        for line in text.splitlines():
            words = line.split("    ")
            if len(words) >= 4 and words[1].strip().casefold() == value.casefold():
                return "    ".join(words[3:]).strip()
        return None


def windows_path(path: Path) -> str:
    """A path of this machine as Windows programs name it (drive Z: is the root)."""
    return "Z:" + str(path.resolve()).replace("/", "\\")

"""Wine: a prefix of its own in which Windows programs run, and end with the run."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath

# Debian's /usr/bin/wine is a script that looks for the 32-bit loader and warns; everything here is 64-bit.
LOADERS = ("/usr/lib/wine/wine64", "/usr/lib/x86_64-linux-gnu/wine/wine64")
#: What tells Wine, by fontconfig, which of this system's fonts are Windows' too.
FONTS = Path(__file__).with_name("fonts.conf")
#: Seconds in which Wine itself answers, however busy the machine is.
_ANSWER = 90.0
#: How long the output of a program that has ended is still read while nothing comes: others may hold it open.
_QUIET = 1.0


class WineError(Exception):
    """A Windows program failed; the text carries what it said."""


class WineBrokenError(Exception):
    """Wine itself failed, not a program that ran in it; the text says how that was seen."""


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
        self._kept = False
        self._keeper: subprocess.Popen[bytes] | None = None

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
            "FONTCONFIG_FILE": str(FONTS),
            **self.more,
            **(env or {}),
        }

    def make(self) -> Wine:
        """Make the prefix if it isn't there, as Windows 10; up to three times where Wine fails."""
        if (self.prefix / "made").exists():
            return self
        for again in (True, True, False):
            self.end()
            shutil.rmtree(self.prefix, ignore_errors=True)
            self.prefix.mkdir(parents=True)
            try:
                self.run(["wineboot", "--init"], timeout=300)
                self.run(["winecfg", "-v", "win10"], timeout=120)
                break
            except WineError as error:
                if not again:
                    raise
                print(f"Wine could not make {self.prefix}, once more:\n{error}", flush=True)
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
        self._keep()
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
        words = " ".join(str(word) for word in command)
        process = self.start(command, env=env, cwd=cwd, stdin=stdin)
        said: list[str] = []
        reader = threading.Thread(target=_read, args=(process, said, show), daemon=True)
        reader.start()
        late = False
        try:
            process.wait(timeout)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            process.kill()
            process.wait()
        # To the end of the program, not of its output: what it started and left running holds that open.
        before = -1
        while reader.is_alive() and before != len(said):
            before = len(said)
            reader.join(_QUIET)
        text = "".join(said)
        if late:
            raise WineError(f"{words}\nwas still running after {timeout:.0f} s, and was ended:\n{text[-8000:]}")
        if expect is not None and process.returncode != expect & 0xFF:
            raise WineError(f"{words}\nended with {process.returncode} instead of {expect}:\n{text[-8000:]}")
        return text

    def broken(self) -> str:
        """How it is seen that Wine itself has failed, and not a program in it; empty where Wine works."""
        if self._keeper is not None and self._keeper.poll() is not None:
            return "all its programs were ended by it"
        try:
            done = subprocess.run(
                [loader(), "cmd", "/c", "exit 7"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, check=False, timeout=_ANSWER, env=self.environment(),
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"it did not start its own cmd within {_ANSWER:.0f} s"
        return "" if done.returncode == 7 else f"its own cmd ended with {done.returncode} instead of 7"

    def _keep(self) -> None:
        """Have a program run that waits for nothing but its end, so that Windows is not started anew for each one.

        Its output is nobody's, and so is that of what Windows starts with it.
        """
        if self._kept and self._keeper is None:
            self._keeper = subprocess.Popen(
                [loader(), "cmd", "/c", "set /p WAIT="], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, env=self.environment(),
            )  # fmt: skip

    def _let_go(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            assert keeper.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                keeper.stdin.close()
            try:
                keeper.wait(30)
            except subprocess.TimeoutExpired:
                keeper.kill()
                keeper.wait()

    def settle(self) -> None:
        """Wait until no program runs in the prefix, at most a minute; the registry is on disk then."""
        self._let_go()
        self._server("-w", timeout=60)

    def end(self) -> None:
        """End all programs of this prefix."""
        self._server("-k", timeout=30)
        self._let_go()

    def _server(self, option: str, timeout: float) -> None:
        server = next(
            (p for p in ("/usr/lib/wine/wineserver", shutil.which("wineserver")) if p and Path(p).exists()), ""
        )
        if server:
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run([server, option], env=self.environment(), check=False, timeout=timeout)

    def __enter__(self) -> Wine:
        self.make()
        self._kept = True
        return self

    def __exit__(self, *exc: object) -> None:
        self._kept = False
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


def _read(process: subprocess.Popen[str], said: list[str], show: bool) -> None:
    """Collect what a program says, line by line."""
    assert process.stdout is not None
    for line in process.stdout:
        said.append(line)
        if show:
            print(line, end="", flush=True)


def windows_path(path: Path) -> str:
    """A path of this machine as Windows programs name it (drive Z: is the root)."""
    return "Z:" + str(path.resolve()).replace("/", "\\")

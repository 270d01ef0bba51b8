"""Who may import whom: the layers of the program, held against the imports that are really there."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from core.jobs.registry import job_kinds
from core.nodes.registry import node_kinds
from core.steps.registry import step_kinds

ROOT = Path(__file__).resolve().parents[2]

#: Layers by the modules that belong to them; the longest prefix decides. What lies right below `core` and is
#: not named here (node_book, job_book, home, secrets, settings, logs, reports, demo …) composes the program.
LAYERS = {
    "gui": "gui",
    "resources": "resources",
    "core": "app",
    "core.cli": "cli",
    "core.cli_commands": "cli",
    "core.__main__": "cli",
    "core.qt": "qt",
    "core.engine": "engine",
    "core.jobs": "jobs",
    "core.jobs.base": "jobs.base",
    "core.jobs.registry": "jobs.base",
    "core.steps": "steps",
    "core.steps.base": "steps.base",
    "core.steps.registry": "steps.base",
    "core.nodes": "nodes",
    "core.nodes.base": "nodes.base",
    "core.nodes.registry": "nodes.base",
    "core.ledger": "ledger",
    "core.spool": "spool",
    "core.wire": "wire",
    "core.model": "model",
}

ALLOWED = {
    "model": set(),
    "wire": {"model"},
    "spool": {"model"},
    "ledger": {"model"},
    "steps.base": {"model"},
    "steps": {"steps.base", "model"},
    "nodes.base": {"wire", "model"},
    "nodes": {"nodes.base", "wire", "spool", "model"},
    "jobs.base": {"nodes.base", "model"},
    "jobs": {"jobs.base", "nodes.base", "model"},
    "engine": {"jobs.base", "nodes.base", "steps.base", "ledger", "model"},
    "app": {
        "engine", "jobs", "jobs.base", "steps", "steps.base", "nodes", "nodes.base", "ledger", "spool", "wire", "model",
    },
    "qt": {"app", "engine", "model"},
    "cli": {"app", "model"},
    "gui": {"app", "qt", "model"},
}  # fmt: skip
for _layer in ALLOWED:
    ALLOWED[_layer].add("resources")

#: The switch that cancels is handed through every layer, and is all of `core.wire` that these may know.
ABORT = {("core.wire.abort", "Abort"), ("core.wire.http", "Abort")}
KNOW_ABORT = {"jobs.base", "jobs", "engine", "cli"}
#: The command line makes its options out of the declared kinds, and asks nodes for capabilities by their name.
KNOWS_KINDS = {"cli": {"nodes.base", "jobs.base"}}
#: The command line opens the window when it is called without arguments.
OPENS_WINDOW = {("core.cli", "gui.app"), ("core.cli", "gui.__main__"), ("core.cli", "gui")}


@dataclass(frozen=True)
class Import:
    """One import: where it stands, and the module that it reaches; `name` what is taken out of that."""

    file: Path
    line: int
    importer: str
    module: str
    name: str = ""

    @property
    def place(self) -> str:
        return f"{self.file.relative_to(ROOT)}:{self.line}"


def layer_of(module: str) -> str:
    parts = module.split(".")
    for length in range(len(parts), 0, -1):
        found = LAYERS.get(".".join(parts[:length]))
        if found:
            return found
    raise AssertionError(f"{module} belongs to no layer")


def sources(*packages: str) -> list[Path]:
    found = [p for package in packages for p in sorted((ROOT / package).rglob("*.py"))]
    assert found
    return found


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def imports_of(path: Path) -> Iterator[Import]:
    """Every import of a file, wherever it stands in it; `from package import module` reaches the module."""
    importer = module_of(path)
    package = importer if path.name == "__init__.py" else importer.rpartition(".")[0]
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, importer, alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            for alias in node.names:
                if is_module(f"{base}.{alias.name}"):
                    yield Import(path, node.lineno, importer, f"{base}.{alias.name}")
                else:
                    yield Import(path, node.lineno, importer, base, alias.name)


def ours(module: str) -> bool:
    return module.split(".")[0] in ("core", "gui", "resources")


def allowed(found: Import) -> bool:
    here, there = layer_of(found.importer), layer_of(found.module)
    return (
        here == there
        or there in ALLOWED.get(here, set())
        or there in KNOWS_KINDS.get(here, set())
        or (here in KNOW_ABORT and (found.module, found.name) in ABORT)
        or (found.importer, found.module) in OPENS_WINDOW
        or found.module == "core"  # its version
    )


def test_every_import_points_down():
    wrong = [
        f"{i.place}: {i.importer} ({layer_of(i.importer)}) imports "
        f"{i.module}{'.' + i.name if i.name else ''} ({layer_of(i.module)})"
        for path in sources("core", "gui")
        for i in imports_of(path)
        if ours(i.module) and not allowed(i)
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_the_program_imports_no_tests_and_no_installer():
    wrong = [
        f"{i.place}: {i.importer} imports {i.module}"
        for path in sources("core", "gui", "resources")
        for i in imports_of(path)
        if i.module.split(".")[0] in ("tests", "installer")
    ]
    assert not wrong, "\n" + "\n".join(wrong)


def test_only_one_file_of_the_core_knows_qt():
    wrong = [
        f"{i.place}: {i.importer} imports {i.module}"
        for path in sources("core")
        for i in imports_of(path)
        if i.module.split(".")[0] in ("PySide6", "shiboken6") and i.importer != "core.qt"
    ]
    assert not wrong, "\n" + "\n".join(wrong)
    beyond = [
        f"{i.place}: {i.module}.{i.name}"
        for i in imports_of(ROOT / "core" / "qt.py")
        if i.module.split(".")[0] == "PySide6" and i.module != "PySide6.QtCore"
        if not (i.module == "PySide6" and i.name == "QtCore")
    ]
    assert not beyond, "core/qt.py takes QtCore only:\n" + "\n".join(beyond)


def test_the_core_is_imported_without_qt():
    modules = [
        module_of(path)
        for path in sources("core")
        if path.name != "__main__.py" and "migrations" not in path.parts and module_of(path) != "core.qt"
    ]
    program = (
        "import importlib, sys\n"
        "sys.modules['PySide6'] = sys.modules['shiboken6'] = None\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except ImportError as error:\n"
        "        raise SystemExit(f'{name}: {error}')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *modules], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr or done.stdout


def kind_files() -> dict[str, dict[str, Path]]:
    """The file or package of each kind, by family and name."""
    found: dict[str, dict[str, Path]] = {}
    for family, kinds in (("nodes", node_kinds.all()), ("jobs", job_kinds.all()), ("steps", step_kinds.all())):
        for name, kind in kinds.items():
            parts = type(kind).__module__.split(".")
            path = ROOT.joinpath(*parts[:3])
            found.setdefault(family, {})[name] = path if path.is_dir() else path.with_suffix(".py")
    return found


@pytest.mark.parametrize("family", ["nodes", "jobs", "steps"])
def test_kinds_do_not_know_each_other(family):
    """What two kinds share lies in a file of its own; a kind can be taken out without touching another."""
    kinds = kind_files()[family]
    wrong = []
    for name, path in kinds.items():
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            for found in imports_of(file):
                for other, other_path in kinds.items():
                    reached = module_of(other_path / "__init__.py" if other_path.is_dir() else other_path)
                    if other_path != path and (found.module + ".").startswith(reached + "."):
                        wrong.append(f"{found.place}: the kind {name} imports {found.module} of the kind {other}")
    assert not wrong, "\n" + "\n".join(wrong)


#: Where the name of a kind stands for something else, or is meant: (file, name) with the reason.
NAMES_ALLOWED = {
    ("core/model/fields.py", "folder"): "a type of form field",
    ("core/demo.py", "folder"): "the demonstration says which nodes it makes",
    ("core/demo.py", "orthanc"): "the demonstration says which nodes it makes",
    ("core/demo.py", "dicom"): "the demonstration says which nodes it makes",
    ("core/demo.py", "this-computer"): "the demonstration says which nodes it makes",
    ("core/demo.py", "forward"): "the demonstration says which jobs it runs",
    ("core/demo.py", "clone"): "the demonstration says which jobs it runs",
    ("core/self_test.py", "folder"): "writes a made-up node into a ledger and reads it again",
    ("core/cli_commands/program.py", "gateway"): "a command of that name",
    ("gui/pages/settings.py", "folder"): "an icon",
    ("gui/widgets/editor.py", "folder"): "an icon",
}


def test_the_names_of_kinds_stand_in_their_own_files_only():
    """Adding, renaming or removing a kind touches no other file."""
    families = kind_files()
    del families["steps"]  # "tags", "lookup" and "external" are words of every day
    by_name = {name: path for kinds in families.values() for name, path in kinds.items()}
    wrong = []
    for path in sources("core", "gui"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in by_name:
                home = by_name[node.value]
                here = path.relative_to(ROOT).as_posix()
                at_home = path == home or home in path.parents
                if not at_home and (here, node.value) not in NAMES_ALLOWED:
                    wrong.append(f"{here}:{node.lineno}: {node.value!r} is the name of a kind")
    assert not wrong, "\n" + "\n".join(wrong)


def test_the_first_line_of_every_module_says_its_subject():
    wrong = []
    for path in sources("core", "gui"):
        tree = parsed(path)
        if tree.body and not (ast.get_docstring(tree) or "").strip():
            wrong.append(f"{path.relative_to(ROOT)}:1: has no docstring")
    assert not wrong, "\n" + "\n".join(wrong)


def test_the_layers_that_are_named_exist():
    """A typing error in the table above would quietly allow everything or nothing."""
    assert set(LAYERS.values()) - {"resources"} == set(ALLOWED)
    assert set().union(*ALLOWED.values()) <= set(LAYERS.values())
    for prefix in ("core.engine", "core.ledger", "core.model", "core.nodes.base", "core.jobs.base", "core.wire"):
        assert is_module(prefix), prefix
    assert layer_of("core.model.study") == "model"
    assert layer_of("core.nodes.folder.node") == "nodes"
    assert layer_of("core.node_book") == "app"
    assert layer_of("gui.pages.nodes") == "gui"


def test_a_wrong_import_would_be_seen(tmp_path):
    """The test tests: imports in functions, of several names and relative ones are all found."""
    path = ROOT / "core" / "model" / "registry.py"
    wrong = Import(path, 1, "core.model.registry", "core.ledger.ledger", "Ledger")
    assert not allowed(wrong)
    assert not allowed(Import(path, 1, "core.nodes.folder.node", "core.ledger.ledger"))
    assert not allowed(Import(path, 1, "core.jobs.forward", "core.nodes.folder"))
    assert not allowed(Import(path, 1, "core.engine.engine", "core.wire.http", "HttpPool"))
    assert not allowed(Import(path, 1, "gui.pages.nodes", "core.engine.engine"))
    assert not allowed(Import(path, 1, "core.app", "core.cli"))
    assert allowed(Import(path, 1, "core.engine.engine", "core.wire.http", "Abort"))
    assert allowed(Import(path, 1, "gui.pages.nodes", "core.qt"))


def test_the_program_starts_without_what_takes_long_to_load() -> None:
    """What only some nodes and jobs need is loaded when it is used: the window is there in a moment."""
    code = (
        "import sys, core.cli, core.app\n"
        "from core.jobs.registry import job_kinds\n"
        "from core.nodes.registry import node_kinds\n"
        "node_kinds.all(), job_kinds.all()\n"
        "print([name for name in ('pydicom', 'pynetdicom', 'numpy', 'gdcm', 'openpyxl') if name in sys.modules])\n"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_window_starts_without_the_commands(tmp_path: Path) -> None:
    """What prints on a terminal, other databases, and what upgrades a ledger, are of no use to it."""
    code = (
        "import pathlib, sys, core.cli, gui.app\n"
        f"gui.app.App.open(pathlib.Path({str(tmp_path / 'home')!r})).close()\n"
        "names = ('typer', 'click', 'rich', 'core.cli_commands.program', 'sqlalchemy.dialects.postgresql', 'alembic')\n"
        "print([name for name in names if name in sys.modules])\n"
    )
    found = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"

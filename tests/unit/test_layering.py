"""Who may import whom, read from the source text.

The order is `app → gateway → hub → hooks → {storage | bus | ai} → outbound → telemetry → protocol`: a package imports
only what stands to its right, and itself. `client` stands apart: it imports `protocol` alone, and no other package
imports it. Imports inside functions, under TYPE_CHECKING and by name count too. Every
rule is a function of a source tree, so that a test can plant a wrong import and see it found.
"""

import ast
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

LAYERS = (
    ("app",),
    ("gateway",),
    ("hub",),
    ("hooks",),
    ("storage", "bus", "ai"),
    ("outbound",),
    ("telemetry",),
    ("protocol",),
)
RANKS = {package: rank for rank, packages in enumerate(LAYERS) for package in packages}
APP_MODULES = {"app", "cli", "commands", "drain", "serving", "settings", "workers", "__main__"}
FOR_PLUGINS = {"hooks", "protocol"}
FOR_CLIENT = {"client", "protocol"}  # it runs in other people's programs: nothing of a server belongs there
NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "misc"}


def test_server_imports_only_what_stands_to_its_right() -> None:
    assert layering_faults(ROOT) == []


def test_no_module_hides_one_of_the_standard_library_or_says_nothing() -> None:
    assert naming_faults(ROOT) == []


def test_a_wrong_import_planted_into_the_real_sources_is_found(tmp_path: Path) -> None:
    for top in ("server", "plugins"):
        shutil.copytree(ROOT / top, tmp_path / top, ignore=shutil.ignore_patterns("__pycache__"))
    before = layering_faults(tmp_path)
    plant(tmp_path, "server/storage/__init__.py", "from server.hub import permissions")
    assert len(layering_faults(tmp_path)) == len(before) + 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("server/protocol/planted.py", "import server.telemetry"),
        ("server/protocol/planted.py", "from server.hub import hub"),
        ("server/telemetry/planted.py", "from server import storage"),
        ("server/storage/planted.py", "from server.bus import memory_bus"),
        ("server/bus/planted.py", "from server.ai import adapter"),
        ("server/ai/planted.py", "from ..storage import database"),
        ("server/hub/planted.py", "def late():\n    from server.gateway import connection"),
        ("server/hub/planted.py", "from ..gateway.routes import planted"),
        ("server/hub/planted.py", "if TYPE_CHECKING:\n    from server.app import App"),
        ("server/gateway/planted.py", "from server.settings import Settings"),
        ("server/gateway/routes/planted.py", "from ... import settings"),
        ("server/gateway/planted.py", "import importlib\nimportlib.import_module('server.app')"),
        ("server/gateway/planted.py", "import plugins.webhooks"),
        ("server/app.py", "from plugins import webhooks"),
        ("server/planted.py", ""),
        ("server/planted/__init__.py", ""),
        ("server/hub/planted.py", "import tests.unit"),
        ("server/client/planted.py", "from server.telemetry import metrics"),
        ("server/client/planted.py", "from server.hub import permissions"),
        ("server/protocol/planted.py", "from server.client import Studio"),
        ("server/cli.py", "from server.client.studio import Studio"),
        ("plugins/planted/__init__.py", "from server.client import Studio"),
        ("plugins/planted/__init__.py", "from server.storage import database"),
        ("plugins/planted/deep/planted.py", "import server"),
    ],
)
def test_a_planted_import_is_found(tmp_path: Path, module: str, source: str) -> None:
    assert any(fault.startswith(f"{module}:") for fault in layering_faults(plant(tmp_path, module, source)))


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("server/gateway/planted.py", "from server import __version__\nfrom server.protocol import frames"),
        ("server/gateway/routes/planted.py", "from .. import connection\nfrom ...hub import rooms"),
        ("server/hub/planted.py", "import json\nfrom server.ai import adapter\nfrom server.telemetry import metrics"),
        ("server/cli.py", "from server.settings import Settings\nfrom server import app"),
        ("server/client/planted.py", "from server.client import studio\nfrom server.protocol import frames"),
        (
            "plugins/planted/__init__.py",
            "from server.hooks import specs\nfrom server.protocol import events\nfrom . import b",
        ),
    ],
)
def test_a_rightful_import_is_no_fault(tmp_path: Path, module: str, source: str) -> None:
    assert not any(fault.startswith(f"{module}:") for fault in layering_faults(plant(tmp_path, module, source)))


@pytest.mark.parametrize("module", ["server/hub/queue.py", "plugins/json/__init__.py", "server/hub/utils.py"])
def test_a_planted_name_is_found(tmp_path: Path, module: str) -> None:
    assert any(fault.startswith(f"{module}:") for fault in naming_faults(plant(tmp_path, module, "")))


def layering_faults(root: Path) -> list[str]:
    """What in server/ and plugins/ imports something it may not, one line each."""
    return [
        f"{path.relative_to(root)}:{line}: {fault}"
        for path in sources(root)
        for line, fault in [*misplaced(path, root), *wrong_imports(path, root)]
    ]


def misplaced(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    """A module of server/ that belongs to no layer could import anything."""
    module = module_name(path, root)
    if module[0] == "server" and module[1:] and layer_of(module) is None:
        yield 1, f"{'.'.join(module)} is in no layer"


def wrong_imports(path: Path, root: Path) -> Iterator[tuple[int, str]]:
    importer = module_name(path, root)
    for line, imported in imports(path, root):
        if imported[0] in {"server", "plugins", "tests"} and not may_import(importer, imported):
            yield line, f"{'.'.join(importer)} may not import {'.'.join(imported)}"


def may_import(importer: tuple[str, ...], imported: tuple[str, ...]) -> bool:
    if importer[0] == "plugins":
        return imported[0] == "plugins" or (
            imported[0] == "server" and imported[1:2] != () and imported[1] in FOR_PLUGINS
        )
    if imported[0] != "server":
        return False
    if imported[1:2] == () or imported[1].startswith("__version"):
        return True
    if "client" in (importer[1], imported[1]):
        return importer[1] == "client" and imported[1] in FOR_CLIENT
    mine, other = layer_of(importer), layer_of(imported)
    if mine is None or other is None:
        return False
    return mine == other or RANKS[mine] < RANKS[other]


def layer_of(module: tuple[str, ...]) -> str | None:
    if (module[1] in RANKS and module[1] != "app") or module[1] == "client":
        return module[1]
    return "app" if module[1] in APP_MODULES else None


def naming_faults(root: Path) -> list[str]:
    """Modules and packages named like one of the standard library's, or by a word that says nothing."""
    taken = (sys.stdlib_module_names - {"__main__"}) | NAMES_THAT_SAY_NOTHING
    return [
        f"{path.relative_to(root)}: {name} is no name for a module of ours"
        for path in sources(root)
        for name in module_name(path, root)[1:]
        if name in taken
    ]


def sources(root: Path) -> list[Path]:
    return sorted(path for top in ("server", "plugins") for path in (root / top).rglob("*.py"))


def module_name(path: Path, root: Path) -> tuple[str, ...]:
    parts = path.relative_to(root).with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def imports(path: Path, root: Path) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Every module that the file names in an import, in full, with its line."""
    package = path.relative_to(root).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        match node:
            case ast.Import(names):
                yield from ((node.lineno, tuple(alias.name.split("."))) for alias in names)
            case ast.ImportFrom(module, names, level):
                base = package[: len(package) - level + 1] if level else ()
                whole = (*base, *(module.split(".") if module else ()))
                yield from ((node.lineno, (*whole, alias.name)) for alias in names)
            case ast.Call(ast.Name("__import__") | ast.Attribute(attr="import_module"), [ast.Constant(str(name)), *_]):
                yield node.lineno, tuple(name.split("."))


def plant(root: Path, module: str, source: str) -> Path:
    """Add a module to a tree, or lines to one that is there. The folder comes back."""
    path = root / module
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(f"{before}\n{source}\n", encoding="utf-8")
    return root

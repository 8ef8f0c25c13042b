"""One owner for each verb, read from the source text.

Only `settings.py` reads the environment, only `storage/` holds SQL, only `protocol/codec.py` does JSON, and a library
that speaks to something outside is imported by its one owner.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.test_layering import ROOT, imports, plant

ENVIRONMENT_OWNER = "server/settings.py"
SQL_OWNER = "server/storage/"
JSON_OWNER = "server/protocol/codec.py"
LIBRARY_OWNERS = {
    "asyncpg": "server/storage/",
    "sqlalchemy": "server/storage/",
    "alembic": "server/storage/",
    "redis": "server/bus/redis_",
    "openai": "server/ai/openai_",
    "anthropic": "server/ai/anthropic_",
}
# A file that does another's work, and why it must. Keep it short.
EXCEPTIONS: dict[tuple[str, str], str] = {}

SQL = re.compile(
    r"\s*(SELECT\s|INSERT\s+INTO\s|UPDATE\s+\w|DELETE\s+FROM\s|WITH\s+(RECURSIVE\s+)?\w+\s+(\(.*\)\s+)?AS\b)"
)
ENVIRONMENT = {"environ", "environb", "getenv", "getenvb"}
JSON_LIBRARIES = {"json", "orjson", "ujson", "simplejson"}


def test_only_settings_reads_the_environment() -> None:
    assert environment_faults(ROOT) == []


def test_only_storage_holds_sql() -> None:
    assert sql_faults(ROOT) == []


def test_only_the_codec_does_json() -> None:
    assert json_faults(ROOT) == []


def test_only_its_owner_imports_a_library() -> None:
    assert library_faults(ROOT) == []


def test_every_exception_is_still_needed() -> None:
    needed = {(kind, path) for kind, path, _, _ in all_finds(ROOT)}
    assert set(EXCEPTIONS) <= needed


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("server/hub/planted.py", "import os\nhome = os.environ['HOME']"),
        ("server/hub/planted.py", "from os import getenv"),
        ("server/hub/planted.py", "rows = 'SELECT id FROM users'"),
        ("server/hub/planted.py", "table = 'users'\nrows = f'  DELETE FROM {table}'"),
        ("server/hub/planted.py", "rows = '''\n    WITH heads AS (SELECT 1)\n    SELECT 2'''"),
        ("server/hub/planted.py", "import json"),
        ("server/hub/planted.py", "import msgspec\ntext = msgspec.json.encode({})"),
        ("server/hub/planted.py", "from msgspec.json import encode"),
        ("server/hub/planted.py", "from msgspec import json"),
        ("server/hub/planted.py", "def late():\n    import asyncpg"),
        ("server/bus/memory_bus_planted.py", "from redis import asyncio"),
    ],
)
def test_a_planted_fault_is_found(tmp_path: Path, module: str, source: str) -> None:
    plant(tmp_path, module, source)
    rules = (environment_faults, sql_faults, json_faults, library_faults)
    assert any(f"{module}:" in fault for rule in rules for fault in rule(tmp_path))


def test_words_that_only_look_like_sql_are_no_fault(tmp_path: Path) -> None:
    plant(tmp_path, "server/hub/planted.py", '"""SELECT is spoken of here."""\nverb = "DELETE"\nlabel = "SELECTED"')
    assert not any("planted" in fault for fault in sql_faults(tmp_path))


def environment_faults(root: Path) -> list[str]:
    return faults(root, "environment", f"only {ENVIRONMENT_OWNER} reads the environment")


def sql_faults(root: Path) -> list[str]:
    return faults(root, "sql", f"only {SQL_OWNER} holds SQL")


def json_faults(root: Path) -> list[str]:
    return faults(root, "json", f"only {JSON_OWNER} does JSON")


def library_faults(root: Path) -> list[str]:
    return faults(root, "library", "this library has an owner of its own")


def faults(root: Path, kind: str, rule: str) -> list[str]:
    return [
        f"{path}:{line}: {rule} ({what})"
        for found, path, line, what in all_finds(root)
        if found == kind and (kind, path) not in EXCEPTIONS
    ]


def all_finds(root: Path) -> Iterator[tuple[str, str, int, str]]:
    """(rule, path, line, what) of every place where a file does what another owns, exceptions included."""
    for source in sorted((root / "server").rglob("*.py")):
        path = source.relative_to(root).as_posix()
        tree = ast.parse(source.read_text(encoding="utf-8"), path)
        if path != ENVIRONMENT_OWNER:
            yield from (("environment", path, line, name) for line, name in environment_reads(tree))
        if not path.startswith(SQL_OWNER):
            yield from (("sql", path, line, text) for line, text in sql_texts(tree))
        if path != JSON_OWNER:
            yield from (("json", path, line, name) for line, name in json_uses(tree, source, root))
        for line, imported in imports(source, root):
            if imported[0] in LIBRARY_OWNERS and not path.startswith(LIBRARY_OWNERS[imported[0]]):
                yield "library", path, line, imported[0]


def environment_reads(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(ast.Name("os"), attr) if attr in ENVIRONMENT:
                yield node.lineno, attr
            case ast.ImportFrom("os", names):
                yield from ((node.lineno, alias.name) for alias in names if alias.name in ENVIRONMENT)


def sql_texts(tree: ast.Module) -> Iterator[tuple[int, str]]:
    spoken = docstrings(tree)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and node not in spoken
            and SQL.match(node.value)
        ):
            yield node.lineno, node.value.strip()[:40]


def json_uses(tree: ast.Module, source: Path, root: Path) -> Iterator[tuple[int, str]]:
    for line, imported in imports(source, root):
        if imported[0] in JSON_LIBRARIES or imported[:2] == ("msgspec", "json"):
            yield line, ".".join(imported)
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(ast.Name("msgspec"), "json"):
                yield node.lineno, "msgspec.json"


def docstrings(tree: ast.Module) -> set[ast.expr]:
    """Strings that stand alone as a statement: they are read by people only."""
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}

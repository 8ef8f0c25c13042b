"""What the repository holds, and what it must not: the files that a newcomer's first minute depends on."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]

TOP_LEVEL = {
    *("server", "plugins", "migrations", "tests", "web", "docs", ".ci"),
    *("pyproject.toml", "requirements.lock", "alembic.ini", "Makefile", "Dockerfile", "compose.yaml"),
    *("README.md", "CHANGELOG.md", "LICENSE"),
    *(".gitignore", ".gitattributes", ".dockerignore", ".editorconfig"),
}
# Split, so that this file does not name them itself.
REGISTRY_HOSTS = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pypi", "python", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("registry", "yarnpkg", "com"),
        ("deb", "debian", "org"),
    )
)
UNTRACKED_FOLDERS = {".git", ".venv", "data", "dist", "node_modules", "__pycache__"}
VERBS = {
    *("run", "test", "install", "lint", "format", "types", "bench", "chaos"),
    *("web", "lock", "migration", "clean", "help"),
}


def test_the_top_level_is_the_fixed_list() -> None:
    assert {path.split("/")[0] for path in tracked_files(ROOT)} <= TOP_LEVEL


def test_every_pin_of_the_lock_has_a_hash() -> None:
    pins = lock_pins(ROOT)
    assert pins != {}
    assert [name for name, (_, hashes) in pins.items() if not hashes] == []


def test_the_lock_names_no_download_address() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    assert [line for line in lines if re.search(r"https?://|file:|^-|--index-url|--find-links|\s@\s", line)] == []


def test_the_lock_satisfies_every_dependency() -> None:
    pins = lock_pins(ROOT)
    wanted = [Requirement(text) for text in dependencies(ROOT)]
    locked = {wish: pins.get(canonicalize_name(wish.name), ("none", 0))[0] for wish in wanted}
    unmet = [
        f"{wish}: {version}" for wish, version in locked.items() if version == "none" or version not in wish.specifier
    ]
    assert unmet == []


def test_every_dependency_says_what_it_is_for() -> None:
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    silent = [
        text
        for text in dependencies(ROOT)
        if not any(re.search(rf'"{re.escape(text)}",\s+# \S', line) for line in lines)
    ]
    assert silent == []


def test_the_web_lock_names_no_download_address() -> None:
    lock = json.loads((ROOT / "web" / "package-lock.json").read_text())
    packages = {name: package for name, package in lock["packages"].items() if name}
    assert packages != {}
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert [name for name, package in packages.items() if "integrity" not in package] == []


def test_no_file_names_a_package_registry() -> None:
    named = [
        f"{path}: {host}"
        for path in tracked_files(ROOT)
        if (content := (ROOT / path).read_bytes())
        for host in REGISTRY_HOSTS
        if host.encode() in content
    ]
    assert named == []


def test_only_our_own_lock_is_kept() -> None:
    assert "uv.lock" not in tracked_files(ROOT)
    assert "/uv.lock" in (ROOT / ".gitignore").read_text().splitlines()


def test_make_help_lists_every_verb() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    listed = subprocess.run(["make", "help"], cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert set(re.findall(r"^  ([a-z]+) ", listed.stdout, re.MULTILINE)) == VERBS


def test_a_planted_file_is_found(tmp_path: Path) -> None:
    (tmp_path / "stray.txt").write_text("")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ignored").write_text("")
    assert tracked_files(tmp_path) == ["stray.txt"]


@pytest.mark.parametrize("lock", ["one==1.0\n", "one==1.0 \\\n    # via two\n"])
def test_a_pin_without_a_hash_is_found(tmp_path: Path, lock: str) -> None:
    (tmp_path / "requirements.lock").write_text(lock)
    assert lock_pins(tmp_path) == {"one": ("1.0", 0)}


def lock_pins(root: Path) -> dict[str, tuple[str, int]]:
    """Version and number of hashes of every package in the lock."""
    pins: dict[str, tuple[str, int]] = {}
    for block in re.split(r"^(?=[a-z0-9])", (root / "requirements.lock").read_text(), flags=re.MULTILINE):
        if pin := re.match(r"([a-z0-9._-]+)==([^\s;\\]+)", block):
            pins[canonicalize_name(pin[1])] = (pin[2], len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", block)))
    return pins


def dependencies(root: Path) -> list[str]:
    project = tomllib.loads((root / "pyproject.toml").read_text())
    groups = [entry for group in project["dependency-groups"].values() for entry in group if isinstance(entry, str)]
    return [*project["project"]["dependencies"], *groups]


def tracked_files(root: Path) -> list[str]:
    """Files under version control or about to be. Without git (an unpacked archive): all but what make makes."""
    if (root / ".git").exists() and shutil.which("git"):
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listing = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        if listing.returncode == 0:
            return [path for path in listing.stdout.split("\0") if path and (root / path).exists()]
    return [path.relative_to(root).as_posix() for path in files_below(root)]


def files_below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from files_below(path) if not is_made(path) else ()
        elif path.name != "uv.lock":
            yield path


def is_made(folder: Path) -> bool:
    return folder.name in UNTRACKED_FOLDERS or folder.name.endswith("_cache") or folder.name == ".hypothesis"

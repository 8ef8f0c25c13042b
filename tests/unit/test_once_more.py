"""A test that fails twice has failed; one that passes alone is named; many are not run again."""

import json
from pathlib import Path

import pytest

from tests import once_more

BROKEN = "def test_it() -> None:\n    assert False\n"
UNSTEADY = """
from pathlib import Path

def test_it() -> None:
    again = Path("again")
    was_here = again.exists()
    again.touch()
    assert was_here
"""


def failed_once(folder: Path, source: str, names: int = 1) -> None:
    """A folder in which pytest has just failed."""
    (folder / "pytest.ini").write_text("[pytest]\n")
    (folder / "test_it.py").write_text(source)
    (folder / "again").touch()
    kept = folder / once_more.LAST_FAILED
    kept.parent.mkdir(parents=True)
    kept.write_text(json.dumps({f"test_it.py::test_it{n or ''}": True for n in range(names)}))


@pytest.mark.parametrize(("source", "names", "code"), [(UNSTEADY, 1, 0), (BROKEN, 1, 1), (UNSTEADY, 4, 1)])
def test_what_failed_gets_one_more_chance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, names: int, code: int
) -> None:
    failed_once(tmp_path, source, names)
    monkeypatch.chdir(tmp_path)
    assert once_more.main() == code


def test_a_run_that_left_no_list_stays_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert once_more.main() == 1

"""A test that fails twice has failed; one that passes alone is named; many, or a broken run, are not run again."""

from pathlib import Path

import pytest

from tests import once_more

GOOD = "def test_good() -> None:\n    pass\n"
BROKEN = GOOD + "def test_broken() -> None:\n    assert False\n"
UNSTEADY = """
from pathlib import Path
import pytest

@pytest.mark.parametrize("number", range({}))
def test_unsteady(number: int) -> None:
    tried = Path(f"tried-{{number}}")
    was_here = tried.exists()
    tried.touch()
    assert was_here
"""
UNREADABLE = "import nothing_of_that_name\n"
BREAKS_THE_RUN = """
import pytest
from pathlib import Path

def test_unsteady() -> None:
    tried = Path("tried")
    was_here = tried.exists()
    tried.touch()
    assert was_here

def test_that_ends_the_run() -> None:
    pytest.exit("enough", returncode=3)
"""


@pytest.mark.parametrize(
    ("source", "code", "is_unsteady"),
    [
        (GOOD, 0, False),
        (BROKEN, 1, False),
        (UNSTEADY.format(once_more.AT_MOST), 0, True),
        (UNSTEADY.format(once_more.AT_MOST + 1), 1, False),
        (UNREADABLE, 2, False),
        (BREAKS_THE_RUN, 3, False),
    ],
)
def test_what_failed_gets_one_more_chance(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    source: str,
    code: int,
    is_unsteady: bool,
) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(source)
    monkeypatch.chdir(tmp_path)
    assert once_more.main(["-q"]) == code
    assert ("UNSTEADY" in capfd.readouterr().out) is is_unsteady


def test_what_failed_in_another_run_is_no_part_of_this_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_it.py").write_text(UNSTEADY.format(1))
    kept = tmp_path / once_more.LAST_FAILED
    kept.parent.mkdir(parents=True)
    kept.write_text('{"test_gone.py": true}')
    assert once_more.main(["-q", "test_it.py"]) == 0

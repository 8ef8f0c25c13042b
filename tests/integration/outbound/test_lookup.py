"""Lookups of names, some of which nobody ever answers. Real threads; only the system's resolver is played."""

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from server.outbound import lookup
from server.outbound.lookup import Lookup
from server.outbound.outbound import Outbound, OutboundFailed
from tests.waiting import until

ADDRESS = "93.184.215.14"


class System:
    """Answers at once, and says nothing to names that begin with `silent` until `speaks` is set."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.speaks = threading.Event()

    def getaddrinfo(self, host: str, port: int, *_: Any, **__: Any) -> list[Any]:
        self.asked.append(host)
        if host.startswith("silent"):
            self.speaks.wait(60)
            raise socket.gaierror(socket.EAI_AGAIN, "no answer")
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (ADDRESS, port))]


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    made = System()
    monkeypatch.setattr(socket, "getaddrinfo", made.getaddrinfo)
    monkeypatch.setattr(lookup, "LOOKUP_TIMEOUT_S", 0.3)
    monkeypatch.setattr(lookup, "QUEUE_S", 0.3, raising=False)
    yield made
    made.speaks.set()


async def failures(look_up: Lookup, names: list[str]) -> list[object]:
    return await asyncio.gather(*(look_up(name, 443) for name in names), return_exceptions=True)


async def holds(condition: Callable[[], bool]) -> bool:
    return condition()


async def test_a_lookup_whose_waiter_has_left_is_never_begun(system: System) -> None:
    look_up = Lookup()
    await failures(look_up, [f"silent-{number}.a{number}.example" for number in range(40)])
    begun = len(system.asked)
    assert begun <= lookup.MAX_LOOKUPS
    system.speaks.set()
    await asyncio.sleep(0.3)  # as many as wait would begin now
    assert len(system.asked) == begun


async def test_one_name_holds_one_place(system: System) -> None:
    look_up = Lookup()
    silent = asyncio.create_task(failures(look_up, ["silent.example"] * 20))
    await until(lambda: holds(lambda: bool(system.asked)))
    assert [str(address) for address in await look_up("fine.example", 443)] == [ADDRESS]
    await silent
    assert Counter(system.asked)["silent.example"] == 1


async def test_names_that_were_silent_leave_places_for_the_others(system: System) -> None:
    look_up = Lookup()
    for wave in range(3):  # names of one domain, each of them new
        await failures(look_up, [f"silent-{wave}-{number}.evil.example" for number in range(20)])
        assert [str(address) for address in await look_up(f"fine-{wave}.example", 443)] == [ADDRESS]
    assert 1 <= len(system.asked) - 3 <= lookup.MAX_OF_DOMAIN + lookup.MAX_SUSPECTS


async def test_a_name_that_got_no_place_is_busy_and_was_not_tried(system: System) -> None:
    outbound = Outbound()
    names = [f"silent.a{number}.example" for number in range(lookup.MAX_LOOKUPS)]
    calls = [asyncio.create_task(outbound.post(f"https://{name}/", b"", {})) for name in names]
    await until(lambda: holds(lambda: len(system.asked) == len(names)))
    with pytest.raises(OutboundFailed) as failed:
        await outbound.post("https://fine.example/", b"", {})
    assert failed.value.kind == "busy"
    assert "fine.example" not in system.asked
    for call in await asyncio.gather(*calls, return_exceptions=True):
        assert isinstance(call, OutboundFailed)
        assert call.kind == "timeout"
    await outbound.close()


async def test_beyond_a_full_queue_nobody_waits(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "QUEUE_S", 60.0)
    monkeypatch.setattr(lookup, "MAX_QUEUED", 3)
    look_up = Lookup()
    names = [f"silent.a{number}.example" for number in range(lookup.MAX_LOOKUPS + 3)]
    waiting = [asyncio.create_task(look_up(name, 443)) for name in names]
    await until(lambda: holds(lambda: len(system.asked) == lookup.MAX_LOOKUPS))
    with pytest.raises(lookup.LookupBusy):
        await look_up("fine.example", 443)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    system.speaks.set()
    await until(lambda: holds(lambda: not look_up.is_working))
    assert len(system.asked) == lookup.MAX_LOOKUPS
    assert await look_up("fine.example", 443)

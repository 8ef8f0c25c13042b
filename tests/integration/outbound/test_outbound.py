"""The way out, on real sockets. The receiver stands on loopback, which only an exception opens."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from ipaddress import ip_address

import httpcore2
import httpx2
import pytest

from server.outbound.lookup import Address
from server.outbound.outbound import MAX_CALLS_TO_ONE, Outbound, OutboundFailed, OutboundRefused
from tests.integration.outbound.receiver import NAME, Receiver, receiver, trusting_tls

PUBLIC = "93.184.215.14"
GENEROUS_S = 30.0


class Resolver:
    """Answers with one list after the other, the last one again and again."""

    def __init__(self, *answers: list[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> list[Address]:
        self.asked.append((host, port))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [ip_address(address) for address in answer]


class Elsewhere:
    """The network as seen from a test: every address is this machine. It notes which one was meant."""

    def __init__(self) -> None:
        self.connected: list[str] = []
        self.unreachable: set[str] = set()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]]
        | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        self.connected.append(host)
        if host in self.unreachable:
            raise httpcore2.ConnectError("unreachable")
        return await httpcore2.AnyIOBackend().connect_tcp("127.0.0.1", port, timeout)


@pytest.fixture
async def hook() -> AsyncIterator[Receiver]:
    async with receiver() as there:
        yield there


@asynccontextmanager
async def way_out_to(there: Receiver) -> AsyncIterator[Outbound]:
    outbound = Outbound([f"http://127.0.0.1:{there.port}"])
    yield outbound
    await outbound.close()


def url_of(there: Receiver, path: str = "/ok") -> str:
    return f"http://127.0.0.1:{there.port}{path}"


async def test_a_post_arrives_as_it_was_sent_and_its_answer_comes_back(hook: Receiver) -> None:
    async with way_out_to(hook) as outbound:
        answer = await outbound.post(url_of(hook, "/ok?room=1"), b"\x00{}\xff", {"X-Signature": "abc"})
    assert (answer.status, answer.body, answer.headers["content-length"]) == (200, b"\x00{}\xff", "4")
    head = hook.heads[0].lower()
    assert head.startswith("post /ok?room=1 http/1.1\r\n")
    assert f"\r\nhost: 127.0.0.1:{hook.port}\r\n" in head
    assert "\r\nx-signature: abc\r\n" in head


async def test_an_error_status_is_an_answer(hook: Receiver) -> None:
    async with way_out_to(hook) as outbound:
        answer = await outbound.post(url_of(hook, "/status/503"), b"", {})
    assert (answer.status, answer.headers["retry-after"]) == (503, "7")


async def test_loopback_is_refused_without_an_exception(hook: Receiver) -> None:
    outbound = Outbound()
    for url in (url_of(hook), f"http://localhost:{hook.port}/", f"http://[::ffff:127.0.0.1]:{hook.port}/"):
        with pytest.raises(OutboundRefused):
            await outbound.post(url, b"", {})
    assert hook.connections == 0


async def test_a_name_that_leads_to_this_machine_is_refused(hook: Receiver) -> None:
    for address in ("127.0.0.1", "::1", "10.1.2.3", "::ffff:127.0.0.1", "fe80::1%eth0"):
        network = Elsewhere()
        outbound = Outbound(resolve=Resolver([address]), connector=network)
        with pytest.raises(OutboundRefused) as refused:
            await outbound.post(f"http://{NAME}:{hook.port}/?token=s3cret", b"", {})
        assert network.connected == []
        assert address not in refused.value.detail
        await outbound.close()
    assert hook.connections == 0


async def test_the_machines_own_resolver_is_asked_and_checked() -> None:
    """`localhost.localdomain` and the like: whatever this machine calls itself by is not public."""
    outbound = Outbound()
    transport = outbound.transport()
    request = httpx2.Request("GET", "http://localhost/")
    with pytest.raises(OutboundRefused):
        await transport.handle_async_request(request)
    open_to_localhost = Outbound(["http://localhost:9"])
    with pytest.raises(OutboundFailed) as failed:  # looked up, allowed, and nobody listens there
        await open_to_localhost.post("http://localhost:9/", b"", {})
    assert failed.value.kind == "connect"
    await outbound.close()
    await open_to_localhost.close()


async def test_one_address_that_is_not_public_refuses_them_all(hook: Receiver) -> None:
    network = Elsewhere()
    outbound = Outbound(resolve=Resolver([PUBLIC, "192.168.0.1"]), connector=network)
    with pytest.raises(OutboundRefused):
        await outbound.post(f"http://{NAME}:{hook.port}/", b"", {})
    assert network.connected == []


async def test_the_connection_goes_to_the_address_that_was_checked(hook: Receiver) -> None:
    """A name that leads home at the second question: there is none."""
    network, resolver = Elsewhere(), Resolver([PUBLIC], ["127.0.0.1"])
    outbound = Outbound(resolve=resolver, connector=network)
    answer = await outbound.post(f"http://{NAME}:{hook.port}/ok", b"hello", {})
    assert (answer.body, network.connected, resolver.asked) == (b"hello", [PUBLIC], [(NAME, hook.port)])
    assert f"host: {NAME}:{hook.port}" in hook.heads[0].lower()
    await outbound.close()


async def test_the_next_connection_is_checked_anew(hook: Receiver) -> None:
    network, resolver = Elsewhere(), Resolver([PUBLIC], ["127.0.0.1"])
    outbound = Outbound(resolve=resolver, connector=network)
    await outbound.post(f"http://{NAME}:{hook.port}/huge", b"", {}, max_answer_bytes=10)  # ends its connection
    with pytest.raises(OutboundRefused):
        await outbound.post(f"http://{NAME}:{hook.port}/ok", b"", {})
    assert hook.connections == 1
    await outbound.close()


async def test_the_next_address_is_tried_when_one_cannot_be_reached(hook: Receiver) -> None:
    network = Elsewhere()
    network.unreachable = {"2606:4700::1"}
    outbound = Outbound(resolve=Resolver(["2606:4700::1", PUBLIC]), connector=network)
    assert (await outbound.post(f"http://{NAME}:{hook.port}/ok", b"", {})).status == 200
    assert network.connected == ["2606:4700::1", PUBLIC]
    await outbound.close()


async def test_certificates_are_checked_against_the_name_on_a_pinned_connection() -> None:
    async with receiver(tls=True) as hook:
        resolver = Resolver(["127.0.0.1"])
        outbound = Outbound([f"https://{NAME}:{hook.port}"], resolve=resolver, tls=trusting_tls())
        answer = await outbound.post(f"https://{NAME}:{hook.port}/ok", b"private", {})
        assert (answer.body, hook.names) == (b"private", [NAME])
        assert f"host: {NAME}:{hook.port}" in hook.heads[0].lower()
        await outbound.close()


@pytest.mark.parametrize("name", ["other.test", "127.0.0.1"])
async def test_a_certificate_of_somebody_else_is_refused(name: str) -> None:
    async with receiver(tls=True) as hook:
        outbound = Outbound([f"https://{name}:{hook.port}"], resolve=Resolver(["127.0.0.1"]), tls=trusting_tls())
        with pytest.raises(OutboundFailed) as failed:
            await outbound.post(f"https://{name}:{hook.port}/ok", b"private", {})
        assert (failed.value.kind, hook.bodies) == ("tls", [])
        await outbound.close()


async def test_an_authority_that_nobody_knows_is_refused() -> None:
    async with receiver(tls=True) as hook:
        outbound = Outbound([f"https://{NAME}:{hook.port}"], resolve=Resolver(["127.0.0.1"]))
        with pytest.raises(OutboundFailed) as failed:
            await outbound.post(f"https://{NAME}:{hook.port}/ok", b"private", {})
        assert (failed.value.kind, hook.bodies) == ("tls", [])
        await outbound.close()


async def test_two_names_on_one_address_share_no_connection() -> None:
    """What was proved for one name is not proved for the other."""
    async with receiver(tls=True) as hook:
        exceptions = [f"https://{name}:{hook.port}" for name in (NAME, "other.test")]
        outbound = Outbound(exceptions, resolve=Resolver(["127.0.0.1"]), tls=trusting_tls())
        await outbound.post(f"https://{NAME}:{hook.port}/ok", b"", {})
        with pytest.raises(OutboundFailed):
            await outbound.post(f"https://other.test:{hook.port}/ok", b"", {})
        await outbound.close()


async def test_a_redirect_is_refused_and_not_followed(hook: Receiver) -> None:
    async with way_out_to(hook) as outbound:
        with pytest.raises(OutboundRefused, match="redirect"):
            await outbound.post(url_of(hook, "/redirect"), b"", {})
    assert len(hook.heads) == 1


@pytest.mark.parametrize("path", ["/slow", "/silent"])
async def test_the_deadline_holds_for_the_whole_answer(hook: Receiver, path: str) -> None:
    async with way_out_to(hook) as outbound, asyncio.timeout(GENEROUS_S):
        with pytest.raises(OutboundFailed) as failed:
            await outbound.post(url_of(hook, path + "?token=s3cret"), b"", {}, timeout_s=0.5)
    assert failed.value.kind == "timeout"
    assert "s3cret" not in failed.value.detail


async def test_a_resolver_that_says_nothing_ends_at_the_deadline() -> None:
    async def silent(host: str, port: int) -> list[Address]:
        await asyncio.sleep(3600)
        return []

    outbound = Outbound(resolve=silent)
    async with asyncio.timeout(GENEROUS_S):
        with pytest.raises(OutboundFailed) as failed:
            await outbound.post("http://example.org/", b"", {}, timeout_s=0.2)
    assert failed.value.kind == "timeout"
    await outbound.close()


async def test_a_name_that_does_not_exist_fails() -> None:
    outbound = Outbound()
    with pytest.raises(OutboundFailed) as failed:
        await outbound.post("http://there-is-no-such-name.invalid/", b"", {}, timeout_s=GENEROUS_S)
    assert failed.value.kind == "name"
    await outbound.close()


async def test_an_endless_answer_is_cut(hook: Receiver) -> None:
    async with way_out_to(hook) as outbound, asyncio.timeout(GENEROUS_S):
        answer = await outbound.post(url_of(hook, "/huge"), b"", {}, max_answer_bytes=100_000)
    assert answer.body == b"x" * 100_000


@pytest.mark.parametrize(("path", "kind"), [("/reset", "reset"), ("/nonsense", "protocol")])
async def test_a_broken_answer_fails(hook: Receiver, path: str, kind: str) -> None:
    async with way_out_to(hook) as outbound:
        with pytest.raises(OutboundFailed) as failed:
            await outbound.post(url_of(hook, path), b"", {})
    assert failed.value.kind == kind


@pytest.mark.parametrize("headers", [{"X-A": "b\r\nX-C: d"}, {"X A": "b"}, {"X-A": "é\u20ac"}, {"": "b"}])
async def test_headers_that_would_break_the_request_are_refused(hook: Receiver, headers: dict[str, str]) -> None:
    async with way_out_to(hook) as outbound:
        with pytest.raises(OutboundRefused):
            await outbound.post(url_of(hook), b"", headers)
    assert hook.heads == []


async def test_nothing_is_carried_from_one_call_to_the_next(hook: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    async with way_out_to(hook) as outbound:
        await outbound.post(url_of(hook, "/cookie"), b"", {})
        await outbound.post(url_of(hook), b"", {})
    assert hook.connections == 1  # used again
    assert "cookie" not in hook.heads[1].lower()


async def test_a_receiver_that_hangs_takes_a_bounded_number_of_connections(hook: Receiver) -> None:
    url = url_of(hook, "/silent")
    async with way_out_to(hook) as outbound, asyncio.timeout(GENEROUS_S):
        calls = [asyncio.create_task(outbound.post(url, b"", {}, timeout_s=GENEROUS_S)) for _ in range(40)]
        while len(hook.heads) < MAX_CALLS_TO_ONE:
            await asyncio.sleep(0.01)
        with pytest.raises(OutboundFailed) as failed:
            await outbound.post(url, b"", {}, timeout_s=0.3)
        assert (failed.value.kind, len(hook.heads)) == ("busy", MAX_CALLS_TO_ONE)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert (await outbound.post(url_of(hook), b"", {})).status == 200


async def test_a_client_of_its_own_goes_through_the_same_guard(hook: Receiver) -> None:
    outbound = Outbound([f"http://127.0.0.1:{hook.port}"])
    async with httpx2.AsyncClient(transport=outbound.transport(), trust_env=False) as client:
        assert (await client.get(url_of(hook))).status_code == 200
        for url in ("http://10.0.0.1/", "http://ana@127.0.0.1:1/", f"http://127.1:{hook.port}/", "http://[::1]/"):
            with pytest.raises((OutboundRefused, httpx2.InvalidURL)):
                await client.get(url)


async def test_close_leaves_no_connection_open(hook: Receiver) -> None:
    async with way_out_to(hook) as outbound:
        await outbound.post(url_of(hook), b"", {})
    gc.collect()  # an open transport would warn here, and warnings are errors

"""When and where a client comes back."""

import pytest

from server.client.comeback import MAX_PAUSE_S, final_reason, in_turn, least_pause_s, pause_s, socket_address


@pytest.mark.parametrize("code", [1000, 1001, 1006, 1009, 1012, 1013, 4000, 4008, 4012, 4014, 4499])
def test_these_come_back(code: int) -> None:
    assert final_reason(code) is None


@pytest.mark.parametrize("code", [4500, 4501, 4502, 4503, 4504, 4507, 4999])
def test_these_stay_away(code: int) -> None:
    assert final_reason(code)


def test_who_was_told_to_slow_down_waits_longer() -> None:
    assert least_pause_s(1013) == least_pause_s(4013) > least_pause_s(1006) == 0


def test_the_bound_of_a_pause_doubles_up_to_its_maximum() -> None:
    bounds = [pause_s(attempt, lambda: 1.0) for attempt in range(20)]
    assert bounds[1] == 2 * bounds[0]
    assert bounds == sorted(bounds)
    assert bounds[-1] == MAX_PAUSE_S


def test_a_pause_is_anything_below_its_bound() -> None:
    assert pause_s(5, lambda: 0.0) == 0.0
    assert pause_s(5, lambda: 0.5) == pause_s(5, lambda: 1.0) / 2


def test_addresses_are_tried_in_turn() -> None:
    address = in_turn(["http://a", "https://b"])
    assert [address(attempt) for attempt in range(4)] == ["http://a", "https://b", "http://a", "https://b"]
    assert in_turn("http://a")(7) == "http://a"
    assert in_turn(lambda attempt: f"http://{attempt}")(7) == "http://7"


@pytest.mark.parametrize("addresses", [[], "localhost:8000", ["http://a", "ws://b"]])
def test_what_is_no_address_is_refused_at_once(addresses: str | list[str]) -> None:
    with pytest.raises(ValueError):
        in_turn(addresses)


def test_the_socket_stands_beside_the_pages() -> None:
    assert socket_address("http://studio:8000") == "ws://studio:8000/ws"
    assert socket_address("https://studio/chat/") == "wss://studio/chat/ws"

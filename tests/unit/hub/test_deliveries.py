"""Pauses between tries, signatures, and what receivers ask for."""

import base64
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from server.hub.deliveries import DAY_S, RetryPolicy
from server.hub.webhook_receiver import seconds_of
from server.hub.webhook_signature import new_secret, shown, signed_headers

DOCUMENT = Path(__file__).parents[3] / "docs" / "webhooks.md"


def documented_check() -> Callable[[str, dict[str, str], bytes], bool]:
    """The function that the documentation gives to receivers."""
    (program,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(program, names)
    check: Callable[[str, dict[str, str], bytes], bool] = names["is_from_the_studio"]
    return check


def test_pauses_double_up_to_an_hour_and_are_drawn_from_all_below() -> None:
    policy = RetryPolicy()
    assert [policy.pause_s(failures, lambda: 1.0) for failures in (1, 2, 3, 12, 13, 10_000)] == [
        1.0, 2.0, 4.0, 2048.0, 3600.0, 3600.0,
    ]  # fmt: skip
    assert policy.pause_s(5, lambda: 0.0) == 0.0
    assert policy.pause_s(5, lambda: 0.5) == 8.0


def test_the_documentation_tells_how_long_one_event_is_tried() -> None:
    policy = RetryPolicy()
    longest_s = sum(policy.pause_s(failures, lambda: 1.0) for failures in range(1, policy.tries))
    text = DOCUMENT.read_text()
    assert policy.tries == 12
    assert f"{longest_s / 2 / 60:.0f} minutes on average and {longest_s / 60:.0f} at most" in text
    assert policy.disable_after_s == 5 * DAY_S


def test_a_signature_is_the_one_of_the_specification() -> None:
    """The example that the libraries of Standard Webhooks test themselves with."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed_headers([secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert headers["webhook-timestamp"] == "1614265330"


def test_the_documented_check_takes_what_is_ours_and_nothing_else() -> None:
    check = documented_check()
    now, old, new, other = int(time.time()), new_secret(), new_secret(), new_secret()
    headers = signed_headers([new, old], "d-1", now, b"{}")
    assert check(shown(old), headers, b"{}")
    assert check(shown(new), headers, b"{}")
    assert not check(shown(other), headers, b"{}")
    assert not check(shown(new), headers, b"[]")
    assert not check(shown(new), {**headers, "webhook-id": "d-2"}, b"{}")
    assert not check(shown(new), {**headers, "webhook-timestamp": str(now + 1)}, b"{}")
    assert not check(shown(new), signed_headers([new], "d-1", now - 400, b"{}"), b"{}")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        (" 120 ", 120.0),
        ("Sun, 01 Mar 2026 09:31:00 GMT", 60.0),
        ("Sun, 01 Mar 2026 09:00:00 GMT", 0.0),
        ("soon", 0.0),
        ("-5", 0.0),
        ("", 0.0),
        ("9" * 400, 999_999_999_999.0),
    ],
)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float) -> None:
    assert seconds_of(text, datetime(2026, 3, 1, 9, 30, tzinfo=UTC)) == seconds

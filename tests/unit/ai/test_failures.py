"""What providers say when something goes wrong, told by the words and the status, in one table of kinds."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import get_args

import msgspec
import pytest

from server.ai.adapter import ErrorKind
from server.ai.failures import ADVICE, failure_of_answer, failure_of_error, retry_after, without_secrets
from tests.recorded_streams import ABSENT, RECORDED, answers


def answer(status: int, error: object, **headers: str) -> str:
    body = msgspec.json.encode({"error": error})
    return failure_of_answer(status, body, headers).kind


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (401, {"message": "no such key", "code": "invalid_api_key"}, "auth"),
        (403, {"type": "permission_error", "message": "not yours"}, "auth"),
        (402, {"message": "pay"}, "quota"),
        (429, {"message": "you are out of money", "code": "insufficient_quota"}, "quota"),
        (429, {"message": "slow down", "type": "tokens"}, "rate_limited"),
        (429, "slow down", "rate_limited"),
        (500, {"message": "oh"}, "unavailable"),
        (502, None, "unavailable"),
        (503, {"message": "busy"}, "overloaded"),
        (529, {"type": "overloaded_error", "message": "Overloaded"}, "overloaded"),
        (404, {"message": "The model `x` does not exist", "type": "invalid_request_error"}, "model_not_found"),
        (400, {"message": "the prompt is too long: 9 tokens", "type": "invalid_request_error"}, "context_window"),
        (400, {"code": "context_length_exceeded", "message": "no"}, "context_window"),
        (400, {"code": "content_filter", "message": "no"}, "content_filter"),
        (400, {"code": 400, "status": "INVALID_ARGUMENT", "message": "no"}, "invalid_request"),
        (429, {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "no"}, "rate_limited"),
        (418, {"message": "teapot"}, "invalid_request"),
    ],
)
def test_words_and_status_tell_the_kind(status: int, error: object, kind: str) -> None:
    assert answer(status, error) == kind


def test_an_error_inside_a_stream_has_no_status() -> None:
    assert failure_of_error({"type": "overloaded_error", "message": "Overloaded"}).kind == "overloaded"
    assert failure_of_error({"code": 502, "message": "upstream"}).status == 502
    assert failure_of_error("something broke").kind == "unavailable"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"<html>sign in here</html>", "bad_response"),
        (302, b"", "bad_response"),
        (500, b"<html>nginx</html>", "unavailable"),
        (404, b"\xff\xfe", "model_not_found"),
        (401, b"[" * 9000, "auth"),
        (429, b'[{"error": {"message": "slow"}}]', "rate_limited"),
    ],
)
def test_what_is_no_json_is_told_by_its_status_and_not_quoted(status: int, body: bytes, kind: str) -> None:
    found = failure_of_answer(status, body, {})
    assert found.kind == kind
    assert "<html>" not in found.message


def test_retry_after_is_a_number_a_date_or_nothing() -> None:
    assert retry_after({"retry-after": "7"}) == 7
    assert retry_after({"retry-after-ms": "250", "retry-after": "7"}) == 0.25
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 20 < (retry_after({"retry-after": soon}) or 0) <= 30
    for odd in ("", "soon", "-3", "nan", "1e9"):
        assert retry_after({"retry-after": odd}) is None
    assert failure_of_answer(429, b"{}", {"retry-after": "3"}).retry_after_s == 3


def test_keys_are_never_quoted() -> None:
    body = b'{"error": {"message": "Incorrect API key provided: sk-proj-abcdefghijkl. Bearer abc.def"}}'
    message = failure_of_answer(401, body, {}).message
    assert "abcdefgh" not in message
    assert "abc.def" not in message
    assert len(without_secrets("word " * 1000)) < 310


def test_every_kind_has_advice() -> None:
    assert set(ADVICE) == set(get_args(ErrorKind))


@pytest.mark.skipif(not RECORDED.is_dir(), reason=ABSENT)
def test_recorded_refusals_have_a_kind_of_their_own() -> None:
    rows = answers(refused=True)
    assert rows
    for row in rows:
        found = failure_of_answer(int(row["status"]), (RECORDED / row["file"]).read_bytes(), {})
        assert found.kind in ("invalid_request", "model_not_found"), (row["file"], found)
        assert found.message != ADVICE[found.kind].title, row["file"]  # the provider's own words are in it

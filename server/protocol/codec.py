"""JSON on the wire, in and out: the only place that reads or writes it.

In:   the text of a frame or body, from anybody.
Out:  a typed value, or `BadJson` (no JSON, or JSON with a trap in it) or `BadFrame` (sound JSON of another shape).
Promises: what is accepted has one reading only. Duplicate keys, NUL, lone surrogates, NaN, infinities and a depth above
32 are refused, because two parsers on the way would read them differently (RFC 8259, sections 4 and 6; RFC 7493,
I-JSON).

msgspec parses, and what it reads is written again: the same bytes prove that no key came twice. Anything else (blanks
between tokens, escapes, deep nesting, faults) goes through the standard library's scanner, which shows duplicate keys.
msgspec then converts and checks the shape.
"""

import json
import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar, Union

import msgspec

from server.protocol.errors import BadFrame, BadJson
from server.protocol.frames import ClientFrame, ServerFrame, client_frame_types, server_frame_types

T = TypeVar("T")

MAX_DEPTH = 32
MAX_DIGITS = 25  # no number of ours is longer, and parsing a long one is quadratic
BEYOND_ALL_FIELDS = 10**MAX_DIGITS  # what a longer one reads as: refused by its shape, with the `id` beside it known

_encoder = msgspec.json.Encoder()
encode = _encoder.encode
_decode = msgspec.json.Decoder().decode


def decode_frame(text: str) -> ClientFrame:
    """One client frame. The error's `frame_id` tells which `id` came, where one could be read."""
    value = parse(text)
    try:
        if not isinstance(value, dict):
            raise BadFrame("a frame is a JSON object")
        name = value.get("type")
        frame_type = client_frame_types.get(name) if isinstance(name, str) else None
        if frame_type is None:
            raise BadFrame(f"unknown frame type {_quoted(name)}")
        return convert(value, frame_type)
    except BadFrame as error:
        raise BadFrameWithId(error.detail, value.get("id") if isinstance(value, dict) else None) from None


_server_frame: msgspec.json.Decoder[ServerFrame] = msgspec.json.Decoder(Union[server_frame_types])  # noqa: UP007
_server_frame_names = {shape.__struct_config__.tag for shape in server_frame_types}


def decode_server_frame(raw: bytes | str) -> ServerFrame | None:
    """What a client reads. None for a type that this version does not know, which a client ignores."""
    try:
        return _server_frame.decode(raw)
    except msgspec.ValidationError as error:
        value = _decode(raw)
        name = value.get("type") if isinstance(value, dict) else None
        if isinstance(name, str) and name not in _server_frame_names:
            return None
        raise BadFrame(str(error)) from None
    except msgspec.DecodeError as error:
        raise BadJson(str(error)) from None


class BadFrameWithId(BadFrame):
    """A frame of the wrong shape; `frame_id` is whatever came as its `id`."""

    def __init__(self, detail: str, frame_id: object) -> None:
        super().__init__(detail)
        self.frame_id = frame_id


def decode_body(raw: bytes, shape: type[T]) -> T:
    """The body of an HTTP request as `shape`."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise BadJson("the body is not UTF-8") from None
    return convert(parse(text), shape)


def convert(value: object, shape: type[T]) -> T:
    """Already parsed JSON as `shape`, strictly: no unknown field, no silent change of type."""
    try:
        return msgspec.convert(value, shape)
    except msgspec.ValidationError as error:
        raise BadFrame(str(error)) from None


def convert_text_fields(fields: dict[str, str], shape: type[T]) -> T:
    """A query string or form as `shape`: everything comes as text, so "10" may be a number and "true" a boolean."""
    for value in fields.values():
        _check_string(value)
    try:
        return msgspec.convert(fields, shape, strict=False)
    except msgspec.ValidationError as error:
        raise BadFrame(str(error)) from None


def decode_stored(raw: str | bytes, shape: type[T]) -> T:
    """JSON that this server once wrote itself."""
    return msgspec.json.decode(raw, type=shape)


def foreign_decoder(shape: type[T]) -> Callable[[bytes | str], T]:
    """Reads JSON that somebody else's server wrote, as `shape`: fields that nobody here knows are passed over. Raises
    `BadJson` for what is none, or has another shape.
    """
    decode = msgspec.json.Decoder(shape).decode

    def read(raw: bytes | str) -> T:
        try:
            return decode(raw)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise BadJson("this is no JSON of that shape") from None

    return read


def pretty(value: object) -> str:
    """For people to read."""
    return msgspec.json.format(encode(value), indent=2).decode()


def json_schemas(shapes: Sequence[object], ref_template: str) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """The JSON Schema (2020-12) of each shape, and those of the named types they refer to by `ref_template`."""
    schemas, components = msgspec.json.schema_components(
        shapes, schema_hook=lambda _: {"description": "any JSON value"}, ref_template=ref_template
    )
    return list(schemas), components


def parse(text: str) -> object:
    """Any JSON value without traps."""
    has_escapes, openings = "\\" in text, text.count("[") + text.count("{")
    try:
        raw = text.encode()
        if not has_escapes and openings <= MAX_DEPTH:
            value = _decode(raw)
            if encode(value) == raw:  # what programs write is nearly always what we would write: then it hides nothing
                return value
    except UnicodeEncodeError:
        raise BadJson("a string holds half of a surrogate pair") from None
    except (msgspec.MsgspecError, ValueError, OverflowError):
        pass  # the scanner below says what is wrong, or takes it
    return _parse_slowly(text, has_escapes or openings > MAX_DEPTH)


def _parse_slowly(text: str, needs_check: bool) -> object:
    """Three times the time. Only a backslash spells a NUL or half a surrogate pair, so others need no walk."""
    try:
        value = _scan(text)
    except (ValueError, RecursionError) as error:
        raise BadJson(str(error)[:200]) from None
    if needs_check:
        _check(value)
    return value


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise BadJson("an object names the same key twice")
    return value


def _integer(digits: str) -> int:
    return int(digits) if len(digits) <= MAX_DIGITS else BEYOND_ALL_FIELDS


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise BadJson("a number is too large")
    return value


def _constant(name: str) -> NoReturn:
    raise BadJson(f"{name} is not JSON")


_scan = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_int=_integer, parse_float=_float, parse_constant=_constant
).decode


def _check(value: object) -> None:
    """Walk the tree without recursion: depth, and the characters no string of ours may hold."""
    level, depth = [value], 0
    while level:
        depth += 1
        below: list[object] = []
        for item in level:
            if isinstance(item, str):
                _check_string(item)
            elif isinstance(item, dict | list):
                if depth > MAX_DEPTH:
                    raise BadJson(f"nested deeper than {MAX_DEPTH}")
                if isinstance(item, dict):
                    below.extend(item)
                    below.extend(item.values())
                else:
                    below.extend(item)
        level = below


def _check_string(text: str) -> None:
    if "\0" in text:
        raise BadJson("a string holds a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadJson("a string holds half of a surrogate pair") from None


def _quoted(value: object) -> str:
    text = value if isinstance(value, str) else type(value).__name__
    return repr(text[:40])

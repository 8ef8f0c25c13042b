"""The codec takes what has one reading only, and says of everything else what is wrong, in one of two ways."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET, UnsetType, inspect

from server.protocol.codec import (
    MAX_DEPTH,
    BadFrameWithId,
    convert_text_fields,
    decode_body,
    decode_frame,
    encode,
    parse,
)
from server.protocol.errors import BadFrame, BadJson
from server.protocol.frames import (
    MAX_SUBSCRIPTIONS,
    ClientFrame,
    Cursor,
    Ping,
    Read,
    Send,
    Subscribe,
    client_frame_types,
)
from tests import json_test_suite

LARGEST_INTEGER = 2**53
ID = "01930a1b-5c00-7000-8000-00000000c001"


def code_of(text: str) -> str:
    """How the text fails as a frame, or `fine`. Any other exception is a bug and passes through."""
    try:
        decode_frame(text)
    except (BadJson, BadFrame) as error:
        return error.code
    return "fine"


class TestJsonTestSuite:
    @json_test_suite.needs_suite
    def test_it_is_whole(self) -> None:
        assert len(json_test_suite.NAMES) == 318
        assert {name[:2] for name in json_test_suite.NAMES} == {"y_", "n_", "i_"}
        assert set(json_test_suite.NAMES) >= json_test_suite.TRAPS

    @json_test_suite.needs_suite
    @pytest.mark.parametrize("name", json_test_suite.NAMES)
    def test_a_case(self, name: str) -> None:
        """Those that are no text frame (no UTF-8, too large) never come so far on a socket, but do over HTTP."""
        raw = json_test_suite.content(name)
        codes = json_test_suite.expected_codes(name)
        if json_test_suite.is_text_frame(name):
            assert code_of(raw.decode()) in codes
        with pytest.raises((BadJson, BadFrame)) as error:
            decode_body(raw, Read)
        assert error.value.code in codes

    @json_test_suite.needs_suite
    @pytest.mark.parametrize("name", [name for name in json_test_suite.NAMES if name.startswith("y_")])
    def test_a_sound_one_reads_as_it_does_elsewhere(self, name: str) -> None:
        if name not in json_test_suite.TRAPS:
            text = json_test_suite.content(name).decode()
            assert parse(text) == json.loads(text)


class TestTraps:
    @pytest.mark.parametrize(
        "text",
        [
            '{"type":"ping","type":"ping"}',
            '{"type": "ping", "type": "ping"}',
            '{"a":{"b":[{"c":1,"c":2}]}}',
            '{"a": {"b": [{"c": 1, "c": 2}]}}',
            r'{"a":1,"\u0061":2}',
            '{"":1,"":2}',
            '{"type":"subscribe","id":"a","conversations":{"c":null,"c":{"seq":1}}}',
        ],
    )
    def test_the_same_key_twice(self, text: str) -> None:
        with pytest.raises(BadJson, match="twice"):
            decode_frame(text)

    @pytest.mark.parametrize("text", [r'["\u0000"]', r'{"a\u0000":1}', r'{"a":{"b":["x\u0000y"]}}', '["\0"]'])
    def test_nul(self, text: str) -> None:
        assert code_of(text) == "bad_json"

    def test_a_backslash_before_u0000_is_no_nul(self) -> None:
        assert parse(r'["\\u0000"]') == [r"\u0000"]

    @pytest.mark.parametrize(
        "text", [r'["\ud800"]', r'["\udc00"]', r'["\udc00\ud800"]', r'{"\ud83d":1}', r'["\ud83dx\ude00"]', '["\ud800"]']
    )
    def test_half_a_surrogate_pair(self, text: str) -> None:
        with pytest.raises(BadJson, match="surrogate"):
            decode_frame(text)

    def test_a_whole_surrogate_pair_is_one_character(self) -> None:
        assert parse(r'["\ud83d\ude00"]') == ["😀"]

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 400 + ".0"])
    def test_no_number(self, number: str) -> None:
        assert code_of(f"[{number}]") == "bad_json"
        assert code_of(f'{{"type":"read","seq":{number}}}') == "bad_json"

    @pytest.mark.parametrize(
        "text",
        ["", " ", "\ufeff{}", "{} {}", "{},", '{"type":"ping"}x', "{'type':'ping'}", "// no\n{}", '{"a":1,}', "[1\0]"],
    )
    def test_no_json(self, text: str) -> None:
        assert code_of(text) == "bad_json"

    def test_a_body_that_is_no_utf_8(self) -> None:
        with pytest.raises(BadJson, match="UTF-8"):
            decode_body(b'{"id":"\xff"}', Ping)


class TestDepth:
    @pytest.mark.parametrize(
        ("opening", "closing"),
        [("[", "]"), ('{"a":', "}"), ('{"a":[', "]}"), ('[ {"a" : ', "}]")],
        ids=["arrays", "objects", "mixed", "spaced"],
    )
    def test_32_levels_are_taken_and_33_are_not(self, opening: str, closing: str) -> None:
        levels = len(re.findall(r"[\[{]", opening))
        times = MAX_DEPTH // levels
        inside = "" if opening.endswith(("[", "[ ")) else "1"
        parse(opening * times + (inside or "1") + closing * times)
        with pytest.raises(BadJson, match="nested deeper than 32"):
            parse(opening * times + "[1]" + closing * times)
        with pytest.raises(BadJson, match="nested deeper than 32"):
            parse(opening * times + "{}" + closing * times)

    def test_many_brackets_beside_one_another_are_not_deep(self) -> None:
        value = [[[1], {"a": {}}] for _ in range(1000)]
        assert parse(json.dumps(value)) == value

    def test_brackets_inside_a_string_are_not_deep(self) -> None:
        assert parse(json.dumps(["[" * 100])) == ["[" * 100]

    @pytest.mark.parametrize("text", ["[" * 60_000, "[" * 30_000 + "]" * 30_000, '{"a":' * 10_000, "[{" * 30_000])
    def test_tens_of_thousands_of_brackets_break_nothing(self, text: str) -> None:
        assert code_of(text) == "bad_json"


class TestNumbers:
    def test_integers_reach_2_to_the_53(self) -> None:
        assert decode_frame(f'{{"type":"read","seq":{LARGEST_INTEGER}}}') == Read(seq=LARGEST_INTEGER)

    @pytest.mark.parametrize(
        "number",
        [
            str(LARGEST_INTEGER + 1),
            "-1",
            str(2**64),
            str(10**24),
            str(10**25),
            str(10**30),
            "1" * 5_000,
            "-" + "1" * 5_000,
        ],
    )
    def test_what_is_beyond_has_the_wrong_shape_and_keeps_its_id(self, number: str) -> None:
        with pytest.raises(BadFrameWithId) as error:
            decode_frame(f'{{"type":"subscribe","id":"a","conversations":{{"c":{{"seq":{number}}}}}}}')
        assert error.value.frame_id == "a"

    @pytest.mark.parametrize("number", ["1.0", "1e3", "1.5", '"1"', "true"])
    def test_nothing_else_passes_for_an_integer(self, number: str) -> None:
        assert code_of(f'{{"type":"read","seq":{number}}}') == "bad_frame"

    def test_every_integer_of_a_client_frame_has_a_bound(self) -> None:
        """A number too long to be parsed reads as one that no field takes: so no field may take just any."""
        integers = [found for shape in client_frame_types.values() for found in integers_in(inspect.type_info(shape))]
        assert integers
        assert all(found.le is not None and found.le <= LARGEST_INTEGER for found in integers)


class TestFrames:
    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("[]", "a frame is a JSON object"),
            ('"ping"', "a frame is a JSON object"),
            ("null", "a frame is a JSON object"),
            ("{}", "unknown frame type 'NoneType'"),
            ('{"type":"nonsense"}', "unknown frame type 'nonsense'"),
            ('{"type":"welcome"}', "unknown frame type 'welcome'"),
            ('{"type":null}', "unknown frame type 'NoneType'"),
            ('{"type":1}', "unknown frame type 'int'"),
            ('{"type":[]}', "unknown frame type 'list'"),
            ('{"type":{}}', "unknown frame type 'dict'"),
            ('{"type":["ping"]}', "unknown frame type 'list'"),
            ('{"type":"ping","colour":"red"}', "colour"),
            ('{"type":"send","id":"a"}', "text"),
            ('{"type":"send","id":"a","text":1}', "Expected `str`, got `int`"),
            ('{"type":"send","id":"a","text":"x","people_only":"yes"}', "Expected `bool`"),
            ('{"type":"send","id":"a","text":"x","attachments":"file"}', "Expected `array`"),
            ('{"type":"subscribe","id":"a","conversations":{"c":{"seq":1,"more":2}}}', "more"),
            ('{"type":"react","id":"a","message":"m","emoji":"","on":true}', "length"),
        ],
    )
    def test_sound_json_of_another_shape(self, text: str, words: str) -> None:
        with pytest.raises(BadFrame) as error:
            decode_frame(text)
        assert words in error.value.detail

    @pytest.mark.parametrize("frame_id", ["a", "A-z.0_9:", "x" * 64])
    def test_ids_that_are_taken(self, frame_id: str) -> None:
        assert decode_frame(json.dumps({"type": "ping", "id": frame_id})) == Ping(id=frame_id)

    @pytest.mark.parametrize("frame_id", ["", "x" * 65, "a\n", "\na", "a b", "ä", "a/b", 1, [], {}])
    def test_ids_that_are_not(self, frame_id: object) -> None:
        with pytest.raises(BadFrameWithId) as error:
            decode_frame(json.dumps({"type": "ping", "id": frame_id}))
        assert error.value.frame_id == frame_id

    def test_an_unknown_type_is_quoted_only_so_far(self) -> None:
        with pytest.raises(BadFrame) as error:
            decode_frame(json.dumps({"type": "x" * 10_000}))
        assert len(error.value.detail) < 100

    def test_one_socket_follows_500_conversations_at_most(self) -> None:
        cursors: dict[str, Cursor | None] = {f"c{number}": Cursor(seq=0) for number in range(MAX_SUBSCRIPTIONS + 1)}
        assert code_of(encode(Subscribe(id="a", conversations=cursors)).decode()) == "bad_frame"
        del cursors["c0"]
        assert code_of(encode(Subscribe(id="a", conversations=cursors)).decode()) == "fine"

    def test_blanks_and_escapes_change_nothing(self) -> None:
        frame = Send(id="a", conversation=ID, text='Grüße\n"👋"')
        for text in (
            encode(frame).decode(),
            json.dumps(json.loads(encode(frame))),
            json.dumps(json.loads(encode(frame)), indent=2),
            json.dumps(json.loads(encode(frame)), ensure_ascii=False, separators=(",", ":")),
        ):
            assert decode_frame(text) == frame


def test_text_fields_become_numbers_and_truths_but_hide_nothing() -> None:
    assert convert_text_fields({"seq": "12", "epoch": "e"}, Cursor) == Cursor(seq=12, epoch="e")
    for fields in ({"seq": "12", "more": "1"}, {"seq": "twelve"}, {"seq": ""}, {"seq": str(LARGEST_INTEGER + 1)}):
        with pytest.raises(BadFrame):
            convert_text_fields(fields, Cursor)
    for text in ("a\0b", "\ud800"):
        with pytest.raises(BadJson):
            convert_text_fields({"seq": "1", "epoch": text}, Cursor)


# What random input shows

sound_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | sound_text,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(sound_text, inner, max_size=5),
    max_leaves=20,
)
wild_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=[])),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.sampled_from(["type", "id", "conversations", "seq", "text", "a"]), inner, max_size=5)
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(json_values)
def test_every_spelling_of_a_value_reads_the_same(value: object) -> None:
    for text in (
        json.dumps(value),
        json.dumps(value, indent=1),
        json.dumps(value, ensure_ascii=False, separators=(",", ":")),
        encode(value).decode(),
    ):
        assert parse(text) == value


@settings(deadline=None)
@given(wild_values, st.booleans())
def test_any_value_is_taken_or_refused_in_one_of_two_ways(value: object, is_ascii: bool) -> None:
    for separators in ((",", ":"), (", ", ": ")):
        code_of(json.dumps(value, ensure_ascii=is_ascii, separators=separators))


@settings(deadline=None)
@given(st.sampled_from(sorted(client_frame_types)), wild_values)
def test_any_content_of_a_known_frame_is_taken_or_refused_in_one_of_two_ways(name: str, value: object) -> None:
    frame = {**value, "type": name} if isinstance(value, dict) else {"type": name, "id": value}
    code_of(json.dumps(frame))


@settings(deadline=None)
@given(st.text(st.sampled_from('{}[]":,\\/0123456789.eE+-tfnrualse \n\t\0\ud800aü'), max_size=40) | st.text())
def test_any_text_is_taken_or_refused_in_one_of_two_ways(text: str) -> None:
    code_of(text)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b", r"\u0061", "c"]), st.integers(0, 3)), max_size=4), st.booleans())
def test_no_spelling_hides_a_second_key(pairs: list[tuple[str, int]], is_spaced: bool) -> None:
    text = "{" + (", " if is_spaced else ",").join(f'"{key}":{value}' for key, value in pairs) + "}"
    names = [key.replace(r"\u0061", "a") for key, _ in pairs]
    if len(set(names)) == len(names):
        assert parse(text) == dict(zip(names, (value for _, value in pairs), strict=True))
    else:
        with pytest.raises(BadJson):
            parse(text)


def integers_in(info: inspect.Type) -> Iterator[inspect.IntType]:
    match info:
        case inspect.IntType():
            yield info
        case inspect.Metadata(type=inner) | inspect.ListType(item_type=inner) | inspect.DictType(value_type=inner):
            yield from integers_in(inner)
        case inspect.UnionType(types=types):
            for inner in types:
                yield from integers_in(inner)
        case inspect.StructType(fields=fields):
            for field in fields:
                yield from integers_in(field.type)


def values_of(info: inspect.Type) -> st.SearchStrategy[Any]:
    """Everything that a field takes."""
    match info:
        case inspect.Metadata(type=inner):
            return values_of(inner)
        case inspect.StructType():
            return structs_of(info)
        case inspect.UnionType(types=types):
            return st.one_of([values_of(inner) for inner in types])
        case inspect.ListType(item_type=inner, max_length=most):
            return st.lists(values_of(inner), max_size=min(most or 4, 4))
        case inspect.DictType(value_type=inner):
            return st.dictionaries(sound_text, values_of(inner), max_size=4)
        case inspect.StrType(pattern=str()):
            return st.from_regex(r"[A-Za-z0-9._:-]{1,64}", fullmatch=True)
        case inspect.StrType(min_length=least, max_length=most):
            return st.text(
                st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=least or 0, max_size=most
            )
        case inspect.IntType(ge=least, le=most):
            return st.integers(least, most)
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
    if isinstance(info, type(inspect.type_info(UnsetType))):
        return st.just(UNSET)
    raise TypeError(f"no values for {info}")


def structs_of(info: inspect.StructType) -> st.SearchStrategy[Any]:
    return st.builds(info.cls, **{field.name: values_of(field.type) for field in info.fields})


valid_frames = st.one_of([values_of(inspect.type_info(shape)) for shape in client_frame_types.values()])


@settings(max_examples=500, deadline=None)
@given(valid_frames)
def test_every_valid_frame_comes_back_as_it_went(frame: ClientFrame) -> None:
    text = encode(frame).decode()
    assert decode_frame(text) == frame
    assert decode_frame(json.dumps(json.loads(text))) == frame

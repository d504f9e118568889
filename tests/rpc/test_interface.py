"""Interfaces: what a Protocol class becomes, what is refused in it, and that every value comes back as it was."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import random
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, Protocol, TypedDict, TypeVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onerack.errors import UsageError
from onerack.rpc.attachment import Attachment
from onerack.rpc.interface import Method, interface_of, json_schema
from onerack.rpc.messages import Mode
from onerack.rpc.modes import at_least_once, exactly_once, readonly, service

T = TypeVar("T")
Cents = NewType("Cents", int)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Entry(msgspec.Struct, frozen=True):
    name: str
    inner: list[Entry] = []


class Page(msgspec.Struct, Generic[T], frozen=True):
    items: list[T]


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: float = 0.0


class Row(NamedTuple):
    key: str
    value: int | None


class Options(TypedDict):
    depth: int
    label: NotRequired[str]


class Account(Protocol):
    """Money, and who has it."""

    class Note(msgspec.Struct, frozen=True):
        text: Annotated[str, msgspec.Meta(max_length=5)] = ""

    @readonly
    async def balance(self, user: str) -> int:
        """What the user has.

        In cents.
        """
        ...

    async def charge(
        self, user: str, cents: int = 1, *, color: Color = Color.RED, note: Note | None = None
    ) -> Entry: ...
    @exactly_once
    async def transfer(self, src: str, dst: str, cents: int) -> int: ...
    @at_least_once(attempts=2)
    async def clear(self) -> None: ...
    async def put(self, name: str, content: Attachment = b"", mode: int = 0) -> tuple[int, Attachment]: ...
    async def get(self, name: str) -> Attachment: ...
    def watch(self, keys: AsyncIterator[str], since: int = 0) -> AsyncIterator[Entry]: ...
    async def _hidden(self, anything) -> None: ...  # type: ignore[no-untyped-def]


def method_named(name: str) -> Method:
    return interface_of(Account).methods[name]


def interface_with(hint: Any, result: Any = None, default: Any = ..., is_async: bool = True) -> type:
    """An interface whose one method, `charge`, has one parameter `x` of this type."""

    async def waits(self: Any, x: Any) -> Any: ...
    def gives(self: Any, x: Any) -> Any: ...

    charge: Any = waits if is_async else gives
    charge.__annotations__ = {"x": hint, "return": result}
    if default is not ...:
        charge.__defaults__ = (default,)
    return type("Account", (), {"charge": charge})


# ------------------------------------------------------------------------------------------------ what it becomes


def test_an_interface_knows_its_methods_and_their_modes() -> None:
    interface = interface_of(Account)
    assert interface.name == "Account"
    assert [(method.full_name, method.mode, method.attempts) for method in interface.methods.values()] == [
        ("Account.balance", Mode.READONLY, None),
        ("Account.charge", Mode.AT_MOST_ONCE, None),
        ("Account.clear", Mode.AT_LEAST_ONCE, 2),
        ("Account.get", Mode.AT_MOST_ONCE, None),
        ("Account.put", Mode.AT_MOST_ONCE, None),
        ("Account.transfer", Mode.EXACTLY_ONCE, None),
        ("Account.watch", Mode.AT_MOST_ONCE, None),
    ]


def test_an_interface_is_read_once() -> None:
    assert interface_of(Account) is interface_of(Account)


def test_methods_are_inherited_and_a_service_may_have_another_name() -> None:
    @service("bank.Savings")
    class Savings(Account, Protocol):
        async def rate(self) -> float: ...

    interface = interface_of(Savings)
    assert interface.name == "bank.Savings"
    assert interface.methods.keys() - interface_of(Account).methods.keys() == {"rate"}
    assert interface.methods["charge"].full_name == "bank.Savings.charge"
    assert interface.methods["charge"].name == "charge"


def test_a_plain_class_is_an_interface_too() -> None:
    class Clock:
        async def now(self) -> float:
            return 0.0

        async def ticks(self) -> AsyncIterator[int]:
            yield 1

    assert interface_of(Clock).methods["ticks"].result_is_stream


def test_arguments_are_taken_as_python_takes_them() -> None:
    charge = method_named("charge")
    expected = charge.Arguments("alice", 1, color=Color.RED, note=None)
    assert charge.arguments("alice") == (expected, None, None)
    assert charge.arguments(user="alice") == (expected, None, None)
    assert charge.arguments("alice", 1, color=Color.RED) == (expected, None, None)


@pytest.mark.parametrize(
    ("call", "complaint"),
    [
        (lambda m: m["charge"].arguments(), "Account.charge() missing a required argument: 'user'"),
        (lambda m: m["charge"].arguments("a", 1, Color.RED), "Account.charge() too many positional arguments"),
        (lambda m: m["charge"].arguments("a", z=1), "Account.charge() got an unexpected keyword argument 'z'"),
        (lambda m: m["charge"].arguments("a", user="b"), "Account.charge() multiple values for argument 'user'"),
        (lambda m: m["put"].arguments(content=b""), "Account.put() missing a required argument: 'name'"),
        (lambda m: m["watch"].arguments(), "Account.watch() missing a required argument: 'keys'"),
    ],
)
def test_a_wrong_call_is_a_type_error_that_names_the_method(call: Callable[..., Any], complaint: str) -> None:
    with pytest.raises(TypeError) as error:
        call(interface_of(Account).methods)
    assert str(error.value) == complaint


def test_an_attachment_stays_out_of_the_message() -> None:
    put = method_named("put")
    arguments, attachment, stream = put.arguments("a", bytearray(b"content"), mode=3)
    assert (put.encode_arguments(arguments), bytes(attachment or b""), stream) == (b"\x92\xa1a\x03", b"content", None)
    assert put.arguments("a")[1] == memoryview(b"")
    assert (put.attachment_parameter, put.result_attachment) == ("content", "last")
    with pytest.raises(UsageError, match=r"Account\.put: parameter 'content' must be bytes-like"):
        put.arguments("a", "text")


def test_an_attachment_comes_back_as_a_view_of_exactly_its_bytes() -> None:
    put, get = method_named("put"), method_named("get")
    body, attachment = put.encode_return((7, bytearray(b"content")))
    value, view = put.decode_return(body, attachment)
    assert (value, bytes(view), type(view), view.readonly) == (7, b"content", memoryview, True)
    body, attachment = get.encode_return(b"content")
    assert bytes(get.decode_return(body, attachment)) == b"content"
    assert get.decode_return(body, None) == b""
    assert method_named("balance").encode_return(3) == (b"\x03", None)
    assert method_named("balance").decode_return(b"\x03") == 3


@pytest.mark.parametrize("returned", [7, (7,), (7, "text"), (7, b"", b""), None])
def test_a_result_without_its_attachment_is_the_handlers_mistake(returned: Any) -> None:
    with pytest.raises(UsageError, match=r"Account\.put: the result"):
        method_named("put").encode_return(returned)


def test_a_stream_stays_out_of_the_message() -> None:
    async def keys() -> AsyncIterator[str]:
        yield "a"

    watch, given = method_named("watch"), keys()
    arguments, attachment, stream = watch.arguments(given, 5)
    assert (watch.encode_arguments(arguments), attachment, stream) == (b"\x91\x05", None, given)
    assert watch.item is not None
    assert watch.result_item is not None
    assert (watch.stream_parameter, watch.result_is_stream) == ("keys", True)
    assert watch.item.decode(watch.item.encode("a")) == "a"
    assert watch.result_item.decode(watch.result_item.encode(Entry("b"))) == Entry("b")
    assert watch.decode_result(watch.encode_result(None)) is None
    with pytest.raises(UsageError, match="'keys' must be an async iterator"):
        watch.arguments(["a"])
    with pytest.raises(msgspec.ValidationError, match=r"Account\.watch: parameter 'keys': an item: Expected `str`"):
        watch.item.decode(b"\x05")


def test_a_mutable_default_is_not_shared_between_calls() -> None:
    method = interface_of(interface_with(dict[str, list[int]], default={"a": [1]})).methods["charge"]
    first: Any = method.arguments()[0]
    first.x["a"].append(2)
    assert method.arguments()[0] == method.Arguments({"a": [1]})


# ------------------------------------------------------------------------------------------------ what is refused

UNCHECKED = "nothing could be checked"
IMPOSSIBLE = "cannot be checked when it arrives"


class Opaque:
    pass


class Holder(msgspec.Struct):
    opaque: Opaque


class Unresolved(msgspec.Struct):
    x: Missing  # type: ignore[name-defined]  # noqa: F821


@pytest.mark.parametrize(
    ("hint", "complaint"),
    [
        (Any, UNCHECKED),
        (list, UNCHECKED),
        (dict[str, Any], UNCHECKED),
        (T, UNCHECKED),
        (Page, "within it Page.items, is Any"),
        (object, f"is object, which {IMPOSSIBLE}"),
        (Opaque, f"is Opaque, which {IMPOSSIBLE}"),
        (list[Opaque | None], f"is Opaque, which {IMPOSSIBLE}"),
        (Holder, f"within it Holder.opaque, is Opaque, which {IMPOSSIBLE}"),
        (msgspec.Raw, f"is Raw, which {IMPOSSIBLE}"),
        (msgspec.msgpack.Ext, f"is Ext, which {IMPOSSIBLE}"),
        (complex, f"is complex, which {IMPOSSIBLE}"),
        (Callable[[int], int], IMPOSSIBLE),
        (Iterator[int], IMPOSSIBLE),
        (list[AsyncIterator[int]], r"a stream is AsyncIterator\[T\], as a whole parameter"),
        (AsyncIterator, r"write AsyncIterator\[T\]"),
        (AsyncIterator[Attachment], "stream of attachments"),
        (AsyncIterator[Any], UNCHECKED),
        (list[Attachment], "an Attachment within another type"),
        (Attachment | None, "an Attachment within another type"),
        (str | bytes, "cannot check: .*more than one str-like type"),
        (Entry | Page[int], "cannot check: .*must be tagged"),
        (Unresolved, "cannot check: .*Missing"),
        ("Missing", r"annotations cannot be read \(name 'Missing' is not defined\)"),
    ],
)
def test_a_type_that_cannot_be_checked_is_refused_by_name(hint: Any, complaint: str) -> None:
    with pytest.raises(UsageError, match=r"^Account\.charge: .*" + complaint) as error:
        interface_of(interface_with(hint))
    assert "parameter 'x'" in str(error.value) or hint == "Missing"


@pytest.mark.parametrize(
    "hint", [Any, Opaque, tuple[Attachment, int], tuple[int, str, Attachment], tuple[Attachment], dict]
)
def test_so_is_a_result(hint: Any) -> None:
    with pytest.raises(UsageError, match=r"^Account\.charge: .*result"):
        interface_of(interface_with(int, hint))


@pytest.mark.parametrize(
    ("hint", "default", "complaint"),
    [
        (int, None, "default that is not of its type: None"),
        (Annotated[int, msgspec.Meta(ge=1)], 0, "default that is not of its type: 0"),
        (list[int], ["a"], "default that is not of its type"),
        (int, Opaque(), "default that is not of its type"),
        (Attachment, b"abc", "attachment with the default b'abc'; it may only be b''"),
        (Attachment, None, "may only be b''"),
        (AsyncIterator[int], None, "a stream is always given"),
    ],
)
def test_a_default_must_be_able_to_arrive(hint: Any, default: Any, complaint: str) -> None:
    with pytest.raises(UsageError, match=rf"^Account\.charge: parameter 'x' .*{complaint}"):
        interface_of(interface_with(hint, default=default))


class Refused:
    """Methods that cannot be called from afar, each with the words that say why."""

    async def variadic(self, *names: str) -> None:
        """parameter 'names' is variadic positional"""

    async def keywords(self, **names: str) -> None:
        """parameter 'names' is variadic keyword"""

    async def unnamed(self, name: str, /) -> None:
        """parameter 'name' is positional-only"""

    async def bare(self, name) -> None:  # type: ignore[no-untyped-def]
        """parameter 'name' has no annotation"""

    async def endless(self, name: str):  # type: ignore[no-untyped-def]
        """the result has no annotation"""

    async def selfless(user: str) -> None:  # type: ignore[misc]  # noqa: N805
        """the first parameter of a method is self"""

    def sync(self, name: str) -> int:  # type: ignore[empty-body]
        """write `async def`"""

    async def awaited(self) -> AsyncIterator[int]:  # type: ignore[empty-body]
        """write `def`, not `async def`"""

    async def two(self, a: Attachment, b: Attachment) -> None:
        """a and b are attachments; a method has at most one"""

    async def streams(self, a: AsyncIterator[int], b: AsyncIterator[int]) -> None:
        """a and b are streams; a method has at most one"""

    @exactly_once
    async def kept(self, a: Attachment) -> None:
        """an exactly_once call is kept in a log"""

    @exactly_once
    async def given(self) -> Attachment:  # type: ignore[empty-body]
        """an exactly_once call is kept in a log"""

    @exactly_once
    async def halved(self, a: AsyncIterator[int]) -> None:
        """a stream cannot be exactly_once"""

    @at_least_once
    def again(self) -> AsyncIterator[int]:  # type: ignore[empty-body]
        """a stream cannot be at_least_once"""

    limit: int
    """is a mere attribute"""

    @property
    def size(self) -> int:
        """is a property"""
        return 0

    @staticmethod
    async def static(name: str) -> None:
        """is a staticmethod"""


@pytest.mark.parametrize("name", [name for name in [*vars(Refused), "limit"] if not name.startswith("_")])
def test_a_method_that_cannot_be_called_from_afar_is_refused_by_name(name: str) -> None:
    found = vars(Refused).get(name)
    complaint = "is a mere attribute" if found is None else str(found.__doc__)
    refused = type("Account", (), {name: found} if found else {"__annotations__": {name: int}})
    with pytest.raises(UsageError) as error:
        interface_of(refused)
    assert str(error.value).startswith(f"Account.{name}")
    assert complaint in str(error.value)


@pytest.mark.parametrize("given", [3, Entry("a"), Page[int]])
def test_an_interface_is_a_class(given: Any) -> None:
    with pytest.raises(UsageError, match="an interface is a class"):
        interface_of(given)


def test_an_interface_has_methods() -> None:
    with pytest.raises(UsageError, match="Opaque has no public methods"):
        interface_of(Opaque)


def test_types_that_nest_without_end_are_refused() -> None:
    hint: Any = int
    for _ in range(40):
        hint = list[hint]
    with pytest.raises(UsageError, match="nests types more than 32 deep"):
        interface_of(interface_with(hint))


# ------------------------------------------------------------------------------------------------ values

WHOLE = st.integers(-(2**63), 2**64 - 1)
ENTRIES: st.SearchStrategy[Entry] = st.deferred(
    lambda: st.builds(Entry, st.text(max_size=4), st.lists(ENTRIES, max_size=2))
)
TYPES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, WHOLE),
    (Cents, WHOLE),
    (float, st.floats(allow_nan=False)),
    (str | None, st.none() | st.text()),
    (bytes, st.binary()),
    (bool, st.booleans()),
    (set[int], st.sets(WHOLE)),
    (frozenset[str], st.frozensets(st.text())),
    (dict[tuple[int, str], list[float]], st.dictionaries(st.tuples(WHOLE, st.text()), st.lists(st.just(0.5)))),
    (tuple[int, ...], st.lists(WHOLE).map(tuple)),
    (tuple[int, str], st.tuples(WHOLE, st.text())),
    (Color, st.sampled_from(Color)),
    (Literal["a", 1, None], st.sampled_from(["a", 1, None])),
    (Entry, ENTRIES),
    (Page[Point], st.builds(Page, st.lists(st.builds(Point, WHOLE, st.floats(allow_nan=False))))),
    (Row, st.builds(Row, st.text(), st.none() | WHOLE)),
    (Options, st.fixed_dictionaries({"depth": WHOLE}, optional={"label": st.text()})),
    (datetime.datetime, st.datetimes(timezones=st.none() | st.just(datetime.UTC))),
    (datetime.date, st.dates()),
    (datetime.time, st.times()),
    (datetime.timedelta, st.timedeltas(datetime.timedelta(-10_000), datetime.timedelta(10_000))),
    (uuid.UUID, st.uuids()),
    (decimal.Decimal, st.decimals(allow_nan=False)),
    (int | str | list[Entry], WHOLE | st.text() | st.lists(ENTRIES, max_size=3)),
]


@pytest.mark.parametrize(("hint", "values"), TYPES, ids=lambda each: str(each)[:40])
def test_every_value_comes_back_as_it_was(hint: Any, values: st.SearchStrategy[Any]) -> None:
    method = interface_of(interface_with(hint, result=hint)).methods["charge"]

    @settings(max_examples=25, deadline=None)
    @given(values)
    def check(value: Any) -> None:
        arguments = method.Arguments(value)
        assert method.decode_arguments(method.encode_arguments(arguments)) == arguments
        assert method.decode_result(method.encode_result(value)) == value

    check()


def test_equal_values_have_equal_bytes() -> None:
    method = interface_of(interface_with(dict[str, set[str]])).methods["charge"]
    words = {f"word {number}" for number in range(50)}
    arguments = method.Arguments({"b": set(), "a": words})
    assert method.encode_arguments(arguments) == msgspec.msgpack.encode([{"a": sorted(words), "b": []}])


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "Account.charge: Expected `array` of at least length 1"),
        ([7], "Account.charge: Expected `str`, got `int` - at `user`"),
        (["a", "7"], "Account.charge: Expected `int`, got `str` - at `cents`"),
        (["a", 7, "green"], "Account.charge: Invalid enum value 'green' - at `color`"),
        (["a", 7, "red", {"text": "too long"}], "Account.charge: Expected `str` of length <= 5 - at `note.text`"),
        ({"user": "a"}, "Account.charge: Expected `array`, got `object`"),
    ],
)
def test_arguments_of_the_wrong_type_are_refused_by_name(arguments: Any, complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError) as error:
        method_named("charge").decode_arguments(msgspec.msgpack.encode(arguments))
    assert str(error.value).startswith(complaint)


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x91" * 100_000, b"\x91\xa1\xff", b"\xdd\xff\xff\xff\xff"])
def test_broken_bytes_raise_nothing_else(payload: bytes) -> None:
    for decode in (method_named("charge").decode_arguments, method_named("charge").decode_arguments_json):
        with pytest.raises(msgspec.ValidationError, match=r"^Account\.charge: "):
            decode(payload)


def test_ten_thousand_damaged_messages_raise_nothing_else() -> None:
    chance = random.Random(5)
    method = interface_of(interface_with(list[Entry | Literal["a"]] | dict[str, datetime.datetime])).methods["charge"]
    whole = method.encode_arguments(method.Arguments([Entry("name", [Entry("b")]), "a"]))
    refused = 0
    for _ in range(10_000):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            method.decode_arguments(bytes(damaged[: chance.randint(0, len(damaged))]))
        except msgspec.ValidationError:
            refused += 1
    assert 5_000 < refused < 10_000


@pytest.mark.parametrize("value", [2**64, "\ud800", object(), {1: object()}])
def test_what_cannot_be_sent_is_refused_by_name(value: Any) -> None:
    charge = method_named("charge")
    with pytest.raises(UsageError, match=r"^Account\.charge: parameter 'cents' cannot be sent"):
        charge.encode_arguments(charge.Arguments("a", value))
    with pytest.raises(UsageError, match=r"^Account\.charge: the result cannot be sent"):
        charge.encode_result(value)


# ------------------------------------------------------------------------------------------------ JSON


def test_people_send_an_object_by_name_and_read_json() -> None:
    charge = method_named("charge")
    decoded = charge.decode_arguments_json(b'{"color": "blue", "user": "a"}')
    assert decoded == charge.Arguments("a", 1, color=Color.BLUE, note=None)
    assert charge.encode_result_json(Entry("a")) == b'{"name":"a","inner":[]}'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (b'{"user": 3}', "Expected `str`, got `int` - at `user`"),
        (b'{"user": "a", "cent": 3}', "Object contains unknown field `cent`"),
        (b'{"cents": 3}', "Object missing required field `user`"),
        (b"[]", "Expected `object`, got `array`"),
    ],
)
def test_a_mistake_in_json_is_named(text: bytes, complaint: str) -> None:
    with pytest.raises(msgspec.ValidationError) as error:
        method_named("charge").decode_arguments_json(text)
    assert str(error.value) == f"Account.charge: {complaint}"


def test_json_schema_says_what_to_send_and_what_comes_back() -> None:
    schema = json_schema(interface_of(Account))
    assert (schema["service"], schema["doc"]) == ("Account", "Money, and who has it.")
    balance = schema["methods"]["balance"]
    assert (balance["mode"], balance["doc"]) == ("readonly", "What the user has.")
    assert balance["arguments"]["$defs"]["Account.balance"]["properties"] == {"user": {"type": "string"}}
    assert balance["result"] == {"type": "integer"}
    assert schema["methods"]["put"]["attachment"] == "content"
    assert schema["methods"]["watch"]["result"]["$ref"] == "#/$defs/Entry"


def test_a_type_without_json_can_still_be_called() -> None:
    interface = interface_of(interface_with(dict[tuple[int, int], str]))
    assert json_schema(interface)["methods"]["charge"]["result"] == {"type": "null"}
    method = interface.methods["charge"]
    arguments = method.Arguments({(1, 2): "a"})
    assert method.decode_arguments(method.encode_arguments(arguments)) == arguments
    with pytest.raises(msgspec.ValidationError, match=r"Account\.charge: "):
        method.decode_arguments_json(b'{"x": {"a": "b"}}')

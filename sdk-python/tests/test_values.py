"""Contexts, errors and other values: equality, hashing, pickling, what they print."""

from __future__ import annotations

import builtins
import copy
import json
import pathlib
import pickle
from typing import Any

import pytest

import quorate
from quorate import Client, Context, errors


def test_contexts_have_bytes_and_text_and_come_back_from_both(db: Client, key: str) -> None:
    context = db.put(key, "value").context
    assert context is not None
    assert Context.from_bytes(bytes(context)) == context == Context.parse(str(context))
    assert hash(Context.parse(str(context))) == hash(context)
    for other in (pickle.loads(pickle.dumps(context)), copy.copy(context), copy.deepcopy(context)):
        assert other == context and isinstance(other, Context)
    assert eval(repr(context), {"Context": Context}) == context
    assert {context: 1}[Context.parse(str(context))] == 1
    assert context != Context.EMPTY and not context.is_empty
    restored = Context.from_bytes(bytes(context))
    assert db.put(key, "next", context=restored).siblings == 1


def test_the_empty_context_is_empty() -> None:
    assert Context.EMPTY.is_empty and bytes(Context.EMPTY) == b"" and str(Context.EMPTY) == ""
    assert pickle.loads(pickle.dumps(Context.EMPTY)) == Context.EMPTY
    assert repr(Context.EMPTY) == "Context.EMPTY"


def test_what_is_no_context_is_refused(db: Client, key: str) -> None:
    with pytest.raises(TypeError):
        db.put(key, "value", context=b"bytes")  # type: ignore[arg-type]  # pyright: ignore
    with pytest.raises(TypeError):
        Context.from_bytes("text")  # type: ignore[arg-type]  # pyright: ignore
    with pytest.raises(quorate.InvalidRequestError):
        Context.parse("not base64url!")
    with pytest.raises(quorate.TooLargeError):
        Context.from_bytes(bytes(1_000_000))
    with pytest.raises(TypeError):
        Context()
    with pytest.raises(quorate.InvalidRequestError):
        db.put(key, "value", context=Context.from_bytes(b"made up"))


def test_answers_are_immutable_comparable_and_say_what_they_are(db: Client, key: str) -> None:
    stored = db.put(key, "value")
    first, second = db.get(key, level="all"), db.get(key, level="all")
    assert first is not None and second is not None
    assert first.siblings == second.siblings and hash(first) == hash(second)
    assert first != stored and {first: 1}
    assert repr(first) == "Found(value=b'value')"
    assert repr(stored) == f"Stored(siblings=1, clock={stored.clock})"
    assert repr(db.lookup("no such key")).startswith("Absent(context=Context.")
    for answer, attribute in [
        (first, "value"),
        (stored, "clock"),
        (first.receipt, "need"),
        (first.siblings[0], "value"),
    ]:
        with pytest.raises(AttributeError):
            setattr(answer, attribute, 1)
    receipt = stored.receipt
    assert receipt == copy.copy(receipt) and hash(receipt) == hash(copy.copy(receipt))
    assert pickle.loads(pickle.dumps(receipt)) == receipt


@pytest.mark.parametrize(
    ("kind", "base"),
    [
        (errors.TimeoutError, builtins.TimeoutError),
        (errors.QuorumTimeoutError, builtins.TimeoutError),
        (errors.ConnectionError, builtins.ConnectionError),
        (errors.SiblingsError, ValueError),
        (errors.TooLargeError, ValueError),
        (errors.InvalidRequestError, ValueError),
        (errors.UnauthenticatedError, PermissionError),
        (errors.ForbiddenError, PermissionError),
        (errors.ForkedClientError, errors.ClientClosedError),
    ],
)
def test_errors_are_also_what_the_standard_library_calls_them(kind: type[Exception], base: type[Exception]) -> None:
    error = kind("what happened")
    assert isinstance(error, base) and isinstance(error, quorate.QuorateError) and str(error) == "what happened"


@pytest.mark.parametrize("name", [name for name in errors.__all__ if name != "QuorateError"])
def test_errors_keep_what_they_know_when_they_are_pickled(name: str) -> None:
    kind: type[quorate.QuorateError] = getattr(errors, name)
    error = kind("text", "code", "message", True, True, "n1", 2, 3.5, 2, 1)
    copied = pickle.loads(pickle.dumps(error))
    assert type(copied) is kind and str(copied) == "text" and copied.args == error.args
    for field in ("code", "message", "retryable", "maybe_applied", "node", "attempts", "elapsed_ms", "need", "got"):
        assert getattr(copied, field) == getattr(error, field)


def test_errors_know_how_the_call_went(db: Client, key: str) -> None:
    with pytest.raises(quorate.TooLargeError) as caught:
        db.put(key, b"x" * 5_000_000)
    error = caught.value
    assert error.code == "too_large" and not error.retryable and not error.maybe_applied
    assert error.message and error.message in str(error)
    with pytest.raises(quorate.QuorateError) as caught_late:
        db.get(key, timeout=0)
    late = caught_late.value
    assert isinstance(late, builtins.TimeoutError)
    assert late.code == "timeout" and late.elapsed_ms >= 0 and not late.maybe_applied


def test_every_error_of_the_shared_table_has_a_class_with_its_base() -> None:
    path = pathlib.Path(__file__).resolve().parents[2] / "tests" / "vectors" / "errors.json"
    kinds: list[dict[str, str | None]] = json.loads(path.read_text(encoding="utf-8"))["kinds"]
    assert len(kinds) > 10
    for each in kinds:
        kind: type[Exception] = getattr(errors, each["python"] or "")
        base = each["python_base"]
        assert kind is getattr(errors, f"{each['kind']}Error")
        assert issubclass(kind, quorate.QuorateError)
        assert base is None or issubclass(kind, getattr(builtins, base)), (kind, base)


WRONG_TYPES: list[tuple[str, tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    ("get", (5,), {}, TypeError, "key: str or a bytes-like object expected, not int"),
    ("get", (None,), {}, TypeError, "key: str or a bytes-like object expected, not NoneType"),
    ("put", ("k", 5), {}, TypeError, "value: str or a bytes-like object expected, not int"),
    ("put", ("k", {}), {}, TypeError, "value: .* not dict"),
    ("get", ("k",), {"level": "most"}, ValueError, "'most' is none of 'one', 'available', 'quorum' and 'all'"),
    ("get", ("k",), {"level": 1}, TypeError, "level"),
    ("get", ("k",), {"r": "two"}, TypeError, "r: an integer expected"),
    ("get", ("k",), {"r": -1}, ValueError, "r: -1 is no number of replicas"),
    ("get", ("k",), {"r": 2**70}, ValueError, "r: out of range"),
    ("put", ("k", "v"), {"w": 300}, ValueError, "w: 300 is no number of replicas"),
    ("get", ("k",), {"timeout": "soon"}, TypeError, "timeout: a number of seconds expected"),
    ("get", ("k",), {"timeout": -1}, ValueError, "timeout: -1 is no number of seconds to wait"),
    ("get", ("k",), {"timeout": float("nan")}, ValueError, "timeout"),
    ("get", ("k",), {"timeout": float("inf")}, ValueError, "timeout"),
    ("put", ("k", "v"), {"ttl": "1 day"}, TypeError, "ttl: a number of seconds expected"),
    ("put", ("k", "v"), {"context": "text"}, TypeError, "context: a quorate.Context expected"),
    ("get_many", ("one key",), {}, TypeError, "keys: an iterable of keys expected"),
    ("get_many", (5,), {}, TypeError, "not iterable"),
    ("put_many", (["ab"],), {}, TypeError, "entries: a mapping, or tuples"),
    ("put_many", ([("a",)],), {}, TypeError, "entries: a mapping, or tuples"),
    ("put_many", ([("a", "b", "c")],), {}, TypeError, "context: a quorate.Context expected"),
    ("delete_many", ([5],), {}, TypeError, "key: str or a bytes-like object expected, not int"),
    ("bucket", ("b",), {"resolver": 5}, TypeError, "resolver: a function expected"),
    ("bucket", (5,), {}, TypeError, "name"),
]


@pytest.mark.parametrize(("method", "arguments", "options", "kind", "message"), WRONG_TYPES)
def test_wrong_arguments_are_refused_clearly(
    db: Client,
    method: str,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    kind: type[Exception],
    message: str,
) -> None:
    with pytest.raises(kind, match=message):
        getattr(db, method)(*arguments, **options)


def test_a_text_that_has_no_utf8_is_refused(db: Client) -> None:
    with pytest.raises(UnicodeEncodeError):
        db.get("\ud800")


@pytest.mark.parametrize("endpoints", [5, [5], None])
def test_addresses_of_another_type_are_refused(endpoints: Any) -> None:
    with pytest.raises(TypeError, match="endpoints"):
        quorate.connect(endpoints)


def test_no_address_and_no_name_of_a_bucket_are_refused(db: Client) -> None:
    nothings: list[str | list[str]] = ["", [], " , "]
    for nothing in nothings:
        with pytest.raises(quorate.InvalidRequestError):
            quorate.connect(nothing)
    with pytest.raises(quorate.InvalidRequestError):
        db.bucket("").get("key")

"""Each call of the blocking client and of the one for asyncio, against three nodes."""

from __future__ import annotations

import array
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import quorate
from conftest import Run
from quorate import Client, Context, Found, Stored
from quorate.resolvers import last_written, union_of_json_sets, union_of_lines


def found(answer: Found | quorate.Absent | quorate.QuorateError | None) -> Found:
    """The answer, which has to be values."""
    assert isinstance(answer, Found), answer
    return answer


def test_what_was_put_is_got(db: Client, key: str) -> None:
    stored = db.put(key, "value")
    assert stored.siblings == 1
    answer = found(db.get(key))
    assert answer.value == b"value"
    assert answer.values == (b"value",)
    assert not answer.is_conflict
    assert answer.context == stored.context
    assert db.exists(key)


def test_a_key_without_values_is_none_and_has_a_context_for_lookup(db: Client, key: str) -> None:
    assert db.get(key) is None
    assert not db.exists(key)
    absent = db.lookup(key)
    assert isinstance(absent, quorate.Absent)
    assert not absent
    assert absent.receipt.replicas == 3
    assert db.put(key, "value", context=absent.context).siblings == 1


@pytest.mark.parametrize(
    "value",
    ["text", "ü", b"bytes", bytearray(b"array"), memoryview(b"view")[1:], memoryview(b"every other")[::2], b"", ""],
)
def test_keys_and_values_are_anything_bytes_like(db: Client, key: str, value: Any) -> None:
    expected = value.encode() if isinstance(value, str) else bytes(value)
    db.put(key, value)
    assert found(db.get(key.encode())).value == expected
    assert found(db.get(memoryview(key.encode()))).value == expected


def test_a_buffer_of_other_items_is_its_bytes(db: Client, key: str) -> None:
    numbers = array.array("i", [1, 2, 3])
    db.put(key, numbers)
    assert found(db.get(key)).value == numbers.tobytes()


@pytest.mark.parametrize("length", [0, 1, 4_096, 16_385, 262_144, 1_048_576])
def test_values_of_every_size_come_back(db: Client, key: str, length: int) -> None:
    value = bytes(index % 251 for index in range(length))
    stored = db.put(key, value)
    assert found(db.get(key)).value == value
    db.delete(key, context=stored.context)


def test_a_put_under_a_context_replaces_what_was_seen_and_under_the_empty_one_nothing(db: Client, key: str) -> None:
    first = db.put(key, "1")
    assert db.put(key, "2", context=first.context).siblings == 1
    beside = db.put(key, "3", context=Context.EMPTY)
    assert beside.siblings == 2
    assert beside.context is None
    conflict = found(db.get(key))
    assert conflict.is_conflict
    assert conflict.values == (b"2", b"3")
    with pytest.raises(quorate.SiblingsError, match="2 concurrent values") as caught:
        _ = conflict.value
    assert caught.value.code == "siblings"
    assert db.put(key, "4", context=conflict.context).siblings == 1
    assert found(db.get(key)).value == b"4"


def test_siblings_say_what_they_are(db: Client, key: str) -> None:
    before = datetime.now(UTC)
    stored = db.put(key, "value")
    (sibling,) = found(db.get(key)).siblings
    assert (sibling.value, sibling.value_bytes, sibling.clock) == (b"value", 5, stored.clock)
    assert len(sibling.hash) == 32 and int(sibling.hash, 16) > 0
    assert abs(sibling.written_at - before) < timedelta(seconds=30)


def test_a_delete_removes_what_it_saw(db: Client, key: str) -> None:
    stored = db.put(key, "value")
    assert db.delete(key, context=stored.context).siblings == 0
    assert db.get(key) is None
    tombstone = db.lookup(key)
    assert tombstone.context != Context.EMPTY
    db.put(key, "again", context=tombstone.context)
    assert found(db.get(key)).value == b"again"
    db.delete(key)
    assert db.get(key) is None


def test_a_value_with_a_time_to_live_ends(db: Client, key: str) -> None:
    db.put(key, "value", ttl=3600)
    assert db.exists(key)
    db.put(key, "value", ttl=0.001)
    assert found_or_none_within(db, key)


def found_or_none_within(db: Client, key: str) -> bool:
    """Whether a key loses its value soon."""
    deadline = datetime.now(UTC) + timedelta(seconds=10)
    while datetime.now(UTC) < deadline:
        if db.get(key) is None:
            return True
    return False


def test_batches_have_a_result_for_each_item(db: Client, key: str) -> None:
    keys = [f"{key} {index}" for index in range(100)]
    stored = db.put_many({each: each for each in keys})
    assert all(isinstance(each, Stored) for each in stored)
    answers = db.get_many([*keys, "no such key"])
    assert [found(each).value.decode() for each in answers[:-1]] == keys
    assert answers[-1] is None
    assert len(db.delete_many(keys[:50])) == 50
    assert [each is None for each in db.get_many(iter(keys))] == [True] * 50 + [False] * 50
    assert db.get_many([]) == []


def test_one_bad_item_of_a_batch_leaves_the_others_alone(db: Client, key: str) -> None:
    good = db.put(f"{key} good", "1")
    foreign = found(db.get(f"{key} good")).context
    entries: list[Any] = [
        (f"{key} a", b"1"),
        (f"{key} b", b"x" * 5_000_000),
        (f"{key} c", b"1", foreign),
        (f"{key} good", b"2", good.context),
        (f"{key} d", b"1", None),
    ]
    a, b, c, again, d = db.put_many(entries)
    assert isinstance(a, Stored) and isinstance(d, Stored) and isinstance(again, Stored)
    assert isinstance(b, quorate.TooLargeError) and isinstance(b, ValueError)
    assert isinstance(c, quorate.InvalidRequestError)
    assert again.siblings == 1


def test_update_merges_all_concurrent_values(db: Client, key: str) -> None:
    seen: list[list[bytes]] = []

    def merge(values: list[bytes]) -> bytes:
        seen.append(values)
        return b"+".join([*values, b"new"])

    db.update(key, merge)
    db.put(key, "other", context=Context.EMPTY)
    db.update(key, merge)
    assert seen == [[], [b"new", b"other"]]
    assert found(db.get(key)).value == b"new+other+new"
    db.update(key, lambda _: "text")
    assert found(db.get(key)).value == b"text"


def test_an_error_in_merge_comes_out_of_update_and_nothing_is_written(db: Client, key: str) -> None:
    def merge(_: list[bytes]) -> bytes:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        db.update(key, merge)
    assert db.get(key) is None
    with pytest.raises(TypeError, match="the merged value"):
        db.update(key, lambda _: None)  # type: ignore[arg-type,return-value]  # pyright: ignore


def test_scans_find_every_key_of_their_bucket(db: Client, key: str) -> None:
    bucket = db.bucket(f"scan {key}".replace(" ", "-"))
    keys = {f"{index}".encode() for index in range(700)}
    bucket.put_many((each, each * 2) for each in keys)
    assert {each.key for each in bucket.scan()} == keys
    with_values = list(bucket.scan(values=True))
    assert {(each.key, found(each.found).value) for each in with_values} == {(each, each * 2) for each in keys}
    assert all(each.found is None and each.siblings == 1 for each in bucket.scan(level="one"))
    assert keys <= {each.key for each in db.scan_all() if each.bucket == bucket.name}


def test_buckets_are_apart_and_have_defaults(db: Client, key: str) -> None:
    bucket = db.bucket("apart", level="all", timeout=5)
    bucket.put(key, "value")
    assert db.get(key) is None
    answer = found(bucket.get(key))
    assert answer.receipt.need == 3
    assert found(bucket.get(key, level="one")).receipt.need == 1
    assert found(db.bucket("apart", r=2).get(key)).receipt.need == 2
    assert db.bucket("apart", w=3).put(key, "value").receipt.need == 3
    assert bucket.name == "apart" and repr(bucket) == "Bucket('apart')"


@pytest.mark.parametrize(("level", "need"), [("one", 1), ("available", 2), ("quorum", 2), ("all", 3)])
def test_levels_and_numbers_of_replicas_are_kept_to(db: Client, key: str, level: Any, need: int) -> None:
    receipt = db.put(key, "value", level=level).receipt
    assert receipt.need == need and receipt.durable >= need and receipt.replicas == 3
    read = found(db.get(key, level=level)).receipt
    assert read.need == need and len(read.answered) >= need
    assert set(read.answered) <= {node.name for node in db.ring.nodes}
    assert found(db.get(key, r=need)).receipt.need == need
    assert found(db.get(key, n=1, r=1)).receipt.replicas >= 1


def test_resolvers_make_one_value_of_concurrent_ones(db: Client, key: str) -> None:
    plain = db.bucket("resolved")
    plain.put(key, "milk")
    plain.put(key, "bread\nmilk", context=Context.EMPTY)
    answer = found(db.bucket("resolved", resolver=union_of_lines).get(key))
    assert answer.value == b"bread\nmilk" and answer.value is answer.value
    assert answer.is_conflict and len(answer.siblings) == 2
    assert found(db.bucket("resolved", resolver=last_written).get(key)).value == b"bread\nmilk"
    assert found(db.bucket("resolved", resolver=lambda values: f"{len(values)}").get(key)).value == b"2"
    scanned = db.bucket("resolved", resolver=union_of_lines).scan(values=True)
    assert [found(each.found).value for each in scanned if each.key == key.encode()] == [b"bread\nmilk"]


def test_an_error_in_a_resolver_comes_out_of_value(db: Client, key: str) -> None:
    def resolver(_: list[bytes]) -> bytes:
        raise ZeroDivisionError("mine")

    bucket = db.bucket("resolved", resolver=resolver)
    bucket.put(key, "1")
    assert found(bucket.get(key)).value == b"1"
    bucket.put(key, "2", context=Context.EMPTY)
    answer = found(bucket.get(key))
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            _ = answer.value
    assert answer.values == (b"1", b"2")


def test_the_client_explains_itself(db: Client, key: str) -> None:
    db.put(key, "value")
    explanation = db.explain(key)
    names = {node.name for node in db.ring.nodes}
    assert {owner.name for owner in explanation.owners} == names
    assert explanation.write_coordinator in names and explanation.read_coordinator in names
    assert len(explanation.id) == 32 and explanation.partition < db.ring.partitions
    stats = db.stats()
    assert stats.succeeded > 0 and {node.name for node in stats.nodes} == names
    pings = db.ping()
    assert set(pings) == names
    assert all(isinstance(took, float) and 0 < took < 10 for took in pings.values())


def test_every_call_has_an_async_twin(run: Run[None], key: str) -> None:
    async def main(db: quorate.AsyncClient) -> None:
        stored = await db.put(key, "1")
        assert found(await db.get(key)).value == b"1"
        assert found(await db.lookup(key)).context == stored.context
        assert await db.exists(key)
        await db.put(key, "2", context=Context.EMPTY)
        bucket = db.bucket("default", resolver=union_of_lines)
        assert found(await bucket.get(key)).value == b"1\n2"

        async def merge(values: list[bytes]) -> bytes:
            return b"-".join(values)

        await db.update(key, merge)
        assert found(await db.get(key)).value == b"1-2"
        await db.update(key, lambda values: values[0] + b"!")
        assert found(await db.get(key)).value == b"1-2!"
        assert len(await db.put_many([("a", "1"), ("b", "2")])) == 2
        assert [found(each).value for each in await db.get_many(["a", "b"])] == [b"1", b"2"]
        assert len(await db.delete_many(["a", "b"])) == 2
        planets = db.bucket("planets")
        await planets.put("mars", "red")
        assert [each.key async for each in planets.scan()] == [b"mars"]
        assert b"mars" in [each.key async for each in db.scan_all()]
        assert len((await db.explain(key)).owners) == 3
        assert (await db.stats()).succeeded > 0
        assert len(await db.ping()) == 3 == len(db.ring.nodes)
        await db.delete(key)
        assert await db.get(key) is None

    run(main)


def test_resolvers_of_the_package_are_commutative_unions() -> None:
    assert union_of_lines([b"b\na", b"c", b""]) == union_of_lines([b"c", b"a\nb"]) == b"a\nb\nc"
    assert union_of_json_sets([b'["b", 1]', b'["a"]']) == b'["a","b",1]'
    assert last_written([b"1", b"2"]) == b"2"

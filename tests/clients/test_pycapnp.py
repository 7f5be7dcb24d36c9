"""A client written against the schema alone, with pycapnp: no Quorate SDK, no knowledge of the ring.

It puts and gets through every node of a real cluster, sees siblings and resolves them, deletes, batches, reads the ring and checks the
documented placement of keys against it, and is told about its mistakes in errors that are data.
"""
import asyncio
import hashlib
import os

import capnp
import pytest

from cluster import SCHEMA, Cluster

node_schema = capnp.load(str(SCHEMA / "node.capnp"))
VERSION = node_schema.protocolVersion


@pytest.fixture(scope="module")
def cluster():
    with Cluster(nodes=3) as running:
        yield running


def against(cluster, scenario):
    """Runs an asynchronous scenario with one `Kv` per node, within a minute."""

    async def main():
        connections = [await connect(port) for port in cluster.ports]
        await asyncio.wait_for(scenario(*(kv for _, kv in connections)), timeout=60)

    asyncio.run(capnp.run(main()))


async def connect(port):
    """The connection, which ends when nobody holds it, and its `Kv`."""
    stream = await capnp.AsyncIoStream.create_connection("127.0.0.1", port)
    connection = capnp.TwoPartyClient(stream)
    node = connection.bootstrap().cast_as(node_schema.Node)
    hello = (await node.hello({"protocolMin": VERSION, "protocolMax": VERSION, "client": "pycapnp-test"})).reply
    assert not hello._has("error"), hello.error
    assert hello.protocol == VERSION
    return connection, hello.kv


async def put(kv, key, value, **fields):
    reply = (await kv.put({"put": {"key": key, "value": value, **fields}})).reply
    assert reply.result.which() == "stored", reply.result
    return reply.result


async def get(kv, key, **fields):
    return (await kv.get({"get": {"key": key, **fields}})).reply.result


def values(result):
    assert result.which() == "found", result
    return sorted(sibling.value for sibling in result.found.siblings)


def test_a_value_put_through_any_node_is_read_through_every_node(cluster):
    async def scenario(*kvs):
        for at, kv in enumerate(kvs):
            key, value = f"through-{at}".encode(), os.urandom(1000 + at)
            stored = await put(kv, key, value, consistency={"level": "quorum"})
            assert stored.receipt.durable >= 2 and len(set(stored.receipt.answered)) >= 2
            for reader in kvs:
                assert values(await get(reader, key, consistency={"level": "quorum"})) == [value]

    against(cluster, scenario)


def test_siblings_are_shown_and_a_context_replaces_exactly_what_was_read(cluster):
    async def scenario(first, second, _third):
        stored = await put(first, b"cart", b"milk")
        assert stored.stored.context, "a version that stands alone comes with its context"
        beside = await put(second, b"cart", b"eggs", beside=True)
        assert beside.stored.siblings == 2 and not beside.stored.context
        found = await get(first, b"cart")
        assert values(found) == [b"eggs", b"milk"]
        await put(second, b"cart", b"milk+eggs", context=bytes(found.found.context))
        assert values(await get(first, b"cart")) == [b"milk+eggs"]

    against(cluster, scenario)


def test_a_context_of_another_key_is_refused(cluster):
    async def scenario(kv, *_):
        stored = await put(kv, b"mine", b"1")
        reply = (await kv.put({"put": {"key": b"other", "value": b"2", "context": bytes(stored.stored.context)}})).reply
        assert reply.result.which() == "error"
        assert str(reply.result.error.code) == "invalidRequest"
        assert not reply.result.error.retryable and not reply.result.error.maybeApplied

    against(cluster, scenario)


def test_a_deleted_key_is_not_found_anywhere_and_takes_a_value_again(cluster):
    async def scenario(first, second, third):
        await put(first, b"gone", b"soon")
        reply = (await second.delete({"delete": {"key": b"gone"}})).reply
        assert reply.result.which() == "stored", reply.result
        assert (await get(third, b"gone")).which() == "notFound"
        await put(third, b"gone", b"back")
        assert values(await get(first, b"gone")) == [b"back"]

    against(cluster, scenario)


def test_a_batch_has_a_result_for_each_operation_in_order(cluster):
    async def scenario(kv, *_):
        puts = [{"put": {"key": f"batch-{i}".encode(), "value": f"v{i}".encode()}} for i in range(500)]
        stored = (await kv.execute({"operations": puts})).reply.results
        assert [result.which() for result in stored] == ["stored"] * 500
        gets = [{"get": {"key": f"batch-{i}".encode()}} for i in range(501)]
        found = (await kv.execute({"operations": gets})).reply.results
        assert [values(result) for result in list(found)[:500]] == [[f"v{i}".encode()] for i in range(500)]
        assert found[500].which() == "notFound"

    against(cluster, scenario)


def test_a_repeated_operation_id_is_one_write(cluster):
    async def scenario(first, second, _third):
        name = {"opClient": int.from_bytes(os.urandom(8), "big"), "opSequence": 1}
        await put(first, b"once", b"x", beside=True, **name)
        await put(second, b"once", b"x", beside=True, **name)
        assert values(await get(first, b"once")) == [b"x"]

    against(cluster, scenario)


def test_the_ring_tells_where_every_key_lives(cluster):
    async def scenario(kv, *_):
        ring = (await kv.ring({})).reply.ring
        assert len(ring.nodes) == 3 and ring.replicas == 3
        assert len({bytes(node.id) for node in ring.nodes}) == 3
        slots = [slot for page in ring.pages for slot in page.slots]
        assert len(slots) == ring.replicas << ring.partitionBits
        for i in range(50):
            key = f"placed-{i}".encode()
            digest = hashlib.md5(b"default\0" + key).digest()
            partition = int.from_bytes(digest, "big") >> (128 - ring.partitionBits)
            owners = slots[partition * ring.replicas : (partition + 1) * ring.replicas]
            stored = await put(kv, key, b"v", consistency={"level": "all"})
            assert sorted(stored.receipt.answered) == sorted(owners)

    against(cluster, scenario)


def test_scanning_every_partition_finds_every_key_of_a_bucket(cluster):
    async def scenario(kv, *_):
        wanted = {f"scan-{i}".encode() for i in range(300)}
        puts = [{"put": {"bucket": "scanned", "key": key, "value": b"v", "consistency": {"level": "all"}}} for key in sorted(wanted)]
        results = (await kv.execute({"operations": puts})).reply.results
        assert {result.which() for result in results} == {"stored"}
        ring = (await kv.ring({})).reply.ring
        seen = set()
        for partition in range(1 << ring.partitionBits):
            cursor = b""
            while True:
                request = {"bucket": "scanned", "partition": partition, "cursor": cursor, "limit": 2}
                reply = (await kv.scan(request)).reply
                assert not reply._has("error"), reply.error
                seen |= {bytes(entry.key) for entry in reply.keys}
                cursor = bytes(reply.cursor)
                if not cursor:
                    break
        assert seen == wanted

    against(cluster, scenario)


@pytest.mark.parametrize(
    "request_put, code",
    [
        ({"key": b"", "value": b"v"}, "invalidRequest"),
        ({"key": b"k" * 1025, "value": b"v"}, "tooLarge"),
        ({"key": b"k", "value": b"v", "bucket": "no spaces"}, "invalidRequest"),
        ({"key": b"k", "value": b"v" * (2 << 20)}, "tooLarge"),
        ({"key": b"k", "value": b"v", "context": b"forged"}, "invalidRequest"),
        ({"key": b"k", "value": b"v", "consistency": {"w": 9}}, "invalidRequest"),
        ({"key": b"k", "value": b"v", "valueHashHigh": 1, "valueHashLow": 2}, "invalidRequest"),
    ],
)
def test_a_wrong_request_is_told_what_is_wrong_and_nothing_is_applied(cluster, request_put, code):
    async def scenario(kv, *_):
        reply = (await kv.put({"put": request_put})).reply
        assert reply.result.which() == "error", reply.result
        assert str(reply.result.error.code) == code
        assert not reply.result.error.maybeApplied and reply.result.error.message
        assert (await get(kv, b"k")).which() == "notFound"

    against(cluster, scenario)


def test_a_version_nobody_speaks_is_refused_with_the_range_that_is_spoken(cluster):
    async def main():
        stream = await capnp.AsyncIoStream.create_connection("127.0.0.1", cluster.ports[0])
        connection = capnp.TwoPartyClient(stream)
        node = connection.bootstrap().cast_as(node_schema.Node)
        hello = (await node.hello({"protocolMin": 90, "protocolMax": 99})).reply
        assert hello._has("error") and str(VERSION) in hello.error.message

    asyncio.run(capnp.run(main()))

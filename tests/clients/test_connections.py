"""What a thousand idle clients cost a node, with pycapnp: each has said hello and then does nothing."""
import asyncio
import pathlib

import capnp

from cluster import SCHEMA, Cluster

node_schema = capnp.load(str(SCHEMA / "node.capnp"))
CONNECTIONS = 1000
MIB = 1 << 20


def resident_bytes(pid):
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the status has no VmRSS")


async def hello(port):
    stream = await capnp.AsyncIoStream.create_connection("127.0.0.1", port)
    client = capnp.TwoPartyClient(stream)
    node = client.bootstrap().cast_as(node_schema.Node)
    version = node_schema.protocolVersion
    reply = (await node.hello({"protocolMin": version, "protocolMax": version, "client": "idle"})).reply
    return client, reply.kv


def test_a_thousand_idle_clients_cost_little_and_all_are_still_served():
    with Cluster(nodes=1) as cluster:
        pid, port = cluster.processes[0].pid, cluster.ports[0]

        async def main():
            first = await hello(port)
            before = resident_bytes(pid)
            assert before <= 64 * MIB, f"an idle node has {before / MIB:.0f} MiB resident"
            idle = [await hello(port) for _ in range(CONNECTIONS)]
            grown = resident_bytes(pid) - before
            print(f"{CONNECTIONS} idle connections: {grown / MIB:.1f} MiB")
            assert grown <= 100 * MIB, f"{CONNECTIONS} idle connections cost {grown / MIB:.0f} MiB"
            # Beyond the time that an unknown peer is given, so that these are known to have been let in.
            await asyncio.sleep(6)
            for _, kv in [first, idle[0], idle[-1]]:
                result = (await kv.get({"get": {"key": b"nothing"}})).reply.result
                assert result.which() == "notFound", result

        asyncio.run(capnp.run(main()))

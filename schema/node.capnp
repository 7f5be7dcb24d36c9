@0x9c4ae7d03b81f652;
# The first capability a connection gets. Call `hello`; everything else comes from its reply.
#
# Over plain TCP, the stream is Cap'n Proto RPC with the standard framing, bootstrap = Node. Example in Python (pycapnp):
#   connection = capnp.TwoPartyClient(stream)
#   node = connection.bootstrap().cast_as(schema.Node)
#   kv = (await node.hello(request={"protocolMin": 1, "protocolMax": 1, "client": "example"})).reply.kv

using Common = import "common.capnp";
using Kv = import "kv.capnp";
using Peer = import "peer.capnp";
using Admin = import "admin.capnp";

const protocolVersion :UInt16 = 1;
# The version this schema describes.

interface Node @0xf94b2e61d7a0c835 {
  hello @0 (request :HelloRequest) -> (reply :HelloReply);
  # Must be called within 5 seconds of connecting, or the node hangs up.
  ping @1 (request :PingRequest) -> (reply :PingReply);
}

struct HelloRequest @0xa8710ec5f3b9d246 {
  protocolMin @0 :UInt16;
  protocolMax @1 :UInt16;
  # The versions the caller speaks. The node answers with one of them, or with an error that names its own range.
  client @2 :Text;
  # What it is and its version, for logs: "quorate-rust/0.1.0".
  role @3 :Role;
  credentials @4 :Data;
  # For `peer`: the proof described at PeerIntroduction. For clients: nothing yet.
  peer @5 :PeerIntroduction;
  # Null for clients.
}

enum Role @0xde50c19b84f7a362 {
  client @0;      # Wants `kv`.
  peer @1;        # Another node of the cluster, foreground work: wants `kv` (to forward) and `peer`.
  peerBulk @2;    # Another node, background work.
}

struct PeerIntroduction @0x86f9d3a0c5b7e241 {
  cluster @0 :Data;
  node @1 :Data;
  # Who it is, 16 bytes.
  directory @2 :Data;
  # Which data directory it runs on, 16 random bytes drawn when the directory was made. A node whose directory changed is a
  # stranger, and is refused under its old identity.
  epoch @3 :UInt64;
  layoutHash @4 :Data;
  positions @5 :List(UInt64);
  # The node's positions as in PeerReply, as they were when its process started. A peer refuses a node whose positions went back,
  # with an error `corrupt`: it runs on an old copy of its data directory, and stops when it is told so.
  process @6 :Data;
  # Which process of the node, 16 bytes: the how many-th start of the data directory it is, as a big end first UInt64, and 8 random
  # bytes. A peer refuses a process that did not start later than the one it met last, with an error `corrupt`: it runs on an old copy,
  # or two processes run on copies of one directory.
}

struct HelloReply @0xc70d8fb16e3a9254 {
  header @0 :Common.ReplyHeader;
  error @1 :Common.Error;
  # Null when all is well; then `kv` is set.
  protocol @2 :UInt16;
  # The version spoken from here on.
  server @3 :Text;
  # "quorate/0.1.0".
  cluster @4 :Data;
  node @5 :Data;
  name @6 :Text;
  kv @7 :Kv.Kv;
  peer @8 :Peer.Peer;
  # Only for peers.
  limits @9 :Limits;
  directory @10 :Data;
  # Which data directory the node runs on, 16 bytes; what a peer remembers to notice that a node lost its data.
  admin @11 :Admin.Admin;
  # For operators. Whoever may use `kv` may use it for now.
  positions @12 :List(UInt64);
  # As in PeerIntroduction; only for peers.
  process @13 :Data;
  # As in PeerIntroduction.
}

struct Limits @0xb19c60d7f2e8a453 {
  # What this node accepts; a request above is answered with `tooLarge`.
  keyBytesMax @0 :UInt32;
  valueBytesMax @1 :UInt32;
  batchOperationsMax @2 :UInt32;
  batchBytesMax @3 :UInt32;
  callsInFlightMax @4 :UInt32;
  # Per connection; above, the node stops reading until some have been answered.
}

struct PingRequest @0x95e3b0f8c7d6a124 { padding @0 :Data; }
struct PingReply @0xfcd28ae6901b7f53 { header @0 :Common.ReplyHeader; }

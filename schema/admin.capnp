@0xe2c7a09f4b51d386;
# What operators ask of one node: how its repairs stand, to repair now, what it holds under a key, and to reap a tombstone. Every
# method speaks of this node alone; commands about the whole cluster ask every node.

using Common = import "common.capnp";
using Kv = import "kv.capnp";

interface Admin @0xb94f1c8e60d7a253 {
  repairStatus @0 (request :RepairStatusRequest) -> (reply :RepairStatusReply);
  repairRun @1 (request :RepairRunRequest) -> (reply :RepairStatusReply);
  # Begins at once what would be done some time, and returns without waiting; ask `repairStatus` how far it is.
  inspect @2 (request :InspectRequest) -> (reply :InspectReply);
  reap @3 (request :ReapRequest) -> (reply :ReapReply);
}

struct RepairStatusRequest @0x8c3b5e2fd9a07164 { header @0 :Common.RequestHeader; }

struct RepairRunRequest @0xaf70d6c1e8b24593 {
  header @0 :Common.RequestHeader;
  exchange @1 :Bool;
  # Compare every partition with every other owner.
  hints @2 :Bool;
  # Deliver all hints whose targets can be reached.
  scrub @3 :Bool;
  # Verify every record.
}

struct Task @0x94e8b2a7c06f3d15 {
  name @0 :Text;
  # "exchange", "hints", "scrub" or "rebuild".
  state @1 :Text;
  # "idle", "running", or "waiting" for a node to come back or for room beside the clients' work.
  done @2 :UInt64;
  # Units finished of the current or the last run: partitions for "exchange" and "scrub", objects for the others.
  total @3 :UInt64;
  repaired @4 :UInt64;
  # Objects that were behind, missing or unreadable here or elsewhere and were brought level since the node started.
  failed @5 :UInt64;
  # Attempts that ended without success since the node started; they are tried again.
  lastMillisecondsAgo @6 :UInt64;
  # Since the last run ended; all bits set: never.
}

struct HintBacklog @0xc1d5f8390ab7e246 {
  target @0 :UInt16;
  # The node they are for, by its position in the layout.
  objects @1 :UInt64;
  bytes @2 :UInt64;
  refused @3 :UInt64;
  # Hints for it that were refused since the node started because too much was kept already.
}

struct RepairStatusReply @0xdb06a4f7e9c83152 {
  header @0 :Common.ReplyHeader;
  error @1 :Common.Error;
  tasks @2 :List(Task);
  hints @3 :List(HintBacklog);
  unreadable @4 :UInt64;
  # Records known here that can't be verified and are not rebuilt yet.
  throttle @5 :Float32;
  # The share of its full speed that background work has now, 0.02 to 1.
}

struct InspectRequest @0xbe5f0d3a97c1e864 {
  header @0 :Common.RequestHeader;
  bucket @1 :Text;
  key @2 :Data;
}

struct Held @0xa83e6bd0f1c59427 {
  # An object somewhere on this node.
  record @0 :Data;
  # The whole object as a record (see dynamo/src/record.rs); empty when there is none.
  corrupt @1 :Bool;
  # There is one and it can't be verified.
  target @2 :Data;
  # For a hint: whom it is kept for, 16 bytes.
}

struct InspectReply @0xf964c20e5db1a783 {
  header @0 :Common.ReplyHeader;
  error @1 :Common.Error;
  isOwner @2 :Bool;
  held @3 :Held;
  # As an owner.
  hints @4 :List(Held);
  running @5 :UInt32;
  # Operations in flight here on the key's partition, this question not among them.
}

struct ReapRequest @0x9d72e1b8a0f4c635 {
  header @0 :Common.RequestHeader;
  bucket @1 :Text;
  key @2 :Data;
  digestHigh @3 :UInt64;
  digestLow @4 :UInt64;
  # The checksum of the record that is to be removed. Nothing happens unless exactly this record stands here, all of whose versions
  # are tombstones or have expired.
}

struct ReapReply @0xc8a1f6e3075bd942 {
  header @0 :Common.ReplyHeader;
  error @1 :Common.Error;
  reaped @2 :Bool;
}

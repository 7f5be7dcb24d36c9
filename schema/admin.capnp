@0xe2c7a09f4b51d386;
# What operators ask of one node: how its repairs stand, to repair now, what it holds under a key, to reap a tombstone; and what they
# do with the ring. Methods speak of this node alone, and commands about the whole cluster ask every node; but for `stage`, `plan`,
# `commit`, `clear` and `abort`, for which any node will do: it asks the others.

using Common = import "common.capnp";
using Kv = import "kv.capnp";

interface Admin @0xb94f1c8e60d7a253 {
  repairStatus @0 (request :RepairStatusRequest) -> (reply :RepairStatusReply);
  repairRun @1 (request :RepairRunRequest) -> (reply :RepairStatusReply);
  # Begins at once what would be done some time, and returns without waiting; ask `repairStatus` how far it is.
  inspect @2 (request :InspectRequest) -> (reply :InspectReply);
  reap @3 (request :ReapRequest) -> (reply :ReapReply);
  stage @4 (request :StageRequest) -> (reply :PlanReply);
  # Stages changes of the ring, and says what they would do together with those staged before. Nothing moves before `commit`.
  plan @5 (request :PlanRequest) -> (reply :PlanReply);
  # What is staged in the cluster, and what it would do.
  commit @6 (request :CommitRequest) -> (reply :CommitReply);
  clear @7 (request :PlanRequest) -> (reply :PlanReply);
  # Forgets everything that is staged.
  history @8 (request :HistoryRequest) -> (reply :HistoryReply);
  transfers @9 (request :TransfersRequest) -> (reply :TransfersReply);
  # The partitions that move to or from this node.
  drain @10 (request :DrainRequest) -> (reply :DrainReply);
  # Ends what is in flight and takes no new operations, so that the process can be stopped without a failed request.
  abort @11 (request :AbortRequest) -> (reply :PlanReply);
  # Stages what takes the newest layout back to the one before it. As after `stage`, nothing moves before `commit`.
}

struct RingChange @0xaec50f93d6b27814 {
  node @0 :Data;
  # Whom it is about, 16 bytes; empty for changes of the whole ring or of a bucket.
  union {
    join @1 :Kv.Node;
    # Shall become a member, with this zone, weight and these addresses. Of a node that replaces another, an empty zone and weight 0
    # stand for the other's.
    leave @2 :Void;
    # Shall own nothing any more, and then leave.
    replace @3 :Data;
    # `node`, 16 bytes, takes the place and the partitions of this one, 16 bytes, which does not come back.
    reweight @4 :UInt32;
    zone @5 :Text;
    addresses @6 :List(Text);
    bucket @7 :Kv.BucketProperties;
    replicas @8 :UInt8;
    partitionBits @9 :UInt8;
    lost @10 :Void;
    # The node's copies are given up: no quorum waits for them any more.
    undo @11 :UndoChange;
    # Whatever was staged about this is not to be done after all.
  }
}

struct UndoChange @0x8fd2c6a91e70b354 {
  union {
    node @0 :Void;
    # The change's `node`.
    bucket @1 :Text;
    replicas @2 :Void;
    partitionBits @3 :Void;
  }
}

struct StageRequest @0xe3b81c60fa94d725 {
  header @0 :Common.RequestHeader;
  changes @1 :List(RingChange);
}

struct AbortRequest @0xb3e5f7206d91ca48 {
  header @0 :Common.RequestHeader;
  epoch @1 :UInt64;
  # The one to be taken back, which must be the newest; 0 for whatever is.
}

struct PlanRequest @0x8de7254fc03b9a16 { header @0 :Common.RequestHeader; }

struct PlanNode @0xf7a45d0be9c81632 {
  name @0 :Text;
  zone @1 :Text;
  weight @2 :UInt32;
  state @3 :Text;
  # "active", "leaving", "lost" or "gone".
  before @4 :UInt32;
  after @5 :UInt32;
  # Partitions it owns.
  gained @6 :UInt32;
  # Those it must be sent.
  ideal @7 :Float64;
  # Its exact share, in partitions.
}

struct Plan @0xd036ef7b9a15c842 {
  epoch @0 :UInt64;
  # Which epoch it would be.
  hash @1 :Data;
  # 16 bytes over the layout: what `commit` names.
  partitionBits @2 :UInt8;
  replicas @3 :UInt8;
  slots @4 :UInt64;
  moved @5 :UInt64;
  movedBound @6 :UInt64;
  # Slots whose data moves, and the least that any plan of this balance would have to move.
  movedBytes @7 :UInt64;
  # About, from what the nodes hold now.
  balanceMax @8 :Float64;
  balanceMin @9 :Float64;
  balanceMaxBefore @10 :Float64;
  balanceMinBefore @11 :Float64;
  balanceMaxByWeight @12 :Float64;
  balanceMinByWeight @13 :Float64;
  # Loads as multiples of the ideal; by weight alone, as if zones were no matter.
  belowQuorum @14 :UInt32;
  # Partitions that lose the majority of their owners at once.
  orphaned @15 :UInt32;
  # Partitions that lose all.
  nodes @16 :List(PlanNode);
  warnings @17 :List(Text);
  unavailableNow @18 :UInt32;
  unavailableOnTheWay @19 :UInt32;
  # Partitions of which so many owners do not answer that operations at `quorum` fail: already now, and at some time while the change
  # is carried out or after it, if they stay silent.
}

struct PlanReply @0xba7104e5c6f3d928 {
  header @0 :Common.ReplyHeader;
  error @1 :Common.Error;
  epoch @2 :UInt64;
  # The epoch of the present layout.
  staged @3 :List(RingChange);
  plan @4 :Plan;
  # Null when nothing is staged.
  moving @5 :UInt32;
  # Partitions that still move from an earlier change.
  away @6 :List(Text);
  # Nodes that did not answer: what was staged at them alone, and what they still move, is not known.
  bytes @7 :UInt64;
  # About how many bytes the records have of the nodes that answered.
  problem @8 :Text;
  # Why there is no plan although something is staged; empty where there is one. What was staged is staged all the same.
}

struct CommitRequest @0x9f5b60d3e82ca714 {
  header @0 :Common.RequestHeader;
  epoch @1 :UInt64;
  plan @2 :Data;
  # Both as the plan said them: what was planned is decided, or nothing.
  acceptLoss @3 :Bool;
  # Go on although partitions lose the majority of their copies: writes that only the lost copies had are gone. Without it, such a
  # plan is refused.
}

struct CommitReply @0xc4d8f32b7e105a96 {
  header @0 :Common.ReplyHeader;
  error @1 :Common.Error;
  # With `maybeApplied`: ask `history` what became of it, or commit the same again. Otherwise nothing was decided.
  epoch @2 :UInt64;
  # The epoch that is decided now.
  hash @3 :Data;
  conflict @4 :Bool;
  # Another change was agreed upon first: `epoch` and `hash` are its, and what was asked for was not done. Plan again.
  changes @5 :List(Text);
  # What the decided layout changed, in words.
}

struct HistoryRequest @0xa92f8be107d6c543 { header @0 :Common.RequestHeader; }

struct HistoryEntry @0xf01e5ac49b87d263 {
  epoch @0 :UInt64;
  hash @1 :Data;
  learnedMs @2 :UInt64;
  # When this node learned of it, in milliseconds since 1970; 0 where it does not know.
  nodes @3 :UInt32;
  partitionBits @4 :UInt8;
  replicas @5 :UInt8;
  changes @6 :List(Text);
  # What it changed, in words.
  changedPartitions @7 :UInt32;
}

struct HistoryReply @0x96c3d8407ab2ef15 {
  header @0 :Common.ReplyHeader;
  error @1 :Common.Error;
  entries @2 :List(HistoryEntry);
  # The oldest first.
}

struct TransfersRequest @0xe8d4106cb9f75a23 { header @0 :Common.RequestHeader; }

struct Transfer @0x8ab6e59d1f70c342 {
  partition @0 :UInt32;
  bits @1 :UInt8;
  state @2 :Text;
  # "waiting", "copying", "fencing", "levelling", "full", "retiring"; or "handing over" and "deleting" where it leaves.
  peer @3 :Text;
  # The node it is copied from.
  records @4 :UInt64;
  recordsTotal @5 :UInt64;
  # About: what the other side holds; 0 while that is unknown.
  bytes @6 :UInt64;
  lo @7 :UInt64;
  hi @8 :UInt64;
  trouble @9 :Text;
  # Why it does not go on, if it does not; with the next attempt it may.
}

struct TransfersReply @0xd75f04b8c92e6a13 {
  header @0 :Common.ReplyHeader;
  error @1 :Common.Error;
  epoch @2 :UInt64;
  coming @3 :UInt32;
  # Partitions that this node must still get or fill up.
  going @4 :UInt32;
  # Partitions it must still hand over and delete.
  unsettled @5 :UInt32;
  # Partitions here, coming and going included, of which more than one configuration may be active.
  bytesIn @6 :UInt64;
  # Bytes of records received for moves since the node started.
  bytesPerSecond @7 :UInt64;
  # Lately.
  transfers @8 :List(Transfer);
  # Those at work now, at most 256.
  throttle @9 :Float32;
}

struct DrainRequest @0xac18e7f0495bd362 {
  header @0 :Common.RequestHeader;
  undo @1 :Bool;
  # Take operations again.
}

struct DrainReply @0x90f2c4d7ae6b5183 {
  header @0 :Common.ReplyHeader;
  error @1 :Common.Error;
  inFlight @2 :UInt64;
  # Operations that have not ended yet. Ask again until there are none.
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

@0xf3807b5ed96ca142;
# What nodes ask of each other: operations on one replica. Not for applications; a node hands this capability only to peers.
#
# Every operation carries the view of the partition under which it was sent. The replica compares it with its own, inside the write's
# transaction, and answers `stale` instead of acting when the sender's is old.

using Common = import "common.capnp";

interface Peer @0xe5a7c42f90d8b163 {
  execute @0 (request :PeerRequest) -> (reply :PeerReply);
  tree @1 (request :TreeRequest) -> (reply :TreeReply);
  # Anti-entropy: what the hash trees of the replica say.
  move @2 (request :MoveRequest) -> (reply :MoveReply);
  # About partitions that move.
  prepare @3 (request :PrepareRequest) -> (reply :BallotReply);
  accept @4 (request :AcceptRequest) -> (reply :BallotReply);
  # Single-decree Paxos about the next layout, asked of the electors of the present one.
  layout @5 (request :LayoutRequest) -> (reply :LayoutReply);
  # A layout that was agreed upon, by its epoch, in pieces: all of it, or its difference to the one before for whoever has that. Also
  # asked by a node that is not in the ring yet.
  stage @6 (request :StageRequest) -> (reply :StageReply);
  # Joins the caller's staged changes with the node's; the reply has the join.
}

struct MoveRequest @0x8fe0b6c27d195a43 {
  header @0 :Common.RequestHeader;
  questions @1 :List(MoveQuestion);
  # At most 1,024.
}

struct MoveQuestion @0xd4a19f0c6e7b3825 {
  view @0 :View;
  # The partition, and what the sender knows of its configurations.
  union {
    standing @1 :Void;
    # How does the replica stand? Answered by `standing` or `unknown`.
    adopt @2 :Void;
    # Know durably at least `view`: its `hi` is the fence, its `lo` what is retired. Answered by `standing` after the commit.
    range @3 :MoveRange;
    # Records for a first copy, in the order of their store keys. Answered by `range`.
  }
}

struct MoveRange @0xa07bd25c94e8f613 {
  after @0 :Data;
  # A store key, or empty: from the first on.
  bytesMax @1 :UInt32;
}

struct Standing @0xbb5e830f7ad2c196 {
  view @0 :View;
  full @1 :UInt64;
  # The newest configuration for which the replica holds everything (design, ring: FULL); 0 for none.
  isMoved @2 :Bool;
  # It has handed the partition over and deleted it.
  records @3 :UInt64;
  copied @4 :UInt64;
  # How far its first copy has come: the first 64 bits of the identifiers below which everything has been copied; all bits set when
  # it is complete.
}

struct MoveRecord @0x87c42d1ae6f05b93 { storeKey @0 :Data; record @1 :Data; }

struct MoveRecords @0xe59f13b07c8ad264 { records @0 :List(MoveRecord); more @1 :Bool; }

struct MoveAnswer @0x9d60c8ef4a217b35 {
  union {
    error @0 :Common.Error;
    standing @1 :Standing;
    unknown @2 :Void;
    # It never held the partition.
    range @3 :MoveRecords;
  }
}

struct MoveReply @0xc3f7a90e5d184b62 {
  header @0 :Common.ReplyHeader;
  answers @1 :List(MoveAnswer);
  # One for each question, in order. If the whole batch was refused, there is a single entry, an error.
  positions @2 :List(UInt64);
  # As in PeerReply.
}

struct Ballot @0xaf9e24c0d7b61853 {
  round @0 :UInt64;
  proposer @1 :Data;
  # The node that proposes, 16 bytes; breaks ties.
}

struct PrepareRequest @0xd8b07ce15fa92436 {
  header @0 :Common.RequestHeader;
  epoch @1 :UInt64;
  # Of the layout that is to be agreed upon.
  ballot @2 :Ballot;
}

struct AcceptRequest @0x92e5d13b8c7f06a4 {
  header @0 :Common.RequestHeader;
  epoch @1 :UInt64;
  ballot @2 :Ballot;
  layout @3 :Data;
  # The proposed layout in its canonical bytes (dynamo/src/layout/codec.rs).
}

struct BallotReply @0xe40c6a8d29b5f173 {
  header @0 :Common.ReplyHeader;
  union {
    error @1 :Common.Error;
    promised @2 :Accepted;
    # To `prepare`: nothing below the ballot will be accepted. With what was accepted already, if anything.
    accepted @3 :Void;
    # To `accept`: it is durable here.
    refused @4 :Ballot;
    # A higher ballot was promised.
    decided @5 :UInt64;
    # The epoch was decided long ago; this is the newest epoch here. Fetch it with `layout`.
    behind @6 :UInt64;
    # The elector does not know the layout before that epoch yet; this is the newest it knows.
  }
}

struct Accepted @0xb1d93f7e60a8c524 {
  ballot @0 :Ballot;
  # Round 0: nothing was accepted.
  layout @1 :Data;
}

struct LayoutRequest @0xfa16c70b8e3d5924 {
  header @0 :Common.RequestHeader;
  epoch @1 :UInt64;
  # 0: the newest.
  offset @2 :UInt64;
  parentHash @3 :Data;
  # Not empty: the caller has the layout of the epoch before, and this is its hash. Then the difference may be told instead.
}

struct LayoutReply @0x857bd0e2f94ac631 {
  header @0 :Common.ReplyHeader;
  error @1 :Common.Error;
  # Null when there is none.
  epoch @2 :UInt64;
  newest @3 :UInt64;
  # The newest epoch the node knows.
  total @4 :UInt64;
  # How many bytes the layout has, or the difference.
  bytes @5 :Data;
  # As many as fit into one reply, from `offset` on.
  isDelta @6 :Bool;
  # The bytes are a message of their own with a RingDelta, which leads from the layout that the caller named to the wanted one; else they
  # are the layout's canonical bytes.
}

struct StageRequest @0xc6e8940bd7135fa2 {
  header @0 :Common.RequestHeader;
  changes @1 :Data;
  # What the caller has staged (dynamo/src/staging.rs).
}

struct StageReply @0xdb27f5c80e6a4913 {
  header @0 :Common.ReplyHeader;
  error @1 :Common.Error;
  changes @2 :Data;
  # The join of both.
  epoch @3 :UInt64;
  # The newest epoch this node has taken over, with rows for everything it owns by it.
  unsettled @4 :UInt32;
  # Partitions here, coming and going included, of which more than one configuration may be active: for people.
  records @5 :UInt64;
  bytes @6 :UInt64;
  # What it holds, tombstones included, and the pages of those records, for saying about how much a plan moves.
  below @7 :UInt32;
  # What the node testifies to, under the layout of `epoch`; what is known to be at rest when the next one is planned follows from it.
  # It speaks of the partitions below this one: those of them that it owns are settled, which is to say that it durably knows all
  # configurations but the newest to be retired; but not the ones in `moving`.
  moving @8 :List(PartitionRun);
  # In order, none touching the next; at most 4,096.
  leftovers @9 :UInt32;
  # Partitions that it has yet to hand over to others; the hints that it keeps count as one once it owns nothing.
}

struct PartitionRun @0xe29b6d1f84c05a37 {
  first @0 :UInt32;
  count @1 :UInt32;
  # Neighbouring partitions: so many from the first on.
}

struct View @0x8b9d06e1f7c5a324 {
  # Configurations lo to hi are active for the partition with this prefix of this many bits.
  prefix @0 :UInt32;
  bits @1 :UInt8;
  lo @2 :UInt64;
  hi @3 :UInt64;
}

struct PeerOperation @0xd91e3f70b2a8c654 {
  view @0 :View;
  storeKey @1 :Data;
  # 32 bytes: MD5(bucket, 0, key), then XXH3-128 of the same bytes, big end first.
  union {
    read @2 :Void;
    # Answered by `record` or `absent`.
    digest @3 :Void;
    # Answered by `digest` or `absent`: a read that moves no values, for finding out who is behind.
    merge @4 :Data;
    # A whole object as a record (see dynamo/src/record.rs for the bytes); merged with what the replica holds, answered by `stored`
    # once that is durable.
    readHint @5 :Void;
    # Asked of a stand-in: the object it keeps for owners that are away, merged over all of them. Answered by `record` or `absent`.
    hint @6 :Hint;
    # Asked of a stand-in: keep this object for an owner that is away, merged with what is kept for it already; answered by `stored`
    # once that is durable, or by an error `storageFull` when no more hints are taken. A refused hint counts for nothing.
  }
}

struct Hint @0xb7d0e93c52f8a416 {
  # An object kept for an owner that is away.
  target @0 :Data;
  # The owner, 16 bytes.
  record @1 :Data;
}

struct PeerRequest @0xbf60a8d4e917c235 {
  header @0 :Common.RequestHeader;
  operations @1 :List(PeerOperation);
}

struct PeerResult @0xc82b5d9f06e1a743 {
  union {
    error @0 :Common.Error;
    absent @1 :Void;
    record @2 :Data;
    digest @3 :Digest;
    stored @4 :Void;
    stale @5 :View;
    # The replica's newer view.
    corrupt @6 :Void;
    # The replica has a record for the key and can't verify it. Counts for no quorum.
  }
}

struct Digest @0xab14e7f3c9d60825 { high @0 :UInt64; low @1 :UInt64; }
# The checksum of the record.

struct PeerReply @0x88c5f1d2ea70b936 {
  header @0 :Common.ReplyHeader;
  results @1 :List(PeerResult);
  # One for each operation, in the order of the request. If the whole batch was refused, there is a single entry, an error.
  positions @2 :List(UInt64);
  # How many changes each shard of the node's store has made durable, ever. It never goes back: a node whose positions do runs on an
  # old copy of its data directory.
}

struct TreeRequest @0x9e41c5d7b8a2f063 {
  header @0 :Common.RequestHeader;
  questions @1 :List(TreeQuestion);
  # At most 1,024.
}

struct TreeQuestion @0xd5f8127ab3e9c640 {
  # About the keys of a partition whose identifiers begin with certain bits.
  view @0 :View;
  path @1 :UInt64;
  # The first 64 bits of an identifier, of which only the first `pathBits` count; the others are zero.
  pathBits @2 :UInt8;
  # At least as many as the view's `bits`.
  union {
    sum @3 :Void;
    # How many keys there are, and the sum of their terms. Answered by `sum`.
    children @4 :Void;
    # The sums of the 256 ranges with 8 bits more. Answered by `children`.
    keys @5 :UInt32;
    # The keys themselves with their records' digests, at most so many. Answered by `keys`.
  }
}

struct TreeSum @0xc0a36f9e1d74b285 {
  count @0 :UInt64;
  sum @1 :UInt64;
  # The terms of all keys, added modulo 2^64. A key's term is XXH3-64 of its store key followed by its record's checksum, 16 bytes, big
  # end first.
}

struct TreeKey @0x8a5c0fd2e7b39164 { storeKey @0 :Data; digest @1 :Digest; }

struct TreeAnswer @0xf31d8b60a9c24e75 {
  union {
    error @0 :Common.Error;
    sum @1 :TreeSum;
    children @2 :List(TreeSum);
    # 256 of them, in order.
    keys @3 :List(TreeKey);
    # In the order of their store keys.
    stale @4 :View;
  }
  more @5 :Bool;
  # There are more keys than were asked for: ask for a longer path.
}

struct TreeReply @0xa6e2901bc8d5f374 {
  header @0 :Common.ReplyHeader;
  answers @1 :List(TreeAnswer);
  # One for each question, in order. If the whole batch was refused, there is a single entry, an error.
  positions @2 :List(UInt64);
  # As in PeerReply.
}

@0xf3807b5ed96ca142;
# What nodes ask of each other: operations on one replica. Not for applications; a node hands this capability only to peers.
#
# Every operation carries the view of the partition under which it was sent. The replica compares it with its own, inside the write's
# transaction, and answers `stale` instead of acting when the sender's is old.

using Common = import "common.capnp";

interface Peer @0xe5a7c42f90d8b163 {
  execute @0 (request :PeerRequest) -> (reply :PeerReply);
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
  }
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
}

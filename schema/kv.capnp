@0xae07d15c93f8b264;
# What applications use. Any node takes any request: a node that does not own a key forwards to one that does, at the price of
# one more hop. Clients that fetch the ring (`ring`) send each operation straight to an owner.
#
# Three ways to put, said plainly:
#  * with the context of a read, it replaces exactly what was read;
#  * with none (`context` empty), it replaces whatever its coordinator holds at that moment;
#  * with `beside`, it adds a version beside whatever there is, on purpose.
# Writes that truly happened at the same time become siblings: `Found.siblings` then has more than one entry. Merge them and put
# the result with the context of that read.

using Common = import "common.capnp";

interface Kv @0xd0a5736ef8b1942c {
  get @0 (request :GetRequest) -> (reply :OperationReply);
  put @1 (request :PutRequest) -> (reply :OperationReply);
  delete @2 (request :DeleteRequest) -> (reply :OperationReply);
  execute @3 (request :ExecuteRequest) -> (reply :ExecuteReply);
  # Many operations in one call, at most 1,024 and 4 MiB (one that travels alone may be as large as its value may be): the fast way.
  # They are independent of each other, may run in any order, and each has its own result. The reply comes when the last has ended.
  ring @4 (request :RingRequest) -> (reply :RingReply);
  scan @5 (request :ScanRequest) -> (reply :ScanReply);
  # The keys one owner holds in one partition, piece by piece.
  status @6 (request :StatusRequest) -> (reply :StatusReply);
  # How this node is, for people and monitors.
}

struct Get @0xb8e2f90d6a13c574 {
  bucket @0 :Text;
  # 1 to 64 bytes of [A-Za-z0-9._-]; empty means "default".
  key @1 :Data;
  # 1 to 1,024 bytes.
  consistency @2 :Common.Consistency;
  withoutValues @3 :Bool;
  # Send no values, only how many siblings there are, their lengths and the context.
}

struct Put @0x93cd47a1e6085bf2 {
  bucket @0 :Text;
  key @1 :Data;
  value @2 :Data;
  # 0 bytes to the node's limit, 1 MiB unless configured otherwise.
  context @3 :Data;
  # From a read of this very key; empty to replace what the coordinator holds.
  beside @4 :Bool;
  # Replace nothing: add a version. Not together with a context.
  consistency @5 :Common.Consistency;
  opClient @6 :UInt64;
  # The operation id: 64 random bits drawn at the client's start ...
  opSequence @7 :UInt64;
  # ... and a counter. A repeated id is recognised as a retry of the same write. Both zero: no recognition.
  seenClock @8 :UInt64;
  # The highest `Sibling.clock` this client has seen, so that its next write is later than all of them; 0 for none.
  valueHashHigh @9 :UInt64;
  valueHashLow @10 :UInt64;
  # XXH3-128 of the value as the writer computed it, checked on arrival, stored, and returned with the value. Both zero: the node
  # computes it.
  ttlMs @11 :UInt64;
  # Readers no longer see the value after so many milliseconds; 0: for ever. It is judged by the clock of the node that answers a
  # read, and by nothing else: expired values are never the reason why another value is lost.
}

struct Delete @0xfb3092d5c7e8614a {
  bucket @0 :Text;
  key @1 :Data;
  context @2 :Data;
  # From a read of this very key; empty: the node reads at the same level first and deletes what it saw.
  consistency @3 :Common.Consistency;
  opClient @4 :UInt64;
  opSequence @5 :UInt64;
  seenClock @6 :UInt64;
}

struct Operation @0xe47b0c96a5d1f382 {
  union {
    get @0 :Get;
    put @1 :Put;
    delete @2 :Delete;
  }
}

struct Sibling @0x85f61ab3dc9e7240 {
  value @0 :Data;
  # Empty when the request asked for no values.
  valueBytes @1 :UInt32;
  # The length of the value.
  clock @2 :UInt64;
  # The hybrid logical clock of the write: milliseconds since 1970 in the upper 48 bits, a counter in the lower 16.
  hashHigh @3 :UInt64;
  hashLow @4 :UInt64;
  # XXH3-128 of the value.
}

struct Found @0xc9d4a80f2b75e163 {
  siblings @0 :List(Sibling);
  # At least one; more than one when writes were concurrent.
  context @1 :Data;
  # Opaque and bound to this key: hand it back with the put or delete that replaces these values.
}

struct NotFound @0xaa9e51c7f8360d24 {
  context @0 :Data;
  # Covers the tombstones that were seen, if any.
}

struct Stored @0x9e02bd64f1a7c835 {
  # The answer to a put or a delete.
  context @0 :Data;
  # The context after this write, if the new version stands alone. Empty when siblings stand beside it: get before the next put.
  siblings @1 :UInt16;
  # How many live versions the key has now, this one included.
  clock @2 :UInt64;
  # The clock the write was given.
}

struct Result @0xd783ec25906b1fa4 {
  union {
    error @0 :Common.Error;
    found @1 :Found;
    notFound @2 :NotFound;
    stored @3 :Stored;
  }
  receipt @4 :Common.Receipt;
}

struct GetRequest @0xbc61f2e98d4a3705 { header @0 :Common.RequestHeader; get @1 :Get; }
struct PutRequest @0x8a70d9b5e3c2146f { header @0 :Common.RequestHeader; put @1 :Put; }
struct DeleteRequest @0xf185c03ba69de472 { header @0 :Common.RequestHeader; delete @1 :Delete; }
struct OperationReply @0xcb4e8f1d02a6937b { header @0 :Common.ReplyHeader; result @1 :Result; }

struct ExecuteRequest @0xa30cd78f5e91b246 {
  header @0 :Common.RequestHeader;
  operations @1 :List(Operation);
}

struct ExecuteReply @0xe61d39b0a8c7f254 {
  header @0 :Common.ReplyHeader;
  results @1 :List(Result);
  # One for each operation, in the order of the request. If the whole batch was refused, there is a single entry, an error, which
  # speaks for all of them. Gets that found more than 4 MiB together: those that did not fit have `tooLarge` with `retryable`; ask
  # for them again in a smaller batch.
}

# ---- the ring

struct RingRequest @0x97ab6ce0d14f8325 {
  header @0 :Common.RequestHeader;
  haveEpoch @1 :UInt64;
  # The epoch of the layout the caller already has; 0 for none.
  haveHash @2 :Data;
  # Its hash, 16 bytes.
  pages @3 :List(UInt32);
  # Which pages of slots to send. Empty: as many as fit, from the first on.
  deltas @4 :Bool;
  # The caller understands `delta`: what has changed since the layout it has, where the node still knows that one and it is less.
}

struct NodeChange @0xcd0952e8b1f7a364 { position @0 :UInt16; node @1 :Node; }

struct RingDelta @0xf2c61a7d08b9e354 {
  # One layout said as its difference to another of the same number of partitions and replicas.
  fromEpoch @0 :UInt64;
  fromHash @1 :Data;
  epoch @2 :UInt64;
  hash @3 :Data;
  parentHash @4 :Data;
  nodeCount @5 :UInt32;
  nodes @6 :List(NodeChange);
  # Nodes that are new or different, by position.
  electors @7 :List(UInt16);
  bucketsChanged @8 :Bool;
  buckets @9 :List(BucketProperties);
  # All of them, if any has changed.
  partitions @10 :List(UInt32);
  # Partitions whose owners are different, in ascending order ...
  slots @11 :List(UInt16);
  # ... and their slots: `replicas` for each in turn.
  spanFirsts @12 :List(UInt32);
  # All runs of spans, over the whole ring: the first partition of each ...
  spanKinds @13 :List(UInt16);
  # ... and which of `spans` it is,
  spans @14 :List(SpanKind);
}

struct SpanKind @0x9b37f60de5c2a481 { since @0 :UInt64; oldest @1 :UInt64; }

struct Node @0xda50f7b81e39c264 {
  id @0 :Data;
  # 16 bytes: who it is, for ever.
  name @1 :Text;
  zone @2 :Text;
  weight @3 :UInt32;
  addresses @4 :List(Text);
  # host:port, most preferred first.
  leaving @5 :Bool;
  # It owns nothing any more under this layout; its data is being moved.
  lost @6 :Bool;
  # Like leaving, and no quorum waits for its copies.
  gone @7 :Bool;
  # It has left. Only its position is still there, so that the others keep theirs.
}

struct Page @0x8f94a2d6e7b01c35 {
  # The slots of 4,096 partitions, fewer on the last page.
  index @0 :UInt32;
  slots @1 :List(UInt16);
  # `replicas` node positions for each partition in turn; 65535 where nobody is.
  spans @2 :List(Span);
  # Since when the partitions of this page have their owners, in runs, the first partition of the page first. Empty from nodes whose
  # rings can't change: since the ring's epoch. Clients need not look at it.
}

struct Span @0xeb62f07a9c41d835 {
  # From this partition on, up to the next entry:
  first @0 :UInt32;
  since @1 :UInt64;
  # the epoch of the layout that gave them the owners they have,
  oldest @2 :UInt64;
  # and the oldest such epoch whose owners may still be asked.
}

enum ConflictRule @0xb27e5f90c8d1a346 {
  siblings @0;        # A read shows every concurrent value.
  lastWriterWins @1;  # A read shows the concurrent value with the highest clock.
}

struct BucketProperties @0xf68bc1e4d0a29573 {
  name @0 :Text;
  consistency @1 :Common.Consistency;
  conflictRule @2 :ConflictRule;
}

struct Ring @0xce173d8a90f5b642 {
  # A key's place: id = MD5(bucket, one zero byte, key); its partition = the leading `partitionBits` bits of id; its owners = the
  # slots of that partition, the preferred coordinator first.
  cluster @0 :Data;
  # 16 bytes.
  generation @1 :UInt64;
  epoch @2 :UInt64;
  hash @3 :Data;
  # 16 bytes over the whole layout, pages included.
  parentHash @4 :Data;
  partitionBits @5 :UInt8;
  replicas @6 :UInt8;
  # N.
  nodes @7 :List(Node);
  # A node's position here is what slots, receipts and reply headers name it by, within this epoch.
  electors @8 :List(UInt16);
  buckets @9 :List(BucketProperties);
  pageCount @10 :UInt32;
  pages @11 :List(Page);
}

struct RingReply @0xa95c02f7b3e8d164 {
  header @0 :Common.ReplyHeader;
  union {
    error @1 :Common.Error;
    unchanged @2 :Void;
    # The caller's layout is the newest.
    ring @3 :Ring;
    delta @4 :RingDelta;
    # Only for callers that asked with `deltas`.
  }
}

# ---- scanning

struct ScanRequest @0xec2f98a6d4b7e051 {
  # Keys come in the order of their identifiers, partition by partition. To scan a bucket, do it for every partition; ask more than one
  # owner and unite the answers where completeness matters more than speed.
  header @0 :Common.RequestHeader;
  bucket @1 :Text;
  # Empty: every bucket.
  partition @2 :UInt32;
  cursor @3 :Data;
  # Empty to begin; then what the last reply returned.
  limit @4 :UInt32;
  # At most so many keys, at most 1,000; 0 means 1,000.
  withTombstones @5 :Bool;
  # Also keys whose every version is a tombstone.
}

struct ScanKey @0x9dba41c7e5f20836 {
  bucket @0 :Text;
  key @1 :Data;
  siblings @2 :UInt16;
  # Live versions on this replica; 0 when there are only tombstones.
  valueBytes @3 :UInt64;
  # Bytes of the live values together.
}

struct ScanReply @0x8c06f3e9b1d75a42 {
  header @0 :Common.ReplyHeader;
  error @1 :Common.Error;
  # Null when there is none.
  keys @2 :List(ScanKey);
  cursor @3 :Data;
  # Empty when the partition is done.
  unreadable @4 :UInt32;
  # Keys of this piece that are not among `keys` because their records can't be verified here. Ask another owner for this piece.
}

# ---- status

struct StatusRequest @0xe0db927f4c8a6153 { header @0 :Common.RequestHeader; }

struct Counter @0xb5903ce8f7d1a264 { name @0 :Text; value @1 :UInt64; help @2 :Text; }

struct PeerStatus @0xc2f8a71b6d93e045 {
  node @0 :UInt16;
  state @1 :Text;
  # "up", "suspect" or "down", as this node's own traffic shows it; "unknown" before any.
  roundTripMicros @2 :UInt32;
  gossip @3 :Text;
  # What the members tell each other of it: "alive", "suspect", "down"; empty where nothing is known.
  hints @4 :UInt64;
  # Objects that this node keeps for it.
  hintBytes @5 :UInt64;
}

struct StatusReply @0xd4a19e6fb8307c52 {
  header @0 :Common.ReplyHeader;
  error @1 :Common.Error;
  node @2 :UInt16;
  name @3 :Text;
  version @4 :Text;
  state @5 :Text;
  # "serving", "read-only" (storage full), "draining" or "failed".
  uptimeSeconds @6 :UInt64;
  epoch @7 :UInt64;
  partitions @8 :UInt32;
  # How many partitions it owns.
  keys @9 :UInt64;
  # Records in its store, tombstones included.
  diskBytes @10 :UInt64;
  diskBytesMax @11 :UInt64;
  # 0: only the disk itself is the limit.
  residentBytes @12 :UInt64;
  connections @13 :UInt32;
  warnings @14 :List(Text);
  # What an operator should know, such as fewer nodes than N.
  peers @15 :List(PeerStatus);
  counters @16 :List(Counter);
}

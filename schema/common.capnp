@0xb5d4c1a7e2f09836;
# What every interface of Quorate shares: the headers of requests and replies, consistency levels, errors, receipts.
#
# Rules of this contract, for whoever implements a client in any language:
#  * It only grows: new fields and methods come at the end. Unknown enumerants and union members may arrive from a newer node;
#    treat an unknown error code as `internal`, an unknown result as an error.
#  * Errors are data. A Cap'n Proto exception means a broken connection or a bug, never "key not found" or "try later".
#  * Keys and values are bytes (Data). Names are UTF-8 text.
#  * Numbers that are absent (zero) mean "as the node is configured", unless a field says otherwise.


struct RequestHeader @0xd6a3b9158c0f7e21 {
  # Travels with every request.
  epoch @0 :UInt64;
  # The layout epoch the sender routes by; 0 when it knows no layout. A node serves or forwards whatever the epoch is.
  budgetMs @1 :UInt32;
  # Time that remains for this request, in milliseconds, when it is sent. Not an instant: clocks differ. 0: the node's default.
  # A node answers within it, or the sender stops waiting; expired work is dropped before it reaches the disk.
  traceparent @2 :Text;
  # W3C trace context, passed on untouched; empty for none.
  hops @3 :UInt8;
  # How often the request was already forwarded by nodes. Clients send 0; a node does not forward what has 1 or more.
}

struct ReplyHeader @0xa1f47c02d95be863 {
  # Travels with every reply.
  epoch @0 :UInt64;
  # The layout epoch of the node. Newer than yours: fetch the ring again.
  coordinator @1 :UInt16;
  # The node that answered, by its position in the layout of `epoch`.
  load @2 :UInt8;
  # How busy the node is: 0 idle, 255 about to refuse.
  serverMicros @3 :UInt32;
  # Time between the arrival of the request and this reply, in microseconds.
}

enum Level @0xe9c81d30b6f2a745 {
  # How many replicas an operation waits for.
  bucket @0;     # As the bucket's properties say; `available` if they say nothing.
  one @1;        # The first replica: durable on one node, may be stale.
  available @2;  # The first W or R of the preference list, with stand-ins for unreachable owners: writes are taken while any W nodes
                 # can be reached, and reach the owners in time. A read may meet other nodes than the write did.
  quorum @3;     # A majority of the owners: a read that starts after a write completed sees it.
  all @4;        # Every owner: fails while one is down.
}

struct Consistency @0xf2708e5da4c1b693 {
  # What one operation asks of replication. r, w and n override what the level says; 0 leaves them to it.
  level @0 :Level;
  r @1 :UInt8;
  # Replicas a read waits for.
  w @2 :UInt8;
  # Replicas that have made a write durable before it is acknowledged.
  n @3 :UInt8;
  # Use only the first n owners of the preference list; at most the layout's N.
}

enum ErrorCode @0xc35a9f81e04d72b6 {
  internal @0;         # A bug or a condition nobody foresaw. Look at the node's log.
  invalidRequest @1;   # The request itself is wrong (a name, a context of another key, r above n): never retry it unchanged.
  tooLarge @2;         # A key, value, object or batch above its limit.
  tooManySiblings @3;  # The key holds as many concurrent versions as are allowed: read, merge, and put with the context.
  unavailable @4;      # Not enough replicas can be reached. `need` and `got` say how many were wanted and answered.
  quorumTimeout @5;    # Not enough replicas answered within the budget. A write may still appear.
  overloaded @6;       # Refused before anything was done; wait `retryAfterMs`.
  unsupported @7;      # This node does not offer that level or method (yet).
  unauthenticated @8;  # `hello` was not called, or the credentials are wrong.
  forbidden @9;        # Known, but not allowed.
  corrupt @10;         # Replicas that hold the key can't verify its record; the data is not served.
  staleView @11;       # Between nodes: the operation was sent under an old view of the partition.
  storageFull @12;     # The disk or the quota is full: reads go on, writes are refused, nothing acknowledged is lost.
  shuttingDown @13;    # The node drains; another one serves.
  wrongCluster @14;    # The other side belongs to another cluster or is not who the layout says.
}

struct Error @0x9b16e4f8d3a05c72 {
  code @0 :ErrorCode;
  message @1 :Text;
  # What happened and what to do, for people. Its wording is not part of the contract.
  retryable @2 :Bool;
  # Whether the same request (with the same operation id) may succeed later or elsewhere.
  maybeApplied @3 :Bool;
  # Whether a write may have been stored somewhere, and so may become visible.
  retryAfterMs @4 :UInt32;
  # Wait at least this long before the next attempt; 0: no wish.
  need @5 :UInt8;
  # Replicas the operation needed, where that is what failed.
  got @6 :UInt8;
  # Replicas that answered well.
  owners @7 :List(UInt16);
  # The owners of the key by position in the layout, where knowing them helps.
}

struct Receipt @0x8d2f60b7c4e9135a {
  # What an operation rested on.
  answered @0 :List(UInt16);
  # The nodes whose answers counted, by position in the layout of `epoch`.
  epoch @1 :UInt64;
  # The layout epoch under which the answers counted.
  need @2 :UInt8;
  # How many answers were waited for, after fewer nodes than N have been taken into account.
  durable @3 :UInt8;
  # For a write: how many nodes had committed it to disk when it was acknowledged.
  standIns @4 :UInt8;
  # How many of `answered` were stand-ins for unreachable owners.
  repaired @5 :Bool;
  # For a read: owners that were behind are being sent the merged object.
  replicas @6 :UInt8;
  # How many owners the key has: N, or fewer while the cluster has fewer nodes.
}

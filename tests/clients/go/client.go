// Package client is a Quorate client written against the schema alone: a worked example, small enough to read in one go and complete enough
// to use. It greets nodes, learns the ring, sends each operation straight to an owner of its key, names its writes so that a retry is
// recognised, and hands contexts back. It is not the SDK: it does not batch by itself and follows no change of the ring.
package client

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"sync/atomic"

	"quorate.test/client/schema/common"
)

var errNobody = errors.New("no node could be reached; nothing was done")

// Client knows the ring and has a session with every node that could be reached. Safe for use by several goroutines.
type Client struct {
	ring     *Ring
	sessions []*session
	// opClient and the sequence name a write: every attempt at it carries the same pair.
	opClient   uint64
	opSequence atomic.Uint64
}

// Versions are the values of a key, more than one where writes were concurrent, and the context that covers them.
type Versions struct {
	Values  [][]byte
	Context []byte
	Receipt Receipt
}

// Stored answers a put or a delete. Context is empty where siblings stand beside the new version.
type Stored struct {
	Siblings uint16
	Context  []byte
	Receipt  Receipt
}

// Receipt says what an answer rested on: names of nodes, and on how many of them a write is on disk.
type Receipt struct {
	Answered []string
	Durable  uint8
}

// Connect learns the ring from the node at address, and greets the others.
func Connect(ctx context.Context, address string) (*Client, error) {
	first, err := dial(ctx, address)
	if err != nil {
		return nil, err
	}
	defer first.close()
	ring, err := first.ring(ctx)
	if err != nil {
		return nil, err
	}
	client := &Client{ring: ring, sessions: make([]*session, len(ring.Nodes))}
	for at, member := range ring.Nodes {
		// A node that is down costs its share of requests one hop, and nothing else.
		client.sessions[at], _ = dial(ctx, member.Address)
	}
	var seed [8]byte
	if _, err := rand.Read(seed[:]); err != nil {
		return nil, err
	}
	client.opClient = binary.BigEndian.Uint64(seed[:])
	return client, nil
}

// Close ends the sessions.
func (c *Client) Close() {
	for _, session := range c.sessions {
		session.close()
	}
}

// Ring is the map that requests are routed by.
func (c *Client) Ring() *Ring { return c.ring }

// Get reads a key. Absence is no error: there are no values then, and the context covers the tombstones that were seen.
func (c *Client) Get(ctx context.Context, bucket, key string, level common.Level) (Versions, error) {
	result, err := c.send(ctx, operation{bucket: bucket, key: key, level: level, action: get})
	return result.versions, err
}

// Put writes a value. With the context of a read it replaces exactly what was read; with none, what its coordinator holds.
func (c *Client) Put(ctx context.Context, bucket, key string, value, seen []byte, level common.Level) (Stored, error) {
	put := operation{bucket: bucket, key: key, level: level, action: put, value: value, context: seen}
	result, err := c.send(ctx, put)
	return result.stored, err
}

// PutBeside adds a version beside whatever there is, on purpose.
func (c *Client) PutBeside(ctx context.Context, bucket, key string, value []byte, level common.Level) (Stored, error) {
	put := operation{bucket: bucket, key: key, level: level, action: put, value: value, beside: true}
	result, err := c.send(ctx, put)
	return result.stored, err
}

// Delete deletes what a read saw, or without a context what the node sees at that level.
func (c *Client) Delete(ctx context.Context, bucket, key string, seen []byte, level common.Level) (Stored, error) {
	result, err := c.send(ctx, operation{bucket: bucket, key: key, level: level, action: remove, context: seen})
	return result.stored, err
}

// send tries the owners of the key in turn, always under the same operation id: a node that has seen it already answers as it did then.
func (c *Client) send(ctx context.Context, op operation) (result, error) {
	if op.action != get {
		op.client, op.sequence = c.opClient, c.opSequence.Add(1)
	}
	err := errNobody
	for _, session := range c.preferred(op.bucket, op.key) {
		// What is unclear is asked once more where it was sent: nobody else can tell sooner.
		for range 2 {
			var results []result
			if results, err = session.execute(ctx, c.ring, []operation{op}); err == nil {
				if err = results[0].err; err == nil {
					return results[0], nil
				}
			}
			var refused *Error
			isAnswer := errors.As(err, &refused)
			if isAnswer && !refused.Retryable || ctx.Err() != nil {
				return result{}, err
			}
			if !isAnswer || !refused.MaybeApplied {
				break
			}
		}
	}
	return result{}, err
}

// preferred lists the sessions with the owners of a key, the coordinator first; after them any other, which would forward.
func (c *Client) preferred(bucket, key string) []*session {
	var order []*session
	seen := make([]bool, len(c.sessions))
	for _, owner := range c.ring.Owners(bucket, key) {
		seen[owner] = true
		order = append(order, c.sessions[owner])
	}
	for at, session := range c.sessions {
		if !seen[at] {
			order = append(order, session)
		}
	}
	open := order[:0]
	for _, session := range order {
		if session != nil {
			open = append(open, session)
		}
	}
	return open
}

// PutMany writes many values: one `execute` for each node, which is the fast way. The errors stand in the order of the entries.
func (c *Client) PutMany(ctx context.Context, bucket string, entries []Entry, level common.Level) []error {
	outcomes := make([]error, len(entries))
	shares := map[*session][]int{}
	for at, entry := range entries {
		preferred := c.preferred(bucket, entry.Key)
		if len(preferred) == 0 {
			outcomes[at] = errNobody
			continue
		}
		shares[preferred[0]] = append(shares[preferred[0]], at)
	}
	for session, share := range shares {
		for len(share) > 0 {
			piece := share[:min(len(share), session.batchOperationsMax)]
			share = share[len(piece):]
			c.putPiece(ctx, session, bucket, entries, piece, level, outcomes)
		}
	}
	return outcomes
}

// Entry is one key and its value.
type Entry struct {
	Key   string
	Value []byte
}

func (c *Client) putPiece(
	ctx context.Context, session *session, bucket string, entries []Entry, piece []int, level common.Level, outcomes []error,
) {
	operations := make([]operation, 0, len(piece))
	for _, at := range piece {
		operations = append(operations, operation{
			bucket: bucket, key: entries[at].Key, level: level, action: put, value: entries[at].Value,
			client: c.opClient, sequence: c.opSequence.Add(1),
		})
	}
	results, err := session.execute(ctx, c.ring, operations)
	for i, at := range piece {
		if outcomes[at] = err; err == nil {
			outcomes[at] = results[i].err
		}
	}
}

// Scan lists the keys of a bucket, partition by partition, as one owner of each holds them.
func (c *Client) Scan(ctx context.Context, bucket string) ([]string, error) {
	var keys []string
	for partition := uint32(0); partition < 1<<c.ring.PartitionBits; partition++ {
		piece, err := c.scanPartition(ctx, bucket, partition)
		if err != nil {
			return nil, err
		}
		keys = append(keys, piece...)
	}
	return keys, nil
}

// scanPartition asks the owners in turn until one has listed the whole partition.
func (c *Client) scanPartition(ctx context.Context, bucket string, partition uint32) (keys []string, err error) {
	err = errNobody
	for _, owner := range c.ring.OwnersOf(partition) {
		if session := c.sessions[owner]; session != nil {
			if keys, err = session.scan(ctx, bucket, partition); err == nil {
				return keys, nil
			}
		}
	}
	return nil, err
}

package client

import (
	"context"
	"fmt"
	"time"

	"quorate.test/client/schema/common"
	"quorate.test/client/schema/kv"
)

type action int

const (
	get action = iota
	put
	remove
)

// operation is what one entry of `execute` asks.
type operation struct {
	bucket, key      string
	level            common.Level
	action           action
	value, context   []byte
	beside           bool
	client, sequence uint64
}

// result is the answer to one operation: an error, or one of the others.
type result struct {
	err      error
	versions Versions
	stored   Stored
}

// Error is an error as the node sends it: data, on which a program can act.
type Error struct {
	Code         common.ErrorCode
	Message      string
	Retryable    bool
	MaybeApplied bool
	RetryAfter   time.Duration
}

func (e *Error) Error() string { return fmt.Sprintf("%v: %s", e.Code, e.Message) }

// execute sends operations in one call. An error of the call means that the connection is broken, or that the node refused all of them.
func (s *session) execute(ctx context.Context, ring *Ring, operations []operation) ([]result, error) {
	future, release := s.kv.Execute(ctx, func(call kv.Kv_execute_Params) error {
		request, err := call.NewRequest()
		if err != nil {
			return err
		}
		header, err := request.NewHeader()
		if err != nil {
			return err
		}
		header.SetEpoch(ring.Epoch)
		header.SetBudgetMs(budgetMs(ctx))
		list, err := request.NewOperations(int32(len(operations)))
		for at := 0; err == nil && at < len(operations); at++ {
			err = operations[at].write(list.At(at))
		}
		return err
	})
	defer release()
	answer, err := future.Struct()
	if err != nil {
		return nil, err
	}
	reply, err := answer.Reply()
	if err != nil {
		return nil, err
	}
	list, err := reply.Results()
	if err != nil {
		return nil, err
	}
	results := make([]result, list.Len())
	for at := range results {
		results[at] = readResult(list.At(at), ring)
	}
	if len(results) == 1 && len(operations) > 1 {
		return nil, results[0].err
	}
	if len(results) != len(operations) {
		return nil, fmt.Errorf("%d operations were answered with %d results", len(operations), len(results))
	}
	return results, nil
}

// budgetMs is the time that remains, which the node is told: what nobody waits for any more is not carried out.
func budgetMs(ctx context.Context) uint32 {
	deadline, limited := ctx.Deadline()
	if !limited {
		return 0
	}
	return uint32(max(time.Until(deadline).Milliseconds(), 1))
}

func (o operation) write(into kv.Operation) error {
	switch o.action {
	case get:
		return o.writeGet(into)
	case put:
		return o.writePut(into)
	default:
		return o.writeDelete(into)
	}
}

func (o operation) writeGet(into kv.Operation) error {
	get, err := into.NewGet()
	if err != nil {
		return err
	}
	return first(get.SetBucket(o.bucket), get.SetKey([]byte(o.key)), setLevel(get.NewConsistency, o.level))
}

func (o operation) writePut(into kv.Operation) error {
	put, err := into.NewPut()
	if err != nil {
		return err
	}
	put.SetBeside(o.beside)
	put.SetOpClient(o.client)
	put.SetOpSequence(o.sequence)
	return first(
		put.SetBucket(o.bucket), put.SetKey([]byte(o.key)), put.SetValue(o.value), put.SetContext(o.context),
		setLevel(put.NewConsistency, o.level),
	)
}

func (o operation) writeDelete(into kv.Operation) error {
	remove, err := into.NewDelete()
	if err != nil {
		return err
	}
	remove.SetOpClient(o.client)
	remove.SetOpSequence(o.sequence)
	return first(
		remove.SetBucket(o.bucket), remove.SetKey([]byte(o.key)), remove.SetContext(o.context),
		setLevel(remove.NewConsistency, o.level),
	)
}

func setLevel(make func() (common.Consistency, error), level common.Level) error {
	consistency, err := make()
	if err == nil {
		consistency.SetLevel(level)
	}
	return err
}

// first is the first error, if there is one.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// readResult copies what is kept: the reply's memory is released with the call.
func readResult(from kv.Result, ring *Ring) (read result) {
	var receipt Receipt
	if receipt, read.err = readReceipt(from, ring); read.err != nil {
		return read
	}
	switch from.Which() {
	case kv.Result_Which_found:
		read.versions, read.err = readFound(from)
	case kv.Result_Which_notFound:
		absent, err := from.NotFound()
		if err != nil {
			return result{err: err}
		}
		read.versions.Context, read.err = copied(absent.Context())
	case kv.Result_Which_stored:
		stored, err := from.Stored()
		if err != nil {
			return result{err: err}
		}
		read.stored.Siblings = stored.Siblings()
		read.stored.Context, read.err = copied(stored.Context())
	case kv.Result_Which_error:
		refused, err := from.Error()
		if err != nil {
			return result{err: err}
		}
		read.err = readError(refused)
	default:
		read.err = fmt.Errorf("a newer node answered with a kind of result that this client does not know: %v", from.Which())
	}
	read.versions.Receipt, read.stored.Receipt = receipt, receipt
	return read
}

func readFound(from kv.Result) (versions Versions, err error) {
	found, err := from.Found()
	if err != nil {
		return versions, err
	}
	if versions.Context, err = copied(found.Context()); err != nil {
		return versions, err
	}
	siblings, err := found.Siblings()
	for at := 0; err == nil && at < siblings.Len(); at++ {
		var value []byte
		value, err = copied(siblings.At(at).Value())
		versions.Values = append(versions.Values, value)
	}
	return versions, err
}

func readReceipt(from kv.Result, ring *Ring) (receipt Receipt, err error) {
	read, err := from.Receipt()
	if err != nil {
		return receipt, err
	}
	receipt.Durable = read.Durable()
	answered, err := read.Answered()
	for at := 0; err == nil && at < answered.Len(); at++ {
		if position := int(answered.At(at)); position < len(ring.Nodes) {
			receipt.Answered = append(receipt.Answered, ring.Nodes[position].Name)
		}
	}
	return receipt, err
}

func readError(from common.Error) error {
	// `Message_`, because `Message` is a method of every struct in this library.
	message, err := from.Message_()
	if err != nil {
		return err
	}
	return &Error{
		Code: from.Code(), Message: message, Retryable: from.Retryable(), MaybeApplied: from.MaybeApplied(),
		RetryAfter: time.Duration(from.RetryAfterMs()) * time.Millisecond,
	}
}

func copied(bytes []byte, err error) ([]byte, error) { return append([]byte(nil), bytes...), err }

// scan lists the keys that this node holds in a partition, piece by piece.
func (s *session) scan(ctx context.Context, bucket string, partition uint32) ([]string, error) {
	var keys []string
	for cursor := []byte(nil); ; {
		future, release := s.kv.Scan(ctx, func(call kv.Kv_scan_Params) error {
			request, err := call.NewRequest()
			if err != nil {
				return err
			}
			request.SetPartition(partition)
			return first(request.SetBucket(bucket), request.SetCursor(cursor))
		})
		var err error
		keys, cursor, err = readScan(future, keys)
		release()
		if err != nil || len(cursor) == 0 {
			return keys, err
		}
	}
}

func readScan(future kv.Kv_scan_Results_Future, keys []string) ([]string, []byte, error) {
	results, err := future.Struct()
	if err != nil {
		return nil, nil, err
	}
	reply, err := results.Reply()
	if err != nil {
		return nil, nil, err
	}
	if reply.HasError() {
		refused, err := reply.Error()
		if err != nil {
			return nil, nil, err
		}
		return nil, nil, readError(refused)
	}
	if reply.Unreadable() > 0 {
		return nil, nil, fmt.Errorf("%d keys can't be verified at this node; ask another owner", reply.Unreadable())
	}
	list, err := reply.Keys()
	for at := 0; err == nil && at < list.Len(); at++ {
		var key []byte
		key, err = list.At(at).Key()
		keys = append(keys, string(key))
	}
	if err != nil {
		return nil, nil, err
	}
	cursor, err := copied(reply.Cursor())
	return keys, cursor, err
}

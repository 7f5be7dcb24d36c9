package client

// These run against the nodes that QUORATE_ENDPOINTS names: `cargo run --release -- dev` starts three.

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"quorate.test/client/schema/common"
	"quorate.test/client/schema/kv"
)

const quorum = common.Level_quorum

// connect gives a client, a bucket that no other run uses, and a time within which everything must have ended.
func connect(t *testing.T) (context.Context, *Client, string) {
	t.Helper()
	endpoints := os.Getenv("QUORATE_ENDPOINTS")
	if endpoints == "" {
		t.Fatal("QUORATE_ENDPOINTS names no node: cargo run --release -- dev, then QUORATE_ENDPOINTS=127.0.0.1:7601 go test")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	address, _, _ := strings.Cut(endpoints, ",")
	client, err := Connect(ctx, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return ctx, client, fmt.Sprintf("go-%d", time.Now().UnixNano())
}

func must[T any](answer T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
}

func texts(versions Versions) []string {
	var values []string
	for _, value := range versions.Values {
		values = append(values, string(value))
	}
	slices.Sort(values)
	return values
}

func TestAValueIsReadAsItWasWritten(t *testing.T) {
	ctx, db, bucket := connect(t)
	for _, value := range []string{"hello", "", strings.Repeat("large", 100_000)} {
		stored := must(db.Put(ctx, bucket, "greeting", []byte(value), nil, quorum))(t)
		if stored.Receipt.Durable < 2 || len(stored.Receipt.Answered) < 2 {
			t.Fatalf("at quorum a write is on two disks at least: %+v", stored.Receipt)
		}
		found := must(db.Get(ctx, bucket, "greeting", quorum))(t)
		if got := texts(found); !slices.Equal(got, []string{value}) {
			t.Fatalf("%d values, and not the one that was written", len(got))
		}
	}
}

func TestAbsenceIsNoError(t *testing.T) {
	ctx, db, bucket := connect(t)
	if found := must(db.Get(ctx, bucket, "nothing", quorum))(t); len(found.Values) != 0 {
		t.Fatalf("found %v", texts(found))
	}
}

func TestSiblingsAreShownAndAContextReplacesExactlyWhatWasRead(t *testing.T) {
	ctx, db, bucket := connect(t)
	must(db.Put(ctx, bucket, "cart", []byte("milk"), nil, quorum))(t)
	beside := must(db.PutBeside(ctx, bucket, "cart", []byte("eggs"), quorum))(t)
	if beside.Siblings != 2 || len(beside.Context) != 0 {
		t.Fatalf("two versions stand side by side, and neither has a context of its own: %+v", beside)
	}
	found := must(db.Get(ctx, bucket, "cart", quorum))(t)
	if got := texts(found); !slices.Equal(got, []string{"eggs", "milk"}) {
		t.Fatalf("siblings are %v", got)
	}
	merged := must(db.Put(ctx, bucket, "cart", []byte("eggs+milk"), found.Context, quorum))(t)
	if merged.Siblings != 1 {
		t.Fatalf("after the merge there are %d versions", merged.Siblings)
	}
	// The same context again: somebody else has written meanwhile, and nothing of that is lost.
	must(db.Put(ctx, bucket, "cart", []byte("jam"), found.Context, quorum))(t)
	if got := texts(must(db.Get(ctx, bucket, "cart", quorum))(t)); !slices.Equal(got, []string{"eggs+milk", "jam"}) {
		t.Fatalf("siblings are %v", got)
	}
}

func TestADeletedKeyIsAbsentAndTakesAValueAgain(t *testing.T) {
	ctx, db, bucket := connect(t)
	must(db.Put(ctx, bucket, "gone", []byte("soon"), nil, quorum))(t)
	must(db.Delete(ctx, bucket, "gone", nil, quorum))(t)
	absent := must(db.Get(ctx, bucket, "gone", quorum))(t)
	if len(absent.Values) != 0 || len(absent.Context) == 0 {
		t.Fatalf("a deleted key has no values, and a context that covers the deletion: %+v", absent)
	}
	must(db.Put(ctx, bucket, "gone", []byte("back"), absent.Context, quorum))(t)
	if got := texts(must(db.Get(ctx, bucket, "gone", quorum))(t)); !slices.Equal(got, []string{"back"}) {
		t.Fatalf("values are %v", got)
	}
}

func TestErrorsAreData(t *testing.T) {
	ctx, db, bucket := connect(t)
	stored := must(db.Put(ctx, bucket, "mine", []byte("1"), nil, quorum))(t)
	wrong := map[string]struct {
		key, value string
		context    []byte
		code       common.ErrorCode
	}{
		"no key":                   {"", "v", nil, common.ErrorCode_invalidRequest},
		"a key that is too long":   {strings.Repeat("k", 1025), "v", nil, common.ErrorCode_tooLarge},
		"a value that is too long": {"k", strings.Repeat("v", 2<<20), nil, common.ErrorCode_tooLarge},
		"the context of another":   {"yours", "v", stored.Context, common.ErrorCode_invalidRequest},
		"a context that is none":   {"k", "v", []byte("forged"), common.ErrorCode_invalidRequest},
	}
	for what, each := range wrong {
		_, err := db.Put(ctx, bucket, each.key, []byte(each.value), each.context, quorum)
		var refused *Error
		if !errors.As(err, &refused) {
			t.Fatalf("%s: %v", what, err)
		}
		if refused.Code != each.code || refused.Retryable || refused.MaybeApplied || refused.Message == "" {
			t.Errorf("%s: %+v", what, refused)
		}
	}
}

func TestARepeatedOperationIdIsOneWrite(t *testing.T) {
	ctx, db, bucket := connect(t)
	once := operation{bucket: bucket, key: "once", level: quorum, action: put, value: []byte("x"), beside: true, client: 7, sequence: 1}
	for _, session := range db.preferred(bucket, "once") {
		results := must(session.execute(ctx, db.ring, []operation{once}))(t)
		if results[0].err != nil {
			t.Fatal(results[0].err)
		}
	}
	if got := texts(must(db.Get(ctx, bucket, "once", quorum))(t)); !slices.Equal(got, []string{"x"}) {
		t.Fatalf("three attempts made %v", got)
	}
}

func TestEveryKeyIsOwnedByWhomTheRingSays(t *testing.T) {
	ctx, db, bucket := connect(t)
	for i := range 50 {
		key := fmt.Sprintf("placed-%d", i)
		stored := must(db.Put(ctx, bucket, key, []byte("v"), nil, common.Level_all))(t)
		var owners []string
		for _, owner := range db.Ring().Owners(bucket, key) {
			owners = append(owners, db.Ring().Nodes[owner].Name)
		}
		slices.Sort(owners)
		slices.Sort(stored.Receipt.Answered)
		if !slices.Equal(owners, stored.Receipt.Answered) {
			t.Fatalf("%s is owned by %v, and %v answered", key, owners, stored.Receipt.Answered)
		}
	}
}

// Counted by the nodes: no request of this client was forwarded.
func TestNoRequestTakesASecondHop(t *testing.T) {
	ctx, db, bucket := connect(t)
	before := forwarded(t, ctx, db)
	for i := range 200 {
		key := fmt.Sprintf("direct-%d", i)
		must(db.Put(ctx, bucket, key, []byte("v"), nil, quorum))(t)
		must(db.Get(ctx, bucket, key, quorum))(t)
	}
	if after := forwarded(t, ctx, db); after != before {
		t.Fatalf("%d requests were forwarded", after-before)
	}
}

func TestABatchHasAResultForEachEntryAndAScanFindsThemAll(t *testing.T) {
	ctx, db, bucket := connect(t)
	var entries []Entry
	var want []string
	for i := range 5_000 {
		entries = append(entries, Entry{Key: fmt.Sprintf("entry-%04d", i), Value: []byte("v")})
		want = append(want, entries[i].Key)
	}
	entries = append(entries, Entry{Key: "", Value: []byte("a key may not be empty")})
	// At `all`, because a scan asks one owner of each partition.
	outcomes := db.PutMany(ctx, bucket, entries, common.Level_all)
	for at, err := range outcomes[:5_000] {
		if err != nil {
			t.Fatalf("entry %d: %v", at, err)
		}
	}
	if outcomes[5_000] == nil {
		t.Fatal("an empty key was taken")
	}
	keys := must(db.Scan(ctx, bucket))(t)
	slices.Sort(keys)
	if !slices.Equal(keys, want) {
		t.Fatalf("scanned %d keys of %d", len(keys), len(want))
	}
}

// forwarded sums what the nodes count as handed on to an owner.
func forwarded(t *testing.T, ctx context.Context, db *Client) (sum uint64) {
	t.Helper()
	for _, session := range db.sessions {
		if session == nil {
			t.Fatal("all nodes must be up for this")
		}
		future, release := session.kv.Status(ctx, func(kv.Kv_status_Params) error { return nil })
		defer release()
		reply := must(must(future.Struct())(t).Reply())(t)
		counters := must(reply.Counters())(t)
		known := false
		for at := range counters.Len() {
			if must(counters.At(at).Name())(t) == "forwards" {
				known = true
				sum += counters.At(at).Value()
			}
		}
		if !known {
			t.Fatal("the node does not count what it forwards")
		}
	}
	return sum
}

func TestManyGoroutinesShareOneClient(t *testing.T) {
	ctx, db, bucket := connect(t)
	var group sync.WaitGroup
	errs := make(chan error, 64)
	for worker := range 64 {
		group.Add(1)
		go func() {
			defer group.Done()
			for i := range 10 {
				key, value := fmt.Sprintf("worker-%d-%d", worker, i), fmt.Sprintf("value %d", i)
				if _, err := db.Put(ctx, bucket, key, []byte(value), nil, quorum); err != nil {
					errs <- err
					return
				}
				found, err := db.Get(ctx, bucket, key, quorum)
				if err != nil || !slices.Equal(texts(found), []string{value}) {
					errs <- fmt.Errorf("%s: %v, %w", key, texts(found), err)
					return
				}
			}
		}()
	}
	group.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
}

// Run last, and only where QUORATE_KILL names the process of a node, which is gone afterwards.
func TestReadsAndWritesGoOnWhenANodeIsKilled(t *testing.T) {
	victim, err := strconv.Atoi(os.Getenv("QUORATE_KILL"))
	if err != nil {
		t.Skip("QUORATE_KILL names no process")
	}
	ctx, db, bucket := connect(t)
	process := must(os.FindProcess(victim))(t)
	for i := range 100 {
		if i == 10 {
			if err := process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		key, value := fmt.Sprintf("survives-%d", i), fmt.Sprintf("value %d", i)
		must(db.Put(ctx, bucket, key, []byte(value), nil, quorum))(t)
		if got := texts(must(db.Get(ctx, bucket, key, quorum))(t)); !slices.Equal(got, []string{value}) {
			t.Fatalf("%s is %v", key, got)
		}
	}
}

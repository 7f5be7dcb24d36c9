package client

import (
	"context"
	"crypto/md5"
	"encoding/binary"
	"errors"
	"fmt"

	"capnproto.org/go/capnp/v3"

	"quorate.test/client/schema/kv"
)

// nobody stands in a slot that has no owner.
const nobody = 65535

// Ring says where every key lives.
type Ring struct {
	Epoch         uint64
	PartitionBits uint8
	Replicas      int
	Nodes         []Member
	slots         []uint16
}

// Member is a node: its position in Ring.Nodes is what slots and receipts name it by.
type Member struct {
	Name    string
	Address string
}

// Partition of a key: the leading bits of MD5(bucket, one zero byte, key).
func (r *Ring) Partition(bucket, key string) uint32 {
	id := md5.Sum([]byte(bucket + "\x00" + key))
	return binary.BigEndian.Uint32(id[:4]) >> (32 - r.PartitionBits)
}

// OwnersOf lists the owners of a partition by position, the preferred coordinator first.
func (r *Ring) OwnersOf(partition uint32) []uint16 {
	first := int(partition) * r.Replicas
	var owners []uint16
	for _, owner := range r.slots[first : first+r.Replicas] {
		if owner != nobody {
			owners = append(owners, owner)
		}
	}
	return owners
}

// Owners lists the owners of a key.
func (r *Ring) Owners(bucket, key string) []uint16 {
	return r.OwnersOf(r.Partition(bucket, key))
}

// ring asks a node for the map. Slots come in pages of 4,096 partitions, as many as fit into one reply.
func (s *session) ring(ctx context.Context) (*Ring, error) {
	ring := &Ring{}
	for have, count := uint32(0), uint32(1); have < count; {
		reply, release, err := s.askRing(ctx, have)
		if err != nil {
			return nil, err
		}
		var pages kv.Page_List
		if have == 0 {
			err = ring.readHead(reply)
		}
		if err == nil {
			pages, err = reply.Pages()
		}
		for at := 0; err == nil && at < pages.Len(); at++ {
			err = ring.readPage(pages.At(at))
		}
		have, count = have+uint32(pages.Len()), reply.PageCount()
		release()
		if err == nil && pages.Len() == 0 {
			err = errors.New("the node sent no more pages of the ring than before")
		}
		if err != nil {
			return nil, err
		}
	}
	return ring, nil
}

func (s *session) askRing(ctx context.Context, from uint32) (kv.Ring, capnp.ReleaseFunc, error) {
	future, release := s.kv.Ring(ctx, func(call kv.Kv_ring_Params) error {
		request, err := call.NewRequest()
		if err != nil || from == 0 {
			return err
		}
		pages, err := request.NewPages(1)
		if err != nil {
			return err
		}
		pages.Set(0, from)
		return nil
	})
	ring, err := readRingReply(future)
	if err != nil {
		release()
		return kv.Ring{}, nil, err
	}
	return ring, release, nil
}

func readRingReply(future kv.Kv_ring_Results_Future) (kv.Ring, error) {
	results, err := future.Struct()
	if err != nil {
		return kv.Ring{}, err
	}
	reply, err := results.Reply()
	if err != nil {
		return kv.Ring{}, err
	}
	switch reply.Which() {
	case kv.RingReply_Which_ring:
		return reply.Ring()
	case kv.RingReply_Which_error:
		refused, err := reply.Error()
		if err != nil {
			return kv.Ring{}, err
		}
		return kv.Ring{}, readError(refused)
	default:
		return kv.Ring{}, fmt.Errorf("the ring was asked for, and the node answered %v", reply.Which())
	}
}

func (r *Ring) readHead(ring kv.Ring) error {
	r.Epoch, r.PartitionBits, r.Replicas = ring.Epoch(), ring.PartitionBits(), int(ring.Replicas())
	nodes, err := ring.Nodes()
	if err != nil {
		return err
	}
	for at := 0; at < nodes.Len(); at++ {
		name, err := nodes.At(at).Name()
		if err != nil {
			return err
		}
		addresses, err := nodes.At(at).Addresses()
		if err != nil {
			return err
		}
		if addresses.Len() == 0 {
			return fmt.Errorf("node %s has no address", name)
		}
		address, err := addresses.At(0)
		if err != nil {
			return err
		}
		r.Nodes = append(r.Nodes, Member{Name: name, Address: address})
	}
	return nil
}

func (r *Ring) readPage(page kv.Page) error {
	slots, err := page.Slots()
	if err != nil {
		return err
	}
	for at := 0; at < slots.Len(); at++ {
		r.slots = append(r.slots, slots.At(at))
	}
	return nil
}

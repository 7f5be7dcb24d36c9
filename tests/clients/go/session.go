package client

import (
	"context"
	"net"

	"capnproto.org/go/capnp/v3/rpc"

	"quorate.test/client/schema/kv"
	"quorate.test/client/schema/node"
)

// session is one connection to one node, after `hello`. A nil session is a node that could not be reached.
type session struct {
	connection *rpc.Conn
	kv         kv.Kv
	// batchOperationsMax is how many operations the node takes in one call.
	batchOperationsMax int
}

// dial connects and greets.
func dial(ctx context.Context, address string) (*session, error) {
	stream, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	connection := rpc.NewConn(rpc.NewStreamTransport(stream), nil)
	bootstrap := node.Node(connection.Bootstrap(ctx))
	defer bootstrap.Release()
	future, release := bootstrap.Hello(ctx, func(call node.Node_hello_Params) error {
		request, err := call.NewRequest()
		if err != nil {
			return err
		}
		request.SetProtocolMin(node.ProtocolVersion)
		request.SetProtocolMax(node.ProtocolVersion)
		return request.SetClient("go-example")
	})
	defer release()
	greeted, err := readHello(future)
	if err != nil {
		connection.Close()
		return nil, err
	}
	greeted.connection = connection
	return greeted, nil
}

func readHello(future node.Node_hello_Results_Future) (*session, error) {
	results, err := future.Struct()
	if err != nil {
		return nil, err
	}
	reply, err := results.Reply()
	if err != nil {
		return nil, err
	}
	if reply.HasError() {
		refused, err := reply.Error()
		if err != nil {
			return nil, err
		}
		return nil, readError(refused)
	}
	limits, err := reply.Limits()
	if err != nil {
		return nil, err
	}
	// The reply is released when this returns; the capability is kept by a reference of its own.
	return &session{kv: reply.Kv().AddRef(), batchOperationsMax: int(limits.BatchOperationsMax())}, nil
}

func (s *session) close() {
	if s != nil {
		s.kv.Release()
		s.connection.Close()
	}
}

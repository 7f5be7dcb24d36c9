//! One node alone, over its port: every kind of operation, every refusal, and what survives a restart.
#![allow(missing_docs)]

#[path = "support/cluster.rs"]
#[allow(dead_code, unreachable_pub)]
mod cluster;

use std::time::Duration;

use cluster::{
    Client, Cluster, Options, address, code, context, delete, get, is_stored, local, open, put, values, versions,
};
use dynamo::operation::{Action, Basis, Consistency, ErrorCode, Operation, Outcome};
use schema::convert::{HelloRequest, PeerIntroduction, Role};
use server::{RunningNode, ServeError};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

fn alone(settings: Vec<(&'static str, String)>) -> Cluster {
    Cluster::start_with(Options { nodes: 1, replicas: 3, settings })
}

#[test]
fn a_value_is_put_got_replaced_and_deleted_by_single_calls() {
    let cluster = Cluster::start(1);
    local(async {
        let client = cluster.client(0).await;
        assert!(values(&client.alone(&get("k")).await).is_empty());
        assert!(is_stored(&client.alone(&put("k", b"one", Basis::Local)).await));
        let found = client.alone(&get("k")).await;
        assert_eq!(values(&found), [b"one"]);
        assert_eq!((found.receipt.epoch, found.receipt.need, found.receipt.replicas), (1, 1, 1));
        let stored = client.alone(&put("k", b"two", Basis::Context(context(&found)))).await;
        assert_eq!(stored.receipt.durable, 1);
        assert_eq!(values(&client.alone(&get("k")).await), [b"two"]);
        assert!(is_stored(&client.alone(&delete("k", Basis::Local)).await));
        assert!(values(&client.alone(&get("k")).await).is_empty());
    });
}

#[test]
fn a_batch_is_answered_in_order_and_each_operation_for_itself() {
    let cluster = Cluster::start(1);
    local(async {
        let client = cluster.client(0).await;
        let keys: Vec<String> = (0..1_000).map(|number| format!("key-{number}")).collect();
        let puts: Vec<Operation> = keys.iter().map(|key| put(key, key.as_bytes(), Basis::Local)).collect();
        assert!(client.execute(&puts).await.iter().all(is_stored));
        let mut gets: Vec<Operation> = keys.iter().map(|key| get(key)).collect();
        gets.insert(500, get("absent"));
        let mut refused = get("refused");
        refused.consistency.r = 9;
        gets.insert(501, refused);
        let replies = client.execute(&gets).await;
        assert!(values(&replies[500]).is_empty());
        assert_eq!(code(&replies[501]), Some(ErrorCode::InvalidRequest));
        for (at, key) in keys.iter().enumerate() {
            let reply = &replies[if at < 500 { at } else { at + 2 }];
            assert_eq!(values(reply), [key.as_bytes()]);
        }
        assert_eq!(client.counter("gets_found").await, 1_000);
        assert_eq!(client.counter("gets_failed").await, 1);
        assert_eq!(client.counter("puts_stored").await, 1_000);
        assert_eq!(client.counter("operations_in_flight").await, 0);
    });
}

#[test]
fn siblings_are_shown_together_and_merged_by_their_context() {
    let cluster = Cluster::start(1);
    local(async {
        let client = cluster.client(0).await;
        client.one(put("cart", b"apples", Basis::Beside)).await;
        let stored = client.one(put("cart", b"pears", Basis::Beside)).await;
        assert!(matches!(stored.outcome, Outcome::Stored { context: None, siblings: 2, .. }), "{stored:?}");
        let both = client.one(get("cart")).await;
        assert_eq!(values(&both), [b"apples".to_vec(), b"pears".to_vec()]);
        client.one(put("cart", b"both", Basis::Context(context(&both)))).await;
        assert_eq!(values(&client.one(get("cart")).await), [b"both"]);
        let elsewhere = client.one(put("other", b"x", Basis::Context(context(&both)))).await;
        assert_eq!(code(&elsewhere), Some(ErrorCode::InvalidRequest), "a context belongs to its key");
    });
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let mut cluster = Cluster::start(1);
    let operations: Vec<Operation> =
        (0..200).map(|at| put(&format!("k{at}"), &[at as u8; 300], Basis::Local)).collect();
    local(async {
        assert!(cluster.client(0).await.execute(&operations).await.iter().all(is_stored));
    });
    cluster.end_node(0);
    cluster.start_node(0);
    local(async {
        let client = cluster.client(0).await;
        for at in 0..200 {
            assert_eq!(values(&client.one(get(&format!("k{at}"))).await), [[at as u8; 300]]);
        }
        assert_eq!(client.status().await.keys, 200);
    });
}

#[test]
fn limits_are_named_when_they_are_passed() {
    let cluster = alone(vec![("value_bytes_max", "1000".into())]);
    local(async {
        let client = cluster.client(0).await;
        assert_eq!(client.hello.limits.value_bytes_max, 1000);
        assert_eq!(code(&client.one(put("k", &[0; 1001], Basis::Local)).await), Some(ErrorCode::TooLarge));
        assert!(is_stored(&client.one(put("k", &[0; 1000], Basis::Local)).await));
        assert_eq!(code(&client.one(get("")).await), Some(ErrorCode::InvalidRequest));
        assert_eq!(code(&client.one(get(&"k".repeat(1025))).await), Some(ErrorCode::TooLarge));
        let too_many: Vec<Operation> = (0..1_025).map(|_| get("k")).collect();
        let failure = client.try_execute(&too_many, 0).await.unwrap_err();
        assert_eq!(failure.code, ErrorCode::TooLarge);
        let r_above_n = Operation { consistency: Consistency { r: 4, ..Default::default() }, ..get("k") };
        assert_eq!(code(&client.one(r_above_n).await), Some(ErrorCode::InvalidRequest));
    });
}

#[test]
fn large_values_come_back_and_what_does_not_fit_into_one_reply_asks_for_a_smaller_batch() {
    let cluster = Cluster::start(1);
    local(async {
        let client = cluster.client(0).await;
        let value = vec![7; 1 << 20];
        for at in 0..6 {
            assert!(is_stored(&client.one(put(&format!("k{at}"), &value, Basis::Local)).await));
        }
        let gets: Vec<Operation> = (0..6).map(|at| get(&format!("k{at}"))).collect();
        let replies = client.execute(&gets).await;
        let found = replies.iter().filter(|reply| matches!(reply.outcome, Outcome::Found { .. })).count();
        assert!((3..6).contains(&found), "{found}");
        assert_eq!(values(&replies[0]), [value]);
    });
}

#[test]
fn hello_refuses_other_versions_other_clusters_and_false_nodes() {
    let cluster = Cluster::start(1);
    local(async {
        let address = cluster.addresses[0];
        let failure = Client::introduce(address, &versions(2, 9)).await.err().unwrap();
        assert_eq!(failure.code, ErrorCode::Unsupported);
        assert!(failure.message.contains("1 to 1"), "{}", failure.message);
        assert!(Client::introduce(address, &versions(0, 9)).await.is_ok());
        let client = cluster.client(0).await;
        let me = client.hello.clone();
        let peer = PeerIntroduction {
            cluster: me.cluster,
            node: me.node,
            directory: 1,
            epoch: 1,
            layout_hash: [0; 16],
            positions: Vec::new(),
            process: 0,
        };
        let hello = |peer: PeerIntroduction| HelloRequest { role: Role::Peer, peer: Some(peer), ..versions(1, 1) };
        let failure = Client::introduce(address, &hello(peer.clone())).await.err().unwrap();
        assert_eq!(failure.code, ErrorCode::Unauthenticated);
        let elsewhere = PeerIntroduction { cluster: 1, ..peer.clone() };
        let failure = Client::introduce(address, &hello(elsewhere)).await.err().unwrap();
        assert_eq!(failure.code, ErrorCode::WrongCluster);
        let nobody = HelloRequest { role: Role::Peer, ..versions(1, 1) };
        assert_eq!(Client::introduce(address, &nobody).await.err().unwrap().code, ErrorCode::InvalidRequest);
        assert_eq!(client.counter("hellos_refused").await, 4);
    });
}

#[test]
fn hostile_bytes_end_their_connection_and_nothing_else() {
    let cluster = Cluster::start(1);
    local(async {
        let client = cluster.client(0).await;
        let floods: [&[u8]; 5] = [
            b"GET / HTTP/1.1\r\n\r\n",
            &[0xff; 64],
            &[0, 0, 0, 0, 0xff, 0xff, 0xff, 0x0f],
            &[0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0],
            &[0, 0, 0, 0, 1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
        ];
        for bytes in floods {
            let mut stream = TcpStream::connect(cluster.addresses[0]).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            let _ = stream.shutdown().await;
            let mut answer = Vec::new();
            let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
            assert!(ended.is_ok(), "the node keeps a connection open after {bytes:?}");
        }
        assert!(is_stored(&client.one(put("k", b"v", Basis::Local)).await));
        assert_eq!(client.counter("panics").await, 0);
    });
}

#[test]
fn without_hello_a_connection_is_closed_after_five_seconds() {
    let cluster = Cluster::start(1);
    local(async {
        let (node, connection) = open(cluster.addresses[0]).await;
        node.ping_request().send().promise.await.unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(9), connection.closed()).await;
        assert!(ended.is_ok(), "still open");
    });
}

#[test]
fn more_connections_than_allowed_are_closed_at_once() {
    let cluster = alone(vec![("admission.connections_max", "16".into())]);
    local(async {
        let mut clients = Vec::new();
        for _ in 0..16 {
            clients.push(cluster.client(0).await);
        }
        let (node, connection) = open(cluster.addresses[0]).await;
        assert!(node.ping_request().send().promise.await.is_err());
        connection.close();
        clients.pop();
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(cluster.client(0).await.counter("connections_refused").await, 1);
    });
}

#[test]
fn more_operations_than_admitted_are_refused_before_anything_is_done() {
    let cluster = alone(vec![
        ("admission.operations_max", "1024".into()),
        ("admission.operations_per_connection_max", "1024".into()),
    ]);
    local(async {
        let client = cluster.client(0).await;
        let puts: Vec<Operation> = (0..1_024).map(|at| put(&format!("k{at}"), b"v", Basis::Local)).collect();
        let (first, second) = tokio::join!(client.try_execute(&puts, 0), client.try_execute(&puts, 0));
        assert!(first.unwrap().iter().all(is_stored));
        let failure = second.unwrap_err();
        assert_eq!((failure.code, failure.retryable, failure.maybe_applied), (ErrorCode::Overloaded, true, false));
        assert!(failure.retry_after_ms > 0);
        assert_eq!(client.counter("overloads").await, 1_024);
    });
}

#[test]
fn a_caller_that_hangs_up_does_not_tear_its_writes() {
    let cluster = Cluster::start(1);
    local(async {
        let client = cluster.client(0).await;
        let puts: Vec<Operation> = (0..1_024).map(|at| put(&format!("k{at}"), b"v", Basis::Local)).collect();
        let gone = cluster.client(0).await;
        {
            let call = gone.try_execute(&puts, 0);
            let _ = tokio::time::timeout(Duration::from_millis(2), call).await;
        }
        drop(gone);
        cluster::until(async || client.counter("operations_in_flight").await == 0).await;
        let stored = client.counter("puts_stored").await;
        assert_eq!(client.status().await.keys, stored, "what was begun has ended");
    });
}

#[test]
fn a_draining_node_ends_what_is_in_flight_and_refuses_the_rest() {
    let mut cluster = Cluster::start(1);
    local(async {
        let client = cluster.client(0).await;
        let puts: Vec<Operation> = (0..1_024).map(|at| put(&format!("k{at}"), &[1; 2_000], Basis::Local)).collect();
        let node = cluster.take_node(0);
        let in_flight = client.try_execute(&puts, 0);
        let stopping = async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            tokio::task::spawn_blocking(move || node.stop()).await.unwrap()
        };
        let (replies, stopped) = tokio::join!(in_flight, stopping);
        stopped.unwrap();
        assert!(replies.unwrap().iter().all(is_stored));
        assert!(TcpStream::connect(cluster.addresses[0]).await.is_err(), "nobody listens any more");
    });
}

#[test]
fn a_scan_lists_the_keys_of_a_partition_page_by_page() {
    let cluster = Cluster::start(1);
    local(async {
        let client = cluster.client(0).await;
        let keys: Vec<String> = (0..500).map(|number| format!("key-{number}")).collect();
        let puts: Vec<Operation> = keys.iter().map(|key| put(key, b"value", Basis::Local)).collect();
        assert!(client.execute(&puts).await.iter().all(is_stored));
        client.one(delete("key-7", Basis::Local)).await;
        let mut found = Vec::new();
        for partition in 0..256 {
            let mut cursor = Vec::new();
            loop {
                let mut request = client.kv.scan_request();
                let mut scan = request.get().init_request();
                scan.set_partition(partition);
                scan.set_limit(1);
                scan.set_cursor(&cursor);
                let response = request.send().promise.await.unwrap();
                let page = response.get().unwrap().get_reply().unwrap();
                let page = schema::convert::decode_scan_page(page).unwrap();
                found.extend(page.keys.iter().map(|key| String::from_utf8(key.key.to_vec()).unwrap()));
                cursor = page.cursor.to_vec();
                if cursor.is_empty() {
                    break;
                }
            }
        }
        found.sort();
        let mut expected: Vec<String> = keys.into_iter().filter(|key| key != "key-7").collect();
        expected.sort();
        assert_eq!(found, expected);
    });
}

#[test]
fn the_ring_and_the_status_tell_what_the_node_is() {
    let cluster = Cluster::start(1);
    local(async {
        let client = cluster.client(0).await;
        let response = client.kv.ring_request().send().promise.await.unwrap();
        let reply = response.get().unwrap().get_reply().unwrap();
        let schema::kv_capnp::ring_reply::Ring(ring) = reply.which().unwrap() else { panic!("no ring") };
        let layout = schema::convert::PartialLayout::decode(ring.unwrap()).unwrap().complete().unwrap();
        assert_eq!((layout.epoch, layout.replicas, layout.members.len()), (1, 3, 1));
        let mut request = client.kv.ring_request();
        let mut again = request.get().init_request();
        again.set_have_epoch(1);
        again.set_have_hash(&layout.hash());
        let response = request.send().promise.await.unwrap();
        let reply = response.get().unwrap().get_reply().unwrap();
        assert!(matches!(reply.which().unwrap(), schema::kv_capnp::ring_reply::Unchanged(())));
        let status = client.status().await;
        assert_eq!((status.name.as_str(), status.state.as_str(), status.partitions), ("n0", "serving", 256));
        assert!(status.warnings.iter().any(|warning| warning.contains("N is 3")), "{:?}", status.warnings);
        assert!(status.resident_bytes > 0 && status.connections >= 1);
    });
}

#[test]
fn the_ring_counts_whatever_the_configuration_says_but_a_directory_is_for_one_node() {
    let mut cluster = Cluster::start(1);
    cluster.end_node(0);
    let config = cluster.source(0).set("cluster.replicas", "5").load().unwrap();
    RunningNode::start(config).unwrap().stop().unwrap();
    let config = cluster.source(0).set("cluster.name", "other").load().unwrap();
    let error = RunningNode::start(config).err().unwrap();
    assert!(error.to_string().contains("cluster"), "{error}");
    cluster.start_node(0);
}

#[test]
fn two_nodes_do_not_share_a_directory() {
    let cluster = Cluster::start(1);
    let error = RunningNode::start(cluster.source(0).load().unwrap()).err().unwrap();
    assert!(error.to_string().contains("in use"), "{error}");
}

#[test]
fn two_nodes_do_not_share_a_port() {
    let cluster = Cluster::start(1);
    let elsewhere = cluster.directory.path().join("elsewhere");
    let config = cluster.source(0).set("data", elsewhere.to_str().unwrap()).load().unwrap();
    let error = RunningNode::start(config).err().unwrap();
    assert!(matches!(error, ServeError::Listen(_)), "{error}");
}

#[test]
fn the_value_of_a_get_without_values_stays_behind() {
    let cluster = Cluster::start(1);
    local(async {
        let client = cluster.client(0).await;
        client.one(put("k", b"value", Basis::Local)).await;
        let operation = Operation {
            address: address("k"),
            consistency: Consistency::default(),
            action: Action::Get { without_values: true },
        };
        let Outcome::Found { siblings, .. } = client.one(operation).await.outcome else { panic!("not found") };
        assert_eq!((siblings[0].value.len(), siblings[0].value_bytes), (0, 5));
    });
}

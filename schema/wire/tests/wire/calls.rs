//! Calls between two honest sides.

use std::rc::Rc;
use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use wire::{Budget, Limits, Reason};

use crate::echo_capnp::echo;
use crate::service::{EchoServer, MIB, Service, Shared, admitted, echo, on_one_thread};

/// Bytes that differ from their neighbours and from a shifted copy of themselves.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect()
}

#[test]
fn data_of_every_size_comes_back_unchanged() {
    on_one_thread(async {
        let server = EchoServer::start(admitted());
        let (client, handle) = server.client().await;
        for length in [0, 1, 900, 1_100, 8_000, 30_000, 33_000, 65_000, 66_000, 131_072, MIB, 7 * MIB] {
            let data = pattern(length);
            assert!(echo(&client, &data).await.unwrap() == data, "{length} bytes");
        }
        assert_eq!(handle.own_calls_in_flight(), 0);
        assert!(handle.bytes_received() > 8 * MIB as u64 && handle.bytes_sent() > 8 * MIB as u64);
        assert_eq!(handle.bytes_queued(), 0);
        assert!(handle.last_heard().elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn ten_thousand_pipelined_calls_complete_although_256_run_at_a_time() {
    on_one_thread(async {
        let server = EchoServer::start(admitted());
        let (client, _handle) = server.client().await;
        let calls = (0..10_000_u32).map(|_| {
            let mut request = client.slow_request();
            request.get().set_millis(1);
            request.send().promise
        });
        let answers = join_all(calls).await;
        assert!(answers.iter().all(Result::is_ok));
        assert_eq!(server.shared.served.get(), 10_000);
        let most = server.shared.most_running.get();
        assert!((200..=256).contains(&most), "{most} calls ran at the same time");
    });
}

#[test]
fn mixed_sizes_in_both_directions_at_once_keep_their_content() {
    on_one_thread(async {
        let server = EchoServer::start(admitted());
        let (client, _handle) = server.client().await;
        let calls = (0..400_usize).map(|index| {
            let client = client.clone();
            async move {
                let data = pattern(index * index % 150_000);
                let same = echo(&client, &data).await? == data;
                Ok::<bool, capnp::Error>(same)
            }
        });
        assert!(try_join_all(calls).await.unwrap().into_iter().all(|same| same));
    });
}

#[test]
fn calls_that_call_back_over_the_same_connection_do_not_stop_at_the_limit() {
    on_one_thread(async {
        let server = EchoServer::start(Limits { calls_in_flight: 4, ..admitted() });
        let (client, _handle) = server.client().await;
        let shared: Rc<Shared> = Rc::default();
        let own: echo::Client = capnp_rpc::new_client(Service { handle: Rc::default(), shared: Rc::clone(&shared) });
        let calls = (0..12).map(|index| {
            let mut request = client.call_back_request();
            request.get().set_echo(own.clone());
            request.get().set_data(&[index]);
            request.send().promise
        });
        for (index, answer) in join_all(calls).await.into_iter().enumerate() {
            assert_eq!(answer.unwrap().get().unwrap().get_data().unwrap(), [index as u8]);
        }
        assert_eq!(shared.served.get(), 12);
    });
}

#[test]
fn calls_that_are_given_up_make_room_for_others() {
    on_one_thread(async {
        let server = EchoServer::start(admitted());
        let (client, _handle) = server.client().await;
        for _ in 0..20 {
            let calls: Vec<_> = (0..100)
                .map(|_| {
                    let mut request = client.slow_request();
                    request.get().set_millis(60_000);
                    request.send().promise
                })
                .collect();
            let waited = tokio::time::timeout(Duration::from_millis(5), join_all(calls)).await;
            assert!(waited.is_err());
        }
        assert_eq!(echo(&client, b"still here").await.unwrap(), b"still here");
        while server.shared.running.get() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(server.handles.borrow()[0].calls_in_flight(), 0);
    });
}

#[test]
fn a_panic_in_a_handler_ends_its_connection_and_no_other() {
    on_one_thread(async {
        let server = EchoServer::start(admitted());
        let (victim, victim_handle) = server.client().await;
        let (other, _other_handle) = server.client().await;
        let mut slow = other.slow_request();
        slow.get().set_millis(50);
        let slow = slow.send().promise;
        let failure = victim.panic_request().send().promise.await.map(|_| ()).unwrap_err();
        assert_eq!(failure.kind, capnp::ErrorKind::Disconnected);
        assert_eq!(server.reasons(1).await, [Reason::Panicked { detail: "as asked".to_owned() }]);
        assert_eq!(victim_handle.closed().await, Reason::PeerClosed);
        slow.await.map(|_| ()).unwrap();
        assert_eq!(echo(&other, b"unharmed").await.unwrap(), b"unharmed");
    });
}

#[test]
fn closing_fails_pending_calls_as_disconnected_and_ends_the_other_side_in_order() {
    on_one_thread(async {
        let server = EchoServer::start(admitted());
        let (client, handle) = server.client().await;
        let mut request = client.slow_request();
        request.get().set_millis(60_000);
        let pending = tokio::task::spawn_local(request.send().promise);
        echo(&client, b"the slow call is running now").await.unwrap();
        assert_eq!(handle.own_calls_in_flight(), 1);
        handle.close();
        let failure = pending.await.unwrap().map(|_| ()).unwrap_err();
        assert_eq!(failure.kind, capnp::ErrorKind::Disconnected);
        assert_eq!(handle.closed().await, Reason::Closed);
        assert_eq!(server.reasons(1).await, [Reason::PeerClosed]);
        assert_eq!(server.shared.running.get(), 0);
        assert!(echo(&client, b"too late").await.is_err());
    });
}

#[test]
fn a_vanished_server_fails_pending_calls() {
    on_one_thread(async {
        let server = EchoServer::start(admitted());
        let (client, handle) = server.client().await;
        let mut request = client.slow_request();
        request.get().set_millis(60_000);
        let pending = tokio::task::spawn_local(request.send().promise);
        echo(&client, b"connected").await.unwrap();
        server.handles.borrow()[0].close();
        assert_eq!(pending.await.unwrap().map(|_| ()).unwrap_err().kind, capnp::ErrorKind::Disconnected);
        assert_eq!(handle.closed().await, Reason::PeerClosed);
    });
}

#[test]
fn a_budget_smaller_than_what_is_sent_slows_down_and_loses_nothing() {
    on_one_thread(async {
        let small = Budget::new(64 * 1024);
        let server = EchoServer::start_with(admitted(), small.clone());
        let clients = join_all((0..4).map(|_| server.client())).await;
        let calls = (0..64_usize).map(|index| {
            let client = clients[index % 4].0.clone();
            async move {
                // Below, around and far above the whole budget.
                let data = pattern([2_000, 40_000, 70_000, 300_000][index / 4 % 4]);
                echo(&client, &data).await.unwrap() == data
            }
        });
        assert!(join_all(calls).await.into_iter().all(|same| same));
        assert_eq!(small.used(), 0);
    });
}

#[test]
fn exports_beyond_the_limit_end_the_connection_and_released_ones_do_not_count() {
    on_one_thread(async {
        let server = EchoServer::start(admitted());
        let (client, _handle) = server.client().await;
        for _ in 0..200 {
            let fork = client.fork_request().send().promise.await.unwrap().get().unwrap().get_echo().unwrap();
            assert_eq!(echo(&fork, b"x").await.unwrap(), b"x");
        }
        let mut kept = Vec::new();
        for _ in 0..200 {
            match client.fork_request().send().promise.await {
                Ok(answer) => kept.push(answer.get().unwrap().get_echo().unwrap()),
                Err(error) => {
                    assert_eq!(error.kind, capnp::ErrorKind::Disconnected);
                    break;
                }
            }
        }
        assert!((60..=64).contains(&kept.len()), "{}", kept.len());
        assert_eq!(server.reasons(1).await, [Reason::TooManyCapabilities { count: 65, limit: 64 }]);
    });
}

#[test]
fn a_connection_lasts_for_more_calls_than_may_be_unfinished_at_a_time() {
    on_one_thread(async {
        let server = EchoServer::start(Limits { answers_unfinished: 300, ..admitted() });
        let (client, _handle) = server.client().await;
        for _ in 0..50 {
            let answers = join_all((0..100).map(|_| echo(&client, b"x"))).await;
            assert!(answers.iter().all(Result::is_ok), "{:?}", server.reasons.borrow());
            // A failed call is unfinished until the caller has heard of it.
            let failures = join_all((0..100).map(|_| {
                let mut request = client.large_request();
                request.get().set_bytes(u32::MAX);
                request.send().promise
            }))
            .await;
            for failure in failures {
                assert_eq!(failure.map(|_| ()).unwrap_err().kind, capnp::ErrorKind::Failed);
            }
        }
        assert_eq!(server.handles.borrow()[0].calls_in_flight(), 0);
    });
}

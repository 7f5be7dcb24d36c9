//! Peers that break the rules, on raw sockets: what ends their connection, and that it ends nothing else.

use std::time::Duration;

use capnp::message::{Builder, HeapAllocator};
use capnp_rpc::rpc_capnp::message;
use proptest::prelude::{any, prop};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::sleep;
use wire::{Budget, Limits, Reason};

use crate::echo_capnp::echo;
use crate::service::{EchoServer, MIB, admitted, echo, on_one_thread};

/// The interface and the methods of `Echo`, for calls that are put together by hand.
const INTERFACE: u64 = 0x9ad1_4e50_c3f7_b821;
const SLOW: u16 = 1;
const LARGE: u16 = 3;

/// A limit that passes quickly in a test.
const SOON: Duration = Duration::from_millis(300);

fn table(lengths_words: &[u32]) -> Vec<u8> {
    let mut table = (lengths_words.len() as u32 - 1).to_le_bytes().to_vec();
    lengths_words.iter().for_each(|length| table.extend(length.to_le_bytes()));
    table.resize(table.len().next_multiple_of(8), 0);
    table
}

fn frame(fill: impl FnOnce(message::Builder<'_>)) -> Vec<u8> {
    let mut message = Builder::new(HeapAllocator::new());
    fill(message.init_root());
    capnp::serialize::write_message_to_words(&message)
}

fn bootstrap(question: u32) -> Vec<u8> {
    frame(|root| root.init_bootstrap().set_question_id(question))
}

/// A call on the answer to question 0, with one number as its parameter and that many null capabilities.
fn call(question: u32, method: u16, parameter: u32, capabilities: u32) -> Vec<u8> {
    frame(|root| {
        let mut call = root.init_call();
        call.set_question_id(question);
        call.set_interface_id(INTERFACE);
        call.set_method_id(method);
        call.reborrow().init_target().init_promised_answer().set_question_id(0);
        let mut params = call.init_params();
        params.reborrow().init_cap_table(capabilities);
        params.init_content().init_as::<echo::large_params::Builder<'_>>().set_bytes(parameter);
    })
}

/// What the server says about a peer that sends these bytes, while another client is served.
async fn end_of(limits: Limits, bytes: &[u8]) -> Reason {
    let server = EchoServer::start(limits);
    let (bystander, _handle) = server.client().await;
    echo(&bystander, b"before").await.unwrap();
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    socket.write_all(bytes).await.unwrap();
    let reason = server.reasons(1).await[0].clone();
    assert_eq!(echo(&bystander, b"after").await.unwrap(), b"after");
    reason
}

#[test]
fn tables_beyond_the_limits_end_the_connection_at_once() {
    on_one_thread(async {
        let limits = admitted();
        let limit_bytes = limits.frame_bytes;
        assert_eq!(
            end_of(limits.clone(), &512_u32.to_le_bytes()).await,
            Reason::TooManySegments { announced: 513, limit: 512 }
        );
        let announced_bytes = 8 + (64 << 20);
        assert_eq!(
            end_of(limits.clone(), &table(&[8 << 20])).await,
            Reason::FrameTooLarge { announced_bytes, limit_bytes }
        );
        let many = end_of(limits, &table(&[u32::MAX; 512])).await;
        assert!(matches!(many, Reason::FrameTooLarge { .. }), "{many:?}");
    });
}

#[test]
fn bytes_that_are_no_message_end_the_connection() {
    on_one_thread(async {
        for body in [vec![], vec![0xFF; 8], vec![0x55; 4096]] {
            let bytes = [table(&[body.len() as u32 / 8]), body].concat();
            let reason = end_of(admitted(), &bytes).await;
            assert!(matches!(reason, Reason::Malformed { .. } | Reason::Protocol { .. }), "{reason:?}");
        }
    });
}

#[test]
fn an_abort_is_remembered_with_its_words() {
    on_one_thread(async {
        let bytes = frame(|root| root.init_abort().set_reason("enough of this"));
        let reason = end_of(admitted(), &bytes).await;
        assert!(matches!(&reason, Reason::Protocol { detail } if detail.contains("enough of this")), "{reason:?}");
    });
}

#[test]
fn an_incomplete_frame_is_cut_after_its_time_wherever_it_stops() {
    on_one_thread(async {
        let limits = Limits { frame_timeout: SOON, ..admitted() };
        let large = table(&[MIB as u32 / 8]);
        for bytes in
            [vec![0; 3], large.clone(), [large.clone(), vec![0; 20_000]].concat(), [large, vec![0; 100_000]].concat()]
        {
            assert_eq!(end_of(limits.clone(), &bytes).await, Reason::FrameTimeout { limit: SOON });
        }
    });
}

#[test]
fn dripping_bytes_do_not_extend_the_time_of_a_frame() {
    on_one_thread(async {
        for head in [table(&[100]), [table(&[MIB as u32 / 8]), vec![0; 40_000]].concat()] {
            let server = EchoServer::start(Limits { frame_timeout: SOON, ..admitted() });
            let mut socket = TcpStream::connect(server.address).await.unwrap();
            socket.write_all(&head).await.unwrap();
            while socket.write_all(&[0]).await.is_ok() && server.reasons.borrow().is_empty() {
                sleep(SOON / 20).await;
            }
            assert_eq!(server.reasons(1).await, [Reason::FrameTimeout { limit: SOON }]);
        }
    });
}

#[test]
fn an_idle_connection_and_slow_whole_frames_are_not_cut() {
    on_one_thread(async {
        let server = EchoServer::start(Limits { frame_timeout: SOON, ..admitted() });
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        for question in 0..4 {
            // Each frame takes most of its time, all of them much more than the time of one.
            let frame = bootstrap(question);
            let (start, rest) = frame.split_at(5);
            socket.write_all(start).await.unwrap();
            sleep(SOON / 2).await;
            socket.write_all(rest).await.unwrap();
            let mut answer = [0; 8];
            socket.read_exact(&mut answer).await.unwrap();
        }
        sleep(SOON * 2).await;
        assert_eq!(*server.reasons.borrow(), []);
    });
}

#[test]
fn a_stream_that_ends_inside_a_frame_is_told_from_one_that_ends_after_it() {
    on_one_thread(async {
        for (bytes, expected) in [
            (bootstrap(0), Reason::PeerClosed),
            (vec![], Reason::PeerClosed),
            (bootstrap(0)[..20].to_vec(), Reason::PeerClosedInFrame),
            ([table(&[MIB as u32 / 8]), vec![0; 100_000]].concat(), Reason::PeerClosedInFrame),
        ] {
            let server = EchoServer::start(admitted());
            let mut socket = TcpStream::connect(server.address).await.unwrap();
            socket.write_all(&bytes).await.unwrap();
            socket.shutdown().await.unwrap();
            assert_eq!(server.reasons(1).await, [expected]);
        }
    });
}

#[test]
fn a_stranger_has_small_frames_and_little_time_and_an_admitted_peer_has_more() {
    on_one_thread(async {
        let limits = Limits { hello_timeout: Some(SOON), ..Limits::server(MIB) };
        let limit_bytes = limits.frame_bytes_before_hello;
        let server = EchoServer::start(limits);
        let (stranger, _handle) = server.client().await;
        assert!(echo(&stranger, &[7; 100_000]).await.is_err());
        assert!(
            matches!(server.reasons(1).await[0], Reason::FrameTooLarge { limit_bytes: limit, .. } if limit == limit_bytes)
        );
        let (known, _handle) = server.client().await;
        known.admit_request().send().promise.await.map(|_| ()).unwrap();
        assert_eq!(echo(&known, &[7; 100_000]).await.unwrap(), [7; 100_000]);
        let _silent = TcpStream::connect(server.address).await.unwrap();
        assert_eq!(server.reasons(2).await[1], Reason::HelloTimeout { limit: SOON });
        assert_eq!(echo(&known, b"still welcome").await.unwrap(), b"still welcome");
    });
}

/// A connection that asks for large answers and reads none of them.
async fn unread_answers(server: &EchoServer, answers: u32, answer_bytes: usize) -> TcpStream {
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let mut bytes = bootstrap(0);
    (1..=answers).for_each(|question| bytes.extend(call(question, LARGE, answer_bytes as u32, 0)));
    socket.write_all(&bytes).await.unwrap();
    socket
}

#[test]
fn a_peer_that_reads_nothing_is_dropped_when_too_much_waits_for_it() {
    on_one_thread(async {
        let limits = Limits { outgoing_pause_bytes: usize::MAX, ..admitted() };
        let server = EchoServer::start(limits.clone());
        let _socket = unread_answers(&server, 40, MIB).await;
        let reason = server.reasons(1).await[0].clone();
        assert!(
            matches!(reason, Reason::OutgoingOverflow { queued_bytes, .. } if queued_bytes < limits.outgoing_bytes + 2 * MIB),
            "{reason:?}"
        );
        assert_eq!(server.handles.borrow()[0].bytes_queued(), 0);
    });
}

#[test]
fn a_peer_that_reads_nothing_is_given_no_more_answers_and_dropped_after_a_while() {
    on_one_thread(async {
        let server = EchoServer::start(Limits { outgoing_stall: SOON, ..admitted() });
        let _socket = unread_answers(&server, 200, MIB).await;
        let mut most_queued = 0;
        while server.reasons.borrow().is_empty() {
            most_queued = server.handles.borrow().first().map_or(0, |handle| handle.bytes_queued()).max(most_queued);
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(server.reasons(1).await, [Reason::OutgoingStalled { limit: SOON }]);
        assert!((1..6 * MIB).contains(&most_queued), "{most_queued} bytes were queued at most");
    });
}

#[test]
fn reading_a_byte_now_and_then_is_not_reading() {
    on_one_thread(async {
        let server = EchoServer::start(Limits { outgoing_stall: SOON, ..admitted() });
        let mut socket = unread_answers(&server, 200, MIB).await;
        while server.reasons.borrow().is_empty() {
            let _ = socket.read(&mut [0; 64]).await;
            sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(server.reasons(1).await, [Reason::OutgoingStalled { limit: SOON }]);
    });
}

#[test]
fn a_slow_but_steady_reader_gets_everything() {
    on_one_thread(async {
        let server = EchoServer::start(Limits { outgoing_stall: SOON, ..admitted() });
        let mut socket = unread_answers(&server, 16, MIB).await;
        let mut read = 0;
        let mut buffer = vec![0; MIB];
        while read < 16 * MIB {
            read += socket.read(&mut buffer).await.unwrap();
            sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(*server.reasons.borrow(), []);
    });
}

#[test]
fn answers_that_are_never_finished_are_counted() {
    on_one_thread(async {
        let bytes: Vec<u8> = (0..5000).flat_map(bootstrap).collect();
        assert_eq!(end_of(admitted(), &bytes).await, Reason::TooManyAnswers { answers: 4097, limit: 4096 });
        let finished: Vec<u8> = (0..20_000)
            .flat_map(|question| {
                [bootstrap(question), frame(|root| root.init_finish().set_question_id(question))].concat()
            })
            .collect();
        let goodbye = frame(|root| root.init_abort().set_reason("goodbye"));
        let reason = end_of(admitted(), &[finished, goodbye].concat()).await;
        assert!(matches!(&reason, Reason::Protocol { detail } if detail.contains("goodbye")), "{reason:?}");
    });
}

#[test]
fn a_long_list_of_capabilities_is_refused_before_anybody_walks_it() {
    on_one_thread(async {
        let bytes = [bootstrap(0), call(1, SLOW, 0, 64), call(2, SLOW, 0, 65)].concat();
        assert_eq!(end_of(admitted(), &bytes).await, Reason::TooManyCapabilities { count: 65, limit: 64 });
    });
}

#[test]
fn announced_bytes_take_nothing_from_the_budget_that_others_need() {
    on_one_thread(async {
        let budget = Budget::new(16 * MIB);
        let server = EchoServer::start_with(admitted(), budget.clone());
        let mut sockets = Vec::new();
        for _ in 0..50 {
            let mut socket = TcpStream::connect(server.address).await.unwrap();
            socket.write_all(&table(&[8 * MIB as u32 / 8])).await.unwrap();
            sockets.push(socket);
        }
        let (client, _handle) = server.client().await;
        assert_eq!(echo(&client, &[3; MIB]).await.unwrap(), [3; MIB]);
        assert_eq!(*server.reasons.borrow(), []);
        assert_eq!(budget.used(), 0);
    });
}

#[test]
fn damaged_conversations_never_harm_anybody_else() {
    on_one_thread(async {
        let server = EchoServer::start(Limits { frame_timeout: SOON, ..admitted() });
        let (bystander, _handle) = server.client().await;
        let clean: Vec<u8> = [
            bootstrap(0),
            call(1, SLOW, 1, 2),
            call(2, LARGE, 3000, 0),
            frame(|root| root.init_finish().set_question_id(1)),
            frame(|root| root.init_release().set_id(0)),
            call(3, LARGE, 10, 0),
        ]
        .concat();
        let mut runner = TestRunner::deterministic();
        let damage = (prop::collection::vec((0..clean.len(), any::<u8>()), 1..6), clean.len() * 7 / 8..=clean.len());
        for round in 1..=400 {
            let mut bytes = clean.clone();
            let (changes, length) = damage.new_tree(&mut runner).unwrap().current();
            changes.into_iter().for_each(|(position, value)| bytes[position] = value);
            bytes.truncate(length);
            let mut socket = TcpStream::connect(server.address).await.unwrap();
            let _ = socket.write_all(&bytes).await;
            let _ = socket.shutdown().await;
            let _ = socket.read_to_end(&mut Vec::new()).await;
            server.reasons(round).await;
        }
        assert_eq!(echo(&bystander, b"alive").await.unwrap(), b"alive");
        let panics = server.reasons.borrow().iter().filter(|reason| matches!(reason, Reason::Panicked { .. })).count();
        assert_eq!(panics, 0);
    });
}

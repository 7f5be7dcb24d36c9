//! The proxies themselves: what is cut arrives late, what is broken breaks, and each direction has weather of its own.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use server::cli::local::links::{End, Links};

/// Long enough for anything on loopback to arrive, short enough to wait for nothing.
const MOMENT: Duration = Duration::from_millis(300);

/// Long enough for what has to arrive, on a machine that may be busy.
const PATIENCE: Duration = Duration::from_secs(10);

const HERE: End = End::Clients;
const THERE: End = End::Node(0);

/// A node that sends back what it gets, in both ways, and a proxy before it.
fn echo() -> Links {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = listener.local_addr().expect("it has an address");
    let datagrams = UdpSocket::bind(listen).expect("the same port for datagrams");
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let (mut from, mut to) = (&stream, &stream);
                let _ = std::io::copy(&mut from, &mut to);
            });
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((count, sender)) = datagrams.recv_from(&mut buffer) {
            let _ = datagrams.send_to(&buffer[..count], sender);
        }
    });
    Links::new(&[listen]).expect("proxies")
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the proxy listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream
}

/// Whether a word comes back.
fn answers(stream: &mut TcpStream, word: &[u8; 4]) -> bool {
    stream.write_all(word).expect("the socket takes it");
    receives(stream, word)
}

fn receives(stream: &mut TcpStream, word: &[u8; 4]) -> bool {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    let mut got = [0; 4];
    stream.read_exact(&mut got).is_ok() && got == *word
}

/// Whether nothing comes back for a moment.
fn is_silent(stream: &mut TcpStream, word: &[u8; 4]) -> bool {
    stream.write_all(word).expect("the socket takes it");
    stream.set_read_timeout(Some(MOMENT)).expect("a timeout can be set");
    stream.read(&mut [0]).is_err()
}

#[test]
fn a_cut_link_carries_nothing_and_once_healed_everything() {
    let links = echo();
    let mut stream = connect(links.advertised()[0]);
    assert!(answers(&mut stream, b"one."));
    links.cut(HERE, THERE);
    assert!(is_silent(&mut stream, b"two."));
    let mut late = connect(links.advertised()[0]);
    assert!(is_silent(&mut late, b"also"));
    links.heal();
    assert!(receives(&mut stream, b"two."));
    assert!(receives(&mut late, b"also"));
}

#[test]
fn each_direction_has_weather_of_its_own() {
    let links = echo();
    let mut stream = connect(links.advertised()[0]);
    assert!(answers(&mut stream, b"one."));
    // The answer is held back, and not the question: it comes at once when the way back is open.
    links.change(THERE, HERE, |weather| weather.is_cut = true);
    assert!(is_silent(&mut stream, b"two."));
    links.change(HERE, THERE, |weather| weather.is_cut = true);
    links.change(THERE, HERE, |weather| weather.is_cut = false);
    assert!(receives(&mut stream, b"two."));
    assert!(is_silent(&mut stream, b"last"));
}

#[test]
fn a_delay_is_added_to_each_direction() {
    let links = echo();
    let mut stream = connect(links.advertised()[0]);
    for (from, to) in [(HERE, THERE), (THERE, HERE)] {
        links.change(from, to, |weather| weather.delay = Duration::from_millis(60));
    }
    assert!(answers(&mut stream, b"one."));
    let started = Instant::now();
    assert!(answers(&mut stream, b"two."));
    assert!(started.elapsed() >= Duration::from_millis(120), "{:?}", started.elapsed());
}

#[test]
fn connections_break_when_told_to_and_new_ones_work() {
    let links = echo();
    let mut stream = connect(links.advertised()[0]);
    assert!(answers(&mut stream, b"one."));
    links.break_connections(HERE, THERE);
    let mut byte = [0];
    let ended = stream.read(&mut byte);
    let is_broken = match &ended {
        Ok(count) => *count == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    };
    assert!(is_broken, "{ended:?}");
    assert!(answers(&mut connect(links.advertised()[0]), b"anew"));
}

#[test]
fn datagrams_are_relayed_and_lost_when_the_link_is_cut() {
    let listen: Vec<UdpSocket> = (0..2).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a port")).collect();
    let addresses: Vec<SocketAddr> = listen.iter().map(|socket| socket.local_addr().expect("it is bound")).collect();
    let links = Links::new(&addresses).expect("proxies");
    listen.iter().for_each(|socket| socket.set_read_timeout(Some(MOMENT)).expect("a timeout can be set"));
    let mut buffer = [0; 16];
    let mut arrives = |word: &[u8]| {
        listen[0].send_to(word, links.advertised()[1]).expect("it is sent");
        // It comes from the address by which everybody knows the sender.
        let from = links.advertised()[0];
        listen[1].recv_from(&mut buffer).is_ok_and(|(count, sender)| &buffer[..count] == word && sender == from)
    };
    assert!(arrives(b"one"));
    links.change(End::Node(0), End::Node(1), |weather| weather.is_cut = true);
    assert!(!arrives(b"two"));
    links.heal();
    assert!(arrives(b"three"));
}

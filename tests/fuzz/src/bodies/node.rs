//! What needs a whole node: its configuration, and its connections, on a real node in this process.

use std::{
    fs,
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use server::{
    RunningNode,
    config::{Config, Source},
};

/// How long a node may take to end a connection whose stream has ended.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whether anything has panicked: a node survives a panic of one connection, so it would not be seen.
static HAS_PANICKED: AtomicBool = AtomicBool::new(false);

/// A byte stream to the port of a node. The first byte is left out, as the other bodies about streams use it.
pub fn sessions(bytes: &[u8]) {
    let Some((_, bytes)) = bytes.split_first() else { return };
    let mut stream = TcpStream::connect(node()).expect("the node listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout can be set");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout can be set");
    // The node may hang up before it has everything.
    let _ = stream.write_all(bytes);
    let _ = stream.shutdown(Shutdown::Write);
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert!(error.kind() == std::io::ErrorKind::ConnectionReset, "the node keeps the connection: {error}");
    }
    assert!(!HAS_PANICKED.load(Ordering::Relaxed), "the node panicked");
}

/// The node of this process, which ends with it.
fn node() -> SocketAddr {
    static NODE: OnceLock<(SocketAddr, RunningNode)> = OnceLock::new();
    let start = || {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            HAS_PANICKED.store(true, Ordering::Relaxed);
            before(panic);
        }));
        let folder = tempfile::TempDir::with_prefix("quorate-fuzz-").expect("a temporary folder");
        let mut config = Config { data: folder.path().join("data"), ..Config::default() };
        config.listen.set_port(0);
        config.workers = 1;
        let node = RunningNode::start(config).expect("the node starts");
        // Its files are open; nobody needs their names any more.
        drop(folder);
        (node.address(), node)
    };
    NODE.get_or_init(start).0
}

/// A configuration file.
pub fn configurations(bytes: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes).expect("it can be written");
    if let Err(error) = Source::defaults().file(file.path()).load() {
        assert!(!error.errors.is_empty(), "refused without a reason");
        return;
    }
    // What is accepted once is accepted as the same again, and a variable of no meaning changes nothing.
    let load = || Source::defaults().file(file.path()).environment([("HOME".to_owned(), "/".to_owned())]).load();
    assert_eq!(load(), load());
    let text = fs::read_to_string(file.path()).expect("what was accepted is text");
    assert!(text.len() == bytes.len());
}

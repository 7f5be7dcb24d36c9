//! A stage inside the test ([`stage`]), clients of it, and an executor.

use std::{ops::Deref, sync::Arc, time::Duration};

use quorate::{Builder, Client};

pub(crate) use stage::{Act, Seen, layout};

/// The stage, with ways to connect to it.
pub(crate) struct Cluster(stage::Cluster);

impl Cluster {
    /// `count` nodes, each in a zone of its own, three owners for each key.
    pub(crate) fn start(count: u16) -> Self {
        Self(stage::Cluster::start(count))
    }

    pub(crate) fn builder(&self) -> Builder {
        Client::builder().endpoints(&self.endpoints())
    }

    pub(crate) async fn client(&self) -> Client {
        self.builder().connect().await.unwrap()
    }
}

impl Deref for Cluster {
    type Target = stage::Cluster;

    fn deref(&self) -> &stage::Cluster {
        &self.0
    }
}

/// Runs a test on an executor that is not tokio's: the client must not need one.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut test = std::pin::pin!(test);
    let began = std::time::Instant::now();
    loop {
        if let std::task::Poll::Ready(result) = test.as_mut().poll(&mut context) {
            return result;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "the test hangs");
        std::thread::park_timeout(Duration::from_secs(1));
    }
}

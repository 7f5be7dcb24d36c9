//! What an I/O thread raises to wake a loop: a descriptor that becomes readable, or a call where loops can't watch descriptors.

use std::io;

/// A signal that is up or down, however often it was raised.
pub(super) enum Signal {
    /// Up while readable.
    Descriptor(Descriptor),
    /// Is called whenever it is raised.
    Calls(Box<dyn Fn() + Send + Sync>),
}

impl Signal {
    pub(super) fn descriptor() -> io::Result<Self> {
        Descriptor::new().map(Self::Descriptor)
    }

    pub(super) fn calls(call: impl Fn() + Send + Sync + 'static) -> Self {
        Self::Calls(Box::new(call))
    }

    /// Called on an I/O thread.
    pub(super) fn raise(&self) {
        match self {
            Self::Descriptor(descriptor) => descriptor.raise(),
            Self::Calls(call) => call(),
        }
    }

    /// Called by the loop before it looks at what there is.
    pub(super) fn lower(&self) {
        match self {
            Self::Descriptor(descriptor) => descriptor.lower(),
            Self::Calls(_) => {}
        }
    }

    /// What the loop watches; -1 if there is nothing to watch.
    pub(super) fn raw_descriptor(&self) -> i32 {
        match self {
            Self::Descriptor(descriptor) => descriptor.raw(),
            Self::Calls(_) => -1,
        }
    }
}

pub(super) use platform::Descriptor;

#[cfg(target_os = "linux")]
mod platform {
    use std::{
        io,
        os::fd::{AsRawFd, OwnedFd},
    };

    use rustix::event::{EventfdFlags, eventfd};

    /// A counter in the kernel, readable while it is above zero.
    pub(in super::super) struct Descriptor(OwnedFd);

    impl Descriptor {
        pub(super) fn new() -> io::Result<Self> {
            Ok(Self(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?))
        }

        pub(super) fn raise(&self) {
            // Fails only when the counter is full, and then it is up.
            let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
        }

        pub(super) fn lower(&self) {
            // Fails only when it is down.
            let _ = rustix::io::read(&self.0, &mut [0_u8; 8]);
        }

        pub(super) fn raw(&self) -> i32 {
            self.0.as_raw_fd()
        }
    }
}

#[cfg(all(unix, not(target_os = "linux")))]
mod platform {
    use std::{
        io::{self, Read, Write},
        os::{fd::AsRawFd, unix::net::UnixStream},
    };

    /// Two sockets, of which one is written to and the other is watched.
    pub(in super::super) struct Descriptor {
        watched: UnixStream,
        written: UnixStream,
    }

    impl Descriptor {
        pub(super) fn new() -> io::Result<Self> {
            let (watched, written) = UnixStream::pair()?;
            watched.set_nonblocking(true)?;
            written.set_nonblocking(true)?;
            Ok(Self { watched, written })
        }

        pub(super) fn raise(&self) {
            // Fails only when the socket is full, and then it is up.
            let _ = (&self.written).write(&[1]);
        }

        pub(super) fn lower(&self) {
            // Raised once for each look, so this takes all there is; what it leaves wakes the loop again.
            let _ = (&self.watched).read(&mut [0; 64]);
        }

        pub(super) fn raw(&self) -> i32 {
            self.watched.as_raw_fd()
        }
    }
}

#[cfg(not(unix))]
mod platform {
    use std::io;

    /// Loops of this system can't watch descriptors of ours.
    pub(in super::super) struct Descriptor(std::convert::Infallible);

    impl Descriptor {
        pub(super) fn new() -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(super) fn raise(&self) {
            match self.0 {}
        }

        pub(super) fn lower(&self) {
            match self.0 {}
        }

        pub(super) fn raw(&self) -> i32 {
            match self.0 {}
        }
    }
}

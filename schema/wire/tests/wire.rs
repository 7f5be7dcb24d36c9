//! The transport against real sockets: what honest peers get, and what hostile ones cannot do.

#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
#[allow(clippy::wildcard_imports, clippy::use_self, clippy::unimplemented, clippy::todo)]
#[rustfmt::skip]
#[path = "generated/echo_capnp.rs"]
mod echo_capnp;
#[path = "echo/service.rs"]
mod service;

#[path = "wire/calls.rs"]
mod calls;
#[path = "wire/hostile.rs"]
mod hostile;

//! The wire contract of Quorate: the generated code of `schema/*.capnp`, and the conversion between its types and the
//! protocol's. Nothing else in the repository knows both.

macro_rules! generated {
    ($name:ident, $path:literal) => {
        #[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
                        #[allow(clippy::wildcard_imports, clippy::use_self, clippy::unimplemented, clippy::todo)]
                        #[rustfmt::skip]
                        #[path = $path]
        pub mod $name;
    };
}

generated!(admin_capnp, "generated/admin_capnp.rs");
generated!(common_capnp, "generated/common_capnp.rs");
generated!(kv_capnp, "generated/kv_capnp.rs");
generated!(node_capnp, "generated/node_capnp.rs");
generated!(peer_capnp, "generated/peer_capnp.rs");

pub mod convert;

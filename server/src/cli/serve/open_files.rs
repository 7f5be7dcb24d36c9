//! How many files and connections the system lets this process have open: as many as it may, and a warning if that is not enough.
//! A node that runs out of them refuses connections, those of other nodes among them.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a node needs beside its connections: its store, its log, its connections to other nodes.
const BESIDE_CONNECTIONS: u64 = 512;

/// Raises the soft limit to the hard one, and warns if `connections` do not fit.
pub(super) fn raise(connections: usize) {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%error, "the limit of open files could not be raised");
    }
    // No number means no limit.
    let Some(limit) = getrlimit(Resource::Nofile).current else { return };
    let needed = connections as u64 + BESIDE_CONNECTIONS;
    if limit < needed {
        tracing::warn!(
            limit,
            needed,
            "the system allows fewer open files than admission.connections_max needs: connections may fail before that many \
             are open. Raise it (ulimit -n, LimitNOFILE=), or set a lower connections_max"
        );
    }
}

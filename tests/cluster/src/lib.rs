//! Real processes under real failures, and what must hold all the same (design: proof, "Tier 1").
//!
//! A [`proxied::Proxied`] cluster is of real nodes with a proxy on every link ([`server::cli::local::links`]). [`workload`] lets clients read and
//! write while a [`nemesis`] does harm; what they did becomes a history, in the end [`replicas`] adds what every node's disk
//! holds, and the checker of `quorate_history` says whether the store kept its word. Each row of the table of figures is a
//! function of [`scenario`]; the binary `quorate-proof` prints the table.

pub mod changing;
pub mod damage;
pub mod disk;
pub mod figures;
pub mod load;
pub mod nemesis;
pub mod programs;
pub mod proxied;
pub mod random;
pub mod recorder;
pub mod replicas;
pub mod scenario;
pub mod values;
pub mod workload;

//! The store of one node, from outside: what it answers, what it keeps when it is killed, filled, damaged or misused.

mod round_trip;
mod support;

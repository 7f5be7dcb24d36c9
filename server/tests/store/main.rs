//! The store of one node, from outside: what it answers, what it keeps when it is killed, filled, damaged or misused.

mod agreed;
mod crash;
mod damage;
mod failing;
mod full;
mod hint_crash;
mod hint_harm;
mod hints;
mod moves;
mod opening;
mod process;
mod round_trip;
mod sizes;
mod support;
mod trees;

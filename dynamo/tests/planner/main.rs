//! The planner: its figures, its distance from the best plans there are, and what every plan keeps.

mod ageing;
mod changes;
mod crowds;
mod figures;
mod optimum;
mod rules;
mod way;

//! The `quorate` command. Everything it does stands in the library.

use std::process::ExitCode;

use clap::Parser;
use server::cli::Cli;

/// The system's allocator returns the large buffers of every batch to the kernel and faults them in again for the next one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    Cli::parse().run()
}

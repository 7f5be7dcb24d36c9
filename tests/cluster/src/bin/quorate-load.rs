//! `quorate-load`: a client in Rust that does what rows of the table of figures watch. Not a measurement of speed; that is `bench`.

use std::process::ExitCode;

use clap::Parser;
use quorate_cluster::load::{Arguments, run};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    match runtime.block_on(run(&arguments)) {
        Ok(answer) => {
            println!("{answer}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("quorate-load: {error}");
            ExitCode::FAILURE
        }
    }
}

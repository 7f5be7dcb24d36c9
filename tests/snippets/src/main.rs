//! Runs one Rust block of the documents, named as `page:line`, against the nodes that `QUORATE_ENDPOINTS` names. Where the block uses a client
//! that it does not make, `db` is one.

use std::{env, error::Error, future::Future, pin::Pin, process::ExitCode, sync::LazyLock};

/// How a block ends.
type Outcome = Result<(), Box<dyn Error>>;

/// A block that has begun.
type Running = Pin<Box<dyn Future<Output = Outcome>>>;

static ENDPOINTS: LazyLock<String> =
    LazyLock::new(|| env::var("QUORATE_ENDPOINTS").expect("QUORATE_ENDPOINTS names nodes"));

/// Where the nodes are.
fn endpoints() -> &'static str {
    &ENDPOINTS
}

#[tokio::main]
async fn main() -> ExitCode {
    let name = env::args().nth(1).unwrap_or_default();
    let outcome = async {
        let db = quorate::Client::connect(endpoints()).await?;
        let running = block(&name, db.clone()).ok_or_else(|| format!("no page has a Rust block at {name}"))?;
        running.await?;
        db.close().await;
        Ok::<(), Box<dyn Error>>(())
    };
    match outcome.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

include!(concat!(env!("OUT_DIR"), "/blocks.rs"));

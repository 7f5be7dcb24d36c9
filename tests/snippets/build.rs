//! Puts the Rust blocks of the documents into one file that the program includes: a function for each, and a table of them.

#[path = "src/markdown.rs"]
#[allow(dead_code, unreachable_pub, reason = "they are modules of the library, too")]
mod markdown;
#[path = "src/pages.rs"]
#[allow(unreachable_pub, reason = "it is a module of the library, too")]
mod pages;

use std::{env, fmt::Write, fs, path::Path};

fn main() {
    let mut functions = String::new();
    let mut table = String::new();
    let mut count = 0;
    for page in pages::RUNNABLE {
        let path = pages::root().join(page);
        println!("cargo::rerun-if-changed={}", path.display());
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for block in markdown::blocks(page, &text).into_iter().filter(|block| block.language == "rust") {
            // The address that the pages show is where the cluster of the test is.
            let code = block.code.replace("\"127.0.0.1:7601\"", "super::endpoints()");
            let name = block.name();
            write!(
                functions,
                "// {name}\npub(super) async fn block_{count}(db: quorate::Client) -> super::Outcome {{\n{code}\nOk(())\n}}\n\n"
            )
            .expect("a text grows");
            writeln!(table, "        {name:?} => Some(Box::pin(shown::block_{count}(db))),").expect("a text grows");
            count += 1;
        }
    }
    let module = format!(
        "#[allow(warnings, clippy::all)]\nmod shown {{\n{functions}}}\n\n\
         fn block(name: &str, db: quorate::Client) -> Option<Running> {{\n    match name {{\n{table}        _ => None,\n    }}\n}}\n"
    );
    let into = env::var("OUT_DIR").expect("cargo says where");
    fs::write(Path::new(&into).join("blocks.rs"), module).expect("the folder can be written");
}

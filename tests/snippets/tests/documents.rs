//! What the documents show, run: every Rust, Python and JavaScript block of the pages that `pages::RUNNABLE` names, each against a cluster of three
//! nodes without data of others, and what it prints compared with the comments that stand behind the lines that print. Where a language is
//! missing, the summary says so.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use futures_util::StreamExt;
use quorate::Level;
use quorate_snippets::{
    markdown::{self, Block},
    pages,
};
use quorate_tests::{
    cluster::{Cluster, binary},
    not_run, repository,
};

/// The languages that the pages show things in side by side.
const LANGUAGES: [&str; 3] = ["rust", "python", "js"];

#[test]
fn rust_in_the_documents_does_what_it_says() {
    run_all("rust", |block, endpoints| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_quorate-snippet"));
        command.arg(block.name()).env("QUORATE_ENDPOINTS", endpoints);
        // That it compiles has been shown by this test's being there.
        (!block.is_only_compiled).then_some(command)
    });
}

#[test]
fn python_in_the_documents_does_what_it_says() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    run_all("python", |block, endpoints| {
        let file = folder.path().join("block.py");
        fs::write(&file, &block.code).expect("the folder can be written");
        let mut command = Command::new(&python);
        command.arg(repository::root().join("tests/snippets/tests/block.py")).arg(file).arg(block.line.to_string());
        command.arg(if block.is_only_compiled { "no-run" } else { "run" }).env("QUORATE_ENDPOINTS", endpoints);
        Some(command)
    });
}

#[test]
fn javascript_in_the_documents_does_what_it_says() {
    let Some(package) = node_package() else { return };
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::create_dir(folder.path().join("node_modules")).expect("the folder can be written");
    std::os::unix::fs::symlink(package, folder.path().join("node_modules/quorate")).expect("a link can be made");
    run_all("js", |block, endpoints| {
        let file = folder.path().join("block.mjs");
        fs::write(&file, module(block, endpoints)).expect("the folder can be written");
        let mut command = Command::new("node");
        if block.is_only_compiled {
            command.arg("--check");
        }
        command.arg(file);
        Some(command)
    });
}

/// A JavaScript block as a module. Where it uses a client that it does not make, `db` is one.
fn module(block: &Block, endpoints: &str) -> String {
    let code = block.code.replace("127.0.0.1:7601", endpoints);
    if block.is_only_compiled || code.contains("const db =") || code.contains("let cluster") {
        return code;
    }
    format!("import {{ Client as $Client }} from 'quorate'\nconst db = await $Client.connect('{endpoints}')\n{code}")
}

/// Runs the blocks of a language, and says of all that went wrong at once.
fn run_all(language: &str, command: impl Fn(&Block, &str) -> Option<Command>) {
    let cluster = Cluster::start(3);
    let mut complaints = Vec::new();
    let mut ran = 0;
    for block in all_blocks().into_iter().filter(|block| block.language == language) {
        let Some(mut command) = command(&block, &cluster.endpoints()) else { continue };
        empty(&cluster.endpoints());
        // What starts a cluster of its own is to find the same binary.
        let output =
            command.env("QUORATE_BINARY", binary()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        ran += 1;
        if let Some(complaint) = complaint(&block, &output) {
            complaints.push(complaint);
        }
    }
    assert!(ran > 5, "only {ran} blocks of {language} ran, so the pages were read wrongly");
    assert!(
        complaints.is_empty(),
        "{} of {ran} blocks of {language}:\n\n{}",
        complaints.len(),
        complaints.join("\n\n")
    );
}

/// What is wrong with how a block ended: its end, or what it promised to print and did not, in that order.
fn complaint(block: &Block, output: &Output) -> Option<String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (printed, errors) = (text(&output.stdout), text(&output.stderr));
    if !output.status.success() {
        return Some(format!("{} ended with {}:\n{printed}{errors}", block.name(), output.status));
    }
    let mut lines = printed.lines();
    for promised in block.promised() {
        if !block.is_only_compiled && !lines.any(|line| line.trim() == promised) {
            return Some(format!("{} does not print {promised:?} in its turn, but:\n{printed}{errors}", block.name()));
        }
    }
    None
}

/// Removes what a block before has left.
fn empty(endpoints: &str) {
    runtime().block_on(async {
        let db = quorate::Client::connect(endpoints).await.expect("the cluster serves");
        let mut keys: BTreeMap<String, Vec<_>> = BTreeMap::new();
        let mut scan = db.scan_all().level(Level::All);
        while let Some(scanned) = scan.next().await {
            let scanned = scanned.expect("the cluster can be scanned");
            keys.entry(scanned.bucket).or_default().push(scanned.key);
        }
        for (bucket, keys) in keys {
            for result in db.bucket(&bucket).delete_many(keys).level(Level::All).await {
                result.expect("the key can be deleted");
            }
        }
        db.close().await;
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime can be made")
}

#[test]
fn sections_show_the_same_in_every_language() {
    let mut sections: BTreeMap<(String, String), BTreeMap<String, Vec<String>>> = BTreeMap::new();
    for block in all_blocks() {
        let shows_all = block.page == "README.md" || block.page == "docs/cookbook.md";
        if shows_all && LANGUAGES.contains(&block.language.as_str()) {
            let promised = block.promised().into_iter().map(plain);
            let section = sections.entry((block.page.clone(), block.section.clone())).or_default();
            section.entry(block.language.clone()).or_default().extend(promised);
        }
    }
    assert!(sections.len() > 5, "README and cookbook show code in {} sections only", sections.len());
    for ((page, section), languages) in sections {
        let rust = languages.get("rust").unwrap_or_else(|| panic!("{page}, {section}: nothing in Rust"));
        assert!(!rust.is_empty(), "{page}, {section}: the code prints nothing, so nothing is compared");
        for language in LANGUAGES {
            assert_eq!(
                languages.get(language),
                Some(rust),
                "{page}, {section}: {language} prints something else than Rust"
            );
        }
    }
}

/// What is printed, without a language's way of writing it: `b'milk'`, `[ 'milk' ]` and `["milk"]` are the same.
fn plain(printed: &str) -> String {
    let lower = printed.replace("b'", "'").replace("b\"", "\"").to_lowercase();
    lower.chars().filter(|c| !c.is_whitespace() && !matches!(c, '\'' | '"' | '[' | ']' | '(' | ')')).collect()
}

#[test]
fn worked_examples_are_parts_of_files_that_are_tested() {
    let page = "docs/other-languages.md";
    let mut compared = 0;
    for block in markdown::blocks(page, &repository::read(page)) {
        if !["python", "go"].contains(&block.language.as_str()) {
            continue;
        }
        let source = block
            .source
            .clone()
            .unwrap_or_else(|| panic!("{}: the line above says no `<!-- from FILE -->`", block.name()));
        let whole = dedented(&repository::read(&source));
        let part = dedented(&block.code);
        assert!(
            whole.windows(part.len()).any(|window| window == part),
            "{} is no part of {source} any more: show it as it is there",
            block.name()
        );
        compared += 1;
    }
    assert!(compared > 5, "{page} shows only {compared} parts of files");
}

/// Lines without their indentation, which differs where a part of a function is shown.
fn dedented(text: &str) -> Vec<String> {
    text.lines().map(|line| line.trim().to_owned()).collect()
}

fn all_blocks() -> Vec<Block> {
    pages::RUNNABLE.iter().flat_map(|page| markdown::blocks(page, &repository::read(page))).collect()
}

/// A Python that has the package of this tree: what `QUORATE_PYTHON` names, or what `tests/sdk/python` builds.
fn python() -> Option<PathBuf> {
    if !succeeds("python3", &["-c", "import sys, venv; assert sys.version_info >= (3, 11)"]) {
        not_run("Python in the documents: no Python >= 3.11 with venv on this machine");
        return None;
    }
    Some(std::env::var_os("QUORATE_PYTHON").map_or_else(|| built("tests/sdk/python"), PathBuf::from))
}

/// The folder of the Node package, built: what `QUORATE_NODE_PACKAGE` names, or what `tests/sdk/node` builds.
fn node_package() -> Option<PathBuf> {
    if !succeeds("node", &["-e", "process.exit(Number(process.versions.node.split('.')[0]) < 20 ? 1 : 0)"]) {
        not_run("JavaScript in the documents: no Node >= 20 on this machine");
        return None;
    }
    Some(std::env::var_os("QUORATE_NODE_PACKAGE").map_or_else(|| built("tests/sdk/node"), PathBuf::from))
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let quiet = || Stdio::null();
    Command::new(program).args(arguments).stdout(quiet()).stderr(quiet()).status().is_ok_and(|status| status.success())
}

/// The path that a building script prints last.
fn built(script: &str) -> PathBuf {
    let output =
        Command::new(repository::root().join(script)).output().unwrap_or_else(|error| panic!("{script}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{script} failed:\n{errors}");
    let path = String::from_utf8_lossy(&output.stdout).lines().last().map(PathBuf::from);
    let path = path.unwrap_or_else(|| panic!("{script} names no path:\n{errors}"));
    assert!(Path::new(&path).exists(), "{script} names {}, which is not there", path.display());
    path
}

//! The repository's own rules as tests: who may import whom, how long a file may be, that the README's commands exist, that generated code
//! is what the compiler generates, that dependencies have the licences and versions `deny.toml` allows. Nothing here runs the product.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
};

use quorate_tests::repository;

/// What each crate may depend on besides development dependencies (design: "Who may import whom"). Names not listed are refused, so a new
/// dependency is a decision made here, beside its neighbours.
const MAY_DEPEND: &[(&str, &[&str])] = &[
    ("dynamo", &["blake3", "bytes", "md5", "slab", "xxhash-rust"]),
    ("schema", &["bytes", "capnp", "quorate-dynamo", "thiserror"]),
    ("schema/wire", &["capnp", "capnp-rpc", "futures-util", "socket2", "thiserror", "tokio", "tracing"]),
    (
        "sdk-rust",
        &[
            "base64",
            "bytes",
            "capnp",
            "capnp-rpc",
            "futures-util",
            "getrandom",
            "quorate-dynamo",
            "quorate-schema",
            "quorate-wire",
            "serde_json",
            "thiserror",
            "tokio",
            "tracing",
        ],
    ),
    // Skins: conversions and waking. Whatever knows the protocol is in the client.
    ("sdk-python", &["bytes", "pyo3", "quorate", "rustix"]),
    ("sdk-node", &["bytes", "napi", "napi-derive", "quorate"]),
];

/// The order of ideas inside `dynamo`: a file may use only files of a smaller rank.
const DYNAMO_RANKS: &[(&str, u8)] = &[
    ("bug", 0),
    ("tick", 0),
    ("ident", 0),
    ("hlc", 0),
    ("layout", 1),
    ("ring", 2),
    ("staging", 2),
    ("version", 2),
    ("operation", 2),
    ("peer", 3),
    ("settlement", 4),
    ("planner", 5),
    ("acceptor", 3),
    ("proposer", 4),
    ("record", 3),
    ("token", 3),
    ("holdings", 4),
    ("quorum", 4),
    ("replica", 4),
    ("merkle", 5),
    ("hint", 5),
    ("coordinator", 6),
    ("round", 6),
    ("exchange", 7),
    ("handoff", 7),
    ("rebuild", 7),
    ("relocation", 8),
    ("steward", 9),
];

/// Lines after which a file wants splitting.
const FILE_LINES_MAX: usize = 500;

/// Files that are longer than that today, with their length. The numbers may only go down.
const FILE_LINES_KNOWN: &[(&str, usize)] = &[];

/// Half of the files are at most this long.
const FILE_LINES_MEDIAN_MAX: usize = 200;

fn section_names(manifest: &str, section: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines() {
        if let Some(header) = line.strip_prefix('[') {
            // What only some platforms need counts like the rest.
            let header = header.trim_end();
            inside = header == format!("{section}]")
                || header.starts_with("target.") && header.ends_with(&format!(".{section}]"));
        } else if inside && !line.trim().is_empty() && !line.starts_with('#') {
            let name = line.split(['.', ' ', '=']).next().expect("a split has a first part");
            names.push(name.to_owned());
        }
    }
    names
}

#[test]
fn crates_depend_only_on_what_their_room_allows() {
    for (room, allowed) in MAY_DEPEND {
        let dependencies = section_names(&repository::read(format!("{room}/Cargo.toml")), "dependencies");
        assert!(!dependencies.is_empty(), "{room}: the manifest lists no dependency, so this rule read it wrongly");
        for name in dependencies {
            assert!(allowed.contains(&name.as_str()), "{room} may not depend on {name}: see MAY_DEPEND");
        }
    }
}

#[test]
fn the_server_uses_the_client_behind_one_module() {
    let mut users = Vec::new();
    for file in repository::sources().into_iter().filter(|file| file.starts_with("server/src/")) {
        let text = repository::read(&file);
        if text.lines().any(|line| !line.trim_start().starts_with("//") && mentions_crate(line, "quorate")) {
            users.push(file);
        }
    }
    users.retain(|file| !file.starts_with("server/src/cli/client"));
    assert!(users.is_empty(), "only server/src/cli/client.rs may use the SDK, but these do: {users:?}");
}

/// Whether a line of code names a crate in a path: `quorate::`, `use quorate;`.
fn mentions_crate(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = &line[at + name.len()..];
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':' || c == '"') && after.starts_with("::")
    })
}

#[test]
fn dynamo_is_pure() {
    let root = repository::read("dynamo/src/lib.rs");
    assert!(root.contains("#![no_std]"), "dynamo must be no_std");
    assert!(root.contains("#![forbid(unsafe_code)]"), "dynamo must forbid unsafe code");
    for file in repository::sources().into_iter().filter(|file| file.starts_with("dynamo/src/")) {
        let text = repository::read(&file);
        let production = text.split("#[cfg(test)]\nmod ").next().expect("a split has a first part");
        if file.ends_with("/tests.rs") || file.contains("/tests/") {
            continue;
        }
        for banned in [
            "std::time",
            "std::fs",
            "std::net",
            "std::thread",
            "HashMap",
            "HashSet",
            "tokio",
            "capnp",
            "println!",
            "rand::",
        ] {
            let hit = production.lines().find(|line| !line.trim_start().starts_with("//") && line.contains(banned));
            assert!(hit.is_none(), "{file} uses {banned}: {}", hit.unwrap_or_default());
        }
    }
}

#[test]
fn ideas_in_dynamo_build_on_each_other_in_one_direction() {
    let ranks: BTreeMap<&str, u8> = DYNAMO_RANKS.iter().copied().collect();
    for file in
        repository::sources().into_iter().filter(|file| file.starts_with("dynamo/src/") && !file.ends_with("lib.rs"))
    {
        let path = file.trim_start_matches("dynamo/src/");
        let idea = path.split(['/', '.']).next().expect("a split has a first part");
        let rank = *ranks.get(idea).unwrap_or_else(|| panic!("{file}: give {idea} a rank in DYNAMO_RANKS"));
        let text = repository::read(&file);
        let production = text.split("#[cfg(test)]").next().expect("a split has a first part");
        if file.ends_with("/tests.rs") {
            continue;
        }
        for (other, other_rank) in DYNAMO_RANKS {
            let used =
                production.contains(&format!("crate::{other}::")) || production.contains(&format!("\n    {other}::"));
            assert!(!used || *other == idea || *other_rank < rank, "{file} may not use {other}");
        }
    }
}

#[test]
fn files_stay_short() {
    let mut lengths = Vec::new();
    for file in repository::sources() {
        let lines = repository::read(&file).lines().count();
        let known = FILE_LINES_KNOWN.iter().find(|(name, _)| *name == file).map(|(_, lines)| *lines);
        let limit = known.unwrap_or(FILE_LINES_MAX);
        assert!(lines <= limit, "{file} has {lines} lines, more than {limit}: split it by idea");
        if let Some(known) = known {
            assert!(lines == known, "{file} shrank to {lines} lines: lower its number in FILE_LINES_KNOWN");
        }
        lengths.push(lines);
    }
    lengths.sort_unstable();
    let median = lengths[lengths.len() / 2];
    assert!(median <= FILE_LINES_MEDIAN_MAX, "half of the files are longer than {median} lines");
}

#[test]
fn every_file_says_what_it_is() {
    for file in repository::sources() {
        let text = repository::read(&file);
        assert!(text.starts_with("//!"), "{file}: the first paragraph must say what the file is");
    }
}

#[test]
fn the_readme_has_two_commands_on_its_first_screen_and_they_exist() {
    let readme = repository::read("README.md");
    let screen: String = readme.lines().take(40).collect::<Vec<_>>().join("\n");
    for command in ["cargo run --release -- dev", "tests/run"] {
        assert!(screen.contains(command), "the README's first screen lacks {command}");
    }
    for name in readme_commands(&readme) {
        let source = repository::read("server/src/cli.rs").to_lowercase();
        assert!(
            source.contains(&format!("command::{name}(")),
            "the README names `quorate {name}`, which the command line does not have"
        );
    }
    let run = repository::root().join("tests/run");
    assert!(is_executable(&run), "tests/run must be executable");
    assert!(is_executable(&repository::root().join(".ci/run")), ".ci/run must be executable");
}

/// The first words after `quorate ` in code of the README.
fn readme_commands(readme: &str) -> Vec<String> {
    let mut names: Vec<String> = readme
        .split(['`', '\n'])
        .filter_map(|code| code.trim_start_matches("$ ").strip_prefix("quorate "))
        .filter_map(|rest| rest.split_whitespace().next())
        .filter(|word| word.chars().all(|c| c.is_ascii_lowercase()))
        .map(Into::into)
        .collect();
    names.sort();
    names.dedup();
    assert!(!names.is_empty(), "the README shows no command, so this rule read it wrongly");
    names
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o111 != 0)
}

#[test]
fn links_between_documents_lead_somewhere() {
    for file in repository::files().into_iter().filter(|file| file.ends_with(".md")) {
        let text = repository::read(&file);
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") || target.starts_with('#') {
                continue;
            }
            let path = target.split('#').next().expect("a split has a first part");
            let base = repository::root().join(&file);
            let base = base.parent().expect("a file stands in a folder");
            assert!(base.join(path).exists(), "{file} links to {target}, which is not there");
        }
    }
}

#[test]
fn generated_code_is_what_the_compiler_generates() {
    let compiler =
        |name: &str| Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !compiler("capnp") || !compiler("capnpc-rust") {
        // Neither is needed to build; `tests/run` says in its summary whether this comparison could be made.
        quorate_tests::not_run("generated schema code not compared: no capnp with capnpc-rust on this machine");
        return;
    }
    let fresh = tempfile::tempdir().expect("a temporary folder");
    let status = Command::new(repository::root().join("schema/generate"))
        .arg(fresh.path())
        .status()
        .expect("schema/generate runs");
    assert!(status.success(), "schema/generate failed");
    let mut compared = 0;
    for entry in fs::read_dir(fresh.path()).expect("the folder lists") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("names are UTF-8");
        let made = fs::read_to_string(entry.path()).expect("generated code is text");
        let checked_in = repository::read(format!("schema/src/generated/{name}"));
        assert!(without_header(&made) == without_header(&checked_in), "{name} is out of date: run schema/generate");
        compared += 1;
    }
    assert_eq!(compared, 5, "five schema files are generated");
}

/// Generated code without the lines at its head that name the compiler's version.
fn without_header(code: &str) -> String {
    code.lines().skip_while(|line| line.starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn dependencies_have_allowed_licences_and_no_banned_version() {
    let rules = repository::read("deny.toml");
    let allowed: Vec<&str> = quoted_between(&rules, "allow = [", "]");
    assert!(allowed.len() > 3, "deny.toml lists no licences, so this rule read it wrongly");
    let excepted: Vec<(&str, &str)> = exceptions(&rules);
    let banned: Vec<&str> = quoted_between(&rules, "deny = [", "\n]");
    for package in repository::packages() {
        let name = package["name"].as_str().expect("a package has a name");
        let version = package["version"].as_str().expect("a package has a version");
        let licence = package["license"].as_str().unwrap_or_else(|| panic!("{name} names no licence"));
        assert!(
            licence_allowed(licence, &allowed) || excepted.contains(&(name, licence)),
            "{name} {version} is under {licence}, which deny.toml does not allow"
        );
        for rule in &banned {
            let (banned_name, below) = rule.split_once("@<").map_or((*rule, None), |(name, below)| (name, Some(below)));
            let hit = name == banned_name && below.is_none_or(|below| numbers(version) < numbers(below));
            assert!(!hit, "{name} {version} is banned by deny.toml");
        }
    }
}

/// An SPDX expression as crates write it: `OR` and `/` offer a choice, `AND` demands both, `WITH` belongs to its licence.
fn licence_allowed(expression: &str, allowed: &[&str]) -> bool {
    let plain = expression.replace(['(', ')'], "").replace('/', " OR ");
    plain.split(" AND ").all(|all| all.split(" OR ").any(|one| allowed.contains(&one.trim())))
}

/// The crates that are allowed a licence by name, with that licence.
fn exceptions(rules: &str) -> Vec<(&str, &str)> {
    let (_, rest) = rules.split_once("exceptions = [\n").unwrap_or_default();
    let (entries, _) = rest.split_once("\n]").unwrap_or_default();
    entries
        .lines()
        .filter_map(|line| {
            let mut quoted = line.split('"').skip(1).step_by(2);
            Some((quoted.next()?, quoted.next()?))
        })
        .collect()
}

fn quoted_between<'a>(text: &'a str, from: &str, to: &str) -> Vec<&'a str> {
    let rest = text.split_once(from).map_or("", |(_, rest)| rest);
    let inside = rest.split_once(to).map_or("", |(inside, _)| inside);
    let code = inside.lines().filter(|line| !line.trim_start().starts_with('#'));
    code.filter_map(|line| line.split('"').nth(1)).collect()
}

fn numbers(version: &str) -> Vec<u64> {
    version.split(['.', '+', '-']).map_while(|part| part.parse().ok()).collect()
}

#[test]
fn packages_of_other_languages_carry_the_licences() {
    for package in ["sdk-python", "sdk-node"] {
        for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
            let (ours, theirs) = (repository::read(licence), repository::read(format!("{package}/{licence}")));
            assert!(ours == theirs, "{package}/{licence} is not the repository's");
        }
    }
}

#[test]
fn lock_files_and_configuration_name_no_registry_host() {
    for file in repository::files() {
        let name = file.rsplit('/').next().expect("a split has a last part");
        let is_configuration =
            [".lock", ".toml", "lock.json", ".npmrc", ".yarnrc", ".mod", ".sum"].iter().any(|end| name.ends_with(end))
                || name == "package.json"
                || name == "pip.conf"
                || (name.starts_with("requirements") && name.ends_with(".txt"));
        if is_configuration {
            let text = repository::read(&file);
            let hit = text.lines().find(|line| names_host(&file, line));
            assert!(hit.is_none(), "{file} names a host: {}", hit.unwrap_or_default());
        }
    }
}

/// Whether a line of a file says where packages come from. Cargo's name for its usual registry is no host, and neither are the addresses that
/// npm copies into its lock file, at which authors take donations.
fn names_host(file: &str, line: &str) -> bool {
    let is_address = line.contains("://") && !line.contains("registry+https://github.com/rust-lang/crates.io-index");
    let is_origin = !file.ends_with("lock.json") || line.contains("\"resolved\"");
    is_address && is_origin || line.contains("registry=") || line.contains("index-url")
}

/// Evaluated only where the switches are constants, so this does not compile if anything that is built together with these tests turns
/// the bug bank on: features unify, and the server's would be on as well.
const _: () = assert!(!dynamo::bug::is_on(dynamo::bug::Bug::AcknowledgeBeforeDurable));

#[test]
fn nothing_but_a_feature_of_the_simulator_that_is_off_by_default_turns_the_bug_bank_on() {
    for file in repository::files().into_iter().filter(|file| file.ends_with("Cargo.toml")) {
        let text = repository::read(&file);
        // What only asks for it to be on turns nothing on.
        let is_switch = |line: &&str| !line.starts_with(['#', 'r']) && line.contains("bug-bank");
        let lines: Vec<&str> = text.lines().filter(is_switch).collect();
        let allowed: &[&str] = match file.as_str() {
            "dynamo/Cargo.toml" => &["bug-bank = []"],
            "tests/sim/Cargo.toml" => &["bugs = [\"quorate-dynamo/bug-bank\"]"],
            _ => &[],
        };
        assert_eq!(lines, allowed, "{file}");
    }
    assert!(!repository::read("tests/sim/Cargo.toml").contains("default = ["), "a default feature is on for everybody");
}

//! Configuration as its users meet it: files, variables, flags, and what they are told.

use std::fs;

use dynamo::layout::{ConflictRule, Level};

use super::{Config, LogFormat, Source, default_file};

fn load(file: &str) -> Result<Config, Vec<String>> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("quorate.toml");
    fs::write(&path, file).unwrap();
    Source::defaults().file(&path).load().map_err(|error| error.errors)
}

#[test]
fn the_printed_default_file_is_the_default_configuration() {
    assert_eq!(load(&default_file()), Ok(Config::default()));
}

#[test]
fn every_example_in_the_default_file_is_valid_once_uncommented() {
    let uncommented: String = default_file()
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if !rest.starts_with("! ") && !rest.starts_with(" A") && is_example(rest) => format!("{rest}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    let uncommented = uncommented.replace("\"...\"", "\"sixteen-or-more-characters\"");
    let without_file: String =
        uncommented.lines().filter(|line| !line.starts_with("secret_file")).map(|line| format!("{line}\n")).collect();
    let config = load(&without_file).unwrap();
    assert_eq!(config.cluster.members.len(), 2);
    assert_eq!(config.buckets.len(), 1);
}

/// Examples follow their `#` at once or after indentation inside a list; explanations follow after exactly one space.
fn is_example(rest: &str) -> bool {
    !rest.starts_with(' ') || rest.starts_with("  ")
}

#[test]
fn a_file_sets_members_and_buckets() {
    let config = load(
        "name = 'b'\n[cluster]\nname = 'shop'\nsecret = '0123456789abcdef'\n\
         members = [{ name = 'b', address = 'h:2', zone = 'z', weight = 7 }, { name = 'a', address = 'h:1' }]\n\
         [buckets]\ncarts = { level = 'all', w = 2, conflict_rule = 'lww' }\n[log]\nformat = 'json'\n",
    )
    .unwrap();
    let names: Vec<_> = config.members().into_iter().map(|member| member.name).collect();
    assert_eq!(names, ["a", "b"], "sorted by name, so that every node plans the same layout");
    let carts = &config.buckets["carts"];
    assert_eq!((carts.level, carts.w, carts.conflict_rule), (Level::All, 2, ConflictRule::LastWriterWins));
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn all_errors_are_told_at_once_with_their_keys() {
    let errors = load(
        "name = 'a b'\nlisen = '1.2.3.4:1'\nshards = 3\nworkers = 'many'\n[deadlines]\ndefault_ms = 0\n\
         [cluster]\nreplicas = 9\nmembers = [{ name = 'x', adress = 'h:1' }]\n[buckets]\nb = { level = 'most' }\n",
    )
    .unwrap_err();
    for expected in [
        "name: write 1 to 64",
        "lisen: no such key; did you mean listen?",
        "shards: 3 is not a power of two",
        "workers: write a whole number",
        "deadlines.default_ms: write 1 to",
        "cluster.replicas: write 1 to 7",
        "adress: no such key; did you mean address?",
        "buckets: b: level: write \"one\"",
    ] {
        assert!(errors.iter().any(|error| error.contains(expected)), "{expected} is missing from {errors:#?}");
    }
}

#[test]
fn variables_override_the_file_and_flags_override_variables() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("quorate.toml");
    fs::write(&path, "name = 'file'\nworkers = 1\nshards = 1\n").unwrap();
    let variables = [("QUORATE_NAME", "variable"), ("QUORATE_WORKERS", "2"), ("QUORATE_DEADLINES_DEFAULT_MS", "77")];
    let config = Source::defaults()
        .file(&path)
        .environment(variables.map(|(name, value)| (name.to_owned(), value.to_owned())))
        .set("name", "flag")
        .load()
        .unwrap();
    assert_eq!((config.name.as_str(), config.workers, config.shards), ("flag", 2, 1));
    assert_eq!(config.deadlines.default_ms, 77);
}

#[test]
fn an_open_address_needs_consent() {
    let errors = load("listen = '0.0.0.0:7601'").unwrap_err();
    assert!(errors[0].contains("insecure = true"), "{errors:?}");
    assert!(load("listen = '0.0.0.0:7601'\ninsecure = true").is_ok());
}

#[test]
fn a_secret_is_read_from_its_file_and_never_printed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    fs::write(&path, "0123456789abcdef\n").unwrap();
    let config = Source::defaults().set("cluster.secret_file", path.to_str().unwrap()).load().unwrap();
    assert_eq!(config.cluster.secret.bytes(), b"0123456789abcdef");
    assert!(!format!("{config:?}").contains("0123456789abcdef"));
    let errors = load("[cluster]\nsecret = \"open-sesame-open-sesame\" \"twice\"\n").unwrap_err();
    assert!(!format!("{errors:?}").contains("sesame"), "{errors:?}");
}

#[test]
fn quotes_may_be_left_out_outside_files_even_around_digits() {
    let config = Source::defaults().set("cluster.secret", "12345678901234567").set("workers", "3").load().unwrap();
    assert_eq!((config.cluster.secret.bytes(), config.workers), (b"12345678901234567".as_slice(), 3));
    let errors = Source::defaults().set("workers", "many").load().unwrap_err().errors;
    assert!(errors[0].contains("command line: workers: write a whole number"), "{errors:?}");
}

#[test]
fn misspelt_variables_are_told_with_what_was_meant() {
    let variables = |names: &[&str]| {
        let pairs = names.iter().map(|name| ((*name).to_owned(), "1".to_owned()));
        Source::defaults().environment(pairs.collect::<Vec<_>>()).misspelt_variables()
    };
    assert_eq!(variables(&["QUORATE_WORKERS", "QUORATE_CONFIG", "QUORATE_ENDPOINTS", "PATH"]), Vec::<String>::new());
    let told = variables(&["QUORATE_LISEN", "QUORATE_ELEPHANTS_AND_CASTLES"]);
    assert!(told.iter().any(|it| it.starts_with("QUORATE_LISEN ") && it.contains("mean QUORATE_LISTEN?")), "{told:?}");
    assert!(told.iter().any(|it| it.contains("QUORATE_ELEPHANTS_AND_CASTLES is no setting")), "{told:?}");
}

//! The clients in other languages are skins over the Rust client: they convert types and wake whoever waits, and decide nothing
//! about the protocol. This looks at every condition in their sources for a word of the protocol, and at their code for the tools of
//! somebody who does the Rust client's work again.
//!
//! It reads code, not minds: what a word gives away is found, what hides its meaning is not. That all clients do the same is what
//! `tests/scenarios` show.

use quorate_tests::repository;

/// Words by which a condition would decide about the protocol.
const PROTOCOL: &[&str] = &[
    "retryable",
    "maybe",
    "applied",
    "attempt",
    "attempts",
    "level",
    "levels",
    "epoch",
    "quorum",
    "code",
    "need",
    "got",
    "sibling",
    "siblings",
    "replica",
    "replicas",
    "owners",
    "partition",
    "coordinator",
    "stale",
    "hash",
    "clock",
    "hint",
    "hints",
    "durable",
    "repaired",
    "overloaded",
    "unavailable",
    "timeout",
    "deadline",
    "context",
];

/// Tools of retries, routing and hashing. None may occur, in a condition or not.
const TOOLS: &[&str] = &["backoff", "jitter", "hedge", "hedged", "md5", "xxh3", "random", "capnp"];

/// Conditions that have a word of the protocol and decide nothing about it: file, what the condition has in it, and why it may stand.
const ALLOWED: &[(&str, &str, &str)] = &[
    ("sdk-node/native/lib.rs", "text.parse::<Context>()", "text is a context or it is not"),
    ("sdk-node/native/reply.rs", "match found.siblings()", "siblings are shown in the order of their writes"),
    ("sdk-node/src/bucket.ts", "deleteOf(isKey ?", "the type of an argument"),
    ("sdk-node/src/client.ts", "options.level ??", "an option, or what the client was given for all buckets"),
    ("sdk-node/src/errors.ts", "details.", "a detail that an error was not given"),
    ("sdk-node/src/found.ts", "this.#siblings === undefined", "whether they were read out of the reply before"),
    ("sdk-node/src/found.ts", "reply.u8() === 0", "how a reply writes that there is none"),
    ("sdk-node/src/options.ts", "=== undefined", "whether an option was given"),
    ("sdk-node/src/options.ts", "Number.isInteger(count)", "whether a number is one that a byte holds"),
    ("sdk-node/src/options.ts", "instanceof Context", "the type of an argument"),
    ("sdk-node/src/reply.ts", "this.text() ??", "how a reply writes that there is none"),
    ("sdk-node/src/reply.ts", "need > 0 ?", "how a reply writes that there are none"),
    ("sdk-node/src/request.ts", "|| bucket.level", "an option of the call, or of the bucket"),
    ("sdk-node/src/request.ts", "options.r) || bucket.r", "an option of the call, or of the bucket"),
    ("sdk-node/src/request.ts", "options.w) || bucket.w", "an option of the call, or of the bucket"),
    ("sdk-node/src/request.ts", "|| bucket.timeoutMs", "an option of the call, or of the bucket"),
    ("sdk-node/src/request.ts", "context === undefined", "whether an option was given"),
    ("sdk-node/src/view.ts", "reply.text() ?? null", "how a reply writes that there is none"),
    ("sdk-python/src/argument.rs", "context.cast::<Context>()", "the type of an argument"),
    ("sdk-python/src/argument.rs", "context.is_none()", "whether an option was given"),
    ("sdk-python/src/found.rs", "match found.siblings()", "siblings are shown in the order of their writes"),
    ("sdk-python/src/found.rs", "== other.context", "whether two answers are the same"),
    ("sdk-python/src/log.rs", "", "levels of logging are not levels of the protocol"),
    ("sdk-node/src/log.ts", "", "levels of logging are not levels of the protocol"),
    ("sdk-node/native/log.rs", "", "levels of logging are not levels of the protocol"),
];

/// A language, as far as it matters here.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Language {
    Rust,
    Python,
    TypeScript,
}

#[test]
fn no_condition_in_a_skin_is_about_the_protocol() {
    let (mut conditions_seen, mut wrong) = (0, Vec::new());
    for (file, language) in skins() {
        let code = code_of(&repository::read(&file), language);
        for condition in conditions(&code, language) {
            conditions_seen += 1;
            let Some(word) = words(&condition).into_iter().find(|word| PROTOCOL.contains(&word.as_str())) else {
                continue;
            };
            if !ALLOWED.iter().any(|(place, text, _)| *place == file && condition.contains(text)) {
                wrong.push(format!("{file}: {word} in: {condition}"));
            }
        }
    }
    assert!(conditions_seen > 100, "only {conditions_seen} conditions were found, so this rule read the skins wrongly");
    assert!(wrong.is_empty(), "skins decide about the protocol:\n{}", wrong.join("\n"));
}

#[test]
fn no_skin_does_the_work_of_the_client_again() {
    for (file, language) in skins() {
        let code = code_of(&repository::read(&file), language);
        let found: Vec<String> = words(&code).into_iter().filter(|word| TOOLS.contains(&word.as_str())).collect();
        assert!(found.is_empty(), "{file}: {found:?}");
    }
    for manifest in ["sdk-python/Cargo.toml", "sdk-node/Cargo.toml"] {
        let text = repository::read(manifest);
        let lines = text.lines().map(|line| line.split(['.', ' ', '=']).next().unwrap_or_default());
        let protocol: Vec<&str> = lines
            .filter(|name| name.starts_with("quorate-") || ["capnp", "capnp-rpc", "tokio", "md5"].contains(name))
            .collect();
        assert!(
            protocol.is_empty(),
            "{manifest} depends on {protocol:?}: a skin knows the protocol only through the Rust client"
        );
    }
}

#[test]
fn the_rule_finds_what_it_looks_for() {
    let rust = "fn f() { if error.retryable() { again() } }\nmatch failure.code() { _ => {} }\nlet x = if a\n && maybe_applied { 1 } else { 2 };";
    assert_eq!(protocol_words(rust, Language::Rust), ["retryable", "code", "maybe"]);
    let python = "if key is None:\n    pass\nwhile attempts < 3:\n    x = 1 if error.code == 'overloaded' else 2\n# if level: no\n";
    assert_eq!(protocol_words(python, Language::Python), ["attempts", "code"]);
    let typescript = "if (key === undefined) {}\nreturn maybeApplied ? again() : fail;\nwhile (\n  error.attempts < 3\n) {}\n/* if (level) */ const level = 'if epoch';";
    assert_eq!(protocol_words(typescript, Language::TypeScript), ["maybe", "attempts"]);
}

fn protocol_words(text: &str, language: Language) -> Vec<String> {
    let conditions = conditions(&code_of(text, language), language);
    let found = conditions
        .iter()
        .filter_map(|condition| words(condition).into_iter().find(|word| PROTOCOL.contains(&word.as_str())));
    found.collect()
}

/// The sources of the skins. What tests of applications use is none.
fn skins() -> Vec<(String, Language)> {
    let is_testing =
        |file: &String| ["/testing.py", "/testing.ts", "/binary.ts"].iter().any(|name| file.ends_with(name));
    let rooms = ["sdk-python/src/", "sdk-python/python/", "sdk-node/native/", "sdk-node/src/"];
    let files = repository::files().into_iter().filter(|file| rooms.iter().any(|room| file.starts_with(room)));
    let skins: Vec<(String, Language)> = files
        .filter(|file| !is_testing(file))
        .filter_map(|file| match file.rsplit_once('.')?.1 {
            "rs" => Some((file, Language::Rust)),
            "py" => Some((file, Language::Python)),
            "ts" | "mts" => Some((file, Language::TypeScript)),
            _ => None,
        })
        .collect();
    assert!(skins.len() > 20, "the skins have only {} files, so this rule looked in the wrong place", skins.len());
    skins
}

/// Code without comments, and with its strings emptied.
fn code_of(text: &str, language: Language) -> String {
    let (mut code, mut rest) = (String::new(), text);
    let comments: &[(&str, &str)] = match language {
        Language::Rust => &[("//", "\n"), ("/*", "*/")],
        Language::Python => &[("#", "\n"), ("\"\"\"", "\"\"\"")],
        Language::TypeScript => &[("//", "\n"), ("/*", "*/")],
    };
    let quotes: &[char] = if language == Language::Rust { &['"'] } else { &['"', '\''] };
    while let Some(first) = rest.chars().next() {
        if let Some((open, close)) = comments.iter().find(|(open, _)| rest.starts_with(open)) {
            let after = &rest[open.len()..];
            rest = after.find(close).map_or("", |at| &after[at + if *close == "\n" { 0 } else { close.len() }..]);
        } else if quotes.contains(&first) {
            rest = &rest[1..];
            while let Some(next) = rest.chars().next().filter(|next| *next != first && *next != '\n') {
                let escaped = if next == '\\' { rest[1..].chars().next().map_or(0, char::len_utf8) } else { 0 };
                rest = &rest[next.len_utf8() + escaped..];
            }
            rest = rest.strip_prefix(first).unwrap_or(rest);
            code.push_str("\"\"");
        } else {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        }
    }
    code
}

/// The conditions in code: from a word that begins one to its end, and lines with an operator that chooses.
fn conditions(code: &str, language: Language) -> Vec<String> {
    let (keywords, operators): (&[&str], &[&str]) = match language {
        Language::Rust => {
            (&["if", "while", "match"], &[" && ", " || ", ".filter(", ".then(", ".then_some(", "matches!("])
        }
        Language::Python => (&["if", "elif", "while", "match", "case"], &[" and ", " or ", " else "]),
        Language::TypeScript => (&["if", "while", "switch", "case"], &[" && ", " || ", " ? ", " ?? ", ".filter("]),
    };
    let mut found = Vec::new();
    let mut until = 0;
    for (at, line) in lines_with_offsets(code) {
        let head = line.split(|c: char| !c.is_alphanumeric() && c != '_').find(|word| keywords.contains(word));
        if let Some(keyword) = head.filter(|_| at >= until) {
            let start = at + line.find(keyword).unwrap_or_default();
            let length = end_of_condition(&code[start..], language);
            until = start + length;
            found.push(one_line(&code[start..until]));
        } else if at >= until && operators.iter().any(|operator| without_closures(line).contains(operator)) {
            found.push(one_line(line));
        }
    }
    found
}

/// A line of Rust without the beginnings of closures that take nothing.
fn without_closures(line: &str) -> String {
    line.replace("(|| ", "(").replace(", || ", ", ")
}

/// How far a condition goes that begins here: to the brace or the colon that opens what it decides, or to the end of its statement.
fn end_of_condition(code: &str, language: Language) -> usize {
    let mut depth = 0;
    for (at, c) in code.char_indices() {
        match c {
            '(' | '[' => depth += 1,
            ')' | ']' => depth -= 1,
            '{' | ';' if depth <= 0 && language != Language::Python => return at,
            '\n' if depth <= 0 && language == Language::Python => return at,
            _ => {}
        }
        if depth < 0 {
            return at;
        }
    }
    code.len()
}

fn lines_with_offsets(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.split_inclusive('\n').scan(0, |offset, line| {
        let at = *offset;
        *offset += line.len();
        Some((at, line))
    })
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The words that names are made of, in small letters: `maybeApplied` and `maybe_applied` are two.
fn words(code: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut previous = ' ';
    for c in code.chars() {
        if !c.is_alphanumeric() || (c.is_uppercase() && previous.is_lowercase()) {
            words.push(String::new());
        }
        if c.is_alphanumeric() {
            words.last_mut().expect("there is one").extend(c.to_lowercase());
        }
        previous = c;
    }
    words.retain(|word| !word.is_empty());
    words
}

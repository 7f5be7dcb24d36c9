//! Where a configuration comes from: a file, the environment, flags, each overriding the one before; then the checks.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
};

use toml::{Table, Value};

use super::{
    Config, Secret,
    check::check,
    fields::{FIELDS, Field, SECRET_FILE, unknown},
    nearest::nearest,
};

/// What variables of the environment begin with.
const PREFIX: &str = "QUORATE_";

/// Variables that begin so and are none of a node's settings: those of commands and of this repository's tests.
const OTHER_VARIABLES: [&str; 5] =
    ["QUORATE_CONFIG", "QUORATE_ENDPOINTS", "QUORATE_OUTPUT", "QUORATE_BINARY", "QUORATE_NOT_RUN"];

/// Largest configuration file that is read: thousands of members and buckets take far less.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The places a configuration is put together from.
#[derive(Clone, Debug, Default)]
pub struct Source {
    file: Option<PathBuf>,
    environment: BTreeMap<String, String>,
    flags: Vec<(String, String)>,
}

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// Each as "key: what to do", with its place in front.
    pub errors: Vec<String>,
}

impl Source {
    /// Only the built-in defaults.
    pub fn defaults() -> Self {
        Self::default()
    }

    /// Reads this file.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// Takes these variables, of which those that begin with `QUORATE_` and name a setting count.
    #[must_use]
    pub fn environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.environment = variables.into_iter().filter(|(name, _)| name.starts_with(PREFIX)).collect();
        self
    }

    /// Variables that look like settings and are none: each as a sentence, with the one that was probably meant. They have no
    /// effect, but whoever set them expects one.
    pub fn misspelt_variables(&self) -> Vec<String> {
        let known: Vec<String> = FIELDS.iter().map(variable).collect();
        let is_known = |name: &str| OTHER_VARIABLES.contains(&name) || known.iter().any(|known| known == name);
        let strange = self.environment.keys().filter(|name| !is_known(name));
        strange
            .map(|name| match nearest(name, known.iter().map(String::as_str)) {
                Some(meant) => format!("{name} is no setting and has no effect; did you mean {meant}?"),
                None => format!("{name} is no setting and has no effect; `quorate config default` lists all settings"),
            })
            .collect()
    }

    /// Sets a key last, as a flag does; the value is written as in the file, quotes around texts may be left out.
    #[must_use]
    pub fn set(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.flags.push((key.into(), value.into()));
        self
    }

    /// Puts the configuration together and checks it.
    pub fn load(&self) -> Result<Config, ConfigError> {
        let mut errors = Vec::new();
        let mut config = Config::default();
        let mut secret_file: Option<(String, PathBuf)> = None;
        for (place, key, value) in self.settings(&mut errors) {
            let Some(field) = FIELDS.iter().find(|field| field.key == key) else {
                errors.push(format!("{place}: {}", unknown(&key, FIELDS.iter().map(|field| field.key))));
                continue;
            };
            let read = value.iter().map(|value| (field.read)(&mut config, value)).reduce(Result::or);
            if let Some(Err(found)) = read {
                errors.extend(found.into_iter().map(|error| format!("{place}: {key}: {error}")));
            }
            match (field.key, value.last().and_then(Value::as_str)) {
                // Of the two ways to give a secret the later source wins, as everywhere.
                ("cluster.secret", _) => secret_file = None,
                (SECRET_FILE, Some(path)) => secret_file = Some((place, path.into())),
                _ => {}
            }
        }
        if let Some((place, path)) = secret_file {
            match fs::read_to_string(&path) {
                Ok(secret) => config.cluster.secret = Secret::new(secret.trim()),
                Err(error) => errors.push(format!("{place}: {SECRET_FILE}: can't read {}: {error}", path.display())),
            }
        }
        errors.extend(check(&config));
        if errors.is_empty() { Ok(config) } else { Err(ConfigError { errors }) }
    }

    /// All settings in the order in which they apply: place, key, what the value may mean.
    fn settings(&self, errors: &mut Vec<String>) -> Vec<(String, String, Vec<Value>)> {
        let mut settings = Vec::new();
        if let Some(path) = &self.file {
            match read_table(path) {
                Ok(table) => flatten(&path.display().to_string(), "", &table, &mut settings),
                Err(error) => errors.push(error),
            }
        }
        for field in FIELDS {
            let variable = variable(field);
            if let Some(text) = self.environment.get(&variable) {
                settings.push((variable, field.key.to_owned(), parse(text)));
            }
        }
        for (key, text) in &self.flags {
            settings.push(("command line".into(), key.clone(), parse(text)));
        }
        settings
    }
}

/// The variable of the environment that sets a field.
fn variable(field: &Field) -> String {
    format!("{PREFIX}{}", field.key.replace('.', "_").to_uppercase())
}

/// A value outside a file: as TOML if it is TOML, and as a text whose quotes were left out (a name may be a number).
fn parse(text: &str) -> Vec<Value> {
    let table: Result<Table, _> = format!("value = {text}").parse();
    let toml = table.ok().and_then(|mut table| table.remove("value"));
    toml.into_iter().chain([Value::String(text.to_owned())]).collect()
}

fn read_table(path: &Path) -> Result<Table, String> {
    let place = path.display();
    let length = fs::metadata(path).map_err(|error| format!("{place}: can't read the file: {error}"))?.len();
    if length > FILE_BYTES_MAX {
        return Err(format!("{place}: longer than {FILE_BYTES_MAX} bytes, so this is not a configuration file"));
    }
    let text = fs::read_to_string(path).map_err(|error| format!("{place}: can't read the file: {error}"))?;
    text.parse().map_err(|error: toml::de::Error| {
        // The error's own text quotes the offending line, which may hold the secret.
        let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
        format!("{place}: line {line}: not TOML: {}", error.message())
    })
}

/// Turns sections into dotted keys. Tables that are values themselves (buckets) stay whole.
fn flatten(place: &str, section: &str, table: &Table, settings: &mut Vec<(String, String, Vec<Value>)>) {
    for (name, value) in table {
        let key = if section.is_empty() { name.clone() } else { format!("{section}.{name}") };
        let known = FIELDS.iter().any(|field| field.key == key);
        match value {
            Value::Table(inner) if !known && is_section(&key) => flatten(place, &key, inner, settings),
            _ => settings.push((place.to_owned(), key, vec![value.clone()])),
        }
    }
}

fn is_section(key: &str) -> bool {
    FIELDS.iter().any(|field| field.key.strip_prefix(key).is_some_and(|rest| rest.starts_with('.')))
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the configuration is wrong in {} place(s):", self.errors.len())?;
        self.errors.iter().try_for_each(|error| write!(formatter, "\n  {error}"))
    }
}

impl std::error::Error for ConfigError {}

//! `quorate kv`: single keys for people and scripts, and whole files of them.

mod delete;
mod dump;
mod get;
mod inspect;
mod load;
mod pipeline;
mod prefix;
mod put;
mod retry;
mod scan;
mod source;
mod state;
mod verify;

use bytes::Bytes;
use clap::{Args, Subcommand};

use super::{
    arguments::Bucket,
    client::Key,
    exit::{CommandError, Exit},
    notation::{self, Notation},
};

/// Read and write keys.
#[derive(Debug, Args)]
pub struct Kv {
    #[command(subcommand)]
    command: KvCommand,
}

#[derive(Debug, Subcommand)]
enum KvCommand {
    Get(get::Get),
    Put(put::Put),
    Delete(delete::Delete),
    Scan(scan::Scan),
    Inspect(inspect::Inspect),
    Load(load::Load),
    Dump(dump::Dump),
    Verify(verify::Verify),
}

impl Kv {
    /// Carries out the command.
    pub fn run(self) -> Result<Exit, CommandError> {
        match self.command {
            KvCommand::Get(command) => command.run(),
            KvCommand::Put(command) => command.run(),
            KvCommand::Delete(command) => command.run(),
            KvCommand::Scan(command) => command.run(),
            KvCommand::Inspect(command) => command.run(),
            KvCommand::Load(command) => command.run(),
            KvCommand::Dump(command) => command.run(),
            KvCommand::Verify(command) => command.run(),
        }
    }
}

/// The key a command is about, and how it is written.
#[derive(Clone, Debug, Args)]
pub(super) struct KeyArguments {
    /// The key, as text unless --key-hex or --base64 says otherwise.
    #[arg(value_name = "KEY")]
    key: String,

    /// KEY is written in pairs of hexadecimal digits.
    #[arg(long, conflicts_with = "base64")]
    key_hex: bool,

    /// KEY, and the value if there is one, are written in base64.
    #[arg(long)]
    base64: bool,

    #[command(flatten)]
    pub(super) bucket: Bucket,
}

impl KeyArguments {
    /// The key itself.
    pub(super) fn key_bytes(&self) -> Result<Bytes, CommandError> {
        let notation = match (self.key_hex, self.base64) {
            (true, _) => Notation::Hex,
            (false, true) => Notation::Base64,
            (false, false) => Notation::Text,
        };
        let key = notation::parse("key", &self.key, notation)?;
        if key.is_empty() || key.len() > dynamo::ident::KEY_BYTES_MAX {
            let most = dynamo::ident::KEY_BYTES_MAX;
            return Err(CommandError::usage(format!("a key has 1 to {most} bytes, this one {}", key.len())));
        }
        Ok(key)
    }

    fn key<'a>(&'a self, key: &'a Bytes) -> Key<'a> {
        Key { bucket: &self.bucket.bucket, key }
    }

    /// How the next command names this key.
    fn repeated(&self) -> String {
        let mut text = String::new();
        if self.bucket.bucket != dynamo::ident::BUCKET_DEFAULT {
            text.push_str(&format!("--bucket {} ", self.bucket.bucket));
        }
        if self.key_hex {
            text.push_str("--key-hex ");
        }
        if self.base64 {
            text.push_str("--base64 ");
        }
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':' | '+' | '=' | '@' | ',');
        if self.key.chars().all(plain) {
            text.push_str(&self.key);
        } else {
            text.push_str(&format!("'{}'", self.key.replace('\'', "'\\''")));
        }
        text
    }
}

//! The directory of a cluster on this machine: a configuration, a log and a data directory for each node, made at the first
//! start and found again at later ones.

use std::{
    fmt::Write as _,
    fs::{DirBuilder, OpenOptions},
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::ports::{self, Reserved};
use crate::{
    cli::exit::{CommandError, Exit},
    config::Source,
};

/// Zones that the nodes are dealt over, as three racks would be.
const ZONES: [&str; 3] = ["a", "b", "c"];

/// Bytes of randomness in a cluster's secret.
const SECRET_BYTES: usize = 32;

/// N: what a real cluster would have.
const REPLICAS: u8 = 3;

/// How a cluster on this machine shall be.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// How many nodes; `None` for as many as the directory has.
    pub nodes: Option<u16>,
    /// Where it stands; `None` for a temporary folder that goes away with it.
    pub directory: Option<PathBuf>,
    /// More arguments for `quorate serve`.
    pub serve_arguments: Vec<String>,
}

/// How many nodes there are when nobody says.
pub(crate) const NODES_DEFAULT: u16 = 3;

/// A prepared directory.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    temporary: Option<TempDir>,
    pub(super) nodes: Vec<NodeFiles>,
    _ports: Vec<Reserved>,
}

/// Where a node's things are.
#[derive(Clone, Debug)]
pub(super) struct NodeFiles {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) configuration: PathBuf,
    pub(super) log: PathBuf,
}

impl Directory {
    /// Finds the cluster in the directory, or makes one.
    pub(super) fn prepare(setup: &Setup) -> Result<Self, CommandError> {
        let temporary = match &setup.directory {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("quorate-").tempdir().map_err(|error| {
                CommandError::file("make a folder in", &std::env::temp_dir(), &error)
                    .next("quorate dev --dir DIRECTORY")
            })?),
        };
        let path = match (&setup.directory, &temporary) {
            (Some(path), _) => path.clone(),
            (None, Some(folder)) => folder.path().to_owned(),
            (None, None) => unreachable!("one of them was just made"),
        };
        // Configurations hold the cluster's secret.
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&path).and_then(|()| path.canonicalize());
        let path = made.map_err(|error| CommandError::file("make the folder", &path, &error))?;
        let (nodes, ports) = match configuration(&path, 1).exists() {
            true => found(&path, setup.nodes)?,
            false => make(&path, setup)?,
        }
        .into_iter()
        .unzip();
        Ok(Self { path, temporary, nodes, _ports: ports })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }
}

fn node_name(number: u16) -> String {
    format!("n{number}")
}

fn configuration(path: &Path, number: u16) -> PathBuf {
    path.join(format!("{}.toml", node_name(number)))
}

fn files(path: &Path, number: u16, address: String) -> NodeFiles {
    let name = node_name(number);
    NodeFiles { configuration: configuration(path, number), log: path.join(format!("{name}.log")), name, address }
}

/// The cluster that was made here before, on the addresses it had: they stand in its layout.
fn found(path: &Path, nodes: Option<u16>) -> Result<Vec<(NodeFiles, Reserved)>, CommandError> {
    let mut found = Vec::new();
    for number in 1.. {
        let file = configuration(path, number);
        if !file.exists() {
            break;
        }
        let config = Source::defaults().file(&file).load().map_err(|error| {
            CommandError::usage(error.to_string()).next(format!("quorate config check {}", file.display()))
        })?;
        let port = ports::reserve_address(config.listen).map_err(|_| {
            let listen = config.listen;
            let message = format!("{} wants to listen on {listen}, and something else does", node_name(number));
            CommandError::new(Exit::Failed, message)
                .next(format!("end that process (does another `quorate dev` run on {}?)", path.display()))
        })?;
        found.push((files(path, number, config.listen.to_string()), port));
    }
    if let Some(wanted) = nodes
        && usize::from(wanted) != found.len()
    {
        let message = format!("{} holds a cluster of {} nodes, not {wanted}", path.display(), found.len());
        return Err(CommandError::usage(message).next(format!("quorate dev --nodes {} --dir …", found.len())));
    }
    Ok(found)
}

fn make(path: &Path, setup: &Setup) -> Result<Vec<(NodeFiles, Reserved)>, CommandError> {
    let nodes = setup.nodes.unwrap_or(NODES_DEFAULT);
    let ports = ports::reserve(nodes)
        .map_err(|error| CommandError::new(Exit::Failed, format!("can't listen on loopback ports: {error}")))?;
    let addresses: Vec<SocketAddr> = ports.iter().map(|port| port.address).collect();
    let secret = secret()?;
    let mut all = Vec::new();
    for (number, port) in (1..).zip(ports) {
        let files = files(path, number, port.address.to_string());
        let text = file_text(path, &files.name, &addresses, port.address, &secret);
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&files.configuration)
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| CommandError::file("write", &files.configuration, &error))?;
        all.push((files, port));
    }
    Ok(all)
}

fn file_text(path: &Path, name: &str, addresses: &[SocketAddr], listen: SocketAddr, secret: &str) -> String {
    let mut text = format!(
        "# Made by `quorate dev`. `quorate config default` explains every key.\n\
         name = \"{name}\"\nlisten = \"{listen}\"\ndata = {}\n\n\
         [cluster]\nname = \"dev\"\nsecret = \"{secret}\"\nreplicas = {REPLICAS}\nmembers = [\n",
        toml::Value::String(path.join(name).display().to_string()),
    );
    for (number, address) in addresses.iter().enumerate() {
        let (name, zone) = (node_name(number as u16 + 1), ZONES[number % ZONES.len()]);
        let _ = writeln!(text, "  {{ name = \"{name}\", address = \"{address}\", zone = \"{zone}\", weight = 100 }},");
    }
    text.push_str("]\n");
    text
}

fn secret() -> Result<String, CommandError> {
    let mut bytes = [0; SECRET_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| CommandError::new(Exit::Failed, format!("the system gives no random numbers: {error}")))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::{Directory, Setup};
    use crate::config::Source;

    #[test]
    fn what_is_made_is_a_valid_configuration_and_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let setup = Setup { nodes: Some(4), directory: Some(folder.path().join("new")), ..Setup::default() };
        let made = Directory::prepare(&setup).unwrap();
        let configs: Vec<_> =
            made.nodes.iter().map(|node| Source::defaults().file(&node.configuration).load().unwrap()).collect();
        assert!(configs.iter().all(|config| config.cluster == configs[0].cluster && config.members().len() == 4));
        assert_eq!(configs[3].name, "n4");
        assert!(configs[0].data.starts_with(folder.path().canonicalize().unwrap()));
        assert!(!configs[0].cluster.secret.is_default());
        let mode = std::fs::metadata(&made.nodes[0].configuration).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0);

        let addresses =
            |directory: &Directory| -> Vec<_> { directory.nodes.iter().map(|node| node.address.clone()).collect() };
        let listed = addresses(&made);
        assert!(Directory::prepare(&setup).unwrap_err().message.contains("something else"));
        drop(made);
        let again = Directory::prepare(&Setup { nodes: None, ..setup.clone() }).unwrap();
        assert_eq!(addresses(&again), listed);
        drop(again);
        assert!(Directory::prepare(&Setup { nodes: Some(3), ..setup }).unwrap_err().message.contains("4 nodes"));
    }

    #[test]
    fn a_temporary_directory_goes_away() {
        let directory = Directory::prepare(&Setup { nodes: Some(1), ..Setup::default() }).unwrap();
        let path = directory.path().to_owned();
        assert!(path.exists() && directory.is_temporary());
        drop(directory);
        assert!(!path.exists());
    }
}

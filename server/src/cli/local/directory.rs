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

use super::{
    NODES_MAX,
    ports::{self, Reserved},
};
use crate::{
    cli::exit::{CommandError, Exit},
    config::Source,
};

/// Zones that the nodes are dealt over, as three racks would be.
const ZONES: [&str; 3] = ["a", "b", "c"];

/// Bytes of randomness in a cluster's secret.
const SECRET_BYTES: usize = 32;

/// N when nobody says: what a real cluster would have.
const REPLICAS_DEFAULT: u8 = 3;

/// How many nodes can be added to a cluster with proxies: ports and proxies are made at its start, and more would cost every test.
const SPARE_NODES: usize = 6;

/// How a cluster on this machine shall be.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// How many nodes; `None` for as many as the directory has.
    pub nodes: Option<u16>,
    /// Where it stands; `None` for a temporary folder that goes away with it.
    pub directory: Option<PathBuf>,
    /// More arguments for `quorate serve`.
    pub serve_arguments: Vec<String>,
    /// N: how many owners a key has; `None` for three. A directory that holds a cluster has it already.
    pub replicas: Option<u8>,
    /// Whether a proxy stands before every node, at the address by which everybody knows it.
    pub is_proxied: bool,
}

/// How many nodes there are when nobody says.
pub(crate) const NODES_DEFAULT: u16 = 3;

/// A prepared directory.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    temporary: Option<TempDir>,
    pub(super) nodes: Vec<NodeFiles>,
    /// Of nodes that may be added, the next one first.
    pub(super) spare: Vec<NodeFiles>,
    is_proxied: bool,
    /// Held for as long as the cluster lives.
    ports: Vec<Reserved>,
}

/// Where a node's things are.
#[derive(Clone, Debug)]
pub(super) struct NodeFiles {
    pub(super) name: String,
    /// Where the node itself listens.
    pub(super) listen: SocketAddr,
    /// Where everybody reaches it: its proxy if it has one.
    pub(super) address: SocketAddr,
    pub(super) configuration: PathBuf,
    pub(super) data: PathBuf,
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
        let (nodes, mut ports) = match configuration(&path, 1).exists() {
            true => found(&path, setup)?,
            false => make(&path, setup)?,
        };
        let spare = if setup.is_proxied { spare(&path, nodes.len(), &mut ports)? } else { Vec::new() };
        Ok(Self { path, temporary, nodes, spare, is_proxied: setup.is_proxied, ports })
    }

    /// Makes the configuration of another node, which joins the ring that is reached at these addresses, in the place of a node of this
    /// name if one is given.
    pub(super) fn add(&mut self, through: &[String], replaces: Option<&str>) -> Result<NodeFiles, CommandError> {
        let files = match self.is_proxied {
            true => self.take_spare()?,
            false => self.make_room()?,
        };
        let zone = ZONES[self.nodes.len() % ZONES.len()];
        let text = joining_text(&files, &self.nodes[0].configuration, through, replaces, zone)?;
        write(&files.configuration, &text)?;
        self.nodes.push(files.clone());
        Ok(files)
    }

    /// The next of the nodes that a cluster with proxies has ports and proxies for.
    fn take_spare(&mut self) -> Result<NodeFiles, CommandError> {
        if self.spare.is_empty() {
            let message = format!("{SPARE_NODES} nodes can be added to a test cluster, and they have been");
            return Err(CommandError::new(Exit::Failed, message));
        }
        Ok(self.spare.remove(0))
    }

    /// Files and a port for one more node, the port after the last node's if nobody listens there.
    fn make_room(&mut self) -> Result<NodeFiles, CommandError> {
        if self.nodes.len() >= usize::from(NODES_MAX) {
            return Err(CommandError::usage(format!("a cluster on this machine has at most {NODES_MAX} nodes")));
        }
        let last = self.nodes.last().map(|node| node.listen.port());
        let port = ports::reserve_after(last.unwrap_or(0))
            .map_err(|error| CommandError::new(Exit::Failed, format!("can't listen on a loopback port: {error}")))?;
        let files = files(&self.path, self.nodes.len() as u16 + 1, port.address, port.address);
        self.ports.push(port);
        Ok(files)
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

fn files(path: &Path, number: u16, listen: SocketAddr, address: SocketAddr) -> NodeFiles {
    let name = node_name(number);
    let (configuration, data) = (configuration(path, number), path.join(&name));
    NodeFiles { listen, address, configuration, data, log: path.join(format!("{name}.log")), name }
}

/// The cluster that was made here before, on the addresses it had: they stand in its layout.
fn found(path: &Path, setup: &Setup) -> Result<(Vec<NodeFiles>, Vec<Reserved>), CommandError> {
    let (mut found, mut ports) = (Vec::new(), Vec::new());
    for number in 1.. {
        let file = configuration(path, number);
        if !file.exists() {
            break;
        }
        let config = Source::defaults().file(&file).load().map_err(|error| {
            CommandError::usage(error.to_string()).next(format!("quorate config check {}", file.display()))
        })?;
        let known = config.members().into_iter().find(|member| member.name == config.name);
        let address = known.and_then(|member| member.address.parse().ok()).unwrap_or(config.listen);
        if (address != config.listen) != setup.is_proxied {
            let maker = if setup.is_proxied { "quorate dev" } else { "quorate testkit" };
            let message =
                format!("the cluster in {} was made by `{maker}`, which reaches it differently", path.display());
            return Err(CommandError::usage(message).next(format!("{maker} --dir {}", path.display())));
        }
        ports.push(reserve(path, number, config.listen)?);
        if setup.is_proxied {
            ports.push(reserve(path, number, address)?);
        }
        found.push(files(path, number, config.listen, address));
    }
    if let Some(wanted) = setup.nodes
        && usize::from(wanted) != found.len()
    {
        let message = format!("{} holds a cluster of {} nodes, not {wanted}", path.display(), found.len());
        return Err(CommandError::usage(message).next(format!("--nodes {} --dir …", found.len())));
    }
    Ok((found, ports))
}

fn reserve(path: &Path, number: u16, address: SocketAddr) -> Result<Reserved, CommandError> {
    ports::reserve_address(address).map_err(|_| {
        let message = format!("{} wants to listen on {address}, and something else does", node_name(number));
        CommandError::new(Exit::Failed, message)
            .next(format!("end that process (does another cluster run on {}?)", path.display()))
    })
}

fn make(path: &Path, setup: &Setup) -> Result<(Vec<NodeFiles>, Vec<Reserved>), CommandError> {
    let nodes = setup.nodes.unwrap_or(NODES_DEFAULT);
    // A port of a node that is down must wait for it; `quorate dev` ends when one dies.
    let ports = if setup.is_proxied { ports::reserve_lasting(2 * usize::from(nodes)) } else { ports::reserve(nodes) };
    let ports =
        ports.map_err(|error| CommandError::new(Exit::Failed, format!("can't listen on loopback ports: {error}")))?;
    let listen: Vec<SocketAddr> = ports.iter().take(nodes.into()).map(|port| port.address).collect();
    let addresses: Vec<SocketAddr> = match setup.is_proxied {
        true => ports[nodes.into()..].iter().map(|port| port.address).collect(),
        false => listen.clone(),
    };
    let secret = secret()?;
    let mut all = Vec::new();
    for number in 1..=nodes {
        let at = usize::from(number - 1);
        let files = files(path, number, listen[at], addresses[at]);
        let text = file_text(&files, &addresses, setup, &secret);
        write(&files.configuration, &text)?;
        all.push(files);
    }
    Ok((all, ports))
}

/// Ports for nodes that may be added behind those that are there.
fn spare(path: &Path, nodes: usize, ports: &mut Vec<Reserved>) -> Result<Vec<NodeFiles>, CommandError> {
    let more = ports::reserve_lasting(2 * SPARE_NODES)
        .map_err(|error| CommandError::new(Exit::Failed, format!("can't listen on loopback ports: {error}")))?;
    let numbers = (nodes as u16 + 1)..;
    let spare = numbers.zip(more.chunks(2)).map(|(number, pair)| files(path, number, pair[0].address, pair[1].address));
    let spare = spare.collect();
    ports.extend(more);
    Ok(spare)
}

fn write(path: &Path, text: &str) -> Result<(), CommandError> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| CommandError::file("write", path, &error))
}

/// The configuration of a node that joins: the cluster is that of the node whose configuration stands in `like`.
fn joining_text(
    files: &NodeFiles,
    like: &Path,
    through: &[String],
    replaces: Option<&str>,
    zone: &str,
) -> Result<String, CommandError> {
    let founder = Source::defaults().file(like).load().map_err(|error| CommandError::usage(error.to_string()))?;
    let NodeFiles { name, listen, address, data, .. } = files;
    let quoted = |text: &str| toml::Value::String(text.to_owned());
    let through: Vec<String> = through.iter().map(|address| quoted(address).to_string()).collect();
    let mut text = format!(
        "name = \"{name}\"\nlisten = \"{listen}\"\ndata = {}\n\n[cluster]\nname = {}\nsecret = {}\nreplicas = {}\n\n\
         [join]\nthrough = [{}]\naddress = \"{address}\"\n",
        quoted(&data.display().to_string()),
        quoted(&founder.cluster.name),
        quoted(&String::from_utf8_lossy(founder.cluster.secret.bytes())),
        founder.cluster.replicas,
        through.join(", "),
    );
    match replaces {
        Some(replaces) => text += &format!("replaces = {}\n", quoted(replaces)),
        None => text += &format!("zone = \"{zone}\"\n"),
    }
    Ok(text)
}

fn file_text(files: &NodeFiles, addresses: &[SocketAddr], setup: &Setup, secret: &str) -> String {
    let NodeFiles { name, listen, data, .. } = files;
    let maker = if setup.is_proxied { "testkit" } else { "dev" };
    let mut text = format!(
        "# Made by `quorate {maker}`. `quorate config default` explains every key.\n\
         name = \"{name}\"\nlisten = \"{listen}\"\ndata = {}\n\n\
         [cluster]\nname = \"{maker}\"\nsecret = \"{secret}\"\nreplicas = {}\nmembers = [\n",
        toml::Value::String(data.display().to_string()),
        setup.replicas.unwrap_or(REPLICAS_DEFAULT),
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

    use super::{super::ports::alone, Directory, Setup};
    use crate::config::Source;

    #[test]
    fn what_is_made_is_a_valid_configuration_and_is_found_again() {
        let _alone = alone();
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

        let addresses = |directory: &Directory| -> Vec<_> { directory.nodes.iter().map(|node| node.address).collect() };
        let listed = addresses(&made);
        assert!(Directory::prepare(&setup).unwrap_err().message.contains("something else"));
        drop(made);
        let again = Directory::prepare(&Setup { nodes: None, ..setup.clone() }).unwrap();
        assert_eq!(addresses(&again), listed);
        drop(again);
        assert!(
            Directory::prepare(&Setup { nodes: Some(3), ..setup.clone() }).unwrap_err().message.contains("4 nodes")
        );
        let proxied = Setup { is_proxied: true, ..setup };
        assert!(Directory::prepare(&proxied).unwrap_err().message.contains("quorate dev"));
    }

    #[test]
    fn proxies_have_addresses_of_their_own_which_last_too() {
        let _alone = alone();
        let folder = tempfile::tempdir().unwrap();
        let directory = Some(folder.path().join("new"));
        let setup = Setup { nodes: Some(2), directory, is_proxied: true, replicas: Some(2), ..Setup::default() };
        let addresses = |directory: &Directory| -> Vec<_> {
            directory.nodes.iter().flat_map(|node| [node.listen, node.address]).collect()
        };
        let made = Directory::prepare(&setup).unwrap();
        let listed = addresses(&made);
        assert_eq!(listed.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);
        let config = Source::defaults().file(&made.nodes[1].configuration).load().unwrap();
        assert_eq!((config.listen, config.cluster.replicas), (listed[2], 2));
        assert_eq!(config.cluster.members[1].address, listed[3].to_string());
        drop(made);
        assert_eq!(addresses(&Directory::prepare(&setup).unwrap()), listed);
    }

    #[test]
    fn a_temporary_directory_goes_away() {
        let _alone = alone();
        let directory = Directory::prepare(&Setup { nodes: Some(1), ..Setup::default() }).unwrap();
        let path = directory.path().to_owned();
        assert!(path.exists() && directory.is_temporary());
        drop(directory);
        assert!(!path.exists());
    }
}

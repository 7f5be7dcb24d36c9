//! What must hold between the settings of one node. Everything that is wrong is said at once: a file is edited once, not once
//! per error.

use std::collections::BTreeSet;

use dynamo::{
    ident::is_bucket_name,
    layout::{BUCKETS_MAX, NODES_MAX, REPLICAS_MAX},
};

use super::Config;

/// Longest value a node may allow; beyond it frames, disk pages and repairs get out of proportion (design, data, "Limits").
const VALUE_BYTES_CEILING: u32 = 16 << 20;

/// Shortest secret that is not guessed by trying.
const SECRET_BYTES_MIN: usize = 16;

/// Most shards: each has a thread and two memory maps.
const SHARDS_MAX: u8 = 16;

/// Most workers: each has a listener, a coordinator and a connection to every peer.
const WORKERS_MAX: usize = 1_024;

/// One batch of a client, which must fit through every bound or nobody could send one.
const BATCH_OPERATIONS: usize = 1_024;
const BATCH_BYTES: usize = 4 << 20;

/// Longest name of a node, zone or cluster: it travels in every ring and log line.
const NAME_BYTES_MAX: usize = 64;

/// Fastest and slowest gossip: faster than ten probes a second a scheduler's pauses look like deaths, slower than one a minute
/// it tells nothing that calls did not tell long before.
const PROBE_EVERY_MS_MIN: u32 = 100;
const PROBE_EVERY_MS_MAX: u32 = 60_000;

/// Longest suspicion: an hour. Longer is a mistake in the unit.
const SUSPICION_MS_MAX: u32 = 3_600_000;

/// Longest deadline: a day. Longer is a mistake in the unit.
const DEADLINE_MS_MAX: u32 = 86_400_000;

/// Longest time between two looks at a record: what is damaged longer than that is damaged elsewhere too.
const SCRUB_HOURS_MAX: u32 = 8_784;

/// Everything that is wrong with `config`, as "key: what to do".
pub(super) fn check(config: &Config) -> Vec<String> {
    let mut errors = Vec::new();
    let mut expect = |holds: bool, error: String| {
        if !holds {
            errors.push(error);
        }
    };
    expect(is_name(&config.name), format!("name: {NAME_RULE}, not {:?}", config.name));
    expect(
        config.listen.ip().is_loopback() || config.insecure,
        format!(
            "listen: {} can be reached from other hosts, and this version has no TLS; listen on 127.0.0.1, or write \
             `insecure = true` if the network is trusted",
            config.listen
        ),
    );
    expect(!config.data.as_os_str().is_empty(), "data: name a directory".into());
    expect(config.workers <= WORKERS_MAX, format!("workers: at most {WORKERS_MAX}"));
    expect(
        config.shards == 0 || (config.shards.is_power_of_two() && config.shards <= SHARDS_MAX),
        format!("shards: {} is not a power of two up to {SHARDS_MAX}; write 1, 2, 4, 8, … or 0", config.shards),
    );
    expect(
        (1..=VALUE_BYTES_CEILING).contains(&config.value_bytes_max),
        format!("value_bytes_max: write 1 to {VALUE_BYTES_CEILING}"),
    );
    errors.extend(check_cluster(config));
    errors.extend(check_join(config));
    errors.extend(check_buckets(config));
    errors.extend(check_bounds(config));
    errors
}

const NAME_RULE: &str = "write 1 to 64 of the characters A-Z a-z 0-9 . _ -";

fn is_name(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX && is_bucket_name(name.as_bytes())
}

fn check_cluster(config: &Config) -> Vec<String> {
    let cluster = &config.cluster;
    let mut errors = Vec::new();
    if !is_name(&cluster.name) {
        errors.push(format!("cluster.name: {NAME_RULE}, not {:?}", cluster.name));
    }
    if cluster.secret.bytes().len() < SECRET_BYTES_MIN {
        errors.push(format!("cluster.secret: at least {SECRET_BYTES_MIN} characters, so that it can't be guessed"));
    }
    if !(1..=REPLICAS_MAX).contains(&cluster.replicas) {
        errors.push(format!("cluster.replicas: write 1 to {REPLICAS_MAX}"));
    }
    if cluster.members.len() >= NODES_MAX {
        errors.push(format!("cluster.members: fewer than {NODES_MAX} nodes"));
    }
    let is_joining = !config.join.through.is_empty();
    if !is_joining && !cluster.members.is_empty() && !cluster.members.iter().any(|member| member.name == config.name) {
        errors.push(format!(
            "cluster.members: no entry is named {:?}, which is this node's `name`; add one or change `name`",
            config.name
        ));
    }
    let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
    for (at, member) in cluster.members.iter().enumerate() {
        let which = if member.name.is_empty() { format!("#{}", at + 1) } else { member.name.clone() };
        if !is_name(&member.name) {
            errors.push(format!("cluster.members {which}: name: {NAME_RULE}"));
        } else if !names.insert(&member.name) {
            errors.push(format!("cluster.members {which}: the name stands there twice; names are unique"));
        }
        if !is_address(&member.address) {
            errors.push(format!("cluster.members {which}: address: write host:port, not {:?}", member.address));
        } else if !addresses.insert(&member.address) {
            errors.push(format!("cluster.members {which}: address {} stands there twice", member.address));
        }
        if !is_name(&member.zone) {
            errors.push(format!("cluster.members {which}: zone: {NAME_RULE}"));
        }
        if member.weight == 0 {
            errors.push(format!("cluster.members {which}: weight: at least 1"));
        }
    }
    errors
}

fn check_join(config: &Config) -> Vec<String> {
    let join = &config.join;
    let mut errors = Vec::new();
    let mut expect = |is_so: bool, otherwise: String| errors.extend((!is_so).then_some(otherwise));
    let is_joining = !join.through.is_empty();
    for address in &join.through {
        expect(is_address(address), format!("join.through: write host:port, not {address:?}"));
    }
    expect(
        join.replaces.is_empty() || is_joining,
        "join.replaces: say with join.through how to reach the ring it is in".into(),
    );
    expect(join.replaces.is_empty() || is_name(&join.replaces), format!("join.replaces: {NAME_RULE}"));
    expect(
        join.replaces != config.name || !is_joining,
        "join.replaces: the name is this node's own; give it another `name`".into(),
    );
    expect(join.zone.is_empty() || is_name(&join.zone), format!("join.zone: {NAME_RULE}"));
    expect(join.address.is_empty() || is_address(&join.address), "join.address: write host:port".into());
    expect(
        !is_joining || !join.address.is_empty() || !config.listen.ip().is_unspecified(),
        "join.address: say where others reach this node, which listens on all addresses".into(),
    );
    errors
}

fn is_address(address: &str) -> bool {
    address
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0))
}

fn check_buckets(config: &Config) -> Vec<String> {
    let mut errors = Vec::new();
    if config.buckets.len() > BUCKETS_MAX {
        errors.push(format!("buckets: at most {BUCKETS_MAX}"));
    }
    for (name, properties) in &config.buckets {
        if !is_bucket_name(name.as_bytes()) {
            errors.push(format!("buckets.{name}: a bucket's name has 1 to 64 of the characters A-Z a-z 0-9 . _ -"));
        }
        for (field, number) in [("r", properties.r), ("w", properties.w)] {
            if number > config.cluster.replicas {
                errors.push(format!(
                    "buckets.{name}.{field}: {number} is more than cluster.replicas ({}); write at most that",
                    config.cluster.replicas
                ));
            }
        }
    }
    errors
}

fn check_bounds(config: &Config) -> Vec<String> {
    let (deadlines, admission, gossip) = (&config.deadlines, &config.admission, &config.gossip);
    let batch_bytes = BATCH_BYTES.max(config.value_bytes_max as usize + (64 << 10));
    let rules = [
        (
            (1..=deadlines.maximum_ms).contains(&deadlines.default_ms),
            format!("deadlines.default_ms: write 1 to deadlines.maximum_ms ({})", deadlines.maximum_ms),
        ),
        (deadlines.maximum_ms <= DEADLINE_MS_MAX, format!("deadlines.maximum_ms: at most {DEADLINE_MS_MAX} (one day)")),
        (deadlines.drain_ms <= DEADLINE_MS_MAX, format!("deadlines.drain_ms: at most {DEADLINE_MS_MAX} (one day)")),
        (admission.connections_max >= 16, "admission.connections_max: at least 16, or peers find no room".into()),
        (
            admission.operations_per_connection_max >= BATCH_OPERATIONS,
            format!("admission.operations_per_connection_max: at least {BATCH_OPERATIONS}, one batch"),
        ),
        (
            admission.operations_max >= admission.operations_per_connection_max,
            "admission.operations_max: at least admission.operations_per_connection_max".into(),
        ),
        (
            admission.bytes_per_connection_max >= batch_bytes,
            format!("admission.bytes_per_connection_max: at least {batch_bytes}, one batch of the longest values"),
        ),
        (
            admission.bytes_max >= admission.bytes_per_connection_max,
            "admission.bytes_max: at least admission.bytes_per_connection_max".into(),
        ),
        (
            (PROBE_EVERY_MS_MIN..=PROBE_EVERY_MS_MAX).contains(&gossip.probe_every_ms),
            format!("gossip.probe_every_ms: write {PROBE_EVERY_MS_MIN} to {PROBE_EVERY_MS_MAX}"),
        ),
        (
            gossip.probe_timeout_ms > 0 && gossip.probe_timeout_ms <= gossip.probe_every_ms / 2,
            "gossip.probe_timeout_ms: write 1 to half of gossip.probe_every_ms, so that others can probe in the other half"
                .into(),
        ),
        (
            gossip.suspicion_ms == 0 || (gossip.probe_every_ms..=SUSPICION_MS_MAX).contains(&gossip.suspicion_ms),
            format!("gossip.suspicion_ms: write 0, or gossip.probe_every_ms to {SUSPICION_MS_MAX}"),
        ),
        (
            (1..=deadlines.maximum_ms.max(1)).contains(&config.background.target_ms),
            format!("background.target_ms: write 1 to deadlines.maximum_ms ({})", deadlines.maximum_ms),
        ),
        (
            config.background.scrub_every_hours <= SCRUB_HOURS_MAX,
            format!("background.scrub_every_hours: at most {SCRUB_HOURS_MAX} (a year)"),
        ),
        (
            config.log.level.parse::<tracing_subscriber::EnvFilter>().is_ok() && !config.log.level.is_empty(),
            format!("log.level: {:?} is no level or filter; write error, warn, info, debug or trace", config.log.level),
        ),
    ];
    rules.into_iter().filter(|(holds, _)| !holds).map(|(_, error)| error).collect()
}

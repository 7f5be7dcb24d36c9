//! Opening: what is recognised, what is refused and how, and that a refusal changes nothing.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::{
        fs::{FileExt, PermissionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use dynamo::ident::NodeId;
use server::store::{OpenError, Store, StoreConfig};

use crate::{
    process::{Guarded, command, role, said, say},
    support::{CLUSTER, NODE, Worker, config, is_stored, open, put, values},
};

fn refusal(config: &StoreConfig) -> OpenError {
    Store::open(config).err().expect("it must be refused")
}

/// Everything in a directory that a refusal may not touch: all but the lock files, which say who has it open.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut contents = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            contents.extend(self::contents(&entry.path()));
        } else if entry.file_name() != "LOCK" && entry.file_name() != "lock.mdb" {
            contents.insert(entry.path(), fs::read(entry.path()).unwrap());
        }
    }
    contents
}

/// A small store with one record, closed.
fn founded(directory: &Path) -> StoreConfig {
    let config = StoreConfig { max_bytes: Some(4 << 20), shards: Some(2), ..config(directory) };
    let store = open(&config);
    assert!(is_stored(&Worker::new(&store).one(put("k", "v"))));
    config
}

#[test]
fn who_a_node_is_and_its_layout_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    let config = founded(directory.path());
    let store = Store::open(&config).unwrap();
    let identity = *store.identity();
    assert_eq!((identity.cluster, identity.node, identity.shards), (CLUSTER, NODE, 2));
    assert_ne!(identity.directory, [0; 16]);
    assert_eq!(store.layout().unwrap(), b"a layout");
    let layout = vec![0xee; 2_000_000];
    store.put_layout(2, &layout, 7).unwrap();
    drop(store);
    // What a founding would be made with counts only when there is one.
    let store = Store::open(&StoreConfig { founding: Some(b"another".to_vec()), ..config }).unwrap();
    assert_eq!((store.layout().unwrap(), *store.identity()), (layout, identity));
    assert_eq!(values(&store, "k"), Ok(vec!["v".into()]));
}

#[test]
fn a_second_process_is_refused_and_kill_9_frees_the_lock() {
    if let Some((_, directory)) = role() {
        let _store = open(&config(&directory));
        say("open");
        thread::sleep(Duration::from_secs(600));
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let name = "opening::a_second_process_is_refused_and_kill_9_frees_the_lock";
    let mut child = Guarded(command(name, "hold", directory.path()).spawn().unwrap());
    assert_eq!(said(&mut child.0).next().as_deref(), Some("open"));
    let error = refusal(&config(directory.path()));
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    let process = child.0.id().to_string();
    assert!(error.to_string().contains(&process), "{error} does not name process {process}");
    drop(child);
    open(&config(directory.path()));
}

#[test]
fn the_same_process_is_refused_too() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&config(directory.path()));
    let error = refusal(&config(directory.path()));
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    drop(store);
    open(&config(directory.path()));
}

#[test]
fn nothing_is_founded_where_it_was_not_allowed_or_where_something_else_is() {
    let directory = tempfile::tempdir().unwrap();
    let error = refusal(&StoreConfig { founding: None, ..config(directory.path()) });
    assert!(matches!(error, OpenError::Absent { .. }), "{error}");
    fs::write(directory.path().join("thesis.tex"), "chapter 1").unwrap();
    let error = refusal(&config(directory.path()));
    assert!(matches!(&error, OpenError::NotOurs { found, .. } if found == "thesis.tex"), "{error}");
    let error = refusal(&config(&directory.path().join("thesis.tex")));
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
}

#[test]
fn a_founding_that_was_interrupted_is_done_again() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("founding/node")).unwrap();
    fs::write(directory.path().join("founding/node/data.mdb"), "half a page").unwrap();
    open(&config(directory.path()));
}

#[test]
fn directories_of_others_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let config = founded(directory.path());
    let before = contents(directory.path());
    let error = refusal(&StoreConfig { cluster: 1, ..config.clone() });
    assert!(matches!(error, OpenError::OtherOwner { what: "cluster", .. }), "{error}");
    let error = refusal(&StoreConfig { node: NodeId(1), ..config.clone() });
    assert!(matches!(error, OpenError::OtherOwner { what: "node", .. }), "{error}");
    let error = refusal(&StoreConfig { shards: Some(4), ..config.clone() });
    assert!(matches!(error, OpenError::Configuration(_)), "{error}");
    assert_eq!(contents(directory.path()), before);
    // A shard's files under another shard's name.
    let [first, second] = ["shard-0", "shard-1"].map(|name| directory.path().join("data").join(name));
    fs::rename(&first, directory.path().join("data/aside")).unwrap();
    fs::rename(&second, &first).unwrap();
    fs::rename(directory.path().join("data/aside"), &second).unwrap();
    let error = refusal(&config);
    assert!(matches!(error, OpenError::OtherOwner { .. }), "{error}");
}

#[test]
fn other_formats_and_missing_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let config = founded(directory.path());
    let data = directory.path().join("data");
    let format = fs::read_to_string(data.join("FORMAT")).unwrap();
    fs::write(data.join("FORMAT"), format.replace("format 2", "format 3")).unwrap();
    let error = refusal(&config);
    assert!(matches!(&error, OpenError::OtherFormat { found, .. } if found.contains("format 3")), "{error}");
    fs::write(data.join("FORMAT"), format).unwrap();
    for lost in ["FORMAT", "node/data.mdb", "shard-1/data.mdb", "shard-1", "node"] {
        let (from, to) = (data.join(lost), directory.path().join("elsewhere"));
        fs::rename(&from, &to).unwrap();
        let error = refusal(&config);
        assert!(matches!(error, OpenError::Missing { .. }), "{lost}: {error}");
        let _ = fs::remove_dir_all(&from);
        fs::rename(&to, &from).unwrap();
    }
    assert_eq!(values(&open(&config), "k"), Ok(vec!["v".into()]));
}

#[test]
fn a_damaged_header_is_refused_and_nothing_is_changed() {
    let directory = tempfile::tempdir().unwrap();
    let config = founded(directory.path());
    for file in ["node/data.mdb", "shard-0/data.mdb", "shard-1/data.mdb"] {
        let path = directory.path().join("data").join(file);
        let sound = fs::read(&path).unwrap();
        let open_file = File::options().write(true).open(&path).unwrap();
        // Zeros over a header page; noise over one; a flipped bit in the magic number of the second.
        for (at, bytes) in [(0, vec![0; 4096]), (4096, vec![0xa5; 200]), (4096 + 16, vec![sound[4096 + 16] ^ 1])] {
            open_file.write_all_at(&bytes, at).unwrap();
            let before = contents(directory.path());
            let error = refusal(&config);
            assert!(matches!(error, OpenError::Damaged { .. }), "{file} at {at}: {error}");
            assert_eq!(contents(directory.path()), before);
            open_file.write_all_at(&sound[..8192], 0).unwrap();
        }
        open_file.set_len(5_000).unwrap();
        let error = refusal(&config);
        assert!(matches!(error, OpenError::Damaged { .. }), "{file} cut: {error}");
        fs::write(&path, sound).unwrap();
    }
    assert_eq!(values(&open(&config), "k"), Ok(vec!["v".into()]));
}

#[test]
fn a_directory_of_another_user_is_refused() {
    if let Some((_, directory)) = role() {
        let error = refusal(&config(&directory));
        assert!(matches!(&error, OpenError::Io { .. }), "{error}");
        return say("refused");
    }
    let directory = tempfile::tempdir().unwrap();
    founded(directory.path());
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = command("opening::a_directory_of_another_user_is_refused", "open", directory.path());
    let Ok(child) = command.uid(65_534).gid(65_534).spawn() else {
        crate::support::not_run("only root can become another user");
        return;
    };
    let mut child = Guarded(child);
    assert_eq!(said(&mut child.0).collect::<Vec<_>>(), ["refused"]);
}

#[test]
fn an_overlay_file_system_is_refused_unless_forced() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| {
        let path = directory.path().join(name);
        fs::create_dir(&path).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (lower, upper, work, merged) = (at("lower"), at("upper"), at("work"), at("merged"));
    let options = format!("lowerdir={lower},upperdir={upper},workdir={work}");
    let mount =
        std::process::Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options, &merged]).output();
    if !mount.is_ok_and(|output| output.status.success()) {
        crate::support::not_run("mounting an overlay needs root and a kernel that has it");
        return;
    }
    let config = config(&Path::new(&merged).join("node"));
    let refused = Store::open(&StoreConfig { is_filesystem_forced: false, ..config.clone() }).err();
    let forced = Store::open(&config).map(drop);
    let _ = std::process::Command::new("umount").args(["-l", &merged]).status();
    assert!(matches!(&refused, Some(OpenError::UnsafeFilesystem { kind: "overlayfs", .. })), "{refused:?}");
    forced.unwrap();
}

#[test]
fn closing_answers_what_was_taken_and_takes_nothing_more() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&config(directory.path()));
    let began = Instant::now();
    let mut worker = Worker::new(&store);
    assert!(worker.run((0..500).map(|number| put(&format!("{number}"), "v")).collect()).iter().all(is_stored));
    drop(worker);
    store.close();
    assert!(began.elapsed() < Duration::from_secs(30));
    assert_eq!(open(&config(directory.path())).status().records(), Some(500));
}

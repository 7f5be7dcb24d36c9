//! Changing the ring by its commands, on real processes: a ring of one becomes two, whoever commits second is told so, a change is taken
//! back, a node comes back at another address, and one that is drained sends its clients elsewhere.
#![allow(missing_docs)]

#[path = "support/command.rs"]
#[allow(dead_code, unreachable_pub)]
mod command;

use std::{
    fs,
    net::{TcpListener, TcpStream},
    process::{Child, Stdio},
    thread,
};

use command::{Ran, quorate, run_with, wait_until};
use serde_json::Value;
use tempfile::TempDir;

/// Nodes that were started one by one; their processes end with this value.
struct Nodes {
    folder: TempDir,
    processes: Vec<Child>,
    endpoints: Vec<String>,
}

impl Nodes {
    fn of_one() -> Self {
        let mut nodes = Self { folder: tempfile::tempdir().unwrap(), processes: Vec::new(), endpoints: Vec::new() };
        nodes.serve("n1", &[]);
        nodes
    }

    fn serve(&mut self, name: &str, more: &[&str]) {
        // Given back and taken at once: nobody else asks the system for a port that it gave away a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let data = self.folder.path().join(name);
        let log = fs::File::create(self.folder.path().join(format!("{name}.log"))).unwrap();
        let mut command = quorate(&["serve", "--name", name, "--listen", &address, "--until-stdin-closes", "--data"]);
        command.arg(&data).args(["--set", "workers=1", "--set", "shards=1"]).args(more);
        let process = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.processes.push(process);
        wait_until("the node listens", || TcpStream::connect(&address).is_ok());
        self.endpoints.push(address);
    }

    fn join(&mut self, name: &str) {
        let through = self.endpoints[0].clone();
        self.serve(name, &["--join", &through]);
        wait_until("the newcomer is staged", || self.plan()["staged"].to_string().contains(&format!("{name} joins")));
    }

    /// Ends a node, and starts it again on its data at another address.
    fn move_elsewhere(&mut self, at: usize, name: &str, through: usize) {
        let mut process = self.processes.remove(at);
        process.kill().unwrap();
        process.wait().unwrap();
        self.endpoints.remove(at);
        let through = self.endpoints[through].clone();
        self.serve(name, &["--join", &through]);
    }

    fn log(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(format!("{name}.log"))).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = quorate(arguments);
        command.env("QUORATE_ENDPOINTS", self.endpoints.join(","));
        run_with(command, b"")
    }

    fn plan(&self) -> Value {
        self.run(&["ring", "plan", "--output", "json"]).json()
    }

    fn commit(&self, plan: &Value, more: &[&str]) -> Ran {
        let (epoch, hash) = (plan["plan"]["epoch"].to_string(), plan["plan"]["hash"].as_str().unwrap());
        self.run(&[&["ring", "commit", "--epoch", &epoch, "--plan", hash], more].concat())
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

#[test]
fn a_ring_of_one_becomes_two_and_whoever_commits_second_is_told() {
    let mut nodes = Nodes::of_one();
    nodes.run(&["kv", "put", "greeting", "hello", "--level", "all"]).expect(0);
    nodes.join("n2");
    let plan = nodes.plan();
    let table = nodes.run(&["ring", "plan"]).expect(0);
    assert!(table.text().contains(plan["plan"]["commit"].as_str().unwrap()), "{table:?}");
    let waited = nodes.commit(&plan, &["--wait", "--patience", "50s"]).expect(0);
    assert!(waited.text().contains("epoch 2 is decided") && waited.text().contains("n2 joined"), "{waited:?}");
    nodes.run(&["kv", "get", "greeting", "--level", "all"]).expect(0);
    let shown = nodes.run(&["ring", "show", "--output", "json"]).expect(0).json();
    assert_eq!((&shown["epoch"], shown["nodes"].as_array().unwrap().len()), (&Value::from(2), 2));
    // The same again is no conflict, another plan for the same epoch is.
    nodes.commit(&plan, &[]).expect(0);
    let other = ["ring", "commit", "--epoch", "2", "--plan", "00000000000000000000000000000001"];
    let refused = nodes.run(&other).expect(8);
    assert!(refused.err.contains("conflict") && refused.err.contains("next: quorate ring plan"), "{refused:?}");
    let told = nodes.run(&[&other[..], &["--output", "json"]].concat()).expect(8).json();
    assert_eq!((&told["conflict"], &told["epoch"]), (&Value::from(true), &Value::from(2)), "programs are told, too");
    let history = nodes.run(&["ring", "history"]).expect(0);
    assert!(history.text().contains("founded with n1") && history.text().contains("n2 joined"), "{history:?}");
    nodes.run(&["ring", "transfers"]).expect(0);
}

#[test]
fn of_two_administrators_who_commit_at_once_one_is_told_what_to_do() {
    let mut nodes = Nodes::of_one();
    nodes.join("n2");
    nodes.commit(&nodes.plan(), &["--wait", "--patience", "50s"]).expect(0);
    let at_once = |plans: [&Value; 2]| {
        thread::scope(|scope| {
            let [one, other] = plans.map(|plan| scope.spawn(|| nodes.commit(plan, &[])));
            [one.join().unwrap(), other.join().unwrap()]
        })
    };
    // Of one plan, whoever is second is told that it is decided.
    nodes.run(&["ring", "stage", "bucket", "of-both", "--level", "one"]).expect(0);
    let plan = nodes.plan();
    for ran in at_once([&plan, &plan]) {
        ran.expect(0);
    }
    // Of two plans one is decided, or neither of them; and who did not get his is told.
    nodes.run(&["ring", "stage", "bucket", "of-one", "--level", "one"]).expect(0);
    let first = nodes.plan();
    nodes.run(&["ring", "stage", "bucket", "of-the-other", "--level", "one"]).expect(0);
    let second = nodes.plan();
    let ran = at_once([&first, &second]);
    let [decided, refused] = [0, 8].map(|code| ran.iter().filter(|ran| ran.code == code).count());
    assert_eq!((decided, refused), (1, 1), "{ran:?}");
    assert!(ran.iter().any(|ran| ran.err.contains("next: quorate ring plan")), "{ran:?}");
    wait_until("both nodes know the one layout that was decided", || {
        let shown = nodes.run(&["ring", "show", "--output", "json"]).expect(0).json();
        shown["epoch"] == 4
    });
}

#[test]
fn what_is_staged_can_be_taken_back_and_what_can_not_be_is_refused() {
    let nodes = Nodes::of_one();
    nodes.run(&["ring", "stage", "reweight", "n1", "200"]).expect(0);
    assert_eq!(nodes.plan()["staged"], serde_json::json!(["n1 gets weight 200"]));
    nodes.run(&["ring", "stage", "undo", "n1"]).expect(0);
    assert!(nodes.plan()["plan"].is_null());
    nodes.run(&["ring", "stage", "bucket", "carts", "--level", "quorum"]).expect(0);
    nodes.run(&["ring", "clear"]).expect(0);
    assert_eq!(nodes.plan()["staged"], serde_json::json!([]));
    nodes.run(&["ring", "stage", "leave", "nobody"]).expect(2);
    nodes.run(&["ring", "stage", "partitions", "100"]).expect(2);
    // Somebody has to stay.
    nodes.run(&["ring", "stage", "leave", "n1"]).expect(8);
}

#[test]
fn the_plan_says_about_how_many_bytes_move() {
    let mut nodes = Nodes::of_one();
    let (file, value) = (nodes.folder.path().join("records.jsonl"), "v".repeat(1_000));
    let line = |number| format!("{{\"key\":\"key {number}\",\"value\":\"{value}\"}}\n");
    fs::write(&file, (0..2_000).map(line).collect::<String>()).unwrap();
    nodes.run(&["kv", "load", file.to_str().unwrap()]).expect(0);
    nodes.join("n2");
    let plan = nodes.plan();
    nodes.commit(&plan, &["--wait", "--patience", "50s"]).expect(0);
    let (said, records) = (plan["plan"]["moved_bytes"].as_u64().unwrap(), 2_000 * value.len() as u64);
    let transfers = nodes.run(&["ring", "transfers", "--output", "json"]).expect(0).json();
    let received: u64 = transfers.as_array().unwrap().iter().map(|node| node["bytes_in"].as_u64().unwrap()).sum();
    // Records have keys, versions and checksums besides; what is received, the comparison of trees too.
    let told = format!("{said} said and {received} received, for {records}");
    assert!((records..records * 5 / 4).contains(&said) && (records..2 * records).contains(&received), "{told}");
}

#[test]
fn the_newest_change_is_taken_back_and_the_taking_back_too() {
    let mut nodes = Nodes::of_one();
    assert!(nodes.run(&["ring", "abort"]).expect(8).err.contains("never changed"));
    let keys: Vec<String> = (0..20).map(|number| format!("key {number}")).collect();
    keys.iter().for_each(|key| drop(nodes.run(&["kv", "put", key, "kept"]).expect(0)));
    let all_are_there = |nodes: &Nodes| {
        keys.iter().for_each(|key| assert_eq!(nodes.run(&["kv", "get", key, "--level", "all"]).expect(0).out, b"kept"));
    };
    nodes.join("n2");
    let plan = nodes.plan();
    // In the middle of the move.
    nodes.commit(&plan, &[]).expect(0);
    let shown = nodes.run(&["ring", "abort"]).expect(0);
    assert!(shown.text().contains("n2 leaves") && shown.text().contains("ring commit --epoch 3"), "{}", shown.text());
    nodes.run(&["ring", "clear"]).expect(0);
    assert!(nodes.run(&["ring", "abort", "--epoch", "1"]).expect(8).err.contains("2 is"));
    let back = nodes.run(&["ring", "abort", "--epoch", "2", "--yes", "--wait", "--patience", "50s"]).expect(0);
    assert!(back.text().contains("epoch 3 is decided"), "{back:?}");
    let partitions = |nodes: &Nodes| -> Vec<Value> {
        let shown = nodes.run(&["ring", "show", "--output", "json"]).expect(0).json();
        shown["nodes"].as_array().unwrap().iter().map(|node| node["partitions"].clone()).collect()
    };
    assert_eq!(partitions(&nodes)[1], 0);
    all_are_there(&nodes);
    // Whoever has handed over everything says so, wherever it is looked for.
    wait_until("n2 says that it may be stopped", || nodes.log("n2").contains("may be stopped"));
    assert!(nodes.run(&["ring", "transfers"]).expect(0).text().contains("n2 has left the ring, and may be stopped"));
    assert!(nodes.run(&["status"]).expect(0).text().contains("n2: this node has left the ring"));

    nodes.run(&["ring", "abort", "--yes", "--wait", "--patience", "50s"]).expect(0);
    let shares = partitions(&nodes);
    assert_eq!(shares[0], shares[1]);
    all_are_there(&nodes);
}

#[test]
fn a_node_that_comes_back_at_another_address_is_found_there_and_stages_it() {
    let mut nodes = Nodes::of_one();
    nodes.join("n2");
    let plan = nodes.plan();
    nodes.commit(&plan, &["--wait", "--patience", "50s"]).expect(0);
    nodes.run(&["kv", "put", "greeting", "hello", "--level", "all"]).expect(0);
    nodes.move_elsewhere(1, "n2", 0);
    let moved = nodes.endpoints[1].clone();
    wait_until("it is staged", || nodes.plan()["staged"].to_string().contains(&format!("n2 listens at {moved}")));
    assert!(nodes.log("n2").contains(&format!("it is at {moved} now")), "{}", nodes.log("n2"));
    // The nodes find each other before anything is committed; clients know the ring alone, and need but one of them.
    let through_n1 = ["kv", "put", "greeting", "again", "--level", "all", "--endpoints", &nodes.endpoints[0]];
    wait_until("both owners answer", || nodes.run(&through_n1).code == 0);
    let plan = nodes.plan();
    assert_eq!(plan["plan"]["moved"], 0);
    nodes.commit(&plan, &["--wait", "--patience", "50s"]).expect(0);
    let shown = nodes.run(&["ring", "show", "--output", "json"]).expect(0).json();
    assert!(shown["nodes"][1].to_string().contains(&moved), "{shown}");
    nodes.run(&["kv", "get", "greeting", "--level", "all", "--endpoints", &moved]).expect(0);
    // Said once, and not again when the ring has it.
    assert_eq!(nodes.plan()["staged"], serde_json::json!([]));
}

#[test]
fn a_node_that_has_left_for_good_does_not_ask_to_come_back_as_the_one_it_was() {
    let mut nodes = Nodes::of_one();
    let change = |nodes: &Nodes| {
        let plan = nodes.plan();
        nodes.commit(&plan, &["--wait", "--patience", "50s"]).expect(0);
    };
    nodes.join("n2");
    change(&nodes);
    nodes.run(&["ring", "stage", "leave", "n2"]).expect(0);
    change(&nodes);
    // The next layout has only its place, and the one after that gives it away.
    for name in ["n3", "n4"] {
        nodes.join(name);
        change(&nodes);
    }
    nodes.move_elsewhere(1, "n2", 0);
    wait_until("n2 knows that it has no place", || nodes.log("n2").contains("has none any more"));
    assert!(!nodes.log("n2").contains("staged to join"), "{}", nodes.log("n2"));
    assert_eq!(nodes.plan()["staged"], serde_json::json!([]));
}

#[test]
fn a_drained_node_refuses_clients_until_it_is_told_otherwise() {
    let nodes = Nodes::of_one();
    nodes.run(&["kv", "put", "greeting", "hello"]).expect(0);
    nodes.run(&["node", "drain", "n1", "--wait"]).expect(0);
    nodes.run(&["kv", "get", "greeting", "--timeout", "300ms"]).expect(6);
    nodes.run(&["node", "drain", "n1", "--undo"]).expect(0);
    nodes.run(&["kv", "get", "greeting"]).expect(0);
}

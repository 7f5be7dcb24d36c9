//! The scenarios that every client must pass (`tests/scenarios/`), as the Rust client runs them: an interpreter of their small
//! language. Python's and Node's stand beside their clients; all three read the same file and must come to the same results.
//!
//! A step that is not understood fails: a scenario with a slip of the pen shall not pass.

pub mod pattern;
pub mod results;

mod calls;

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use quorate::{Client, Context, Error};
use serde_json::{Value, json};

use crate::world::World;

/// How long a step with `until` is repeated, and the pause between.
const UNTIL: Duration = Duration::from_secs(10);
const UNTIL_PAUSE: Duration = Duration::from_millis(20);

/// Fields of a step that say how it is made, besides those of its own.
const STEP_FIELDS: [&str; 9] = ["do", "client", "bucket", "times", "until", "within_ms", "expect", "save", "why"];

/// A scenario that runs.
pub struct Scenario<'a> {
    world: &'a Arc<Mutex<World>>,
    bucket: String,
    settings: Value,
    clients: Mutex<HashMap<String, Client>>,
    contexts: Mutex<HashMap<String, Context>>,
}

/// A step's future: steps have steps inside.
type Running<'a> = Pin<Box<dyn Future<Output = Result<Value, String>> + 'a>>;

impl<'a> Scenario<'a> {
    /// Runs one scenario of the file in `world`; what its last step came to. The error says which step went otherwise than expected, and how.
    pub async fn run(scenario: &Value, bucket: &str, world: &'a Arc<Mutex<World>>) -> Result<Value, String> {
        let running = Self {
            world,
            bucket: bucket.to_owned(),
            settings: scenario["connect"].clone(),
            clients: Mutex::default(),
            contexts: Mutex::new(HashMap::from([("EMPTY".to_owned(), Context::EMPTY)])),
        };
        let ended = running.steps(&scenario["steps"]).await;
        let clients: Vec<Client> = running.clients.lock().unwrap().drain().map(|(_, client)| client).collect();
        for client in clients {
            client.close().await;
        }
        ended
    }

    /// Runs steps in turn; the result is the last one's.
    fn steps<'b>(&'b self, steps: &'b Value) -> Running<'b> {
        Box::pin(async move {
            let mut last = json!({ "is": "nothing" });
            for (at, step) in (1..).zip(steps.as_array().ok_or("steps are a list")?) {
                let times = step["times"].as_u64().unwrap_or(1);
                for turn in 0..times {
                    let step = self.filled(step, turn);
                    let done = self.step(&step).await;
                    last = done.map_err(|slip| format!("step {at} ({}): {slip}", step["do"]))?;
                }
            }
            Ok(last)
        })
    }

    /// Runs a step until it is as expected: once, unless it says `until`.
    async fn step(&self, step: &Value) -> Result<Value, String> {
        let (began, success) = (Instant::now(), json!({ "is": { "$not": "error" } }));
        loop {
            let (from, result) = (Instant::now(), self.once(step).await?);
            match pattern::matches(step.get("expect").unwrap_or(&success), &result, "result") {
                Err(_) if step["until"] == true && began.elapsed() < UNTIL => tokio::time::sleep(UNTIL_PAUSE).await,
                Err(slip) if result["is"] == "error" => return Err(format!("{slip}, in {result}")),
                Err(slip) => return Err(slip),
                Ok(()) => {
                    let (took, within_ms) = (from.elapsed(), step["within_ms"].as_u64().unwrap_or(u64::MAX));
                    let late = took > Duration::from_millis(within_ms);
                    return if late { Err(format!("within_ms: {took:?}")) } else { Ok(result) };
                }
            }
        }
    }

    /// Does what a step says; an error of the client is a result like another.
    async fn once(&self, step: &Value) -> Result<Value, String> {
        let name = step["do"].as_str().ok_or("a step has a do")?;
        let done = match name {
            "world" => {
                self.check_fields(step, &["ask"])?;
                // A world may take its time, and other branches go on meanwhile.
                let (world, ask) = (Arc::clone(self.world), step["ask"].clone());
                let asked = tokio::task::spawn_blocking(move || world.lock().unwrap().ask(&ask)).await;
                let mut answer = asked.map_err(|error| error.to_string())?;
                answer["is"] = json!(if answer["error"].is_null() { "answer" } else { "error" });
                Ok(answer)
            }
            "sleep" => {
                self.check_fields(step, &["ms"])?;
                tokio::time::sleep(Duration::from_millis(step["ms"].as_u64().ok_or("ms is a number")?)).await;
                Ok(json!({ "is": "slept" }))
            }
            "together" => {
                self.check_fields(step, &["branches"])?;
                let branches = step["branches"].as_array().ok_or("branches are a list")?;
                let ended = futures_util::future::join_all(branches.iter().map(|branch| self.steps(branch))).await;
                Ok(json!({ "is": "together", "items": ended.into_iter().collect::<Result<Vec<_>, _>>()? }))
            }
            _ => self.call(name, step).await?,
        };
        Ok(done.unwrap_or_else(|error| results::error(&error)))
    }

    /// The client that a step names; connected when it is named for the first time.
    async fn client(&self, step: &Value) -> Result<Result<Client, Error>, String> {
        let name = step["client"].as_str().unwrap_or("a");
        if let Some(client) = self.clients.lock().unwrap().get(name) {
            return Ok(Ok(client.clone()));
        }
        let settings = step.get("settings").unwrap_or(&self.settings);
        let endpoints = self.world.lock().unwrap().endpoints.clone();
        let client = calls::connect(settings, &endpoints).await?;
        if let Ok(client) = &client {
            self.clients.lock().unwrap().insert(name.to_owned(), client.clone());
        }
        Ok(client)
    }

    fn context(&self, name: &str) -> Result<Context, String> {
        self.contexts.lock().unwrap().get(name).cloned().ok_or_else(|| format!("no context was saved as {name}"))
    }

    fn save(&self, step: &Value, context: Option<&Context>) -> Result<(), String> {
        if let Some(name) = step["save"].as_str() {
            let context = context.ok_or("there is no context to save")?;
            self.contexts.lock().unwrap().insert(name.to_owned(), context.clone());
        }
        Ok(())
    }

    fn check_fields(&self, step: &Value, own: &[&str]) -> Result<(), String> {
        let fields = step.as_object().ok_or("a step is an object")?;
        let unknown = fields.keys().find(|name| !STEP_FIELDS.contains(&name.as_str()) && !own.contains(&name.as_str()));
        unknown.map_or(Ok(()), |name| Err(format!("the step has no field {name}")))
    }

    /// A step with the number of its turn in place of `{n}` and the scenario's bucket in place of `{bucket}`.
    fn filled(&self, value: &Value, turn: u64) -> Value {
        match value {
            Value::String(text) => text.replace("{n}", &turn.to_string()).replace("{bucket}", &self.bucket).into(),
            Value::Array(several) => several.iter().map(|one| self.filled(one, turn)).collect(),
            Value::Object(fields) => fields
                .iter()
                .map(|(name, one)| {
                    (name.clone(), if name == "branches" { one.clone() } else { self.filled(one, turn) })
                })
                .collect::<serde_json::Map<_, _>>()
                .into(),
            other => other.clone(),
        }
    }
}

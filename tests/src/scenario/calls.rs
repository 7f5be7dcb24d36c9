//! The steps that are calls of the client: which method, with which options.

use std::time::Duration;

use futures_util::StreamExt;
use quorate::{Bucket, Client, Context, Error, Level, Scan};
use serde_json::{Value, json};

use super::{Scenario, pattern::bytes, results};

/// Fields that are options of a call.
const OPTIONS: [&str; 5] = ["level", "r", "w", "n", "timeout_ms"];

/// Gives a request the options of its step; `$replicas` is `r` for what reads and `w` for what writes.
macro_rules! with_options {
    ($request:expr, $step:expr, $replicas:ident) => {{
        let (mut request, step): (_, &Value) = ($request, $step);
        if let Some(level) = level(step)? {
            request = request.level(level);
        }
        if let Some(replicas) = step[stringify!($replicas)].as_u64() {
            request = request.$replicas(replicas as u8);
        }
        if let Some(replicas) = step["n"].as_u64() {
            request = request.n(replicas as u8);
        }
        if let Some(timeout) = milliseconds(step, "timeout_ms") {
            request = request.timeout(timeout);
        }
        request
    }};
}

/// What a call came to, or why its step can't be understood.
type Called = Result<Result<Value, Error>, String>;

/// Connects as `settings` say.
pub(super) async fn connect(settings: &Value, endpoints: &str) -> Result<Result<Client, Error>, String> {
    let mut builder = Client::builder().endpoints(settings["endpoints"].as_str().unwrap_or(endpoints));
    for (name, value) in settings.as_object().into_iter().flatten() {
        let number = value.as_u64().unwrap_or_default();
        let time = Duration::from_millis(number);
        builder = match name.as_str() {
            "endpoints" => builder,
            "timeout_ms" => builder.timeout(time),
            "attempt_timeout_ms" => builder.attempt_timeout(time),
            "connect_timeout_ms" => builder.connect_timeout(time),
            "attempts" => builder.attempts(number as u32),
            "in_flight" => builder.in_flight(number as usize),
            "waiting" => builder.waiting(number as usize),
            "zone" => builder.zone(value.as_str().unwrap_or_default()),
            unknown => return Err(format!("no setting is called {unknown}")),
        };
    }
    Ok(builder.connect().await)
}

impl Scenario<'_> {
    pub(super) async fn call(&self, name: &str, step: &Value) -> Called {
        if name == "context" {
            return self.parse_context(step);
        }
        let client = match self.client(step).await? {
            Ok(client) => client,
            Err(error) => return Ok(Err(error)),
        };
        let bucket = client.bucket(step["bucket"].as_str().unwrap_or(&self.bucket));
        match name {
            "get" | "lookup" | "exists" | "explain" => self.read(name, step, &client, &bucket).await,
            "put" | "delete" | "update" => self.write(name, step, &client, &bucket).await,
            "get_many" | "put_many" | "delete_many" => self.many(name, step, &client, &bucket).await,
            "scan" | "scan_all" => self.scan(name, step, &client, &bucket).await,
            "connect" | "ring" | "stats" | "ping" | "close" => self.about(name, step, &client).await,
            unknown => Err(format!("no step is called {unknown}")),
        }
    }

    async fn read(&self, name: &str, step: &Value, client: &Client, bucket: &Bucket) -> Called {
        self.check_call(step, &["key", "single"])?;
        let (key, layout) = (bytes(&step["key"])?, client.ring());
        let found = match name {
            "exists" => {
                let exists = with_options!(bucket.exists(key), step, r).await;
                return Ok(exists.map(|exists| json!({ "is": "exists", "exists": exists })));
            }
            "explain" => return Ok(bucket.explain(key).await.map(|it| results::explanation(&it))),
            "lookup" => {
                let looked_up = with_options!(bucket.get(key), step, r).lookup().await;
                if let Ok(lookup) = &looked_up {
                    self.save(step, Some(lookup.context()))?;
                }
                return Ok(looked_up.map(|lookup| results::lookup(&lookup, &layout)));
            }
            _ => with_options!(bucket.get(key), step, r).await,
        };
        match found {
            Ok(Some(found)) => {
                self.save(step, Some(found.context()))?;
                let value = found.value().map(|value| json!({ "is": "value", "value": super::pattern::show(value) }));
                Ok(if step["single"] == true { value } else { Ok(results::found(&found, &layout)) })
            }
            Ok(None) => Ok(Ok(json!({ "is": "absent" }))),
            Err(error) => Ok(Err(error)),
        }
    }

    async fn write(&self, name: &str, step: &Value, client: &Client, bucket: &Bucket) -> Called {
        self.check_call(step, &["key", "value", "context", "ttl_ms", "add"])?;
        let key = bytes(&step["key"])?;
        let context = step["context"].as_str().map(|name| self.context(name)).transpose()?;
        let stored = match name {
            "put" => {
                let mut put = with_options!(bucket.put(key, bytes(&step["value"])?), step, w);
                if let Some(context) = context {
                    put = put.context(context);
                }
                if let Some(ttl) = milliseconds(step, "ttl_ms") {
                    put = put.ttl(ttl);
                }
                put.await
            }
            "delete" => {
                let delete = with_options!(bucket.delete(key), step, w);
                match context {
                    Some(context) => delete.context(context).await,
                    None => delete.await,
                }
            }
            _ => {
                let added = step["add"].as_str().ok_or("add is a text")?;
                self.with_defaults(bucket, step)?.update(key, |values| union(values, added)).await
            }
        };
        if let Ok(stored) = &stored {
            self.save(step, stored.context.as_ref())?;
        }
        Ok(stored.map(|stored| results::stored(&stored, &client.ring())))
    }

    async fn many(&self, name: &str, step: &Value, client: &Client, bucket: &Bucket) -> Called {
        self.check_call(step, &["keys", "entries"])?;
        let layout = client.ring();
        let list = |name: &str| step[name].as_array().ok_or(format!("{name} are a list"));
        let keys = || list("keys")?.iter().map(bytes).collect::<Result<Vec<_>, _>>();
        let items: Vec<Result<Value, Error>> = match name {
            "get_many" => {
                let found = with_options!(bucket.get_many(keys()?), step, r).await.into_iter();
                let shown = |it: Option<quorate::Found>| {
                    it.map_or_else(|| json!({ "is": "absent" }), |it| results::found(&it, &layout))
                };
                found.map(|result| result.map(shown)).collect()
            }
            "put_many" => {
                let entry = |entry: &Value| Ok::<_, String>((bytes(&entry[0])?, bytes(&entry[1])?));
                let entries: Vec<_> = list("entries")?.iter().map(entry).collect::<Result<_, _>>()?;
                let stored = with_options!(bucket.put_many(entries), step, w).await.into_iter();
                stored.map(|result| result.map(|it| results::stored(&it, &layout))).collect()
            }
            _ => {
                let stored = with_options!(bucket.delete_many(keys()?), step, w).await.into_iter();
                stored.map(|result| result.map(|it| results::stored(&it, &layout))).collect()
            }
        };
        let items: Vec<Value> =
            items.into_iter().map(|item| item.unwrap_or_else(|error| results::error(&error))).collect();
        Ok(Ok(json!({ "is": "many", "items": items })))
    }

    async fn scan(&self, name: &str, step: &Value, client: &Client, bucket: &Bucket) -> Called {
        self.check_call(step, &["values"])?;
        let mut scan: Scan = if name == "scan" { bucket.scan() } else { client.scan_all() };
        if step["values"] == true {
            scan = scan.values();
        }
        if let Some(level) = level(step)? {
            scan = scan.level(level);
        }
        if let Some(replicas) = step["r"].as_u64() {
            scan = scan.r(replicas as u8);
        }
        let keys: Result<Vec<_>, Error> = scan.collect::<Vec<_>>().await.into_iter().collect();
        Ok(keys.map(|keys| results::scan(keys, &client.ring())))
    }

    /// What is about the client itself.
    async fn about(&self, name: &str, step: &Value, client: &Client) -> Called {
        self.check_call(step, &["settings"])?;
        Ok(match name {
            "connect" => Ok(json!({ "is": "connected" })),
            "ring" => Ok(results::ring(&client.ring())),
            "stats" => client.stats().await.map(|stats| results::stats(&stats)),
            "ping" => {
                let answers: Vec<Value> = client.ping().await.iter().map(|(_, ping)| json!(ping.is_ok())).collect();
                Ok(json!({ "is": "ping", "answers": answers }))
            }
            _ => {
                client.close().await;
                Ok(json!({ "is": "closed" }))
            }
        })
    }

    /// A context out of text, of bytes, or of the text of a saved one.
    fn parse_context(&self, step: &Value) -> Called {
        self.check_fields(step, &["text", "bytes", "of"])?;
        let made = match (step["text"].as_str(), step["of"].as_str()) {
            (Some(text), None) => text.parse::<Context>(),
            (None, Some(name)) => self.context(name)?.to_string().parse::<Context>(),
            _ => Context::from_bytes(bytes(&step["bytes"])?),
        };
        if let Ok(context) = &made {
            self.save(step, Some(context))?;
        }
        Ok(made.map(|context| results::context(&context)))
    }

    /// The bucket with a step's options as its defaults, for a call that has none of its own.
    fn with_defaults(&self, bucket: &Bucket, step: &Value) -> Result<Bucket, String> {
        let replicas = |name: &str| step[name].as_u64().unwrap_or_default() as u8;
        let mut bucket = bucket.clone().replicas(replicas("r"), replicas("w"));
        if let Some(level) = level(step)? {
            bucket = bucket.level(level);
        }
        Ok(milliseconds(step, "timeout_ms").map_or(bucket.clone(), |timeout| bucket.timeout(timeout)))
    }

    fn check_call(&self, step: &Value, own: &[&str]) -> Result<(), String> {
        self.check_fields(step, &[own, &OPTIONS].concat())
    }
}

/// What `update` merges in scenarios: sets of words, separated by commas.
fn union(values: &[quorate::Bytes], added: &str) -> String {
    let texts = values.iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect::<Vec<_>>();
    let mut words: Vec<&str> = texts.iter().flat_map(|text| text.split(',')).chain([added]).collect();
    words.sort();
    words.dedup();
    words.join(",")
}

fn level(step: &Value) -> Result<Option<Level>, String> {
    match step["level"].as_str() {
        None => Ok(None),
        Some("one") => Ok(Some(Level::One)),
        Some("available") => Ok(Some(Level::Available)),
        Some("quorum") => Ok(Some(Level::Quorum)),
        Some("all") => Ok(Some(Level::All)),
        Some(unknown) => Err(format!("no level is called {unknown}")),
    }
}

fn milliseconds(step: &Value, name: &str) -> Option<Duration> {
    step[name].as_u64().map(Duration::from_millis)
}

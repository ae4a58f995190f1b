//! What a simulated provider is told: its limits, which may change while it runs, and how it behaves.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// The largest amount of any limit; far above any provider's, and low enough that no sum can overflow.
pub const AMOUNT_MAX: u64 = 1_000_000_000_000_000;

/// The most calls that a provider with a capacity works on at once.
pub const CAPACITY_MAX: u32 = 100_000;

/// A whole simulated provider.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Config {
    /// Decides all draws.
    pub seed: u64,
    /// Limits of every key at the start.
    pub limits: Limits,
    /// Everything else, at the start.
    pub behaviour: Behaviour,
    /// What one process can be asked to hold.
    pub bounds: Bounds,
}

/// Limits of every key. `None` means that the dimension is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Calls per minute.
    pub requests: Option<Rate>,
    /// Tokens going in per minute (Anthropic's shape): taken when a call starts.
    pub input_tokens: Option<Rate>,
    /// Tokens coming out per minute (Anthropic's shape): taken when a call ends, by what really came out.
    pub output_tokens: Option<Rate>,
    /// Tokens per minute (OpenAI's shape): when a call starts, the larger of its `max_tokens` and its input.
    pub tokens: Option<Rate>,
    /// Calls at the same time.
    pub concurrency: Option<u32>,
    /// Calls that are worked on at the same time. Nothing is refused for it: further calls wait inside, in their order, and take longer.
    pub capacity: Option<u32>,
}

/// So much per minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// The limit as the provider's headers tell it. At least 1.
    pub per_minute: u64,
    /// What may be taken at once after idle time; 0 means a minute's amount.
    #[serde(default)]
    pub burst: u64,
    /// Judges the limit over this many milliseconds instead of refilling continuously; excludes a burst.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantum_ms: Option<u64>,
}

/// How the provider behaves beside its limits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Behaviour {
    /// Whether a refused call counts against the limit on requests, as OpenAI's do.
    pub refused_calls_count: bool,
    /// Whether a refusal says how long to wait.
    pub retry_after: bool,
    /// Whether answers and refusals tell the limits, and what is left of them.
    pub limit_headers: bool,
    /// The share of calls that the provider has no capacity for (529, or 503 in OpenAI's shape). 0 to 1.
    pub overloaded: f64,
    /// Half of the calls take less than this.
    pub latency_median_ms: u64,
    /// The spread of latency: the standard deviation of its logarithm. 0 to 3.
    pub latency_sigma: f64,
    /// The share of calls that are of another kind, and take longer. 0 to 1.
    pub slow_share: f64,
    /// How many times as long those take. 0 to 1,000.
    pub slow_times: f64,
    /// The mean of the tokens that come out, before `max_tokens` cuts them off.
    pub output_mean: u64,
    /// The spread of the tokens that come out: the standard deviation of their logarithm. 0 to 3.
    pub output_sigma: f64,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            refused_calls_count: false,
            retry_after: true,
            limit_headers: true,
            overloaded: 0.0,
            latency_median_ms: 400,
            latency_sigma: 0.4,
            slow_share: 0.0,
            slow_times: 1.0,
            output_mean: 300,
            output_sigma: 0.6,
        }
    }
}

/// Bounds of the process. Past each one is a clear refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at the same time; others wait to be accepted.
    pub connections: usize,
    /// Bytes in one request's body.
    pub body_bytes: usize,
    /// Keys, each with its own buckets.
    pub keys: usize,
    /// Client names, each with its own counters.
    pub clients: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { connections: 4_096, body_bytes: 4 << 20, keys: 1_000, clients: 10_000 }
    }
}

/// Why a configuration or a change to one makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

/// A part of the configuration that may change while the provider runs.
pub trait Changeable: Sized + Serialize + DeserializeOwned {
    /// Says what makes no sense.
    ///
    /// # Errors
    /// Names the field.
    fn check(&self) -> Result<(), ConfigError>;

    /// This with a JSON merge patch (RFC 7386) applied: absent fields stay, `null` takes a limit away or means the default.
    ///
    /// # Errors
    /// Names an unknown field, or one that makes no sense.
    fn patched(&self, patch: &Value) -> Result<Self, ConfigError> {
        if !patch.is_object() {
            return Err(ConfigError("expected a JSON object".to_owned()));
        }
        let mut whole = serde_json::to_value(self).map_err(|error| ConfigError(error.to_string()))?;
        merge(&mut whole, patch);
        let changed: Self = serde_json::from_value(whole).map_err(|error| ConfigError(error.to_string()))?;
        changed.check()?;
        Ok(changed)
    }
}

impl Config {
    /// Says what makes no sense.
    ///
    /// # Errors
    /// Names the field.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.limits.check()?;
        self.behaviour.check()
    }
}

impl Changeable for Limits {
    fn check(&self) -> Result<(), ConfigError> {
        let rates = [
            ("requests", self.requests),
            ("input_tokens", self.input_tokens),
            ("output_tokens", self.output_tokens),
            ("tokens", self.tokens),
        ];
        for (name, rate) in rates {
            if let Some(rate) = rate {
                rate.check(name)?;
            }
        }
        if self.concurrency == Some(0) {
            return Err(ConfigError(
                "concurrency: 0 would refuse every call; null means no limit".to_owned(),
            ));
        }
        if self.capacity.is_some_and(|capacity| !(1..=CAPACITY_MAX).contains(&capacity)) {
            return Err(ConfigError(format!(
                "capacity: outside 1 to {CAPACITY_MAX}; null means that none waits"
            )));
        }
        Ok(())
    }
}

impl Changeable for Behaviour {
    fn check(&self) -> Result<(), ConfigError> {
        let within = |name: &str, value: f64, most: f64| {
            if (0.0..=most).contains(&value) {
                Ok(())
            } else {
                Err(ConfigError(format!("{name}: {value} is outside 0 to {most}")))
            }
        };
        within("overloaded", self.overloaded, 1.0)?;
        within("latency_sigma", self.latency_sigma, 3.0)?;
        within("slow_share", self.slow_share, 1.0)?;
        within("slow_times", self.slow_times, 1_000.0)?;
        within("output_sigma", self.output_sigma, 3.0)?;
        if self.latency_median_ms > 600_000 {
            return Err(ConfigError("latency_median_ms: at most 600000, which is 10 minutes".to_owned()));
        }
        if !(1..=1_000_000).contains(&self.output_mean) {
            return Err(ConfigError("output_mean: outside 1 to 1000000".to_owned()));
        }
        Ok(())
    }
}

impl Rate {
    /// So much per minute, of which at most `burst` at once.
    #[must_use]
    pub fn per_minute(per_minute: u64, burst: u64) -> Self {
        Self { per_minute, burst, quantum_ms: None }
    }

    fn check(&self, name: &str) -> Result<(), ConfigError> {
        if !(1..=AMOUNT_MAX).contains(&self.per_minute) {
            return Err(ConfigError(format!(
                "{name}.per_minute: outside 1 to {AMOUNT_MAX}; null means no limit"
            )));
        }
        if self.burst > AMOUNT_MAX {
            return Err(ConfigError(format!("{name}.burst: at most {AMOUNT_MAX}")));
        }
        match self.quantum_ms {
            Some(quantum) if !(1..=60_000).contains(&quantum) => {
                Err(ConfigError(format!("{name}.quantum_ms: outside 1 to 60000, which is a minute")))
            }
            Some(_) if self.burst != 0 => {
                Err(ConfigError(format!("{name}: a limit that is judged per quantum has no burst beside it")))
            }
            _ => Ok(()),
        }
    }
}

fn merge(whole: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *whole = patch.clone();
        return;
    };
    if !whole.is_object() {
        *whole = Value::Object(serde_json::Map::new());
    }
    if let Value::Object(target) = whole {
        for (name, value) in fields {
            if value.is_null() {
                target.remove(name);
            } else {
                merge(target.entry(name.clone()).or_insert(Value::Null), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn limits() -> Limits {
        Limits { requests: Some(Rate::per_minute(60, 5)), concurrency: Some(3), ..Limits::default() }
    }

    #[test]
    fn a_patch_changes_what_it_names_and_nothing_else() {
        let changed = limits().patched(&json!({"requests": {"per_minute": 30}})).expect("a good patch");
        assert_eq!(changed, Limits { requests: Some(Rate::per_minute(30, 5)), ..limits() });
        let without = limits().patched(&json!({"requests": null, "concurrency": 1})).expect("a good patch");
        assert_eq!(without, Limits { requests: None, concurrency: Some(1), ..limits() });
    }

    #[test]
    fn a_bad_patch_names_the_field() {
        for (patch, named) in [
            (json!({"request": {"per_minute": 1}}), "request"),
            (json!({"requests": {"per_minute": 0}}), "requests.per_minute"),
            (json!({"requests": {"per_minute": -1}}), "-1"),
            (json!({"concurrency": 0}), "concurrency"),
            (json!({"capacity": 0}), "capacity"),
            (json!({"requests": {"quantum_ms": 1000}}), "requests"),
            (json!({"tokens": {"per_minute": 10, "quantum_ms": 0}}), "tokens.quantum_ms"),
            (json!([]), "object"),
        ] {
            let error = limits().patched(&patch).expect_err("a bad patch").to_string();
            assert!(error.contains(named), "{patch}: {error}");
        }
        let error = Behaviour::default().patched(&json!({"overloaded": 1.5})).expect_err("more than all");
        assert!(error.to_string().contains("overloaded"));
    }
}

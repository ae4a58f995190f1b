//! The credential and what else every call carries in its headers. The secret comes from the environment, and is never printed:
//! neither in errors nor in debug output.

use std::fmt;

use clap::Args;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use crate::failure::Failure;

const HEADING: &str = "What every call carries";
/// The version of its API that Anthropic wants named; its only one.
const ANTHROPIC_VERSION: (&str, &str) = ("anthropic-version", "2023-06-01");
/// What stands for the secret wherever an answer repeats it.
const REDACTED: &str = "[secret]";
/// Shorter ones stand in any text, and keep nobody out.
const SECRET_BYTES_MIN: usize = 8;

/// What every call carries.
#[derive(Clone, Debug, Args)]
pub(super) struct Auth {
    /// The environment variable that holds the secret. The secret itself has no place on a command line.
    #[arg(help_heading = HEADING, long, value_name = "NAME")]
    auth_env: Option<String>,
    /// The header that carries the secret: authorization (as `Bearer ..`), or any other (bare). Default: x-api-key
    /// for budgets of anthropic, authorization for all others.
    #[arg(help_heading = HEADING, long, value_name = "HEADER", requires = "auth_env")]
    auth_header: Option<String>,
    /// A further header, for example openai-organization=org-123. Can be repeated.
    #[arg(help_heading = HEADING, long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// The secret itself.
#[derive(Clone, Default)]
pub(super) struct Secret(Option<String>);

impl Auth {
    /// Whether calls carry a secret.
    pub(super) fn has_secret(&self) -> bool {
        self.auth_env.is_some()
    }

    /// All headers, for a provider of this name.
    pub(super) fn headers(&self, provider: &str) -> Result<(HeaderMap, Secret), Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let is_anthropic = provider == "anthropic";
        if is_anthropic {
            let (name, value) = ANTHROPIC_VERSION;
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        for (name, value) in &self.headers {
            headers.insert(name.clone(), value.clone());
        }
        let Some(variable) = &self.auth_env else { return Ok((headers, Secret(None))) };
        let secret = secret(variable)?;
        let header = match &self.auth_header {
            Some(header) => {
                name(header).map_err(|why| Failure::new("--auth-header").because(why).exit_code(2))?
            }
            None if is_anthropic => HeaderName::from_static("x-api-key"),
            None => AUTHORIZATION,
        };
        let value = if header == AUTHORIZATION { format!("Bearer {secret}") } else { secret.clone() };
        let mut value = HeaderValue::try_from(value).map_err(|_| {
            let failure =
                Failure::new("the secret that --auth-env names has characters that no header can carry");
            failure.hint("set the variable to the bare secret").exit_code(2)
        })?;
        value.set_sensitive(true);
        headers.insert(header, value);
        Ok((headers, Secret(Some(secret))))
    }
}

impl Secret {
    /// A text of the provider's without the secret, should it repeat it.
    pub(super) fn hide_in(&self, text: String) -> String {
        match &self.0 {
            Some(secret) if secret.len() >= SECRET_BYTES_MIN && text.contains(secret) => {
                text.replace(secret, REDACTED)
            }
            _ => text,
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

/// Reads the variable. Its name is never repeated either: whoever gives the secret in its place should not see it in a log.
fn secret(variable: &str) -> Result<String, Failure> {
    let what = match std::env::var(variable) {
        Ok(secret) if !secret.trim().is_empty() => return Ok(secret.trim().to_owned()),
        Ok(_) => "the environment variable that --auth-env names is empty",
        Err(std::env::VarError::NotPresent) => "the environment variable that --auth-env names is not set",
        Err(std::env::VarError::NotUnicode(_)) => {
            "the environment variable that --auth-env names holds no text"
        }
    };
    Err(Failure::new(what).hint("export it, and give its name, as in --auth-env OPENAI_API_KEY").exit_code(2))
}

fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    let (header, value) =
        text.split_once('=').ok_or("no value; write it like openai-organization=org-123")?;
    let value = value.trim().parse().map_err(|_| "the value has characters that no header can carry")?;
    Ok((name(header)?, value))
}

fn name(text: &str) -> Result<HeaderName, String> {
    text.trim().parse().map_err(|_| "is no header's name; write it like x-api-key".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(auth_env: Option<&str>, auth_header: Option<&str>) -> Auth {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Auth { auth_env: owned(auth_env), auth_header: owned(auth_header), headers: Vec::new() }
    }

    /// Goal: the secret travels where the provider wants it.
    #[test]
    fn puts_the_secret_where_it_belongs() {
        // Some variable that is set wherever tests run.
        let variable = "CARGO_MANIFEST_DIR";
        let secret = std::env::var(variable).expect("cargo runs the tests");
        for (provider, header, name, value) in [
            ("openai", None, "authorization", format!("Bearer {secret}")),
            ("anthropic", None, "x-api-key", secret.clone()),
            ("azure", Some("api-key"), "api-key", secret.clone()),
            ("anthropic", Some("Authorization"), "authorization", format!("Bearer {secret}")),
        ] {
            let (headers, _) = auth(Some(variable), header).headers(provider).expect("it is set");
            assert_eq!(headers.get(name).and_then(|value| value.to_str().ok()), Some(&*value));
            assert_eq!(headers.contains_key("anthropic-version"), provider == "anthropic");
        }
    }

    /// Goal: no debug output and no error has the secret, also where it was given in place of the variable's name.
    #[test]
    fn never_shows_the_secret() {
        let variable = "CARGO_MANIFEST_DIR";
        let secret = std::env::var(variable).expect("cargo runs the tests");
        let (headers, hidden) = auth(Some(variable), None).headers("openai").expect("it is set");
        let shown =
            format!("{headers:?} {hidden:?} {}", hidden.hide_in(format!("your key {secret} is wrong")));
        assert!(!shown.contains(&secret), "{shown}");
        assert!(shown.ends_with("your key [secret] is wrong"), "{shown}");
        let failure = auth(Some("sk-live-12345"), None).headers("openai").expect_err("not set").to_string();
        assert!(!failure.contains("12345") && failure.contains("--auth-env"), "{failure}");
    }
}

//! Tokens that end: JWTs, and the configuration of a server that believes them.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use permitd_tests::Folder;
use ring::hmac;
use serde_json::{Value, json};

/// A key of its own for the suite, and for nothing else.
const KEY: [u8; 32] = [7; 32];
const ISSUER: &str = "https://issuer.test";
const AUDIENCE: &str = "permitd";

/// Who the client is.
pub(crate) const APP: &str = "app";
/// Who looks at budgets and changes them.
pub(crate) const ROOT: &str = "root";

/// Puts the key set into the folder, and says what makes a server believe it.
pub(crate) fn configure(folder: &Folder) -> String {
    let keys = json!({ "keys": [{ "kty": "oct", "kid": "suite", "k": URL_SAFE_NO_PAD.encode(KEY) }] });
    folder.put("jwks.json", &keys.to_string());
    let jwks = folder.path("jwks.json");
    format!(
        r#"
[auth.jwt]
jwks = {jwks:?}
issuer = "{ISSUER}"
audience = "{AUDIENCE}"
leeway = "0s"
[auth.identities.{APP}]
subjects = ["{APP}"]
roles = ["acquire", "report"]
[auth.identities.{ROOT}]
subjects = ["{ROOT}"]
roles = ["acquire", "report", "observe", "admin"]
"#
    )
}

/// A token for whoever is called so, good for so many seconds from now.
pub(crate) fn token(subject: &str, seconds: f64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(json!({ "alg": "HS256", "kid": "suite" }));
    let claims = part(json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": subject, "exp": now + seconds }));
    let message = format!("{header}.{claims}");
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &KEY), message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

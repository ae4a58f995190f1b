//! JWTs: what is good, and every way in which one is not.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use permitd_client::{Client, Report, Token};
use permitd_proto::v1::{ListBudgetsRequest, ListChangesRequest};
use permitd_server::{
    auth::Role,
    config::{IdentityConfig, JwtConfig},
};
use permitd_tests::{Folder, Peer, Server, ask, facts, in_flight, soon, until};
use ring::{
    hmac,
    rand::SystemRandom,
    rsa::PublicKeyComponents,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair},
};
use serde_json::{Value, json};
use tonic::Code;

const ISSUER: &str = "https://issuer.test";
const AUDIENCE: &str = "permitd";
/// A key of its own for these tests, and for nothing else.
const RSA: &str = include_str!("rsa_2048.pk8.base64");

/// Who signs.
enum Signer {
    Hmac(Vec<u8>),
    Rsa(Box<RsaKeyPair>),
    Ec(Box<EcdsaKeyPair>),
}

impl Signer {
    fn hmac(byte: u8) -> Self {
        Self::Hmac(vec![byte; 32])
    }

    fn rsa() -> Self {
        let der = STANDARD.decode(RSA.split_whitespace().collect::<String>()).expect("base64");
        Self::Rsa(Box::new(RsaKeyPair::from_pkcs8(&der).expect("a key")))
    }

    fn ec() -> Self {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_FIXED_SIGNING);
        let der = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("random bytes");
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, der.as_ref(), &random).expect("a key");
        Self::Ec(Box::new(pair))
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Hmac(secret) => {
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec()
            }
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("signed");
                signature
            }
            Self::Ec(pair) => pair.sign(&random, message).expect("signed").as_ref().to_vec(),
        }
    }

    /// As a key set has it: the secret, or the public half.
    fn jwk(&self, id: &str) -> Value {
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match self {
            Self::Hmac(secret) => json!({ "kty": "oct", "kid": id, "k": text(secret) }),
            Self::Rsa(pair) => {
                let parts = PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({ "kty": "RSA", "kid": id, "alg": "RS256", "n": text(&parts.n), "e": text(&parts.e) })
            }
            Self::Ec(pair) => {
                let point = pair.public_key().as_ref();
                json!({ "kty": "EC", "crv": "P-256", "kid": id, "use": "sig", "x": text(&point[1..33]), "y": text(&point[33..]) })
            }
        }
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = URL_SAFE_NO_PAD.encode(self.sign(message.as_bytes()));
        format!("{message}.{signature}")
    }
}

/// The time in `seconds`.
fn time(seconds: f64) -> Value {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    json!(now.as_secs_f64() + seconds)
}

fn claims() -> Value {
    json!({ "iss": ISSUER, "aud": AUDIENCE, "sub": "svc-a", "exp": time(600.0) })
}

/// The claims with one of them changed; `null` takes it out.
fn claims_with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    let fields = claims.as_object_mut().expect("an object");
    if value.is_null() {
        fields.remove(name)
    } else {
        fields.insert(name.to_owned(), value)
    };
    claims
}

fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// A server that takes the tokens that keys in this folder sign, of subjects that begin with `svc-`, and of `exact`.
async fn served(folder: &Folder, leeway: Duration) -> Server {
    Server::start_with(|config| {
        config.auth.jwt = Some(JwtConfig {
            jwks: folder.path("jwks.json"),
            issuer: ISSUER.to_owned(),
            audience: AUDIENCE.to_owned(),
            leeway,
        });
        for (name, subject) in [("services", "svc-*"), ("one", "exact")] {
            let identity = IdentityConfig {
                subjects: vec![subject.to_owned()],
                roles: [Role::Admin, Role::Acquire, Role::Report].into(),
                ..IdentityConfig::default()
            };
            config.auth.identities.insert(name.to_owned(), identity);
        }
    })
    .await
}

/// How a token is taken: the reason for a refusal, or none.
async fn refusal(server: &Server, token: &str) -> Option<String> {
    let answer = server.with_token(token).admin().await.list_budgets(ListBudgetsRequest::default()).await;
    let facts = facts(&answer.err()?);
    assert_eq!(facts.code, Code::Unauthenticated);
    Some(facts.reason)
}

/// Goal: a token by any of the keys is its subject, literally or by a glob, and its permits are its own.
#[tokio::test]
async fn good_tokens_are_their_subjects() {
    let (folder, rsa, ec, secret) = (Folder::new(), Signer::rsa(), Signer::ec(), Signer::hmac(1));
    folder.put("jwks.json", &set(&[rsa.jwk("r"), ec.jwk("e"), secret.jwk("h")]));
    let server = served(&folder, Duration::ZERO).await;
    let many = json!(["elsewhere", AUDIENCE]);
    let peers: Vec<Peer> = [
        rsa.token(&json!({ "alg": "RS256", "kid": "r", "typ": "JWT" }), &claims()),
        ec.token(&json!({ "alg": "ES256" }), &claims_with("sub", json!("svc-b"))),
        secret.token(&json!({ "alg": "HS256", "kid": "h" }), &claims_with("aud", many)),
        rsa.token(&json!({ "alg": "RS256" }), &claims_with("sub", json!("exact"))),
    ]
    .iter()
    .map(|token| server.with_token(token))
    .collect();
    for peer in &peers {
        peer.set("k", vec![in_flight(5)]).await;
    }
    let changes = peers[0].admin().await.list_changes(ListChangesRequest::default()).await.expect("listed");
    let changes = changes.into_inner().changes;
    let who: Vec<&str> = changes.iter().map(|change| change.who.as_str()).collect();
    assert_eq!(who, ["one", "services/svc-a", "services/svc-b", "services/svc-a"]);

    let permit = peers[0].granted(ask("k")).await;
    let strange = peers[1].report(permitd_tests::success(&permit.permit_id)).await;
    assert!(!strange.settled, "it is another service's");
    peers[2].settle(&permit).await;
    server.stop().await;
}

/// Goal: whatever is wrong with a token, it is refused, and only who was good before hears that it has expired.
#[tokio::test]
async fn bad_tokens_are_refused() {
    let (folder, rsa, ec, secret) = (Folder::new(), Signer::rsa(), Signer::ec(), Signer::hmac(1));
    folder.put("jwks.json", &set(&[rsa.jwk("r"), rsa.jwk("r2"), ec.jwk("e"), secret.jwk("h")]));
    let server = served(&folder, Duration::from_secs(5)).await;
    let (rs, es, hs) =
        (json!({ "alg": "RS256", "kid": "r" }), json!({ "alg": "ES256" }), json!({ "alg": "HS256" }));
    assert_eq!(refusal(&server, &rsa.token(&rs, &claims())).await, None, "the others differ from this one");
    assert_eq!(
        refusal(&server, &hs_with(&secret, claims_with("exp", time(-2.0)))).await,
        None,
        "within the leeway"
    );

    // Everything public of the RSA key, which a careless server would take for a secret.
    let Value::Object(public) = rsa.jwk("r") else { panic!("a key") };
    let modulus = URL_SAFE_NO_PAD.decode(public["n"].as_str().expect("text")).expect("base64url");
    let confused = Signer::Hmac(modulus);
    let good = rsa.token(&rs, &claims());
    let (head, signature) = good.rsplit_once('.').expect("a signature");
    let unsigned = |algorithm: &str| {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.", part(&json!({ "alg": algorithm, "kid": "r" })), part(&claims()))
    };
    let richer = URL_SAFE_NO_PAD.encode(claims_with("sub", json!("exact")).to_string());
    let swapped = format!("{}.{richer}.{signature}", head.split('.').next().expect("a header"));
    let twice = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256","alg":"none","kid":"r"}"#);
    let invalid = [
        ("none", unsigned("none")),
        ("None", unsigned("NonE")),
        ("no signature", unsigned("RS256")),
        ("a public key as a secret", confused.token(&json!({ "alg": "HS256", "kid": "r" }), &claims())),
        ("a public key as a secret, without its id", confused.token(&hs, &claims())),
        ("a secret as another algorithm", secret.token(&json!({ "alg": "RS256", "kid": "h" }), &claims())),
        ("a larger hash", secret.token(&json!({ "alg": "HS512", "kid": "h" }), &claims())),
        ("another secret", Signer::hmac(2).token(&hs, &claims())),
        ("another key", Signer::ec().token(&es, &claims())),
        ("another key of that id", Signer::ec().token(&json!({ "alg": "ES256", "kid": "e" }), &claims())),
        ("an unknown id", rsa.token(&json!({ "alg": "RS256", "kid": "x" }), &claims())),
        ("no id, and two keys", rsa.token(&json!({ "alg": "RS256" }), &claims())),
        ("changed claims", swapped),
        ("two algorithms", format!("{twice}.{}", good.split_once('.').expect("parts").1)),
        (
            "extensions",
            rsa.token(&json!({ "alg": "RS256", "kid": "r", "crit": ["b64"], "b64": false }), &claims()),
        ),
        ("another issuer", hs_with(&secret, claims_with("iss", json!("https://elsewhere.test")))),
        ("no issuer", hs_with(&secret, claims_with("iss", Value::Null))),
        ("another audience", hs_with(&secret, claims_with("aud", json!("elsewhere")))),
        ("no audience", hs_with(&secret, claims_with("aud", Value::Null))),
        ("an empty audience", hs_with(&secret, claims_with("aud", json!([])))),
        ("no end", hs_with(&secret, claims_with("exp", Value::Null))),
        ("an end in words", hs_with(&secret, claims_with("exp", json!("tomorrow")))),
        ("an end before all time", hs_with(&secret, claims_with("exp", json!(-1)))),
        ("an end after all time", hs_with(&secret, claims_with("exp", json!(1e300)))),
        ("not yet", hs_with(&secret, claims_with("nbf", time(60.0)))),
        ("a stranger", hs_with(&secret, claims_with("sub", json!("stranger")))),
        ("no subject", hs_with(&secret, claims_with("sub", Value::Null))),
        ("four parts", format!("{good}.x")),
        ("two parts", head.to_owned()),
        ("dots", "..".to_owned()),
        ("padding", format!("{good}=")),
    ];
    for (why, token) in invalid {
        assert_eq!(refusal(&server, &token).await.as_deref(), Some("CREDENTIALS_INVALID"), "{why}");
    }
    let past = hs_with(&secret, claims_with("exp", time(-60.0)));
    assert_eq!(refusal(&server, &past).await.as_deref(), Some("CREDENTIALS_EXPIRED"));
    server.stop().await;
}

fn hs_with(secret: &Signer, claims: Value) -> String {
    secret.token(&json!({ "alg": "HS256" }), &claims)
}

/// Goal: keys are renewed without a restart; a token of a key that is gone is refused, though it was good before; a broken file
/// changes nothing.
#[tokio::test]
async fn keys_are_renewed() {
    let (folder, old, new) = (Folder::new(), Signer::hmac(1), Signer::hmac(2));
    folder.put("jwks.json", &set(&[old.jwk("1")]));
    let server = served(&folder, Duration::ZERO).await;
    let (by_old, by_new) = (hs_with(&old, claims()), hs_with(&new, claims()));
    assert_eq!(refusal(&server, &by_old).await, None);
    assert_eq!(refusal(&server, &by_new).await.as_deref(), Some("CREDENTIALS_INVALID"));
    folder.put("jwks.json", "{ \"keys\": [");
    assert_eq!(refusal(&server, &by_old).await, None);
    folder.put("jwks.json", &set(&[new.jwk("2")]));
    until("the new key", || async { refusal(&server, &by_new).await.is_none() }).await;
    assert_eq!(refusal(&server, &by_old).await.as_deref(), Some("CREDENTIALS_INVALID"));
    server.stop().await;
}

/// Goal: a session ends with the token that opened it, and a client whose token is renewed goes on with it without an error.
#[tokio::test]
async fn sessions_end_with_their_tokens() {
    let (folder, secret) = (Folder::new(), Signer::hmac(1));
    folder.put("jwks.json", &set(&[secret.jwk("1")]));
    let server = served(&folder, Duration::ZERO).await;
    let lasting = server.with_token(&hs_with(&secret, claims()));
    lasting.set("k", vec![in_flight(1)]).await;
    let held = lasting.granted(ask("k")).await;

    let brief = hs_with(&secret, claims_with("exp", time(2.0)));
    folder.put("token", &brief);
    let client = Client::builder().endpoint(server.url()).token(Token::file(folder.path("token"))).connect();
    let client = soon("a session", client).await.expect("let in");
    let waiting = tokio::spawn(client.acquire("p/k").into_future());
    let mut raw = server.with_token(&brief).session("").await;
    folder.put("token", &hs_with(&secret, claims()));
    let status = raw.end().await.expect_err("an end that is not polite");
    assert_eq!(facts(&status).reason, "CREDENTIALS_EXPIRED");
    until("a place in the queue after that", || async {
        client.is_connected() && lasting.state("k").await.waiting == 1
    })
    .await;
    lasting.settle(&held).await;
    let guard = soon("a permit", waiting).await.expect("no panic").expect("the client went on");
    soon("an answer", guard.report(Report::success())).await.expect("settled");
    server.stop().await;
}

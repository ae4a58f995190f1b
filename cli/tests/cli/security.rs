//! Commands that show who makes them, to a server that wants to know, through TLS.

use crate::support::{Said, Server, TemporaryFile, certificate, permitd, say};

/// A server's certificate and key, and the authority that vouches for it.
pub(crate) struct Certificates {
    pub(crate) authority: TemporaryFile,
    cert: TemporaryFile,
    key: TemporaryFile,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let (cert, key, authority) = certificate();
        Self {
            authority: TemporaryFile::new(&authority),
            cert: TemporaryFile::new(&cert.pem()),
            key: TemporaryFile::new(&key.serialize_pem()),
        }
    }

    pub(crate) fn section(&self) -> String {
        format!("[server.tls]\ncert = {:?}\nkey = {:?}\n", self.cert.path(), self.key.path())
    }
}

/// Goal: from nothing to a call: a token is made, its hash declared as printed, and the token shown in each of the ways.
#[test]
fn tokens_are_made_declared_and_shown() {
    let made = say(&mut permitd(&["token", "new", "ci"])).well();
    let token = made.stdout.trim_end();
    assert!(!made.stderr.contains(token), "the token is said once: {made:#?}");
    let certificates = Certificates::new();
    let roles = made.stderr.replace("\"report\"]", "\"report\", \"admin\"]");
    let config = TemporaryFile::new(&format!("{}{roles}", certificates.section()));
    let listen = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--config", config.path()];
    let server = Server::start_with(&listen, &[]);
    assert!(server.announcement.contains("--server https://127.0.0.1:"), "{}", server.announcement);
    let url = format!("https://{}", server.grpc());
    let file = TemporaryFile::new(&made.stdout);
    let ask = |arguments: &[&str], environment: &[(&str, &str)]| -> Said {
        let mut command = permitd(arguments);
        command.env("PERMITD_SERVER", &url).env("PERMITD_TLS_CA", certificates.authority.path());
        say(command.envs(environment.iter().copied()))
    };
    ask(&["budgets", "set", "a/x", "--limit", "in_flight=1"], &[("PERMITD_TOKEN", token)]).well();
    ask(&["budgets", "list", "--token-file", file.path()], &[("PERMITD_TOKEN", "wrong")]).well();
    ask(&["budgets", "list", "--token-env", "MINE"], &[("MINE", token)]).well();
    ask(&["budgets", "list"], &[("PERMITD_TOKEN_FILE", file.path())]).well();
    ask(&["run", "a/x", "--token-file", file.path(), "--", "true"], &[]).well();
    let changes = ask(&["budgets", "changes"], &[("PERMITD_TOKEN", token)]).well();
    assert!(changes.stdout.contains("  ci  "), "{changes:#?}");

    for (environment, expected) in
        [(&[][..], "CREDENTIALS_MISSING"), (&[("PERMITD_TOKEN", "wrong")][..], "CREDENTIALS_INVALID")]
    {
        let said = ask(&["budgets", "list"], environment);
        assert_eq!(said.code, 1, "{said:#?}");
        assert!(said.stderr.contains(expected) && said.stderr.contains("--token-file"), "{said:#?}");
    }
    let said = ask(&["budgets", "list", "--token-env", "NOT_THERE"], &[]);
    assert!(said.code == 2 && said.stderr.contains("NOT_THERE"), "{said:#?}");
}

/// Goal: what would not be secure is refused with what to do: a server that nobody vouches for, a token in the clear, a file that
/// is not there.
#[test]
fn says_what_is_not_secure() {
    let certificates = Certificates::new();
    let config = TemporaryFile::new(&certificates.section());
    let listen = ["--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--config", config.path()];
    let server = Server::start_with(&listen, &[]);
    let url = format!("https://{}", server.grpc());
    let strange = Certificates::new();
    let said =
        say(&mut permitd(&["budgets", "list", "--server", &url, "--tls-ca", strange.authority.path()]));
    assert!(said.code == 69 && said.stderr.contains("certificate"), "{said:#?}");
    let said = say(&mut permitd(&["budgets", "list", "--server", &url, "--tls-ca", "/nowhere/ca.pem"]));
    assert!(said.code == 1 && said.stderr.contains("/nowhere/ca.pem"), "{said:#?}");
    let clear = ["budgets", "list", "--server", "http://192.0.2.1:7110"];
    let said = say(permitd(&clear).env("PERMITD_TOKEN", "t"));
    assert!(said.code == 1 && said.stderr.contains("in the clear"), "{said:#?}");
}

/// Goal: `permitd check` looks into the files that the configuration names.
#[test]
fn check_looks_at_certificates() {
    let (one, other) = (Certificates::new(), Certificates::new());
    let right = TemporaryFile::new(&one.section());
    say(&mut permitd(&["check", right.path()])).well();
    let mixed = format!("[server.tls]\ncert = {:?}\nkey = {:?}\n", one.cert.path(), other.key.path());
    let said = say(&mut permitd(&["check", TemporaryFile::new(&mixed).path()]));
    assert!(said.code == 1 && said.stderr.contains("does not fit the certificate"), "{said:#?}");
}

//! `permitd serve --data`, `permitd store`, `permitd budgets diff` and `reset`

use std::{env, fs, path::PathBuf, process::id};

use crate::support::{Server, TemporaryFile, permitd, say, signal};

/// A folder that is not there yet, gone with the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        Self(env::temp_dir().join(format!("permitd-cli-{}-{name}", id())))
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing to do about a folder that is gone.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn start(data: &str, config: &str) -> Server {
    let addresses = ["--listen", "127.0.0.1:0", "--http", "off", "--data", data, "--config", config];
    Server::start_with(&addresses, &[])
}

fn stop(mut server: Server) {
    signal(&server.process, "-TERM");
    assert!(server.process.wait().expect("it ends").success());
}

/// Goal: what was set live is there after a restart, is told apart from the file, and can be taken back; a second server is sent away.
#[test]
fn live_changes_and_the_file() {
    let folder = Folder::new("live");
    let data = folder.path("data");
    let config = TemporaryFile::new("[budgets.\"a/x\"]\nlimits = [\"requests=60/1m\"]\n");
    let server = start(&data, config.path());
    assert!(server.say(&["budgets", "diff"]).well().stderr.contains("everything is as"));
    server.say(&["budgets", "set", "a/x", "--limit", "requests=90/1m"]).well();
    let second = say(&mut permitd(&["serve", "--listen", "127.0.0.1:0", "--http", "off", "--data", &data]));
    assert_eq!(second.code, 1);
    assert!(second.stderr.contains("is in use by another permitd"), "{second:#?}");
    stop(server);
    let server = start(&data, config.path());
    let diff = server.say(&["budgets", "diff"]).well().stdout;
    assert!(diff.contains("a/x") && diff.contains("changed"), "{diff}");
    assert!(diff.contains("-requests=60/1m +requests=90/1m"), "{diff}");
    let json = server.say(&["budgets", "diff", "a/*", "--json"]).well().json();
    assert_eq!((&json[0]["budget"], &json[0]["live"]), (&"a/x".into(), &"changed".into()));
    assert!(server.say(&["budgets", "reset", "a/x"]).well().stdout.contains("a/x is reset"));
    assert!(server.say(&["budgets", "diff"]).well().stdout.is_empty());
    let nothing = server.say(&["budgets", "reset", "b/y"]);
    assert_eq!(nothing.code, 1);
    assert!(nothing.stderr.contains("does not declare"), "{nothing:#?}");
    stop(server);
}

/// Goal: a store is checked, copied and put back; one that is damaged is refused with what to do, by the server too.
#[test]
fn stores_are_looked_after() {
    let folder = Folder::new("looked-after");
    let (data, backup) = (folder.path("data"), folder.path("backup"));
    let config = TemporaryFile::new("[budgets.\"a/x\"]\nlimits = [\"requests=60/1m\"]\n");
    let server = start(&data, config.path());
    let busy = say(&mut permitd(&["store", "check", &data]));
    assert_eq!(busy.code, 1);
    assert!(busy.stderr.contains("in use"), "{busy:#?}");
    stop(server);
    let checked = say(&mut permitd(&["store", "check", &data, "--json"])).well().json();
    assert_eq!((&checked[0]["sound"], &checked[0]["rows"]["budgets"]), (&true.into(), &1.into()));
    assert!(say(&mut permitd(&["store", "check", &data])).well().stdout.contains("budgets"));
    say(&mut permitd(&["store", "backup", &data, &backup])).well();
    // No store at all; and one that redb trips over, which nobody has to see.
    let mut torn = fs::read(folder.path("data/permitd.redb")).expect("there");
    torn.iter_mut().skip(4_096).step_by(512).for_each(|byte| *byte ^= 0xff);
    for damaged in [b"rubbish".as_slice(), &torn] {
        fs::write(folder.path("data/permitd.redb"), damaged).expect("there");
        for arguments in [
            &["store", "check", &data][..],
            &["serve", "--listen", "127.0.0.1:0", "--http", "off", "--data", &data],
        ] {
            let said = say(&mut permitd(arguments));
            assert_eq!(said.code, 1);
            assert!(said.stderr.contains("permitd store restore"), "{said:#?}");
            assert!(!said.stderr.contains("panicked"), "{said:#?}");
        }
    }
    say(&mut permitd(&["store", "restore", &data, &backup])).well();
    say(&mut permitd(&["store", "check", &data])).well();
    stop(start(&data, config.path()));
    let nowhere = say(&mut permitd(&["store", "check", &folder.path("nowhere")]));
    assert_eq!(nowhere.code, 1);
}

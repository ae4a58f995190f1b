//! The systemd unit.

use permitd_tests::{Folder, Tool, binary};

use crate::{check_serve, path, read};

const UNIT: &str = "deploy/systemd/permitd.service";
const SYSTEMD_ANALYZE: Tool =
    Tool { name: "systemd-analyze", variable: "SYSTEMD_ANALYZE", source: "Debian's package systemd has it" };
/// The exposure that systemd may find at most, in tenths: services of Debian have 90 and more as a rule.
const EXPOSURE_MAX: &str = "15";

/// Goal: the unit starts permitd by arguments that it takes, and gives it the time that a drain needs.
#[test]
fn starts_what_there_is() {
    let unit = read(UNIT);
    let value = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let words: Vec<&str> = value("ExecStart").expect("it starts something").split(' ').collect();
    assert_eq!(words[0], "/usr/bin/permitd");
    check_serve(&words[1..]);
    assert!(words.ends_with(&["--data", "/var/lib/permitd"]) && value("StateDirectory") == Some("permitd"));
    let seconds: u64 = value("TimeoutStopSec").and_then(|text| text.parse().ok()).expect("seconds");
    assert!(seconds > 10, "a drain ends within 10 s");
}

/// Goal: systemd understands every line, and finds little that the service could do to the machine.
#[test]
#[ignore = "needs systemd-analyze: make test-packaging"]
fn systemd_takes_it() {
    let folder = Folder::new();
    // Systemd looks at what would be started.
    let unit = read(UNIT).replace("/usr/bin/permitd", binary().to_str().expect("text"));
    folder.put("permitd.service", &unit);
    let unit = folder.path("permitd.service");
    let said = SYSTEMD_ANALYZE.run(&path("."), &["verify", "--man=no", unit.to_str().expect("text")]);
    assert!(!said.contains("permitd.service"), "{said}");
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    let unit = path(UNIT);
    let security = ["security", "--offline=true", "--no-pager", &threshold, unit.to_str().expect("text")];
    SYSTEMD_ANALYZE.run(&path("."), &security);
}

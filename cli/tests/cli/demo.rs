//! The demo as a stranger runs it, and that nothing of it stays behind.

use std::process::{Command, Stdio};

use crate::support::{permitd, say};

/// Goal: both phases make their calls, and the JSON holds the figures that `--help` promises.
#[test]
fn shows_both_phases() {
    let said = say(&mut permitd(&["demo", "--seconds", "10", "--clients", "5", "--json"])).well();
    let figures = said.json().pop().expect("one value");
    let calls = |client: &serde_json::Value| client["work"]["batch"]["calls"].as_u64();
    let clients = figures["scenario"]["clients"].as_array().expect("the fleet");
    let wanted: u64 = clients.iter().filter_map(calls).sum();
    assert_eq!(clients.len(), 5);
    assert!(wanted > 50, "{wanted} calls are work for some seconds");
    for phase in ["backoff", "permitd"] {
        let succeeded = figures[phase]["succeeded"].as_u64().expect("a count");
        assert!(succeeded > wanted / 2, "{phase}: {succeeded} of {wanted}");
    }
    assert!(figures["backoff"]["limited"].as_u64() > Some(0), "the limit binds: {figures:#}");
    assert!(said.stderr.contains("1 of 2") && said.stderr.contains("2 of 2"), "progress: {}", said.stderr);
}

/// Goal: a demo that is told to stop says so, and one that is killed has no chance to; neither leaves a process behind.
#[cfg(target_os = "linux")]
#[test]
fn leaves_no_process_behind() {
    use std::time::{Duration, Instant};

    use rustix::process::{Pid, Signal, kill_process};

    let eventually = |what: &str, condition: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !condition() {
            assert!(began.elapsed() < Duration::from_secs(30), "{what} within 30 s");
            std::thread::yield_now();
        }
    };
    for (signal, code) in [(Signal::TERM, Some(130)), (Signal::INT, Some(130)), (Signal::KILL, None)] {
        let mut command: Command = permitd(&["demo", "--seconds", "60", "--clients", "5"]);
        let mut demo =
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the binary can be run");
        let pid = demo.id();
        eventually("a server and five clients run", &|| family(pid).len() == 6);
        let children = family(pid);
        let process = Pid::from_raw(i32::try_from(pid).expect("a process id")).expect("not 0");
        kill_process(process, signal).expect("it runs");
        assert_eq!(demo.wait().expect("it is ours").code(), code);
        eventually("all of them are gone", &|| children.iter().all(|child| !belongs_to_demo(*child)));
    }
}

/// Children of a process, by the demo's hidden commands.
#[cfg(target_os = "linux")]
fn family(of: u32) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{of}/task")).into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<u32> = children
        .flat_map(|pids| pids.split(' ').filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect();
    children.into_iter().filter(|child| belongs_to_demo(*child)).collect()
}

/// Whether the process still runs; what is dead and not yet buried has no command line.
#[cfg(target_os = "linux")]
fn belongs_to_demo(pid: u32) -> bool {
    let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    command.contains("demo-client") || command.contains("demo-server")
}

//! A real etcd of several members, each in a process of its own, for what becomes of a cluster when they end, stop for a
//! while, or lose their majority.

use std::{net::SocketAddr, path::PathBuf, process::Stdio, sync::Mutex};

use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::Child,
};

use crate::{
    folder::Folder,
    http::http_get,
    network::Host,
    process::steady_port,
    wait::{soon, until},
};

/// What a member of etcd answers to a call in JSON, by its gateway: `kv/range`, for example.
///
/// # Panics
/// If it is gone.
pub async fn ask_etcd(member: SocketAddr, method: &str, body: &str) -> String {
    let head = format!("POST /v3/{method} HTTP/1.0\r\ncontent-length: {}\r\n\r\n", body.len());
    let mut stream = TcpStream::connect(member).await.expect("it listens");
    stream.write_all((head + body).as_bytes()).await.expect("taken");
    let mut answer = String::new();
    soon("etcd's answer", stream.read_to_string(&mut answer)).await.expect("text");
    answer.split_once("\r\n\r\n").expect("a body").1.to_owned()
}

/// An etcd. Dropped, it is killed.
#[derive(Debug)]
pub struct Etcd {
    folder: Folder,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    name: String,
    host: Host,
    clients: SocketAddr,
    peers: SocketAddr,
    child: Mutex<Option<Child>>,
}

impl Etcd {
    /// Starts one with so many members on loopback, and waits until it has a leader.
    pub async fn start(members: usize) -> Self {
        Self::start_on(&vec![Host::here(); members]).await
    }

    /// Starts one with a member on each of these hosts, and waits until it has a leader.
    ///
    /// # Panics
    /// If etcd is not installed, or does not start.
    pub async fn start_on(hosts: &[Host]) -> Self {
        let member = |(number, host): (usize, &Host)| {
            let address = || SocketAddr::new(host.address, steady_port());
            Member {
                name: format!("m{number}"),
                host: host.clone(),
                clients: address(),
                peers: address(),
                child: Mutex::new(None),
            }
        };
        let etcd = Self { folder: Folder::new(), members: hosts.iter().enumerate().map(member).collect() };
        for number in 0..hosts.len() {
            etcd.restart(number);
        }
        until("a leader of etcd", async || etcd.leader().await.is_some()).await;
        etcd
    }

    /// Where it is, as `--cluster` wants it.
    #[must_use]
    pub fn url(&self) -> String {
        let members: Vec<String> = self.members.iter().map(|member| member.clients.to_string()).collect();
        format!("etcd://{}", members.join(","))
    }

    /// Where its members take calls.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.clients).collect()
    }

    /// The member that leads, if one does and answers.
    pub async fn leader(&self) -> Option<usize> {
        for (number, member) in self.members.iter().enumerate() {
            let is_gone = member.child.lock().expect("no panic").is_none();
            if is_gone || TcpStream::connect(member.clients).await.is_err() {
                continue;
            }
            let asked = tokio::spawn(http_get(member.clients, "/metrics", None));
            let Ok(Ok(answer)) = tokio::time::timeout(std::time::Duration::from_secs(1), asked).await else {
                continue;
            };
            if answer.lines().any(|line| line == "etcd_server_is_leader 1") {
                return Some(number);
            }
        }
        None
    }

    /// Kills a member with SIGKILL.
    ///
    /// # Panics
    /// If it is gone.
    pub fn kill(&self, number: usize) {
        self.signal(number, Signal::KILL);
        drop(self.members[number].child.lock().expect("no panic").take());
    }

    /// Stops a member for a while, with SIGSTOP.
    ///
    /// # Panics
    /// If it is gone.
    pub fn pause(&self, number: usize) {
        self.signal(number, Signal::STOP);
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// If it is gone.
    pub fn resume(&self, number: usize) {
        self.signal(number, Signal::CONT);
    }

    fn signal(&self, number: usize, signal: Signal) {
        let child = self.members[number].child.lock().expect("no panic");
        let id = child.as_ref().and_then(Child::id).and_then(|id| i32::try_from(id).ok());
        kill_process(id.and_then(Pid::from_raw).expect("it runs"), signal).expect("it is ours");
    }

    /// Starts a member, with what it had before.
    ///
    /// # Panics
    /// If etcd is not installed.
    pub fn restart(&self, number: usize) {
        let member = &self.members[number];
        let all: Vec<String> =
            self.members.iter().map(|member| format!("{}=http://{}", member.name, member.peers)).collect();
        let (clients, peers) = (format!("http://{}", member.clients), format!("http://{}", member.peers));
        let log = std::fs::File::options().create(true).append(true).open(self.file(number, "log"));
        let log = log.expect("room for a file");
        let child = member
            .host
            .command("etcd")
            .args(["--name", &member.name, "--initial-cluster", &all.join(",")])
            .args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients])
            .args(["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers])
            .args(["--heartbeat-interval", "50", "--election-timeout", "500", "--logger", "zap"])
            .arg("--data-dir")
            .arg(self.file(number, "data"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("the same file"))
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("etcd is needed for this test: install it with `apt-get install etcd-server`, or `make setup`");
        *member.child.lock().expect("no panic") = Some(child);
    }

    fn file(&self, number: usize, name: &str) -> PathBuf {
        self.folder.path(&format!("{number}.{name}"))
    }
}

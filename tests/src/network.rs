//! Several machines on one, by namespaces of Linux's network: each has an address, a bridge joins them, and the kernel loses what is sent
//! on a way that was cut.

use std::{
    ffi::OsStr,
    fs,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::{self, Command as Program, Stdio},
};

use tokio::process::Command;

/// Whoever is told that this is another host's reaches nobody.
const NOBODY: &str = "02:00:00:00:00:01";
/// Where the namespaces of a machine are, as ip-netns(8) has them.
const NAMESPACES: &str = "/run/netns";

/// Where a process runs, and the address that it has there.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its address.
    pub address: IpAddr,
    namespace: Option<String>,
}

impl Host {
    /// Where the tests are, on loopback.
    #[must_use]
    pub fn here() -> Self {
        Self { address: Ipv4Addr::LOCALHOST.into(), namespace: None }
    }

    /// A program that will run there.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let Some(namespace) = &self.namespace else { return Command::new(program) };
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace]).arg(program);
        command
    }
}

/// Hosts that reach each other, and that the tests reach. Dropped, it is gone.
#[derive(Debug)]
pub struct Network {
    /// What its namespaces' names begin with.
    name: String,
    hosts: Vec<Host>,
}

impl Network {
    /// So many hosts.
    ///
    /// # Panics
    /// If this is not Linux, or the caller is not root, or iproute2 is not installed.
    #[must_use]
    pub fn start(hosts: usize) -> Self {
        sweep();
        let id = process::id();
        let (name, subnet) = (format!("permitd-{id}"), (id % 256) as u8);
        // A range for tests of networks (RFC 2544), which nobody has as an address.
        let address = |host: usize| Ipv4Addr::new(198, 18, subnet, host as u8 + 1);
        let host = |number: usize| Host {
            address: address(number).into(),
            namespace: Some(format!("{name}-{number}")),
        };
        let network = Self { hosts: (0..hosts).map(host).collect(), name: name.clone() };
        let switch = network.switch();
        ip(&format!("netns add {switch}"));
        ip(&format!("-n {switch} link add switch type bridge"));
        ip(&format!("-n {switch} link set dev switch up"));
        for (number, host) in network.hosts.iter().enumerate() {
            let (namespace, address) = (network.namespace(number), host.address);
            ip(&format!("netns add {namespace}"));
            ip(&format!("-n {namespace} link set dev lo up"));
            ip(&format!("link add net netns {namespace} type veth peer name host{number} netns {switch}"));
            ip(&format!("-n {switch} link set dev host{number} master switch up"));
            ip(&format!("-n {namespace} addr add {address}/24 dev net"));
            ip(&format!("-n {namespace} link set dev net up"));
        }
        // Names of devices are short.
        let tests = format!("permitd{id}");
        ip(&format!("link add {tests} type veth peer name tests netns {switch}"));
        ip(&format!("-n {switch} link set dev tests master switch up"));
        ip(&format!("addr add {}/24 dev {tests}", address(253)));
        ip(&format!("link set dev {tests} up"));
        network
    }

    /// All of them.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// Pulls a host's cable out: it reaches nobody, nobody reaches it.
    pub fn unplug(&self, host: usize) {
        ip(&format!("-n {} link set dev host{host} down", self.switch()));
    }

    /// What one host sends to another is lost, without a word to either.
    pub fn cut(&self, from: usize, to: usize) {
        let (namespace, address) = (self.namespace(from), self.hosts[to].address);
        ip(&format!("-n {namespace} neigh replace {address} lladdr {NOBODY} dev net nud permanent"));
    }

    /// Everybody reaches everybody again.
    pub fn mend(&self) {
        for number in 0..self.hosts.len() {
            ip(&format!("-n {} link set dev host{number} up", self.switch()));
            ip(&format!("-n {} neigh flush dev net nud permanent", self.namespace(number)));
        }
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.name)
    }

    fn namespace(&self, host: usize) -> String {
        format!("{}-{host}", self.name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // Every cable has an end in the switch, and goes with it. Nothing to do about what is gone.
        let _ = try_ip(&format!("netns del {}", self.switch()));
        for number in 0..self.hosts.len() {
            let _ = try_ip(&format!("netns del {}", self.namespace(number)));
        }
    }
}

/// Ends the networks of processes that were killed before they could.
fn sweep() {
    for entry in fs::read_dir(NAMESPACES).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("permitd-").and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner).exists()) {
            // Another one may sweep, too.
            let _ = try_ip(&format!("netns del {name}"));
        }
    }
}

fn ip(arguments: &str) {
    if let Err(why) = try_ip(arguments) {
        panic!("`ip {arguments}`: {why}. This test needs Linux, root, and iproute2 (`make setup`)");
    }
}

fn try_ip(arguments: &str) -> Result<(), String> {
    let mut program = Program::new("ip");
    let output = program.args(arguments.split(' ')).stdin(Stdio::null()).output();
    let output = output.map_err(|error| error.to_string())?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().into()) }
}

//! Which process of this machine listens on a port: its socket's number stands in /proc/net/tcp (proc(5)), and the descriptors of a
//! process name their sockets.

use std::{fs, net::SocketAddr};

/// The state of a socket that listens.
const LISTEN: &str = "0A";

/// Those that listen there; none if they are somebody else's, or elsewhere.
pub(super) fn listening(address: SocketAddr) -> Vec<u32> {
    if !address.ip().is_loopback() {
        return Vec::new();
    }
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    let sockets: Vec<String> = tables.iter().flat_map(|table| sockets(table, address.port())).collect();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|process| process.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| has_one(*id, &sockets)).collect()
}

/// Of sockets that listen on a port, what a descriptor is called that leads to them.
fn sockets(table: &str, port: u16) -> Vec<String> {
    let at = format!(":{port:04X}");
    let listens = |line: &&str| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&at)) && fields.nth(1) == Some(LISTEN)
    };
    let inode = |line: &str| line.split_whitespace().nth(9).map(|inode| format!("socket:[{inode}]"));
    table.lines().filter(listens).filter_map(inode).collect()
}

fn has_one(process: u32, sockets: &[String]) -> bool {
    let descriptors = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let mut names = descriptors.filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
    names.any(|name| sockets.iter().any(|socket| name.as_os_str() == socket.as_str()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Goal: who listens is found, and nobody where nobody does.
    #[test]
    fn finds_this_process() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        assert!(listening(address).contains(&std::process::id()));
        assert_eq!(listening("192.0.2.1:80".parse().expect("an address")), [] as [u32; 0]);
    }

    /// Goal: of the sockets of a port, those that listen.
    #[test]
    fn reads_the_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:18EB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n\
             1: 0100007F:18EB 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20 4 30 10 -1\n";
        assert_eq!(sockets(table, 6379), ["socket:[4711]"]);
        assert_eq!(sockets(table, 80), [] as [String; 0]);
    }
}

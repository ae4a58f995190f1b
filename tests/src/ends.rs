//! Which ends of connections a process has, as Linux tells: so a proxy on loopback knows which of several clients it has before it.

use std::{collections::HashSet, fs};

/// The local ports of the IPv4 connections that a process has at this moment; none of one that is gone.
///
/// # Panics
/// If the system does not tell.
pub(crate) fn ports_of(process: u32) -> Vec<u16> {
    let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else { return Vec::new() };
    let inode = |target: std::path::PathBuf| -> Option<u64> {
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    // A file may be closed between the two.
    let sockets: HashSet<u64> =
        files.filter_map(|file| inode(fs::read_link(file.ok()?.path()).ok()?)).collect();
    let table = fs::read_to_string("/proc/net/tcp").expect("Linux has this table");
    // Proc(5): local_address is the second field, as ADDRESS:PORT in hexadecimal digits; inode the tenth.
    let port = |line: &str| -> Option<u16> {
        let mut fields = line.split_whitespace();
        let (_, port) = fields.nth(1)?.split_once(':')?;
        let inode: u64 = fields.nth(7)?.parse().ok()?;
        sockets.contains(&inode).then(|| u16::from_str_radix(port, 16).ok())?
    };
    table.lines().skip(1).filter_map(port).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// Goal: a connection's end is found at the process that has it, and at no other.
    #[test]
    fn finds_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let stream = TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens");
        let port = stream.local_addr().expect("connected").port();
        assert!(ports_of(std::process::id()).contains(&port));
        assert!(!ports_of(1).contains(&port));
        drop(stream);
        assert!(!ports_of(std::process::id()).contains(&port));
    }
}

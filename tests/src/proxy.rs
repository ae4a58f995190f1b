//! A TCP proxy between a client and a server that can cut, stall, slow down and half-open the connections that go through it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
    time::sleep,
};

use crate::ends::ports_of;

/// Bytes that a slow connection passes on at a time, and how long it takes for them.
const SLOW_BYTES: usize = 256;
const SLOW_WAIT: Duration = Duration::from_millis(2);

/// A proxy. Dropped, it is gone, with all its connections.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    state: watch::Sender<State>,
    accepting: JoinHandle<()>,
}

/// A way through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the client to the server.
    There,
    /// From the server to the client.
    Back,
}

/// What of one client is held back.
#[derive(Clone, Debug)]
struct Held {
    /// Its process.
    client: u32,
    way: Way,
    /// Its ends of connections.
    ports: Vec<u16>,
}

#[derive(Clone, Debug)]
struct State {
    server: SocketAddr,
    /// Bytes flow there.
    flows_there: bool,
    /// Bytes flow back.
    flows_back: bool,
    /// Those of some clients don't, though.
    held: Arc<Vec<Held>>,
    /// A few of them at a time.
    slow: bool,
    /// New connections are served; else they are closed at once.
    open: bool,
    /// Connections accepted so far.
    accepted: u64,
    /// Connections with smaller numbers are reset.
    cut_below: u64,
    /// Connections with smaller numbers have lost the server, and the client is not told.
    orphaned_below: u64,
}

impl Proxy {
    /// Starts in front of that server.
    ///
    /// # Panics
    /// If there is no free port.
    pub async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let state = State {
            server,
            flows_there: true,
            flows_back: true,
            held: Arc::default(),
            slow: false,
            open: true,
            accepted: 0,
            cut_below: 0,
            orphaned_below: 0,
        };
        let (state, _) = watch::channel(state);
        let accepting = tokio::spawn(accept(listener, state.clone()));
        Self { address, state, accepting }
    }

    /// Where it is, as clients want it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Resets every connection, towards both sides. New ones are served.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cut_below = state.accepted);
    }

    /// Resets every connection, and closes new ones at once, until [opened](Self::open).
    pub fn close(&self) {
        self.state.send_modify(|state| {
            state.open = false;
            state.cut_below = state.accepted;
        });
    }

    /// Serves new connections again.
    pub fn open(&self) {
        self.state.send_modify(|state| state.open = true);
    }

    /// Holds every byte back, until they [flow](Self::flow) again.
    pub fn stall(&self) {
        self.state.send_modify(|state| (state.flows_there, state.flows_back) = (false, false));
    }

    /// Holds the bytes of one way back, until they [flow](Self::flow) again: what one side says comes to nobody, and it hears everything.
    pub fn stall_one(&self, way: Way) {
        self.state.send_modify(|state| match way {
            Way::There => state.flows_there = false,
            Way::Back => state.flows_back = false,
        });
    }

    /// Holds the bytes of one client back, of one way, until they [flow](Self::flow) again: others of this machine that come by here notice
    /// nothing. A client is told by its process, also where it connects anew.
    pub fn stall_of(&self, client: u32, way: Way) {
        let held = Held { client, way, ports: ports_of(client) };
        self.state.send_modify(|state| Arc::make_mut(&mut state.held).push(held));
    }

    /// Lets the bytes flow, both ways, of everybody.
    pub fn flow(&self) {
        self.state.send_modify(|state| {
            (state.flows_there, state.flows_back) = (true, true);
            state.held = Arc::default();
        });
    }

    /// Passes few bytes at a time, or as many as there are.
    pub fn slow(&self, slow: bool) {
        self.state.send_modify(|state| state.slow = slow);
    }

    /// Takes the server away from every connection without a word to the client: what it sends goes nowhere, and nothing comes back.
    /// New connections are served.
    pub fn orphan(&self) {
        self.state.send_modify(|state| state.orphaned_below = state.accepted);
    }

    /// How many connections were accepted so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.state.borrow().accepted
    }
}

impl State {
    /// Whether bytes flow that way, of a client whose end is that port.
    fn flows(&self, way: Way, port: u16) -> bool {
        let flows = match way {
            Way::There => self.flows_there,
            Way::Back => self.flows_back,
        };
        let is_held = |held: &Held| held.way == way && held.ports.contains(&port);
        flows && !self.held.iter().any(is_held)
    }

    /// Somebody has connected: it may be a client that is held back.
    fn came(&mut self, port: u16) {
        if !self.held.is_empty() {
            for held in Arc::make_mut(&mut self.held) {
                if ports_of(held.client).contains(&port) {
                    held.ports.push(port);
                }
            }
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, state: watch::Sender<State>) {
    while let Ok((client, from)) = listener.accept().await {
        let mut number = 0;
        state.send_modify(|state| {
            number = state.accepted;
            state.accepted += 1;
            state.came(from.port());
        });
        let watched = state.subscribe();
        if watched.borrow().open {
            tokio::spawn(connection(client, from.port(), number, watched));
        }
    }
}

async fn connection(client: TcpStream, port: u16, number: u64, state: watch::Receiver<State>) {
    let mut fate = state.clone();
    let server = state.borrow().server;
    let Ok(server) = TcpStream::connect(server).await else { return };
    for stream in [&client, &server] {
        // Frames are small, and each one counts. A stream that is gone says so when it is read.
        let _ = stream.set_nodelay(true);
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let flows = |way| move |state: &State| state.flows(way, port);
    let there = pump(&mut from_client, &mut to_server, state.clone(), flows(Way::There));
    let back = pump(&mut from_server, &mut to_client, state.clone(), flows(Way::Back));
    let pumps = async { tokio::join!(there, back) };
    let is_orphaned = tokio::select! {
        changed = fate.wait_for(|state| number < state.cut_below || number < state.orphaned_below) => {
            changed.is_ok_and(|state| number >= state.cut_below)
        }
        _ = pumps => return,
    };
    let _ = from_server.as_ref().set_zero_linger();
    drop((from_server, to_server));
    if is_orphaned {
        let mut nowhere = tokio::io::sink();
        tokio::select! {
            _ = fate.wait_for(|state| number < state.cut_below) => {}
            _ = tokio::io::copy(&mut from_client, &mut nowhere) => {}
        }
    }
    let _ = from_client.as_ref().set_zero_linger();
}

/// Passes bytes on, and their end.
async fn pump(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    mut state: watch::Receiver<State>,
    flows: impl Fn(&State) -> bool,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let is_slow = state.borrow().slow;
        let part = if is_slow { SLOW_BYTES } else { buffer.len() };
        let Ok(read @ 1..) = from.read(&mut buffer[..part]).await else { break };
        if is_slow {
            sleep(SLOW_WAIT).await;
        }
        if state.wait_for(&flows).await.is_err() || to.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    // The other side may be gone already.
    let _ = to.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait::until;

    /// Goal: one client is held back the one way, also where it connects anew, and others are not.
    #[tokio::test]
    async fn one_client_is_held_back() {
        let server = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let proxy = Proxy::start(server.local_addr().expect("bound")).await;
        let ways = |port| [Way::There, Way::Back].map(|way| proxy.state.borrow().flows(way, port));
        let mut ports = Vec::new();
        let mut connect = async |connections: u64| {
            let client = TcpStream::connect(proxy.address).await.expect("it listens");
            ports.push(client.local_addr().expect("connected").port());
            until("a connection", async || proxy.accepted() == connections).await;
            client
        };
        let _first = connect(1).await;
        // Some other process.
        proxy.stall_of(1, Way::There);
        let first = ports_of(std::process::id());
        assert!(first.iter().all(|port| ways(*port) == [true, true]));
        proxy.stall_of(std::process::id(), Way::There);
        let _later = connect(2).await;
        for port in &ports {
            assert_eq!(ways(*port), [false, true]);
        }
        proxy.flow();
        for port in &ports {
            assert_eq!(ways(*port), [true, true]);
        }
    }
}

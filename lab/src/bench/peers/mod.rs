//! Servers of others that answer the same question, in processes that somebody runs: how they are named, and what is asked of them.
//! One question is one permit; all of them have to be granted.

mod grpc;
mod place;
mod redis;
#[cfg(test)]
mod tests;
mod turns;

use std::{
    fmt,
    net::SocketAddr,
    str::FromStr,
    time::{Duration, Instant},
};

use permitd_proto::v1::{acquire_response::Event, permit_service_client::PermitServiceClient};
use tokio::net::lookup_host;
use tonic::transport::Channel;

pub(super) use self::turns::{Answered, closed, open};
use self::{grpc::Grpc, redis::Redis};
use super::{
    Error,
    cpu::{Cpu, of_process},
    echo,
    load::{acquire_of, connect, report},
};

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Envoy,
    Throttlecrab,
    Gubernator,
    Redis,
}

impl Wire {
    const ALL: [Self; 4] = [Self::Envoy, Self::Throttlecrab, Self::Gubernator, Self::Redis];

    fn name(self) -> &'static str {
        match self {
            Self::Envoy => "envoy",
            Self::Throttlecrab => "throttlecrab",
            Self::Gubernator => "gubernator",
            Self::Redis => "redis",
        }
    }

    fn scheme(self) -> &'static str {
        if self == Self::Redis { "redis" } else { "http" }
    }
}

/// A server that somebody runs: `envoy=http://127.0.0.1:8081/DOMAIN`, `throttlecrab=http://...`, `gubernator=http://...` or
/// `redis=redis://...`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    wire: Wire,
    /// Host and port.
    address: String,
    /// Of Envoy's protocol.
    domain: String,
}

/// Where nobody gave one.
const DOMAIN: &str = "permitd";

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wires =
            || Wire::ALL.map(|wire| format!("{}={}://HOST:PORT", wire.name(), wire.scheme())).join(", ");
        let (name, url) = text.split_once('=').ok_or_else(|| format!("not one of {}", wires()))?;
        let wire = Wire::ALL.into_iter().find(|wire| wire.name() == name);
        let wire = wire.ok_or_else(|| format!("nobody speaks {name:?} here; one of {}", wires()))?;
        let rest = url.strip_prefix(wire.scheme()).and_then(|rest| rest.strip_prefix("://"));
        let rest = rest.ok_or_else(|| format!("{url:?} is not {}://HOST:PORT", wire.scheme()))?;
        let (address, path) = rest.split_once('/').unwrap_or((rest, ""));
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        if port.is_none() {
            return Err(format!("{address:?} has no port"));
        }
        let domain = match (wire, path) {
            (_, "") => DOMAIN,
            (Wire::Envoy, domain) => domain,
            (_, path) => return Err(format!("nothing is known of {path:?} behind the port")),
        };
        Ok(Self { wire, address: address.to_owned(), domain: domain.to_owned() })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.wire.name(), self.address)
    }
}

/// The process of a peer: `NAME=PID`, the name being that of a `--peer`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerProcess {
    wire: Wire,
    pid: u32,
}

impl FromStr for PeerProcess {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, pid) = text.split_once('=').ok_or("not NAME=PID, as in redis=1234")?;
        let wire = Wire::ALL.into_iter().find(|wire| wire.name() == name);
        let wire = wire.ok_or_else(|| format!("no peer is called {name:?}"))?;
        let pid = pid.parse().map_err(|_| format!("{pid:?} is no process's number"))?;
        Ok(Self { wire, pid })
    }
}

/// One way of asking a peer, which is measured by itself.
#[derive(Clone, Debug)]
pub(super) struct Way {
    peer: Peer,
    address: SocketAddr,
    /// Whose CPU counts; of none if they are not known.
    processes: Vec<u32>,
    /// Whether all that one connection has under way is asked at once.
    is_batched: bool,
}

impl Way {
    /// Every way to ask these. Processes that nobody told are those that listen there, if that is this machine.
    ///
    /// # Errors
    /// If an address is not known.
    pub(super) async fn all(peers: &[Peer], told: &[PeerProcess]) -> Result<Vec<Self>, Error> {
        let mut ways = Vec::new();
        for peer in peers {
            let found = lookup_host(&peer.address).await.map_err(|error| format!("{peer}: {error}"))?;
            let address = found.into_iter().next().ok_or_else(|| format!("{peer}: no such host"))?;
            let mut processes: Vec<u32> =
                told.iter().filter(|told| told.wire == peer.wire).map(|told| told.pid).collect();
            if processes.is_empty() {
                processes.extend(place::listening(address));
            }
            let way = Self { peer: peer.clone(), address, processes, is_batched: false };
            if matches!(peer.wire, Wire::Gubernator | Wire::Redis) {
                ways.push(Self { is_batched: true, ..way.clone() });
            }
            ways.push(way);
        }
        Ok(ways)
    }

    /// What its processes have used of the processors; `None` if they are not known.
    fn cpu(&self) -> Result<Option<Duration>, Error> {
        if self.processes.is_empty() {
            return Ok(None);
        }
        let used = self.processes.iter().map(|process| of_process(*process));
        used.sum::<Result<Duration, Error>>()
            .map(Some)
            .map_err(|error| format!("{}: {error}", self.peer).into())
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.peer.wire, self.is_batched) {
            // Several servers speak it.
            (Wire::Envoy, _) => return write!(f, "ratelimit.v3 at {}", self.address.port()),
            (Wire::Throttlecrab, _) => "throttlecrab, gRPC",
            (Wire::Gubernator, false) => "gubernator",
            (Wire::Gubernator, true) => "gubernator, in batches",
            (Wire::Redis, false) => "Redis, a script",
            (Wire::Redis, true) => "Redis, a script, pipelined",
        })
    }
}

/// Who is asked, one permit after the other.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked<'a> {
    /// permitd by calls: Acquire, and when that is answered, Report.
    Permitd(SocketAddr),
    /// The bare echo, by calls.
    Echo(SocketAddr),
    Peer(&'a Way),
}

impl Asked<'_> {
    /// What the server has used of the processors; of those in this process, all of them together. `None` if its process is not known.
    fn cpu(self) -> Result<Option<Duration>, Error> {
        match self {
            Self::Peer(way) => way.cpu(),
            _ => Ok(Some(Cpu::now()?.servers)),
        }
    }

    /// How many permits one question asks for, of `window` that are under way on a connection.
    fn question(self, window: usize) -> usize {
        match self {
            Self::Peer(Way { is_batched: true, .. }) => window,
            _ => 1,
        }
    }

    /// So many who ask over one connection, except where a connection has one question at a time: there each has its own.
    ///
    /// # Errors
    /// If nobody listens there.
    async fn askers(self, number: usize) -> Result<Vec<Asker>, Error> {
        let mut askers = Vec::with_capacity(number);
        let address = match self {
            Self::Permitd(address) | Self::Echo(address) => address,
            Self::Peer(way) => way.address,
        };
        if let Self::Peer(Way { peer: Peer { wire: Wire::Redis, .. }, .. }) = self {
            for _ in 0..number {
                askers.push(Asker::Redis(Redis::connect(address).await?));
            }
            return Ok(askers);
        }
        let channel = connect(address).await?;
        askers.extend((0..number).map(|_| match self {
            Self::Permitd(_) => Asker::Permitd(PermitServiceClient::new(channel.clone())),
            Self::Echo(_) => Asker::Echo(tonic::client::Grpc::new(channel.clone())),
            Self::Peer(way) => Asker::Grpc(Grpc::new(channel.clone(), &way.peer)),
        }));
        Ok(askers)
    }
}

/// Somebody who asks, and waits for the answer before the next question.
enum Asker {
    Permitd(PermitServiceClient<Channel>),
    Echo(tonic::client::Grpc<Channel>),
    Grpc(Grpc),
    Redis(Redis),
}

impl Asker {
    /// Asks for a permit of each of these budgets; the moment at which all were granted.
    ///
    /// # Errors
    /// If one is not granted.
    async fn ask(&mut self, keys: &[usize]) -> Result<Instant, Error> {
        match self {
            Self::Permitd(client) => {
                let mut granted = Instant::now();
                for key in keys {
                    let mut answers = client.acquire(acquire_of(0, *key)).await?.into_inner();
                    let Some(Event::Granted(permit)) =
                        answers.message().await?.and_then(|answer| answer.event)
                    else {
                        return Err("not granted".into());
                    };
                    granted = Instant::now();
                    client.report(report(permit.permit_id)).await?;
                }
                return Ok(granted);
            }
            Self::Echo(grpc) => {
                for key in keys {
                    echo::call(grpc, acquire_of(0, *key)).await?;
                }
            }
            Self::Grpc(grpc) => grpc.ask(keys).await?,
            Self::Redis(redis) => redis.ask(keys).await?,
        }
        Ok(Instant::now())
    }
}

//! What the end-to-end suites stand on: servers in this process and in processes of their own, hands on calls and sessions, and a
//! proxy that breaks connections. Everything is reached over real sockets, and judged by what the wire says.

mod authority;
mod calls;
mod draws;
mod ends;
mod etcd;
mod facts;
mod folder;
mod http;
mod line;
mod network;
mod peer;
mod process;
mod proxy;
mod raw;
mod referee;
mod server;
mod session;
mod tool;
mod wait;
mod words;

pub use authority::{Authority, Issued};
pub use calls::{Plan, Seen, every_kind, judge};
pub use draws::Draws;
pub use etcd::{Etcd, ask_etcd};
pub use facts::{Facts, facts, refused_facts};
pub use folder::Folder;
pub use http::{http_get, http_send, https_get};
pub use line::Line;
pub use network::{Host, Network};
pub use peer::{Call, Peer};
pub use process::{Permitd, binary, raise_open_files, steady_port};
pub use proxy::{Proxy, Way};
pub use raw::{METHODS, RawCodec, call_with_bytes, stream_of_bytes};
pub use referee::{check_in_flight, check_rate};
pub use server::Server;
pub use session::Session;
pub use tool::Tool;
pub use wait::{PATIENCE, soon, until};
pub use words::{
    DAY, HOUR, acquires, ask, budget, estimate, hello, in_flight, rate, report, span, success, tokens,
};

//! Pools over real sockets: a name that stands for several budgets, the permit that says which of them, and everything that a budget
//! promises of waiting, deadlines, cancels, sessions and ends.

mod chosen;
mod clients;
mod declared;
mod seen;
mod waited;

use permitd_proto::v1::{GetPoolRequest, Pool};
use permitd_server::config::Config;
use permitd_tests::{Peer, Server, soon};

/// The pool `p/any` of `p/a`, `p/b` and `p/c`, with these limits, and members written as in the file.
fn pool(limits: [&str; 3], members: &str) -> String {
    let budgets = ["a", "b", "c"].into_iter().zip(limits);
    let budgets: String =
        budgets.map(|(key, limit)| format!("[budgets.\"p/{key}\"]\nlimits = [\"{limit}\"]\n")).collect();
    format!("{budgets}[pools.\"p/any\"]\nmembers = [{members}]\n")
}

/// Asked in the order of their names.
const IN_ORDER: &str = "\"p/a\", { budget = \"p/b\", prefer = 2 }, { budget = \"p/c\", prefer = 3 }";

/// A server with this configuration's budgets and pools.
async fn start(text: &str) -> Server {
    let read = Config::read(text, "permitd.toml", []).expect("a sound configuration");
    Server::start_with(|config| (config.budgets, config.pools) = (read.budgets, read.pools)).await
}

/// The pool `p/any` as it stands.
async fn standing(server: &Peer) -> Pool {
    let request = GetPoolRequest { provider: "p".to_owned(), key: "any".to_owned() };
    let answer = soon("a pool", server.admin().await.get_pool(request)).await.expect("there is one");
    answer.into_inner().pool.expect("the pool")
}

/// Requests that wait at each member.
async fn waiting(server: &Peer) -> [u32; 3] {
    [server.state("a").await.waiting, server.state("b").await.waiting, server.state("c").await.waiting]
}

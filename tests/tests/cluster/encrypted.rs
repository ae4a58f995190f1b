//! Servers that prove to each other who they are: by certificates, and with the role for it.

use permitd_proto::v1::{ListChangesRequest, MoveBudgetRequest};
use permitd_server::auth::TokenHash;
use permitd_tests::{
    Authority, Etcd, Folder, Issued, Peer, Permitd, ask, facts, in_flight, soon, steady_port, success, until,
};
use tonic::Code;

const ADMIN: &str = "the admin's token";
const CALLER: &str = "the caller's token";

/// Two servers on one etcd, each with a certificate of its own; whoever calls them has a token.
struct Pair {
    /// Outlives the servers.
    _etcd: Etcd,
    _folders: [Folder; 2],
    authority: Authority,
    servers: [Permitd; 2],
}

impl Pair {
    /// Servers that show these certificates; whoever shows one that both trust and is called so has that role. The first owns `p/k`, for good.
    async fn start(authority: Authority, certificates: [Issued; 2], role: &str) -> Self {
        let etcd = Etcd::start(1).await;
        let folders = [Folder::new(), Folder::new()];
        for (folder, certificate) in folders.iter().zip(certificates) {
            folder.put("ca.pem", &authority.cert);
            folder.put("cert.pem", &certificate.cert);
            folder.put("key.pem", &certificate.key);
        }
        let told = |place: usize| config(&etcd, &folders[place], role);
        let first = Permitd::start_at(steady_port(), &told(0)).await;
        let admin = first.through(authority.trusted()).with_token(ADMIN);
        admin.set("k", vec![in_flight(5)]).await;
        let (provider, key, server) = ("p".to_owned(), "k".to_owned(), first.address.to_string());
        let stays = MoveBudgetRequest { provider, key, server };
        soon("a budget that stays", admin.cluster().await.move_budget(stays)).await.expect("it is there");
        let second = Permitd::start_at(steady_port(), &told(1)).await;
        let servers = [first, second];
        Self { _etcd: etcd, _folders: folders, authority, servers }
    }

    /// Vouched for by one authority.
    async fn of_one_authority(role: &str) -> Self {
        let authority = Authority::new();
        let certificates = [authority.server(), authority.server()];
        Self::start(authority, certificates, role).await
    }

    /// A server as somebody with that token sees it, who trusts this authority.
    fn seen(&self, place: usize, authority: &Authority, token: &str) -> Peer {
        self.servers[place].through(authority.trusted()).with_token(token)
    }

    fn by(&self, place: usize, token: &str) -> Peer {
        self.seen(place, &self.authority, token)
    }
}

fn config(etcd: &Etcd, folder: &Folder, role: &str) -> String {
    let path = |name: &str| folder.path(name).display().to_string();
    let (cert, key, ca) = (path("cert.pem"), path("key.pem"), path("ca.pem"));
    let (admin, caller) = (TokenHash::of(ADMIN), TokenHash::of(CALLER));
    format!(
        "{}peer_ca = \"{ca}\"\n\
         [server.tls]\ncert = \"{cert}\"\nkey = \"{key}\"\nclient_ca = \"{ca}\"\nclient_certs = \"optional\"\n\
         [auth.identities.servers]\nroles = [\"{role}\"]\ncertificates = [\"localhost\"]\n\
         [auth.identities.root]\nroles = [\"admin\"]\ntokens = [\"{admin}\"]\n\
         [auth.identities.one]\nroles = [\"acquire\", \"report\"]\ntokens = [\"{caller}\"]\n",
        crate::fleet::config(&etcd.url())
    )
}

/// Goal: with the role `peer`, servers pass on for callers who are known to one of them; a permit is its holder's at both, and changes are
/// entered under who made them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_pass_on_for_those_whom_they_know() {
    let pair = Pair::of_one_authority("peer").await;
    let (owner, other) = (pair.by(0, CALLER), pair.by(1, CALLER));
    let permit = other.granted(ask("k")).await;
    let stranger = pair.by(1, ADMIN).try_report(success(&permit.permit_id)).await.expect_err("no role");
    assert_eq!(facts(&stranger).reason, "ROLE_MISSING");
    assert!(owner.report(success(&permit.permit_id)).await.settled, "the same holder");
    let mut session = other.session("").await;
    session.ask(1, ask("k")).await;
    let permit = session.permit(1).await;
    assert!(session.report(success(&permit.permit_id)).await.settled);

    pair.by(1, ADMIN).pause("k").await;
    until("the change in the trail", async || {
        let changes = pair.by(1, ADMIN).admin().await.list_changes(ListChangesRequest::default()).await;
        let changes = changes.expect("a trail").into_inner().changes;
        changes.iter().any(|change| change.what == "pause" && change.who == "root")
    })
    .await;
}

/// Goal: a server without the role `peer` passes nothing on, and who asks it hears why.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_role_is_needed() {
    let pair = Pair::of_one_authority("acquire").await;
    let refused = pair.by(1, CALLER).refused(ask("k")).await;
    assert_eq!((refused.code, refused.reason.as_str()), (Code::PermissionDenied, "ROLE_MISSING"));
    assert!(refused.message.contains("peer"), "{}", refused.message);
    pair.by(0, CALLER).granted(ask("k")).await;
}

/// Goal: a server that another authority vouches for is talked to by nobody: what the others own can't be had through it, and it is
/// said that nobody answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_another_authority_are_strangers() {
    let (authority, foreign) = (Authority::new(), Authority::new());
    let certificates = [authority.server(), foreign.server()];
    let pair = Pair::start(authority, certificates, "peer").await;
    let asked = pair.seen(1, &foreign, CALLER);
    let answer = soon("a refusal", asked.try_granted(ask("k"))).await.expect_err("nobody answers");
    let refused = facts(&answer);
    assert_eq!((refused.code, refused.reason.as_str()), (Code::Unavailable, "OWNER_UNAVAILABLE"));
    pair.by(0, CALLER).granted(ask("k")).await;
}

//! Who is known, followed while the server runs.

use permitd_proto::v1::ListBudgetsRequest;
use permitd_server::auth::{Role, TokenHash};
use permitd_tests::{Peer, Permitd, ask, facts, in_flight, until};
use tonic::Code;

/// A configuration with these identities: name, token, roles.
fn config(identities: &[(&str, &str, &[Role])]) -> String {
    let identity = |(name, token, roles): &(&str, &str, &[Role])| {
        let roles: Vec<String> = roles.iter().map(|role| format!("{:?}", role.name())).collect();
        format!(
            "[auth.identities.{name}]\ntokens = [\"{}\"]\nroles = [{}]\n",
            TokenHash::of(token),
            roles.join(", ")
        )
    };
    let head = "[server]\ndrain = \"0s\"\n[budgets.\"p/k\"]\nlimits = [\"in_flight=9\"]\n".to_owned();
    identities.iter().map(identity).fold(head, |config, identity| config + &identity)
}

const ADMIN: (&str, &str, &[Role]) = ("root", "root's token", &[Role::Admin]);
const BOTH: &[Role] = &[Role::Acquire, Role::Report];

async fn is_let_in(peer: &Peer) -> bool {
    peer.admin().await.list_budgets(ListBudgetsRequest::default()).await.is_ok()
}

/// Puts it in force, and waits until it is.
async fn follow(server: &Permitd, config: &str) {
    let told = server.log().matches("is in force").count();
    server.rewrite(config);
    until("the new file in force", async || server.log().matches("is in force").count() > told).await;
}

/// Goal: a token whose hash is taken away is good for nothing from then on, and the streams that it opened end; others notice nothing.
#[tokio::test]
async fn a_stolen_token_is_taken_away() {
    let other = ("other", "other's token", BOTH);
    let server = Permitd::start(&config(&[ADMIN, other, ("one", "stolen", BOTH)])).await;
    let (stolen, new) = (server.with_token("stolen"), server.with_token("new"));
    let mut sessions = [stolen.session("").await, server.with_token(other.1).session("").await];
    for session in &mut sessions {
        session.ask(1, ask("k")).await;
        session.permit(1).await;
    }
    follow(&server, &config(&[ADMIN, other, ("one", "new", BOTH)])).await;
    let [mut of_stolen, mut of_other] = sessions;
    assert_eq!(facts(&of_stolen.end().await.expect_err("an end")).reason, "CREDENTIALS_EXPIRED");
    let refused = stolen.refused(ask("k")).await;
    assert_eq!((refused.code, refused.reason.as_str()), (Code::Unauthenticated, "CREDENTIALS_INVALID"));
    new.settle(&new.granted(ask("k")).await).await;
    of_other.ask(2, ask("k")).await;
    of_other.permit(2).await;
    server.stop().await;
}

/// Goal: a session that goes on under other rules may use what those allow: not what it used before. What it holds it reports, and its
/// share of a budget is taken back with the budget.
#[tokio::test]
async fn a_resumed_session_follows_its_rules() {
    let one = ("one", "one's token", BOTH);
    let bound = |budgets: &str| config(&[ADMIN, one]) + &format!("budgets = [{budgets}]\n");
    let server = Permitd::start(&bound("\"p/k\", \"p/j\"")).await;
    let of_one = server.with_token(one.1);
    let mut session = of_one.session("mine").await;
    session.ask(1, ask("k")).await;
    let held = session.permit(1).await;
    while session.shares.is_empty() {
        session.read().await.expect("a share");
    }
    follow(&server, &bound("\"p/j\"")).await;
    assert_eq!(facts(&session.end().await.expect_err("an end")).reason, "CREDENTIALS_EXPIRED");
    let mut session = of_one.session("mine").await;
    assert!(session.welcome.resumed);
    while session.shares.is_empty() {
        session.read().await.expect("the share's end");
    }
    assert!(session.shares.iter().all(|share| share.limits.is_empty()), "{:?}", session.shares);
    assert_eq!(session.permit(1).await.permit_id, held.permit_id);
    session.ask(2, ask("k")).await;
    assert_eq!(session.refusal(2).await.reason, "BUDGET_DENIED");
    session.settle(&held).await;
    follow(&server, &bound("\"p/*\"")).await;
    assert_eq!(facts(&session.end().await.expect_err("an end")).reason, "CREDENTIALS_EXPIRED");
    let mut session = of_one.session("mine").await;
    session.ask(3, ask("k")).await;
    session.permit(3).await;
    server.stop().await;
}

/// Goal: roles are followed as well; a file that is wrong changes nothing; and no file makes a server open to everybody.
#[tokio::test]
async fn roles_are_followed_and_nothing_else_opens_a_server() {
    let (watcher, before) = (("watcher", "watcher's token", &[Role::Observe][..]), config(&[ADMIN]));
    let server = Permitd::start(&before).await;
    let (root, watching) = (server.with_token(ADMIN.1), server.with_token(watcher.1));
    assert!(is_let_in(&root).await && !is_let_in(&watching).await);
    follow(&server, &config(&[("root", ADMIN.1, &[Role::Observe]), watcher])).await;
    assert!(is_let_in(&root).await && is_let_in(&watching).await);
    let change =
        root.try_declare(permitd_tests::budget("k", vec![in_flight(1)])).await.expect_err("no admin");
    assert_eq!(facts(&change).reason, "ROLE_MISSING");

    server.rewrite(&config(&[ADMIN]).replace("\"admin\"", "\"king\""));
    until("the log to say what is wrong", async || server.log().contains("king")).await;
    assert!(is_let_in(&watching).await, "nothing changed");
    server.rewrite(&config(&[]));
    until("the log to say why", async || server.log().contains("prove who they are changes with a restart"))
        .await;
    assert!(is_let_in(&watching).await && !is_let_in(&server).await, "nothing changed");
    server.stop().await;
}

/// Goal: what a file changes beside what is followed is named as waiting for a restart, and the rest of the file is in force.
#[tokio::test]
async fn what_needs_a_restart_is_named() {
    let server = Permitd::start(&config(&[ADMIN])).await;
    let watcher = ("watcher", "watcher's token", &[Role::Observe][..]);
    let jwt = "[auth.identities.issued]\nsubjects = [\"somebody\"]\nroles = [\"observe\"]\n\
               [auth.jwt]\njwks = \"nowhere.json\"\nissuer = \"https://issuer.test\"\naudience = \"permitd\"\n";
    follow(&server, &(config(&[ADMIN, watcher]) + jwt)).await;
    until("the log to name it", async || server.log().contains("auth.jwt")).await;
    let log = server.log();
    let line = log.lines().find(|line| line.contains("needs a restart")).expect("told");
    assert!(line.contains("auth.jwt") && !line.contains("cluster") && !line.contains("server,"), "{line}");
    assert!(!log.contains('\u{1b}'), "no colours where nobody sees them: {log}");
    assert!(is_let_in(&server.with_token(watcher.1)).await, "the rest is in force");
    server.stop().await;
}

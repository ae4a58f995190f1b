//! Which roles may call which methods, and what those hear who may not.

use std::collections::BTreeSet;

use permitd_server::{auth::Role, config::IdentityConfig};
use permitd_tests::{Peer, Server, call_with_bytes, facts, http_get, in_flight};
use prost::Message as _;
use tonic::{Code, Request, Status, metadata::MetadataMap};

use crate::support::{ADMIN, ONE, denial, denied, holder, known};

/// Which roles may call a method. Every method of the service has to be here.
fn allowed(method: &str) -> &'static [Role] {
    match method {
        "PermitService/Acquire" => &[Role::Acquire],
        "PermitService/Report" => &[Role::Report],
        "PermitService/Session" => &[Role::Acquire, Role::Report],
        "AdminService/GetBudget"
        | "AdminService/ExplainBudget"
        | "AdminService/ListBudgets"
        | "AdminService/WatchBudgets"
        | "AdminService/ListChanges"
        | "AdminService/DiffBudgets"
        | "AdminService/GetPool"
        | "AdminService/ListPools"
        | "ClusterService/GetCluster" => &[Role::Admin, Role::Observe],
        "AdminService/SetBudget"
        | "AdminService/DeleteBudget"
        | "AdminService/ResetBudget"
        | "AdminService/PauseBudget"
        | "AdminService/ResumeBudget"
        | "ClusterService/MoveBudget"
        | "ClusterService/DrainServer" => &[Role::Admin],
        other => panic!("who may call {other}? Say so here, and in server/src/auth/methods.rs"),
    }
}

/// Every method of our package, as `Service/Method`.
fn methods() -> Vec<String> {
    let descriptors =
        prost_types::FileDescriptorSet::decode(permitd_proto::FILE_DESCRIPTOR_SET).expect("descriptors");
    let files = descriptors.file.into_iter().filter(|file| file.package() == "permitd.v1");
    let services = files.flat_map(|file| file.service);
    services
        .flat_map(|service| {
            let name = service.name().to_owned();
            service.method.into_iter().map(move |method| format!("{name}/{}", method.name()))
        })
        .collect()
}

async fn call(peer: &Peer, method: &str) -> Result<Option<Vec<u8>>, Status> {
    call_with_bytes(peer.channel().await, &format!("/permitd.v1.{method}"), Vec::new()).await
}

/// Goal: each role against each method, as the wire has them: nobody gets further than their role.
#[tokio::test]
async fn every_role_against_every_method() {
    let server = Server::start_with(|config| {
        let identities = Role::ALL.map(|role| (role.name().to_owned(), holder(role.name(), &[role])));
        config.auth.identities.extend(identities);
    })
    .await;
    let methods = methods();
    assert!(methods.len() >= 13, "{methods:?}");
    for method in &methods {
        let allowed: BTreeSet<Role> = allowed(method).iter().copied().collect();
        for role in Role::ALL {
            let denial = denial(call(&server.with_token(role.name()), method).await);
            let expected = if allowed.contains(&role) { None } else { denied("ROLE_MISSING") };
            assert_eq!(denial, expected, "{role} calls {method}");
        }
        for (peer, reason) in [
            (Peer::new(server.address), "CREDENTIALS_MISSING"),
            (server.with_token("?"), "CREDENTIALS_INVALID"),
        ] {
            let denial = denial(call(&peer, method).await);
            assert_eq!(denial, Some((Code::Unauthenticated, reason.to_owned())), "a stranger calls {method}");
        }
    }
    // What does not exist is nothing that strangers learn.
    let nowhere = call(&server, "AdminService/Nowhere").await;
    assert_eq!(denial(nowhere), Some((Code::Unauthenticated, "CREDENTIALS_MISSING".to_owned())));
    server.stop().await;
}

/// Goal: whatever is wrong with credentials, those who show them learn nothing by it.
#[tokio::test]
async fn wrong_credentials_are_all_alike() {
    let server = known(|_| {}).await;
    let long = format!("Bearer {}", "x".repeat(9_000));
    let headers: [&[&str]; 8] = [
        &["Bearer nobody's"],
        &["Bearer "],
        &["Bearer"],
        &["Basic b25lOnR3bw=="],
        &["the admin's token"],
        &["Bearer the admin's toke"],
        &["Bearer the admin's token", "Bearer the admin's token"],
        &[&long],
    ];
    let mut answers = BTreeSet::new();
    for values in headers {
        let mut request = Request::new(permitd_proto::v1::ListBudgetsRequest::default());
        let metadata: &mut MetadataMap = request.metadata_mut();
        for value in values {
            metadata.append("authorization", value.parse().expect("ASCII"));
        }
        let status = server.admin().await.list_budgets(request).await.expect_err("refused");
        let facts = facts(&status);
        assert_eq!(
            (facts.code, facts.reason.as_str()),
            (Code::Unauthenticated, "CREDENTIALS_INVALID"),
            "{values:?}"
        );
        answers.insert(facts.message);
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    server
        .with_token(ADMIN)
        .admin()
        .await
        .list_budgets(permitd_proto::v1::ListBudgetsRequest::default())
        .await
        .expect("the right one");
    server.stop().await;
}

/// Goal: balancers and probes need no credentials, reflection needs some, and metrics those of somebody who may observe.
#[tokio::test]
async fn what_is_open() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    let server = known(|config| {
        config.auth.identities.insert("watcher".to_owned(), holder("watching", &[Role::Observe]));
    })
    .await;
    for peer in [Peer::new(server.address), server.with_token("?")] {
        let mut health = HealthClient::new(peer.channel().await);
        health.check(HealthCheckRequest::default()).await.expect("health is open");
    }
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let stranger = call_with_bytes(server.channel().await, reflection, Vec::new()).await;
    assert_eq!(denial(stranger).expect("denied").0, Code::Unauthenticated);
    let known_one = call_with_bytes(server.with_token(ONE).channel().await, reflection, Vec::new()).await;
    assert_eq!(known_one.expect_err("no question").code(), Code::InvalidArgument, "let in, if with nonsense");

    for path in ["/healthz", "/readyz"] {
        let answer = http_get(server.http, path, None).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
    }
    for (token, status) in [
        (None, "401 Unauthorized"),
        (Some("?"), "401 Unauthorized"),
        (Some(ONE), "403 Forbidden"),
        (Some(ADMIN), "200 OK"),
        (Some("watching"), "200 OK"),
    ] {
        let answer = http_get(server.http, "/metrics", token).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{token:?}: {answer}");
        let shown = answer.contains("permitd_denied_total 4");
        assert_eq!(shown, status == "200 OK", "one call and three scrapes were turned away: {answer}");
        assert_eq!(answer.contains("www-authenticate: Bearer"), status.starts_with("401"), "{answer}");
    }
    server.stop().await;

    // They tell of every budget, so whoever may see some only may not read them.
    let server = known(|config| {
        for (name, budgets) in [("some", &["p/mine"][..]), ("all", &["*"])] {
            let budgets = budgets.iter().map(|&budget| budget.to_owned()).collect();
            let watcher = IdentityConfig { budgets, ..holder(name, &[Role::Observe]) };
            config.auth.identities.insert(name.to_owned(), watcher);
        }
    })
    .await;
    server.with_token(ADMIN).set("others", vec![in_flight(1)]).await;
    let answer = http_get(server.http, "/metrics", Some("some")).await;
    assert!(answer.starts_with("HTTP/1.1 403") && !answer.contains("others"), "{answer}");
    let answer = http_get(server.http, "/metrics", Some("all")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("others"), "{answer}");
    server.stop().await;

    let server = known(|config| config.auth.metrics_open = true).await;
    assert!(http_get(server.http, "/metrics", None).await.starts_with("HTTP/1.1 200"));
    server.stop().await;
}

//! The manifests for Kubernetes.

use permitd_tests::{Authority, Folder, Issued, Permitd, Tool, ask, https_get, in_flight};
use tonic::Code;

use crate::{check_serve, path, read};

const FOLDER: &str = "deploy/kubernetes";
const KUSTOMIZE: Tool = Tool {
    name: "kustomize",
    variable: "KUSTOMIZE",
    source: "go install sigs.k8s.io/kustomize/kustomize/v5@v5.7.1",
};
const VALIDATE: Tool = Tool {
    name: "kubernetes-validate",
    variable: "KUBERNETES_VALIDATE",
    source: "PyPI's package kubernetes-validate has it",
};

fn manifest(name: &str) -> String {
    read(&format!("{FOLDER}/{name}"))
}

/// Goal: what the manifests say of permitd is so: it starts with the configuration, its probes are answered, callers are let in
/// by the certificates that the configuration names, and others are not.
#[tokio::test]
async fn serves_what_it_is_asked_for() {
    let set = manifest("statefulset.yaml");
    let arguments = set.lines().find_map(|line| line.trim().strip_prefix("args: ")).expect("arguments");
    let arguments: Vec<String> = serde_json::from_str(arguments).expect("a list");
    check_serve(&arguments.iter().map(String::as_str).collect::<Vec<_>>());

    let (folder, authority) = (Folder::new(), Authority::new());
    let Issued { cert, key } = authority.server();
    for (name, text) in [("tls.crt", &cert), ("tls.key", &key), ("ca.crt", &authority.cert)] {
        folder.put(name, text);
    }
    let at = |name: &str| folder.path(name).to_str().expect("text").to_owned();
    let config = manifest("permitd.toml");
    for mount in ["/etc/permitd/tls", "/var/lib/permitd"] {
        assert!(config.contains(mount) && set.contains(&format!("mountPath: {mount}\n")), "{mount}");
    }
    let config = config.replace("/etc/permitd/tls/", &at("")).replace("/var/lib/permitd", &at("data"));
    let server = Permitd::start(&config).await;
    let probes: Vec<&str> = set.lines().filter_map(|line| line.trim().strip_prefix("path: ")).collect();
    assert_eq!(probes.len(), 3, "at the start, for life, and for readiness");
    for probe in probes {
        let answer = https_get(&authority, server.http, probe, None).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{probe}: {answer}");
    }
    let metrics = https_get(&authority, server.http, "/metrics", None).await;
    assert!(metrics.contains("permitd_sessions"), "{metrics}");

    let through = |issued: &Issued| server.through(authority.trusted().identity(issued.identity()));
    through(&authority.client(&[], &[], "permitd-operator")).set("k", vec![in_flight(1)]).await;
    let workload = through(&authority.client(&[], &["spiffe://cluster.local/ns/shop/sa/checkout"], ""));
    workload.granted(ask("k")).await;
    let stranger = through(&authority.client(&[], &["spiffe://elsewhere/ns/shop/sa/checkout"], ""));
    assert_eq!(stranger.refused(ask("k")).await.code, Code::Unauthenticated);
    server.stop().await;
}

/// Goal: ports have one name and one number everywhere.
#[test]
fn ports_agree() {
    let (set, service) = (manifest("statefulset.yaml"), manifest("service.yaml"));
    for (name, port) in [("grpc", 7110), ("http", 7111)] {
        assert!(set.contains(&format!("- name: {name}\n              containerPort: {port}\n")), "{name}");
        assert!(
            service.contains(&format!("- name: {name}\n      port: {port}\n      targetPort: {name}\n")),
            "{name}"
        );
        assert!(manifest("permitd.toml").contains(&format!("\"0.0.0.0:{port}\"")), "{name}");
    }
}

/// Goal: kustomize puts it together, and every field is one that Kubernetes knows.
#[test]
#[ignore = "needs kustomize and kubernetes-validate: make test-packaging"]
fn kubernetes_takes_it() {
    let folder = Folder::new();
    let all = KUSTOMIZE.run(&path(FOLDER), &["build", "."]);
    assert_eq!(all.matches("\nkind: ").count() + usize::from(all.starts_with("kind: ")), 3, "{all}");
    folder.put("all.yaml", &all);
    let all = folder.path("all.yaml");
    VALIDATE.run(&path("."), &["--strict", all.to_str().expect("text")]);
}

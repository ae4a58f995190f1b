//! `permitd explain`

use crate::support::Server;

/// Goal: who waits, for which limit, and what would help is told to people and to machines.
#[test]
fn tells_what_holds() {
    let server = Server::start();
    server.say(&["budgets", "set", "p/k", "--limit", "requests=1/1h", "--limit", "in_flight=9"]).well();
    server.say(&["acquire", "p/k", "--tenant", "web"]).well();
    server.say(&["acquire", "p/k", "--tenant", "web", "--max-wait", "0s"]);
    let told = server.say(&["explain", "p/k"]).well().stdout;
    for (heading, start) in
        [("Now", "  Nothing holds it back"), ("Refused of late", "  1 request of web got no permit")]
    {
        let under = told.split_once(&format!("{heading}\n")).unwrap_or_else(|| panic!("{heading}: {told}")).1;
        assert!(under.starts_with(start), "{told}");
    }
    assert!(told.contains("not in time: requests/1h is short"), "{told}");
    let json = server.say(&["explain", "p/k", "--json"]).well().json().remove(0);
    assert_eq!(json["refusals"][0]["limit"], "requests/1h");
    assert_eq!(json["refusals"][0]["tenant"], "web");
    assert_eq!(json["state"]["budget"], "p/k");
    let unknown = server.say(&["explain", "p/unknown"]);
    assert!(unknown.code != 0 && unknown.stderr.contains("permitd budgets set p/unknown"), "{unknown:#?}");
}

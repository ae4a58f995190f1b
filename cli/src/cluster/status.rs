//! `permitd cluster status`

use clap::Args;
use permitd_proto::v1;
use serde_json::{Value, json};

use crate::{
    failure::Failure,
    format::{grouped, moment, print, rough, span, span_text},
    remote::Remote,
    table::{Align, Table},
};

const EXAMPLES: &str = "\
Examples:
  permitd cluster status
  permitd cluster status --json | jq '.members[] | select(.drained) | .name'

HEARD is how long ago the server that answers heard of each; servers tell of themselves five times a \
lease. How many budgets each owns is as that server knows it, which may be a moment old.";

/// Lists the servers, with how many budgets each owns.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Status {
    #[command(flatten)]
    pub(super) remote: Remote,
}

impl Status {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let answer = self.remote.cluster().await?.get_cluster(v1::GetClusterRequest {}).await;
        let cluster = answer.map_err(|status| self.remote.failure(&status))?.into_inner();
        print(if self.remote.json { cluster_json(&cluster).to_string() } else { text(&cluster) })
    }
}

fn text(cluster: &v1::GetClusterResponse) -> String {
    let mut table = Table::new(&[
        ("SERVER", Align::Left),
        ("ADDRESS", Align::Left),
        ("VERSION", Align::Left),
        ("BUDGETS", Align::Right),
        ("LEASED SINCE", Align::Left),
        ("HEARD", Align::Right),
        ("STATE", Align::Left),
    ]);
    for member in &cluster.members {
        let heard = member.heard_ago.as_ref().map(|ago| format!("{} ago", rough(span(ago))));
        let here = (member.name == cluster.answered_by).then_some("answers this");
        let drained = member.drained.then_some("takes no budgets");
        table.row([
            member.name.clone(),
            member.address.clone(),
            member.version.clone(),
            grouped(member.owned_budgets),
            member.leased_at.as_ref().map(moment).unwrap_or_default(),
            heard.unwrap_or_default(),
            here.into_iter().chain(drained).collect::<Vec<_>>().join(", "),
        ]);
    }
    let lease = cluster.lease.as_ref().map(span_text).unwrap_or_default();
    format!(
        "{}\n\n{} budgets without an owner; leases of {lease}",
        table.render(),
        grouped(cluster.ownerless_budgets)
    )
}

fn cluster_json(cluster: &v1::GetClusterResponse) -> Value {
    let members = cluster.members.iter().map(|member| {
        json!({
            "name": member.name,
            "address": member.address,
            "version": member.version,
            "owned_budgets": member.owned_budgets,
            "leased_at": member.leased_at.as_ref().map(moment),
            "heard_seconds_ago": member.heard_ago.as_ref().map(|ago| span(ago).as_secs_f64()),
            "drained": member.drained,
        })
    });
    json!({
        "members": members.collect::<Vec<_>>(),
        "answered_by": cluster.answered_by,
        "ownerless_budgets": cluster.ownerless_budgets,
        "lease_seconds": cluster.lease.as_ref().map(|lease| span(lease).as_secs_f64()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every server is there, with what is special about it.
    #[test]
    fn tells_of_each() {
        let member = |name: &str, drained| v1::ClusterMember {
            name: name.to_owned(),
            owned_budgets: 1_200,
            heard_ago: Some(prost_types::Duration { seconds: 0, nanos: 300_000_000 }),
            drained,
            ..v1::ClusterMember::default()
        };
        let cluster = v1::GetClusterResponse {
            members: vec![member("a", false), member("b", true)],
            answered_by: "b".to_owned(),
            ownerless_budgets: 3,
            lease: Some(prost_types::Duration { seconds: 4, nanos: 0 }),
        };
        let text = text(&cluster);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[1].starts_with("a ") && lines[1].ends_with("300ms ago"), "{text}");
        assert!(lines[2].contains("1,200") && lines[2].ends_with("answers this, takes no budgets"), "{text}");
        assert_eq!(lines[4], "3 budgets without an owner; leases of 4s");
        assert_eq!(cluster_json(&cluster)["members"][1]["drained"], true);
    }
}

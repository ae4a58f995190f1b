//! Administration of budgets that other servers of a cluster own: a call about one budget goes to its owner; one about many is put
//! together from what each server says of its own.

use std::future::Future;

use permitd_proto::v1::{self, admin_service_client::AdminServiceClient};
use tonic::{Code, Response, Status, transport::Channel};

use super::{
    Admin,
    page::{self, Pages, Wanted},
};
use crate::{
    auth::Caller,
    cluster::{
        Cluster, Errand,
        peers::{Peer, on_behalf},
    },
    config::BudgetName,
    status::{DRAINING_HINT, Fault},
};

/// Budgets that one server is asked for at a time.
const PAGE: u32 = 1_000;

impl Admin {
    /// Makes a call at the owner of a budget. `None`: this server is.
    pub(super) async fn at_owner<Q, T, F>(
        &self,
        caller: &Caller,
        budget: &BudgetName,
        errand: Errand,
        request: &Q,
        call: impl Fn(AdminServiceClient<Channel>, tonic::Request<Q>) -> F,
    ) -> Result<Option<Response<T>>, Status>
    where
        Q: Clone,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let Some(cluster) = &self.cluster else { return Ok(None) };
        let asked = cluster.at_owner(budget, errand, caller, |peer| {
            let client = cluster.peers().admin(&peer);
            let called = client.map(|client| call(client, on_behalf(caller, request.clone())));
            async move { called?.await }
        });
        asked.await
    }

    /// A page of the budgets of all servers, in order.
    pub(super) async fn list_everywhere(
        &self,
        caller: &Caller,
        wanted: &Wanted,
        request: &v1::ListBudgetsRequest,
        own: page::Found,
        most: usize,
    ) -> Result<page::Found, Fault> {
        let Some(cluster) = self.cluster.as_ref().filter(|_| !caller.is_passed()) else { return Ok(own) };
        let mut found = own;
        for peer in cluster.others() {
            let theirs = list_of(cluster, &peer, caller, request.clone()).await?;
            // What a server left out may come before what the others told.
            let pages = Pages::new("budgets", &request.filter);
            let next = pages.read::<BudgetName>(&theirs.next_page_token)?;
            found = merge(found, page::Found { states: theirs.states, next }, wanted);
        }
        if found.states.len() > most {
            found.states.truncate(most);
            found.next = found.states.last().and_then(name_of);
        }
        Ok(found)
    }

    /// Differences that the other servers tell, of the budgets that are theirs.
    pub(super) async fn differences_elsewhere(
        &self,
        caller: &Caller,
        filter: &str,
    ) -> Result<Vec<(BudgetName, v1::BudgetDifference)>, Fault> {
        let Some(cluster) = self.cluster.as_ref().filter(|_| !caller.is_passed()) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for peer in cluster.others() {
            let mut page_token = String::new();
            loop {
                let filter = filter.to_owned();
                let request = v1::DiffBudgetsRequest { filter, page_token, page_size: PAGE };
                let mut client = cluster.peers().admin(&peer).map_err(|status| unanswered(&peer, &status))?;
                let page = client.diff_budgets(on_behalf(caller, request)).await;
                let page = page.map_err(|status| unanswered(&peer, &status))?.into_inner();
                let named = page.differences.into_iter();
                found.extend(
                    named.filter_map(|found| {
                        Some((BudgetName::new(&found.provider, &found.key).ok()?, found))
                    }),
                );
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    break;
                }
            }
        }
        Ok(found)
    }
}

/// Everything that there is of the budgets of the other servers.
pub(super) async fn states_elsewhere(
    cluster: &Cluster,
    wanted: &Wanted,
) -> Result<Vec<v1::BudgetState>, Fault> {
    let mut states = Vec::new();
    for peer in cluster.others() {
        let mut page_token = String::new();
        loop {
            let filter = wanted.filter().to_owned();
            let request = v1::ListBudgetsRequest { filter, page_token, page_size: PAGE };
            let page = list_of(cluster, &peer, wanted.caller(), request).await?;
            states.extend(page.states.into_iter().filter(|state| is_wanted(state, wanted)));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
    }
    Ok(states)
}

async fn list_of(
    cluster: &Cluster,
    peer: &Peer,
    caller: &Caller,
    request: v1::ListBudgetsRequest,
) -> Result<v1::ListBudgetsResponse, Fault> {
    let mut client = cluster.peers().admin(peer).map_err(|status| unanswered(peer, &status))?;
    let answered = client.list_budgets(on_behalf(caller, request)).await;
    Ok(answered.map_err(|status| unanswered(peer, &status))?.into_inner())
}

/// Both in order, up to where the one that was cut short first was.
fn merge(one: page::Found, other: page::Found, wanted: &Wanted) -> page::Found {
    let next = match (one.next, other.next) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    let mut states = one.states;
    states.extend(other.states.into_iter().filter(|state| is_wanted(state, wanted)));
    let mut named: Vec<_> = states.into_iter().filter_map(|state| Some((name_of(&state)?, state))).collect();
    named.sort_by(|(one, _), (other, _)| one.cmp(other));
    // One that moves at this moment may be told by both.
    named.dedup_by(|(one, _), (other, _)| one == other);
    named.retain(|(name, _)| next.as_ref().is_none_or(|next| name <= next));
    page::Found { states: named.into_iter().map(|(_, state)| state).collect(), next }
}

fn is_wanted(state: &v1::BudgetState, wanted: &Wanted) -> bool {
    name_of(state).is_some_and(|name| wanted.holds_for(&name))
}

pub(super) fn name_of(state: &v1::BudgetState) -> Option<BudgetName> {
    let budget = state.budget.as_ref()?;
    BudgetName::new(&budget.provider, &budget.key).ok()
}

/// A list would not be complete.
fn unanswered(peer: &Peer, status: &Status) -> Fault {
    let message =
        format!("the server {} does not answer ({}); ask again in a moment", peer.name, status.message());
    Fault::new(Code::Unavailable, "SERVER_UNAVAILABLE", message).after(DRAINING_HINT)
}

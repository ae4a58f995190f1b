//! Many clients that ask, report, cancel, break off and come back in random order: no slot is ever granted twice, and none is
//! lost in the end.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use permitd_budget::LimitSpec;
use permitd_proto::v1::{
    AcquireRequest, BudgetState, GetBudgetRequest, SessionRequest, admin_service_client::AdminServiceClient,
};
use tonic::transport::Channel;

use crate::support::{Server, ask, success, until};

const SLOTS: u32 = 3;
const STEPS: u64 = 150;
const CLIENTS: u64 = 6;

/// A small generator: the same seed, the same steps.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

async fn state(admin: &mut AdminServiceClient<Channel>) -> BudgetState {
    let request = GetBudgetRequest { provider: "p".to_owned(), key: "k".to_owned() };
    admin.get_budget(request).await.expect("it exists").into_inner().state.expect("a state")
}

/// One client.
async fn misbehave(server: Arc<Server>, number: u64) {
    let mut dice = Dice(number);
    let name = format!("client-{number}");
    let mut session = server.session(&name).await;
    let mut mine: BTreeSet<String> = BTreeSet::new();
    for request_id in 0..STEPS {
        let count = if dice.roll(8) == 0 { 3 } else { 1 };
        session
            .send(SessionRequest {
                acquire: vec![AcquireRequest { count, ..ask(request_id, "k") }],
                ..SessionRequest::default()
            })
            .await;
        // Whatever was sent before is answered by the time that this is.
        let probe = session.report("not-a-permit").await;
        assert!(!probe.settled);
        mine.extend(session.take_grants());
        match dice.roll(6) {
            0 => session.cancel(dice.roll(request_id + 1)).await,
            1 => {
                session.break_off();
                session = server.session(&name).await;
            }
            _ => {
                if let Some(permit_id) = mine.pop_first() {
                    session
                        .send(SessionRequest { report: vec![success(&permit_id)], ..Default::default() })
                        .await;
                    session.reported().await;
                }
            }
        }
    }
    // Takes back everything that it ever asked for, and reports what it holds.
    let report = mine.iter().map(|permit_id| success(permit_id)).collect();
    session.send(SessionRequest { cancel: (0..STEPS).collect(), report, ..Default::default() }).await;
    for _ in 0..mine.len() {
        session.reported().await;
    }
    // Grants that were on their way before the cancels came are there by the time that this is answered.
    assert!(!session.report("not-a-permit").await.settled);
    for permit_id in session.take_grants() {
        session.report(&permit_id).await;
    }
    session.close();
    session.end().await.expect("a polite end");
}

/// Goal: through resets, resumes and cancels that race with grants, the budget never exceeds its slots, and gets all of them
/// back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_survive_everything() {
    let server = Server::start_with(&[("k", vec![LimitSpec::in_flight(SLOTS.into())])], |config| {
        config.server.grace = Duration::from_secs(60);
    })
    .await;
    let server = Arc::new(server);
    let mut admin = AdminServiceClient::new(server.channel().await);
    let clients: Vec<_> =
        (1..=CLIENTS).map(|number| tokio::spawn(misbehave(Arc::clone(&server), number))).collect();
    while clients.iter().any(|client| !client.is_finished()) {
        assert!(state(&mut admin).await.in_flight <= SLOTS);
        tokio::task::yield_now().await;
    }
    for client in clients {
        client.await.expect("no client panicked");
    }
    let all_back = state(&mut admin).await;
    assert!(all_back.granted_total > CLIENTS * 5, "{} grants: hardly any chaos", all_back.granted_total);
    until("every slot to be back", async || {
        let state = state(&mut admin.clone()).await;
        (state.in_flight, state.waiting) == (0, 0)
    })
    .await;
    let server = Arc::into_inner(server).expect("no client is left");
    server.stop().await;
}

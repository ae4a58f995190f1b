//! Calls on a budget with limits of every kind, as their callers saw them while servers came and went, and whether it granted too much.

use std::time::{Duration, Instant};

use permitd_proto::v1::{AcquireRequest, Budget, Limit, Outcome, ReportRequest, Usage, Window};
use tokio::time::sleep;

use crate::{
    draws::Draws,
    peer::Peer,
    referee::{check_in_flight, check_rate},
    words::{ask, budget, in_flight, rate, report, span, success},
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const SLOTS: u64 = 12;
/// Of permits: slots that nobody gave back are free again soon.
const TTL: Duration = Duration::from_secs(5);
/// Tokens that a call asks for at most.
const TOKENS_MAX: u64 = 80;
/// How long a call takes at most, in milliseconds.
const LASTS_MS_MAX: u64 = 40;

/// One call as its caller saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its permit's id.
    pub permit: String,
    /// Before the request was sent.
    pub sent: Instant,
    /// After the grant was read.
    pub granted: Instant,
    /// When it was over.
    pub ended: Instant,
    /// Its tokens; `None` for a call that was never made.
    pub used: Option<u64>,
}

/// The budget `p/k`, with a limit of every kind, and these.
#[must_use]
pub fn every_kind(more: Vec<Limit>) -> Budget {
    let mut limits = vec![
        Limit { burst: 60, ..rate("requests", 3_000, MINUTE) },
        Limit { window: Window::Sliding.into(), ..rate("requests", 450, SECOND * 10) },
        Limit {
            window: Window::Fixed.into(),
            phase: Some(prost_types::Timestamp::default()),
            ..rate("tokens", 9_000, SECOND * 10)
        },
        in_flight(SLOTS),
    ];
    limits.extend(more);
    Budget { permit_ttl: span(TTL), ..budget("k", limits) }
}

/// What a call is going to be.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Tokens that it asks for.
    pub tokens: u64,
    /// How long it takes.
    pub lasts: Duration,
    /// Tokens that it uses; `None` for one that is cancelled.
    pub used: Option<u64>,
}

impl Plan {
    /// Of the next call.
    pub fn draw(draws: &mut Draws) -> Self {
        let tokens = 1 + draws.below(TOKENS_MAX);
        let lasts = Duration::from_millis(draws.below(LASTS_MS_MAX));
        let used = draws.below(tokens + 1);
        Self { tokens, lasts, used: (draws.below(5) > 0).then_some(used) }
    }

    /// Asks this server for a permit and makes the call. What its caller saw, and what there is to report; `None` without a permit.
    pub async fn follow(self, peer: &Peer) -> Option<(Seen, ReportRequest)> {
        let request = AcquireRequest { tokens: self.tokens, max_wait: span(SECOND), ..ask("k") };
        let sent = Instant::now();
        let permit = peer.try_granted(request).await.ok()?.permit_id;
        let granted = Instant::now();
        sleep(self.lasts).await;
        let said = match self.used {
            None => report(&permit, Outcome::Cancelled),
            tokens => {
                ReportRequest { actual: Some(Usage { tokens, ..Usage::default() }), ..success(&permit) }
            }
        };
        Some((Seen { permit, sent, granted, ended: Instant::now(), used: self.used }, said))
    }
}

/// No permit was given twice, and no window and no slot of [`every_kind`] holds more than it may, whatever happened in between. Servers and
/// callers may read their clocks so much apart.
///
/// # Panics
/// If there was more.
pub fn judge(calls: &[Seen], apart: Duration) {
    let mut permits: Vec<&str> = calls.iter().map(|call| call.permit.as_str()).collect();
    permits.sort_unstable();
    let twice = permits.windows(2).find(|two| two[0] == two[1]);
    assert_eq!(twice, None, "a permit is for one request");
    let made: Vec<&Seen> = calls.iter().filter(|call| call.used.is_some()).collect();
    let of = |used: fn(&Seen) -> u64| {
        made.iter().map(|call| (call.sent, call.granted, used(call))).collect::<Vec<_>>()
    };
    let within = |most: f64| move |stretch| if stretch < SECOND * 10 { most } else { f64::INFINITY };
    let requests = of(|_| 1);
    check_rate("bucket", &requests, apart, |stretch| 60.0 + 50.0 * stretch.as_secs_f64());
    check_rate("sliding", &requests, apart, within(450.0));
    // Around the edge of two fixed windows twice the amount may fall.
    check_rate("fixed", &of(|call| call.used.unwrap_or(0)), apart, within(18_000.0));
    // A permit's life begins when it is granted, which may be long before that is heard of: the request may be all that was before.
    let held = calls.iter().map(|call| (call.granted, call.ended.min(call.sent + TTL)));
    // Who heard of a grant after its life was over held nothing.
    check_in_flight("in_flight", held.filter(|(begin, end)| begin < end), SLOTS.cast_signed());
}

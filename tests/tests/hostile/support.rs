//! A polite client beside the hostile ones.

use std::iter;

use permitd_client::{Client, Report};
use permitd_tests::{Permitd, ask, soon};

/// `polite` is for the polite client, `k` for everybody else.
pub(crate) const CONFIG: &str = r#"
[server]
drain = "0s"
[budgets."p/polite"]
limits = ["requests=1M/1s", "in_flight=10"]
[budgets."p/k"]
limits = ["tokens=1000/1d", "requests=1M/1s"]
"#;

/// A server, and a polite client that has to be served whatever the others do.
pub(crate) struct World {
    pub(crate) server: Permitd,
    pub(crate) polite: Client,
}

impl World {
    pub(crate) async fn start() -> Self {
        let server = Permitd::start(CONFIG).await;
        let polite = soon("a session", Client::connect([server.url()])).await.expect("a server");
        Self { server, polite }
    }

    /// The polite client is served, by its old session and by a new connection.
    pub(crate) async fn is_well(&self) {
        let acquiring = iter::repeat_with(|| async {
            let asked = std::future::IntoFuture::into_future(self.polite.acquire("p/polite"));
            let guard = soon("a permit for the polite one", asked).await.expect("no error");
            assert!(soon("an answer", guard.report(Report::success())).await.expect("no error").settled);
        });
        futures_util::future::join_all(acquiring.take(20)).await;
        let mut session = self.server.session("").await;
        session.ask(1, ask("polite")).await;
        let permit = session.permit(1).await;
        session.settle(&permit).await;
    }

    /// Everything is well, and the process has not panicked.
    pub(crate) async fn end(self) {
        self.is_well().await;
        let state = self.server.state("polite").await;
        assert_eq!((state.in_flight, state.waiting), (0, 0));
        soon("the end of the polite one", self.polite.close()).await;
        self.server.stop().await;
    }
}

/// Bytes that look random and are the same each time.
pub(crate) fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed;
    let draw = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    iter::repeat_with(draw).take(bytes).collect()
}

pub(crate) fn strange_names() -> Vec<(&'static str, String)> {
    vec![
        ("NUL", "a\0b".to_owned()),
        ("newline", "a\nb".to_owned()),
        ("escape", "\u{1b}[31m".to_owned()),
        ("C1 control", "a\u{85}b".to_owned()),
        ("257 bytes", "x".repeat(257)),
        ("a megabyte", "x".repeat(1_000_000)),
    ]
}

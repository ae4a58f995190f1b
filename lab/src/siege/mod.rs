//! What permitd stands: a crowd that waits, clients that mean harm, and those who watch it, against the real binary in a process of its
//! own, so that its memory is its own and nobody else's.

mod crowd;
mod hostile;
mod telemetry;

use std::{path::PathBuf, time::Duration};

pub use crowd::{Crowd, Crowded};
pub use hostile::{Hostile, Siege, Sieged};
pub use telemetry::{Telemetry, Told};

/// Why nothing was measured.
pub type Error = crate::bench::Error;

/// The server's binary beside this one.
///
/// # Errors
/// If there is none.
pub fn binary() -> Result<PathBuf, Error> {
    let binary = std::env::current_exe()?.with_file_name(format!("permitd{}", std::env::consts::EXE_SUFFIX));
    if binary.exists() {
        return Ok(binary);
    }
    Err(format!("no {}; build it: cargo build --release -p permitd", binary.display()).into())
}

/// How a polite client fares: it sends so many acquires and reports a second on one connection.
#[derive(Clone, Copy, Debug)]
pub struct Polite {
    /// Acquires and reports a second.
    pub rate: f64,
    /// For how long, after a warm-up of a fifth of it.
    pub turn: Duration,
}

/// Its waits from acquire to grant.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waits {
    /// The median.
    pub p50: Duration,
    /// The 99th percentile.
    pub p99: Duration,
}

impl Polite {
    /// Who asks for nothing, and is not measured.
    pub(crate) const NOBODY: Self = Self { rate: 0.0, turn: Duration::ZERO };

    fn measure(self, server: std::net::SocketAddr) -> Result<Waits, Error> {
        if self.turn.is_zero() {
            return Ok(Waits::default());
        }
        let paced = crate::bench::paced(server, self.turn, self.rate)?;
        let at = |quantile| Duration::from_nanos(paced.value_at_quantile(quantile));
        Ok(Waits { p50: at(0.5), p99: at(0.99) })
    }
}

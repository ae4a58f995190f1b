//! How things look: for people on a terminal or in a pipe, and as JSON for machines.

use std::{
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

use permitd_server::config::DurationText;
pub(crate) use permitd_server::{
    shown::{moment, span, span_text},
    words::grouped,
};

use crate::failure::Failure;

/// A duration for the wire.
pub(crate) fn wire_span(span: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: i32::try_from(span.subsec_nanos()).unwrap_or(0) }
}

/// A duration that was measured: nobody reads its nanoseconds.
pub(crate) fn rough(span: Duration) -> String {
    const MILLISECOND: u128 = 1_000_000;
    let step = if span < Duration::from_secs(10) { MILLISECOND } else { 1_000 * MILLISECOND };
    let nanos = span.as_nanos().div_ceil(step) * step;
    DurationText(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))).to_string()
}

/// Whether a person reads stdout.
pub(crate) fn on_terminal() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Prints to stdout. Whoever read it and went away (`| head`) is no failure, but there is no use going on.
pub(crate) fn print(text: impl AsRef<str>) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    let written = writeln!(stdout, "{}", text.as_ref()).and_then(|()| stdout.flush());
    match written {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(error) => Err(Failure::new("can't write to stdout").because(error)),
    }
}

/// Prints JSON values, one a line.
pub(crate) fn print_json(values: impl IntoIterator<Item = serde_json::Value>) -> Result<(), Failure> {
    let lines: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    if lines.is_empty() { Ok(()) } else { print(lines.join("\n")) }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::rough;

    /// Goal: measured spans are short to read, and never rounded down to nothing.
    #[test]
    fn rounds_what_was_measured() {
        assert_eq!(rough(Duration::from_nanos(1)), "1ms");
        assert_eq!(rough(Duration::from_micros(1_234_567)), "1s235ms");
        assert_eq!(rough(Duration::from_millis(61_001)), "1m2s");
        assert_eq!(rough(Duration::ZERO), "0s");
    }
}

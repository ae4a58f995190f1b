//! Prometheus's own judge of rules and queries.

use permitd_tests::Tool;

pub(crate) const PROMTOOL: Tool =
    Tool { name: "promtool", variable: "PROMTOOL", source: "Debian's package prometheus has it" };

//! What callers saw, and whether it can be.

use std::time::Duration;

use permitd_budget::{IN_FLIGHT, LimitSpec, TOKENS, Window};

/// One call, by true time in nanoseconds.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) tenant: usize,
    pub(crate) granted: u64,
    pub(crate) requests: u64,
    pub(crate) tokens: u64,
    /// When it was reported, or its permit expired.
    pub(crate) ended: u64,
}

impl Call {
    fn used(&self, unit: &str) -> u64 {
        if unit == TOKENS { self.tokens } else { self.requests }
    }
}

/// No limit was ever exceeded.
pub(crate) fn judge(limits: &[LimitSpec], tenants: usize, calls: &[Call]) -> Result<(), String> {
    for limit in limits {
        let whose: Vec<Option<usize>> = match limit.tenants.as_str() {
            "each" => (0..tenants).map(Some).collect(),
            _ => vec![None],
        };
        for tenant in whose {
            let of: Vec<&Call> =
                calls.iter().filter(|call| tenant.is_none_or(|tenant| call.tenant == tenant)).collect();
            let judged = if limit.unit == IN_FLIGHT { slots(limit, &of) } else { rate(limit, &of) };
            judged.map_err(|problem| format!("{limit} (tenant {tenant:?}): {problem}"))?;
        }
    }
    Ok(())
}

fn slots(limit: &LimitSpec, calls: &[&Call]) -> Result<(), String> {
    let begins = calls.iter().map(|call| (call.granted, 1));
    let ends = calls.iter().map(|call| (call.ended, -1));
    let mut edges: Vec<(u64, i64)> = begins.chain(ends).collect();
    // At the same moment, an end counts first.
    edges.sort_unstable();
    let mut live = 0;
    for (at, change) in edges {
        live += change;
        if live > i64::try_from(limit.amount).expect("small") {
            return Err(format!("{live} at once at {at}"));
        }
    }
    Ok(())
}

fn rate(limit: &LimitSpec, calls: &[&Call]) -> Result<(), String> {
    let per = nanos(limit.per.expect("a rate has a window"));
    for (first, begin) in calls.iter().enumerate() {
        let mut used = 0;
        for end in &calls[first..] {
            let span = end.granted - begin.granted;
            used += end.used(&limit.unit);
            let most = match limit.window {
                Window::Bucket => {
                    let burst = if limit.burst == 0 { limit.amount } else { limit.burst };
                    let refill = u128::from(limit.amount) * u128::from(span) / u128::from(per);
                    u128::from(burst) + refill
                }
                // Of a fixed window, those within the same one.
                Window::Fixed { .. } if begin.granted / per == end.granted / per => limit.amount.into(),
                Window::Sliding if span < per => limit.amount.into(),
                Window::Quantised { quantum } if span < nanos(quantum) => {
                    u128::from(limit.amount) * u128::from(nanos(quantum)) / u128::from(per)
                }
                _ => break,
            };
            if u128::from(used) > most {
                let from = begin.granted;
                return Err(format!("{used} within {span} ns from {from}, where {most} is the most"));
            }
        }
    }
    Ok(())
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).expect("short")
}

//! How flags are read: budgets, limits, tenants and durations, each by the rule that the configuration file has too.

use std::time::Duration;

use permitd_budget::{LimitSpec, Scheduled};
use permitd_proto::v1;
use permitd_server::{
    config::{BudgetName, parse_amount, parse_duration, parse_limit},
    schedule::parse_scheduled,
};

pub(crate) fn budget(text: &str) -> Result<BudgetName, String> {
    text.parse()
        .map_err(|error| format!("{error}; a budget is called PROVIDER/KEY, for example anthropic/prod"))
}

pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text)
}

pub(crate) fn amount(text: &str) -> Result<u64, String> {
    parse_amount(text)
}

pub(crate) fn limit(text: &str) -> Result<LimitSpec, String> {
    parse_limit(text).map_err(|error| error.to_string())
}

/// Hours and the limit at them.
pub(crate) fn scheduled(text: &str) -> Result<Scheduled, String> {
    parse_scheduled(text)
}

/// A tenant that differs from the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tenant {
    pub(crate) name: String,
    pub(crate) wire: v1::Tenant,
}

/// `NAME=WEIGHT[:MAX_WAITING][:PERCENT%+][:PERCENT%]`. The name may have an equals sign, since the last one counts.
pub(crate) fn tenant(text: &str) -> Result<Tenant, String> {
    let example = "write it like web=3, web=3:500 to let at most 500 of its requests wait, web=3:40% to give it at most 40 % of \
                   each limit, or web=3:20%+ to guarantee it 20 %";
    let (name, numbers) = text.rsplit_once('=').ok_or_else(|| format!("no weight; {example}"))?;
    let (weight, bounds) = numbers.split_once(':').unwrap_or((numbers, ""));
    let number = |text: &str| text.parse::<u32>().map_err(|_| format!("{text:?} is no number; {example}"));
    if name.is_empty() {
        return Err(format!("no name; {example}"));
    }
    let mut wire = v1::Tenant { weight: number(weight)?, ..v1::Tenant::default() };
    for bound in bounds.split_terminator(':') {
        match bound.strip_suffix('%') {
            Some(percent) => wire.max_percent = number(percent)?,
            None => match bound.strip_suffix("%+") {
                Some(percent) => wire.min_percent = number(percent)?,
                None => wire.max_waiting = number(bound)?,
            },
        }
    }
    Ok(Tenant { name: name.to_owned(), wire })
}

/// `NAME=AMOUNT` of a unit.
pub(crate) fn unit_amount(text: &str) -> Result<(String, u64), String> {
    let (unit, amount) = text.rsplit_once('=').ok_or("no amount; write it like points=5")?;
    if unit.is_empty() {
        return Err("no unit; write it like points=5".to_owned());
    }
    Ok((unit.to_owned(), parse_amount(amount)?))
}

#[cfg(test)]
mod tests {
    use permitd_server::shown::tenant_text;

    use super::{Tenant, tenant, unit_amount, v1};

    /// Goal: tenants as people write them.
    #[test]
    fn reads_tenants() {
        let read = |name: &str, weight, max_waiting, max_percent| {
            let wire = v1::Tenant { weight, max_waiting, max_percent, ..v1::Tenant::default() };
            Ok(Tenant { name: name.to_owned(), wire })
        };
        assert_eq!(tenant("web=3"), read("web", 3, 0, 0));
        assert_eq!(tenant("a=b=3:500"), read("a=b", 3, 500, 0));
        assert_eq!(tenant("a=3:40%"), read("a", 3, 0, 40));
        for written in ["a=1", "a=3:40%", "a=3:500", "a=2:500:7%", "a=1:20%+", "a=2:500:5%+:7%"] {
            let read = tenant(written).expect(written);
            assert_eq!(format!("a={}", tenant_text(&read.wire)), written, "what is shown is what is read");
        }
        for (text, hint) in [
            ("web", "no weight"),
            ("=3", "no name"),
            ("web=x", "no number"),
            ("web=-1", "no number"),
            ("web=1:x%", "no number"),
            ("web=1:x%+", "no number"),
        ] {
            let problem = tenant(text).expect_err(text);
            assert!(problem.contains(hint), "{text}: {problem}");
        }
    }

    /// Goal: units of any name can be given.
    #[test]
    fn reads_units() {
        assert_eq!(unit_amount("points=5"), Ok(("points".to_owned(), 5)));
        assert_eq!(unit_amount("usd_micros=2k"), Ok(("usd_micros".to_owned(), 2_000)));
        assert!(unit_amount("points").is_err());
        assert!(unit_amount("=5").is_err());
    }
}

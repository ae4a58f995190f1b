//! What is left of a budget, as a row.

use permitd_budget::{
    BudgetSpec, Level, SavedBudget, SavedLimit, SavedMeter, SavedStrangers, SavedTenant, Time,
};
use permitd_proto::v1;
use prost::{Message, Oneof};

use super::{
    super::{Table, Write},
    learned::{GateRow, LearnedRow},
};
use crate::wire::budget::{read_limit, write_limit};

#[derive(Clone, PartialEq, Message)]
struct BalanceRow {
    #[prost(fixed64, tag = "1")]
    at_nanos: u64,
    #[prost(uint64, tag = "2")]
    next_serial: u64,
    #[prost(uint64, tag = "3")]
    serials: u64,
    #[prost(message, repeated, tag = "4")]
    limits: Vec<LimitRow>,
    #[prost(message, repeated, tag = "5")]
    tenants: Vec<TenantRow>,
    #[prost(bool, tag = "7")]
    exhausted: bool,
    #[prost(fixed64, optional, tag = "8")]
    exhausted_until_nanos: Option<u64>,
    #[prost(message, optional, tag = "9")]
    gate: Option<GateRow>,
}

#[derive(Clone, PartialEq, Message)]
struct LimitRow {
    #[prost(message, optional, tag = "1")]
    meter: Option<MeterRow>,
    #[prost(message, optional, tag = "5")]
    strangers: Option<StrangersRow>,
    #[prost(message, optional, tag = "6")]
    limit: Option<v1::Limit>,
    #[prost(message, optional, tag = "7")]
    learned: Option<LearnedRow>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct StrangersRow {
    #[prost(uint64, tag = "1")]
    allowance: u64,
    #[prost(message, optional, tag = "2")]
    owed: Option<UntilRow>,
}

/// So many, until then.
#[derive(Clone, Copy, PartialEq, Message)]
struct UntilRow {
    #[prost(uint64, tag = "1")]
    units: u64,
    #[prost(fixed64, tag = "2")]
    until_nanos: u64,
}

#[derive(Clone, PartialEq, Message)]
struct TenantRow {
    #[prost(string, tag = "1")]
    tenant: String,
    #[prost(message, repeated, tag = "2")]
    meters: Vec<OwnMeterRow>,
}

#[derive(Clone, PartialEq, Message)]
struct OwnMeterRow {
    #[prost(uint32, tag = "1")]
    limit: u32,
    #[prost(message, optional, tag = "2")]
    meter: Option<MeterRow>,
}

#[derive(Clone, PartialEq, Message)]
struct MeterRow {
    #[prost(uint64, tag = "1")]
    allowance: u64,
    #[prost(oneof = "LevelRow", tags = "2, 3, 4, 5")]
    level: Option<LevelRow>,
}

#[derive(Clone, PartialEq, Oneof)]
enum LevelRow {
    #[prost(message, tag = "2")]
    Bucket(BucketRow),
    /// Units used: 16 bytes, the highest first.
    #[prost(bytes, tag = "3")]
    Fixed(Vec<u8>),
    #[prost(message, tag = "4")]
    Sliding(SlidingRow),
    #[prost(message, tag = "5")]
    Slots(SlotsRow),
}

#[derive(Clone, PartialEq, Message)]
struct BucketRow {
    /// Parts, in two's complement: 16 bytes, the highest first.
    #[prost(bytes = "vec", tag = "1")]
    parts: Vec<u8>,
    #[prost(message, repeated, tag = "2")]
    peaks: Vec<PeakRow>,
    #[prost(fixed64, tag = "3")]
    refills_from_nanos: u64,
}

#[derive(Clone, PartialEq, Message)]
struct PeakRow {
    #[prost(uint64, tag = "1")]
    order: u64,
    #[prost(bytes = "vec", tag = "2")]
    parts: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
struct SlidingRow {
    #[prost(message, repeated, tag = "1")]
    taken: Vec<TakenRow>,
}

#[derive(Clone, PartialEq, Message)]
struct TakenRow {
    #[prost(fixed64, tag = "1")]
    latest_nanos: u64,
    #[prost(bytes = "vec", tag = "2")]
    units: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct SlotsRow {
    #[prost(message, optional, tag = "1")]
    doubted: Option<UntilRow>,
}

pub(crate) fn write_balance(id: u32, saved: &SavedBudget) -> Write {
    let row = BalanceRow {
        at_nanos: saved.at.as_nanos(),
        next_serial: saved.next_serial,
        serials: saved.serials,
        limits: saved.limits.iter().map(LimitRow::of).collect(),
        tenants: saved.tenants.iter().map(TenantRow::of).collect(),
        exhausted: saved.exhausted.is_some(),
        exhausted_until_nanos: saved.exhausted.flatten().map(Time::as_nanos),
        gate: Some(GateRow::of(&saved.gate)),
    };
    Write::Put(Table::Balances, id.to_be_bytes().to_vec(), row.encode_to_vec())
}

/// A budget of which nothing is taken.
pub(crate) fn remove_balance(id: u32) -> Write {
    Write::Remove(Table::Balances, id.to_be_bytes().to_vec())
}

/// What is left of a budget as it was written, and found to make sense. It takes a part of the room that it takes when it is read, and
/// is needed only when somebody asks the budget for something.
#[derive(Clone, Debug)]
pub(crate) struct Balance {
    row: Box<[u8]>,
    holds_back: bool,
}

impl Balance {
    /// `None` if the row makes no sense.
    pub(crate) fn read(row: Box<[u8]>) -> Option<Self> {
        let holds_back = read_balance(&row)?.exhausted.is_some();
        Some(Self { row, holds_back })
    }

    pub(crate) fn saved(&self) -> SavedBudget {
        read_balance(&self.row).expect("it made sense before")
    }

    /// Whether the provider's quota was used up.
    pub(crate) fn holds_back(&self) -> bool {
        self.holds_back
    }
}

fn read_balance(value: &[u8]) -> Option<SavedBudget> {
    let row = BalanceRow::decode(value).ok()?;
    let limits = row.limits.into_iter().map(LimitRow::read).collect::<Option<Vec<_>>>()?;
    // A limit that was ever in force makes sense.
    let specs = limits.iter().map(|limit| limit.spec.clone()).collect();
    BudgetSpec { limits: specs, ..BudgetSpec::default() }.check().ok()?;
    Some(SavedBudget {
        at: Time::from_nanos(row.at_nanos),
        next_serial: row.next_serial,
        serials: row.serials,
        limits,
        tenants: row.tenants.into_iter().map(TenantRow::read).collect::<Option<_>>()?,
        gate: row.gate.unwrap_or_default().read(),
        exhausted: row.exhausted.then_some(row.exhausted_until_nanos.map(Time::from_nanos)),
    })
}

impl LimitRow {
    fn of(saved: &SavedLimit) -> Self {
        Self {
            meter: saved.meter.as_ref().map(MeterRow::of),
            strangers: saved.strangers.map(|strangers| StrangersRow {
                allowance: strangers.allowance,
                owed: strangers.owed.map(UntilRow::of),
            }),
            limit: Some(write_limit(&saved.spec)),
            learned: Some(LearnedRow::of(&saved.learned)),
        }
    }

    fn read(self) -> Option<SavedLimit> {
        Some(SavedLimit {
            spec: read_limit(&self.limit?).ok()?,
            meter: match self.meter {
                Some(meter) => Some(meter.read()?),
                None => None,
            },
            learned: self.learned.unwrap_or_default().read()?,
            strangers: self.strangers.map(|strangers| SavedStrangers {
                allowance: strangers.allowance,
                owed: strangers.owed.map(UntilRow::read),
            }),
        })
    }
}

impl UntilRow {
    fn of((units, until): (u64, Time)) -> Self {
        Self { units, until_nanos: until.as_nanos() }
    }

    fn read(self) -> (u64, Time) {
        (self.units, Time::from_nanos(self.until_nanos))
    }
}

impl TenantRow {
    fn of(saved: &SavedTenant) -> Self {
        let meters = saved.meters.iter();
        let meters = meters
            .map(|(limit, meter)| OwnMeterRow { limit: (*limit).into(), meter: Some(MeterRow::of(meter)) });
        Self { tenant: saved.tenant.clone(), meters: meters.collect() }
    }

    fn read(self) -> Option<SavedTenant> {
        let meters =
            self.meters.into_iter().map(|own| Some((u8::try_from(own.limit).ok()?, own.meter?.read()?)));
        Some(SavedTenant { tenant: self.tenant, meters: meters.collect::<Option<_>>()? })
    }
}

impl MeterRow {
    fn of(saved: &SavedMeter) -> Self {
        let level = match &saved.level {
            Level::Bucket { refills_from, parts, peaks } => {
                let peak = |(order, parts): &(u64, i128)| PeakRow {
                    order: *order,
                    parts: parts.to_be_bytes().to_vec(),
                };
                let peaks = peaks.iter().map(peak).collect();
                let (parts, refills_from_nanos) = (parts.to_be_bytes().to_vec(), refills_from.as_nanos());
                LevelRow::Bucket(BucketRow { parts, peaks, refills_from_nanos })
            }
            Level::Fixed { used } => LevelRow::Fixed(used.to_be_bytes().to_vec()),
            Level::Sliding { taken } => {
                let row = |(latest, units): &(Time, u128)| TakenRow {
                    latest_nanos: latest.as_nanos(),
                    units: units.to_be_bytes().to_vec(),
                };
                LevelRow::Sliding(SlidingRow { taken: taken.iter().map(row).collect() })
            }
            Level::Slots { doubted } => LevelRow::Slots(SlotsRow { doubted: doubted.map(UntilRow::of) }),
        };
        Self { allowance: saved.allowance, level: Some(level) }
    }

    fn read(self) -> Option<SavedMeter> {
        let level = match self.level? {
            LevelRow::Bucket(bucket) => {
                let peaks = bucket.peaks.into_iter().map(|peak| Some((peak.order, signed(peak.parts)?)));
                Level::Bucket {
                    refills_from: Time::from_nanos(bucket.refills_from_nanos),
                    parts: signed(bucket.parts)?,
                    peaks: peaks.collect::<Option<_>>()?,
                }
            }
            LevelRow::Fixed(used) => Level::Fixed { used: unsigned(used)? },
            LevelRow::Sliding(sliding) => {
                let taken = sliding.taken.into_iter();
                let taken = taken.map(|row| Some((Time::from_nanos(row.latest_nanos), unsigned(row.units)?)));
                Level::Sliding { taken: taken.collect::<Option<_>>()? }
            }
            LevelRow::Slots(slots) => Level::Slots { doubted: slots.doubted.map(UntilRow::read) },
        };
        Some(SavedMeter { level, allowance: self.allowance })
    }
}

fn signed(bytes: Vec<u8>) -> Option<i128> {
    Some(i128::from_be_bytes(bytes.try_into().ok()?))
}

fn unsigned(bytes: Vec<u8>) -> Option<u128> {
    Some(u128::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use permitd_budget::{LimitSpec, SavedGate};

    use super::*;

    /// Goal: every way of counting is read back as it was written.
    #[test]
    fn balances_are_read_back() {
        let at = Time::from_nanos;
        let limit = |seconds, level| SavedLimit {
            spec: LimitSpec::rate("requests", 60, Duration::from_secs(seconds)),
            meter: Some(SavedMeter { level, allowance: u64::MAX }),
            learned: LearnedRow::default().read().expect("nothing was learned"),
            strangers: None,
        };
        let own = SavedMeter { level: Level::Slots { doubted: Some((3, at(9))) }, allowance: 0 };
        let strangers = Some(SavedStrangers { allowance: 2, owed: Some((5, at(7))) });
        let saved = SavedBudget {
            at: at(1),
            next_serial: 2,
            serials: 3,
            limits: vec![
                limit(
                    1,
                    Level::Bucket {
                        refills_from: at(8),
                        parts: i128::MIN,
                        peaks: vec![(9, i128::MAX), (10, -1)],
                    },
                ),
                limit(2, Level::Fixed { used: u128::MAX }),
                limit(3, Level::Sliding { taken: vec![(at(1), 2), (Time::MAX, u128::MAX)] }),
                limit(4, Level::Slots { doubted: None }),
                SavedLimit { meter: None, strangers, ..limit(5, Level::Slots { doubted: None }) },
            ],
            tenants: vec![SavedTenant { tenant: "web".to_owned(), meters: vec![(4, own)] }],
            gate: SavedGate { frozen_until: at(6), ..SavedGate::default() },
            exhausted: Some(None),
        };
        for saved in
            [saved.clone(), SavedBudget { exhausted: Some(Some(at(5))), ..saved }, SavedBudget::default()]
        {
            let Write::Put(Table::Balances, key, value) = write_balance(7, &saved) else { panic!("a row") };
            assert_eq!((key, read_balance(&value)), (7_u32.to_be_bytes().to_vec(), Some(saved)));
        }
        assert_eq!(read_balance(&[0xff; 9]), None);
        let senseless =
            SavedBudget { limits: vec![limit(0, Level::Fixed { used: 0 })], ..SavedBudget::default() };
        let Write::Put(_, _, value) = write_balance(7, &senseless) else { panic!("a row") };
        assert_eq!(read_balance(&value), None, "a window of no time");
    }
}

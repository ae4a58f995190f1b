//! The figures as a table for people, each with what it has to reach, and as JSON.

use std::{fmt, thread, time::Duration};

use serde_json::{Value, json};

use super::{
    Cluster, Figures,
    ends::{Ended, Seen},
    load::{Load, Way},
};
use crate::bench::median;

/// What docs/cluster.md promises.
const HOP_MAX: Duration = Duration::from_micros(300);
const SHARE_MIN: f64 = 80.0;
const SAVES_MAX: f64 = 1.0;
const FAILOVER_MAX: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_millis(100);

impl Figures {
    /// How much more the median request through another server takes.
    fn hop(&self) -> Duration {
        self.hop.other.p50.saturating_sub(self.hop.owner.p50)
    }

    /// Of what one server does, how much is done that way, in percent.
    fn share(&self, way: Way) -> f64 {
        let rate = |way| self.throughput.iter().find(|through| through.way == way).map_or(0.0, |it| it.rate);
        100.0 * rate(way) / rate(Way::One)
    }

    /// All of it, for programs. Times are in milliseconds.
    #[must_use]
    pub fn json(&self) -> Value {
        let Cluster { servers, budgets, rounds, turn, connections } = self.cluster;
        let ms = |span: Duration| span.as_secs_f64() * 1e3;
        let waits = |waits: crate::siege::Waits| json!({ "p50_ms": ms(waits.p50), "p99_ms": ms(waits.p99) });
        let throughput = self.throughput.iter().map(|through| {
            json!({
                "way": through.way.name(servers),
                "items_per_second": through.rate,
                "percent_of_one_server": self.share(through.way),
                "servers_us_per_item": through.servers_us,
                "etcd_us_per_item": through.etcd_us,
            })
        });
        let writes = self.writes.iter().map(|load| {
            let [saves, keys, entries, bytes] = load.each_second();
            json!({
                "load": load.name,
                "items_per_second": load.rate,
                "saves_per_budget_second": saves / budgets as f64,
                "keys_per_second": keys,
                "log_entries_per_second": entries,
                "bytes_per_second": bytes,
            })
        });
        let seen =
            |seen: Seen| json!({ "pause_ms": ms(seen.pause), "grants": seen.grants, "failed": seen.failed });
        let ends = |ends: &[Ended]| -> Vec<Value> {
            let one = |ended: &Ended| {
                json!({
                    "owned_budgets": ended.owned,
                    "through_others": seen(ended.through_others),
                    "through_it": seen(ended.through_it),
                })
            };
            ends.iter().map(one).collect()
        };
        json!({
            "servers": servers,
            "budgets": budgets,
            "rounds": rounds,
            "turn_seconds": turn.as_secs_f64(),
            "connections": connections,
            "cores": cores(),
            "hop": {
                "asked": self.hop.asked,
                "owner": waits(self.hop.owner),
                "other": waits(self.hop.other),
                "more_p50_ms": ms(self.hop()),
            },
            "throughput": throughput.collect::<Vec<_>>(),
            "writes": writes.collect::<Vec<_>>(),
            "replaced": ends(&self.replaced),
            "killed": ends(&self.killed),
        })
    }
}

impl Load {
    /// Saves, keys, entries of the log and bytes.
    fn each_second(&self) -> [f64; 4] {
        let written = self.written;
        let seconds = self.taken.as_secs_f64();
        [written.saves, written.keys, written.entries, written.bytes].map(|count| count as f64 / seconds)
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Whether what was found is what has to be.
fn verdict(holds: bool) -> &'static str {
    if holds { "reached" } else { "MISSED" }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cluster { servers, budgets, rounds, turn, connections } = self.cluster;
        writeln!(
            f,
            "{servers} servers, an etcd of one member and {connections} connections of load on {} cores; {budgets} budgets, \
             {rounds} rounds of {turn:?}; medians",
            cores()
        )?;
        self.write_hop(f)?;
        self.write_throughput(f)?;
        self.write_writes(f)?;
        self.write_ends(f)
    }
}

impl Figures {
    fn write_hop(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\nacquire to grant, one request at a time, {} each", self.hop.asked)?;
        for (name, waits) in [("at the owner", self.hop.owner), ("at another server", self.hop.other)] {
            writeln!(f, "{name:<28} p50 {:>9.1?}   p99 {:>9.1?}", waits.p50, waits.p99)?;
        }
        let more = self.hop();
        writeln!(f, "{:<28} p50 {more:>9.1?}   at most {HOP_MAX:?}: {}", "the hop", verdict(more <= HOP_MAX))
    }

    fn write_throughput(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["items/s", "servers us/item", "etcd us/item", "of one"];
        writeln!(f, "\n{:<28} {:>12} {:>16} {:>14} {:>8}", "", head[0], head[1], head[2], head[3])?;
        for through in &self.throughput {
            let (name, share) = (through.way.name(self.cluster.servers), self.share(through.way));
            write!(
                f,
                "{name:<28} {:>12.0} {:>16.2} {:>14.2} {share:>6.0} %",
                through.rate, through.servers_us, through.etcd_us
            )?;
            match through.way {
                Way::One => writeln!(f)?,
                _ => writeln!(f, "   at least {SHARE_MIN} %: {}", verdict(share >= SHARE_MIN))?,
            }
        }
        Ok(())
    }

    fn write_writes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["items/s", "saves/budget/s", "keys/s", "log entries/s", "KiB/s"];
        write!(f, "\n{:<28} {:>12} {:>16}", "etcd writes while", head[0], head[1])?;
        writeln!(f, " {:>10} {:>14} {:>8}", head[2], head[3], head[4])?;
        for load in &self.writes {
            let [saves, keys, entries, bytes] = load.each_second();
            let (name, each) = (load.name, saves / self.cluster.budgets as f64);
            write!(f, "{name:<28} {:>12.0} {each:>16.2} {keys:>10.0} {entries:>14.0}", load.rate)?;
            // Two moments are not told apart to the save.
            let holds = each <= SAVES_MAX * 1.01;
            writeln!(f, " {:>8.0}   at most {SAVES_MAX} save: {}", bytes / 1024.0, verdict(holds))?;
        }
        Ok(())
    }

    fn write_ends(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<28} {:>20} {:>20} {:>8} {:>8}",
            "a server ends", "pause, median", "longest", "grants", "failed"
        )?;
        for (name, ends, most) in
            [("replaced", &self.replaced, PAUSE_MAX), ("killed", &self.killed, FAILOVER_MAX)]
        {
            for (who, of) in [
                ("through others", (|ended| ended.through_others) as fn(&Ended) -> Seen),
                ("through it", |ended| ended.through_it),
            ] {
                let seen: Vec<Seen> = ends.iter().map(of).collect();
                let middle = Duration::from_secs_f64(
                    median(seen.iter().map(|seen| seen.pause.as_secs_f64())).max(0.0),
                );
                let longest = seen.iter().map(|seen| seen.pause).max().unwrap_or_default();
                let [grants, failed] = [
                    seen.iter().map(|seen| seen.grants).sum::<u64>(),
                    seen.iter().map(|seen| seen.failed).sum(),
                ];
                let holds = verdict(longest <= most && failed == 0);
                let name = format!("{name}, {who}");
                writeln!(
                    f,
                    "{name:<28} {middle:>20.1?} {longest:>20.1?} {grants:>8} {failed:>8}   at most {most:?}, none failed: {holds}"
                )?;
            }
        }
        Ok(())
    }
}

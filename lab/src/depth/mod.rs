//! How permitd grows in each direction: what one grant costs with more requests that wait, more tenants, more limits and more budgets;
//! what a server's memory grows by; and how soon it is there again with many budgets stored. Each as a table, and as a picture.

mod heart;
mod memory;
mod start;

use std::{
    fmt::{self, Write as _},
    fs,
    path::Path,
};

pub(crate) use memory::resident_of;

use self::{
    heart::{Cost, LIMITS_MAX, Many, Queue},
    memory::Memory,
    start::Start,
};
use crate::{bench::Error, chart::Growth};

/// Requests that wait, tenants and limits, where it is not their number that is changed.
const BASE: Queue = Queue { waiting: 100_000, tenants: 100, limits: 1 };
/// A budget knows no more at once.
const TENANTS_MAX: usize = 65_536;
/// Budgets by themselves, where there is memory for as many.
const BUDGETS_MAX: usize = 1_000_000;

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// What one grant costs, in the heart by itself.
    Grants,
    /// What sessions, permits in flight and waiting requests take of a server's memory.
    Memory,
    /// How soon a server with many stored budgets is there, and what they take of its memory.
    Start,
}

/// How deep to look.
#[derive(Clone, Debug)]
pub struct Depth {
    /// What to look at.
    pub parts: Vec<Part>,
    /// Requests that wait, at most.
    pub waiting_max: usize,
    /// Stored budgets, at most.
    pub stored_max: usize,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Found {
    /// What one costs, by each direction.
    grants: Vec<Direction>,
    budgets: Vec<(usize, Many)>,
    memory: Option<Memory>,
    starts: Vec<Start>,
}

/// One number that grows while the others stay.
#[derive(Debug)]
struct Direction {
    name: &'static str,
    costs: Vec<(usize, Cost)>,
}

impl Depth {
    /// Looks. Tells `progress` what it is at.
    ///
    /// # Errors
    /// If a server can't be started or something is refused: no figure is made up.
    pub fn measure(&self, binary: &Path, mut progress: impl FnMut(&str)) -> Result<Found, Error> {
        let mut found = Found::default();
        if self.parts.contains(&Part::Grants) {
            // First, while this process has little memory that it could use again.
            found.budgets = budgets(&mut progress)?;
            found.grants = self.grants(&mut progress)?;
        }
        if self.parts.contains(&Part::Memory) {
            found.memory = Some(Memory::measure(binary, self.waiting_max, &mut progress)?);
        }
        if self.parts.contains(&Part::Start) {
            found.starts = start::measure(binary, self.stored_max, &mut progress)?;
        }
        Ok(found)
    }

    fn grants(&self, progress: &mut dyn FnMut(&str)) -> Result<Vec<Direction>, Error> {
        let waiting = ladder(100, self.waiting_max);
        let tenants = ladder(1, TENANTS_MAX - 1).chain([TENANTS_MAX]);
        let limits = 1..=LIMITS_MAX;
        let directions: [(_, Vec<(usize, Queue)>); 3] = [
            ("requests waiting", waiting.map(|n| (n, Queue { waiting: n as u32, ..BASE })).collect()),
            ("tenants", tenants.map(|n| (n, Queue { tenants: n, ..BASE })).collect()),
            ("limits", limits.map(|n| (n, Queue { limits: n, ..BASE })).collect()),
        ];
        let mut measured = Vec::new();
        for (name, queues) in directions {
            let mut costs = Vec::new();
            for (number, queue) in queues {
                progress(&format!("a grant with {number} {name}"));
                costs.push((number, queue.cost()?));
            }
            measured.push(Direction { name, costs });
        }
        Ok(measured)
    }
}

/// As many as there is memory for, the most first: what a process gave back to its allocator is not seen as used when it is used again.
fn budgets(progress: &mut dyn FnMut(&str)) -> Result<Vec<(usize, Many)>, Error> {
    const TRIED: usize = 1_000;
    let each = Many::measure(TRIED)?.used.max(1.0);
    let most = BUDGETS_MAX.min((memory::available()? as f64 / 2.0 / each) as usize);
    let mut numbers: Vec<usize> = ladder(1, most).collect();
    numbers.reverse();
    let mut budgets = Vec::new();
    for number in numbers {
        progress(&format!("an acquire and its report in {number} budgets"));
        budgets.push((number, Many::measure(number)?));
    }
    budgets.reverse();
    Ok(budgets)
}

/// Tenfold steps.
fn ladder(from: usize, to: usize) -> impl Iterator<Item = usize> {
    std::iter::successors(Some(from), |step| step.checked_mul(10)).take_while(move |step| *step <= to)
}

impl Found {
    /// The pictures, by the names of their files.
    ///
    /// # Errors
    /// If a file can't be written, or the drawing library fails.
    pub fn draw(&self, folder: &Path) -> Result<(), Error> {
        fs::create_dir_all(folder)?;
        for (name, growth) in self.pictures() {
            if growth.lines.iter().any(|(_, points)| !points.is_empty()) {
                fs::write(folder.join(name), growth.draw()?)?;
            }
        }
        Ok(())
    }

    fn pictures(&self) -> [(&'static str, Growth); 3] {
        let points = |found: &[(usize, u64)]| {
            found.iter().map(|(number, bytes)| (*number as f64, *bytes as f64 / MIB)).collect()
        };
        let costs = |direction: &Direction| {
            direction.costs.iter().map(|(number, cost)| (*number as f64, cost.turn)).collect()
        };
        let mut grants: Vec<_> =
            self.grants.iter().map(|direction| (direction.name, costs(direction))).collect();
        let budgets = self.budgets.iter().map(|(number, many)| (*number as f64, many.nanos));
        if !self.budgets.is_empty() {
            grants.push(("budgets, nobody waiting", budgets.collect()));
        }
        let memory = self.memory.iter().flat_map(|Memory { sessions, permits, waiting }| {
            [
                ("sessions", points(sessions)),
                ("permits in flight", points(permits)),
                ("requests waiting", points(waiting)),
            ]
        });
        let mut memory: Vec<_> = memory.collect();
        let mut ready = Vec::new();
        if let [empty, starts @ ..] = &self.starts[..] {
            let own = |start: &Start| start.resident.saturating_sub(empty.resident) as f64 / MIB;
            let at = |start: &Start| start.budgets as f64;
            memory.push(("stored budgets", starts.iter().map(|start| (at(start), own(start))).collect()));
            ready.extend(starts.iter().map(|start| (at(start), start.granted)));
        }
        [
            (
                "depth-grants.svg",
                Growth {
                    title: "An acquire, its grant and its report",
                    x: "how many",
                    y: "ns",
                    lines: grants,
                },
            ),
            ("depth-memory.svg", Growth { title: "What they take", x: "how many", y: "MiB", lines: memory }),
            (
                "depth-start.svg",
                Growth {
                    title: "From the start of a server until its first permit",
                    x: "stored budgets",
                    y: "seconds",
                    lines: vec![("until its first permit", ready)],
                },
            ),
        ]
    }
}

const MIB: f64 = 1_048_576.0;

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut tables = String::new();
        if !self.grants.is_empty() {
            self.tell_grants(&mut tables)?;
        }
        if let Some(memory) = &self.memory {
            tell_memory(memory, &mut tables)?;
        }
        if let [empty, starts @ ..] = &self.starts[..] {
            tell_starts(empty, starts, &mut tables)?;
        }
        f.write_str(tables.trim())
    }
}

impl Found {
    fn tell_grants(&self, f: &mut String) -> fmt::Result {
        let Queue { waiting, tenants, limits } = BASE;
        writeln!(
            f,
            "One budget, {waiting} waiting of {tenants} tenants, {limits} limit, but for one of them; ns, and how often the first's\n"
        )?;
        writeln!(
            f,
            "| | | the grant | acquire, grant and report | of the first's | log n would be |\n|---|---|---|---|---|---|"
        )?;
        for Direction { name, costs } in &self.grants {
            for (number, Cost { grant, turn }) in costs {
                let (first, Cost { turn: least, .. }) = costs[0];
                writeln!(
                    f,
                    "| {name} | {number} | {grant:.0} | {turn:.0} | {:.2} | {:.2} |",
                    turn / least,
                    times_log(first, *number)
                )?;
            }
        }
        writeln!(f, "\nMany budgets with {} limits, gone round, nobody waiting\n", heart::LIMITS)?;
        writeln!(
            f,
            "| budgets | acquire and report, ns | of the first's | log n would be |\n|---|---|---|---|"
        )?;
        for (number, Many { nanos, .. }) in &self.budgets {
            let (first, Many { nanos: least, .. }) = self.budgets[0];
            writeln!(
                f,
                "| {number} | {nanos:.0} | {:.2} | {:.2} |",
                nanos / least,
                times_log(first, *number)
            )?;
        }
        if let Some((number, Many { fresh, used, .. })) = self.budgets.last() {
            writeln!(
                f,
                "\nEach of {number} takes {fresh:.0} bytes before its first use, and {used:.0} once it is idle again"
            )?;
        }
        writeln!(f)
    }
}

/// How many times what `from` costs `to` would cost, if that grew with the logarithm: of twice the number, since that of one is nothing.
fn times_log(from: usize, to: usize) -> f64 {
    (2.0 * to as f64).ln() / (2.0 * from as f64).ln()
}

fn tell_memory(memory: &Memory, f: &mut String) -> fmt::Result {
    writeln!(f, "Resident memory of a server\n\n| | | MiB | bytes of each |\n|---|---|---|---|")?;
    let Memory { sessions, permits, waiting } = memory;
    let all = [
        ("sessions, each on a connection", sessions),
        ("permits in flight", permits),
        ("requests waiting", waiting),
    ];
    for (name, found) in all {
        for (number, bytes) in found {
            let bytes = *bytes as f64;
            writeln!(f, "| {name} | {number} | {:.1} | {:.0} |", bytes / MIB, bytes / *number as f64)?;
        }
    }
    writeln!(f)
}

fn tell_starts(empty: &Start, starts: &[Start], f: &mut String) -> fmt::Result {
    writeln!(
        f,
        "From the start of a server\n\n| stored budgets | store, MiB | ready, s | first permit, s | resident, MiB | bytes of each |\n\
         |---|---|---|---|---|---|"
    )?;
    for start in std::iter::once(empty).chain(starts) {
        let Start { budgets, stored, ready, granted, resident } = *start;
        let each = resident.saturating_sub(empty.resident) / budgets as u64;
        let (stored, resident) = (stored as f64 / MIB, resident as f64 / MIB);
        writeln!(f, "| {budgets} | {stored:.1} | {ready:.2} | {granted:.2} | {resident:.0} | {each} |")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: steps are tenfold, and end where they are told to.
    #[test]
    fn ladders() {
        assert_eq!(ladder(100, 100_000).collect::<Vec<_>>(), [100, 1_000, 10_000, 100_000]);
        assert_eq!(ladder(1, 99).collect::<Vec<_>>(), [1, 10]);
    }

    /// Goal: what is measured is told for every step, and drawn.
    #[test]
    fn tells_what_it_measured() {
        let cost = Queue { waiting: 100, tenants: 10, limits: LIMITS_MAX }.cost().expect("one grant a step");
        let many = Many::measure(2).expect("all are granted");
        let found = Found {
            grants: vec![Direction { name: "requests waiting", costs: vec![(100, cost), (1_000, cost)] }],
            budgets: vec![(1, many), (10, many)],
            ..Found::default()
        };
        let told = found.to_string();
        assert!(told.contains("| requests waiting | 1000 |"), "{told}");
        assert!(told.contains("| 1.00 | 1.43 |"), "{told}");
        let [(_, grants), ..] = found.pictures();
        assert_eq!(grants.lines.len(), 2);
        grants.draw().expect("it is drawn into memory");
    }
}

//! What the provider taught of a limit, as part of the row of what is left of it.

use permitd_budget::{
    Lesson, Phase, SavedCourse, SavedGate, SavedGradient, SavedLearned, SavedPace, Source, Teacher, Time,
};
use prost::Message;

#[derive(Clone, PartialEq, Message)]
pub(super) struct LearnedRow {
    /// By its place in [`SOURCES`].
    #[prost(uint32, tag = "1")]
    source: u32,
    #[prost(uint64, optional, tag = "2")]
    told: Option<u64>,
    #[prost(message, optional, tag = "3")]
    gate: Option<GateRow>,
    #[prost(message, optional, tag = "4")]
    pace: Option<PaceRow>,
    #[prost(uint64, tag = "5")]
    cushion: u64,
    #[prost(fixed64, tag = "6")]
    cushion_widened_nanos: u64,
    #[prost(uint64, optional, tag = "7")]
    burst: Option<u64>,
    #[prost(fixed64, tag = "8")]
    burst_learned_nanos: u64,
    #[prost(fixed64, tag = "9")]
    refused_at_nanos: u64,
    #[prost(message, optional, tag = "10")]
    gradient: Option<GradientRow>,
}

#[derive(Clone, Copy, PartialEq, Message)]
pub(super) struct GateRow {
    #[prost(fixed64, tag = "1")]
    frozen_until_nanos: u64,
    #[prost(uint32, tag = "2")]
    in_a_row: u32,
    #[prost(fixed64, optional, tag = "3")]
    heard_nanos: Option<u64>,
    #[prost(uint64, optional, tag = "4")]
    probing: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
struct PaceRow {
    #[prost(uint64, tag = "1")]
    amount: u64,
    #[prost(uint64, optional, tag = "2")]
    ceiling: Option<u64>,
    #[prost(uint64, tag = "3")]
    double_nanos: u64,
    #[prost(message, optional, tag = "4")]
    lesson: Option<LessonRow>,
    #[prost(message, optional, tag = "5")]
    course: Option<CourseRow>,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct LessonRow {
    #[prost(fixed64, tag = "1")]
    at_nanos: u64,
    /// By its place in [`TEACHERS`].
    #[prost(uint32, tag = "2")]
    from: u32,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct CourseRow {
    /// By its place in [`PHASES`].
    #[prost(uint32, tag = "1")]
    phase: u32,
    #[prost(uint64, tag = "2")]
    good: u64,
    #[prost(uint64, tag = "3")]
    from: u64,
    #[prost(uint64, tag = "4")]
    used_nanos: u64,
    #[prost(uint64, tag = "5")]
    calls: u64,
    #[prost(uint64, tag = "6")]
    hold_nanos: u64,
    #[prost(uint64, tag = "7")]
    hold_calls: u64,
    #[prost(uint64, tag = "8")]
    double_nanos: u64,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct GradientRow {
    #[prost(uint64, tag = "1")]
    limit: u64,
    #[prost(uint64, tag = "2")]
    settled: u64,
    #[prost(uint64, tag = "3")]
    long_nanos: u64,
    #[prost(uint64, tag = "4")]
    windows: u64,
    #[prost(uint64, tag = "5")]
    spread_nanos: u64,
    #[prost(bool, tag = "6")]
    doubles: bool,
    #[prost(fixed64, tag = "7")]
    moved_nanos: u64,
}

const SOURCES: [Source; 3] = [Source::Declared, Source::Header, Source::Learned];
const TEACHERS: [Teacher; 4] = [Teacher::Headers, Teacher::Refusals, Teacher::Growth, Teacher::Latency];
const PHASES: [Phase; 4] = [Phase::Recover, Phase::Hold, Phase::Probe, Phase::Rise];

impl LearnedRow {
    pub(super) fn of(saved: &SavedLearned) -> Self {
        Self {
            source: place(&SOURCES, saved.source),
            told: saved.told,
            gate: Some(GateRow::of(&saved.gate)),
            pace: saved.pace.as_ref().map(PaceRow::of),
            cushion: saved.cushion.0,
            cushion_widened_nanos: saved.cushion.1.as_nanos(),
            burst: saved.burst.map(|(units, _)| units),
            burst_learned_nanos: saved.burst.map_or(0, |(_, at)| at.as_nanos()),
            refused_at_nanos: saved.refused_at.as_nanos(),
            gradient: saved.gradient.map(GradientRow::of),
        }
    }

    /// `None` if it makes no sense.
    pub(super) fn read(self) -> Option<SavedLearned> {
        let pace = match self.pace {
            Some(pace) => Some(pace.read()?),
            None => None,
        };
        Some(SavedLearned {
            source: at(&SOURCES, self.source)?,
            told: self.told,
            gate: self.gate.unwrap_or_default().read(),
            pace,
            cushion: (self.cushion, Time::from_nanos(self.cushion_widened_nanos)),
            burst: self.burst.map(|units| (units, Time::from_nanos(self.burst_learned_nanos))),
            refused_at: Time::from_nanos(self.refused_at_nanos),
            gradient: self.gradient.map(GradientRow::read),
        })
    }
}

impl GateRow {
    pub(super) fn of(saved: &SavedGate) -> Self {
        Self {
            frozen_until_nanos: saved.frozen_until.as_nanos(),
            in_a_row: saved.in_a_row,
            heard_nanos: saved.heard.map(Time::as_nanos),
            probing: saved.probing,
        }
    }

    pub(super) fn read(self) -> SavedGate {
        SavedGate {
            frozen_until: Time::from_nanos(self.frozen_until_nanos),
            in_a_row: self.in_a_row,
            heard: self.heard_nanos.map(Time::from_nanos),
            probing: self.probing,
        }
    }
}

impl PaceRow {
    fn of(saved: &SavedPace) -> Self {
        let lesson = |lesson: Lesson| LessonRow {
            at_nanos: lesson.at.as_nanos(),
            from: place(&TEACHERS, lesson.from),
        };
        Self {
            amount: saved.amount,
            ceiling: saved.ceiling,
            double_nanos: saved.double_nanos,
            lesson: saved.lesson.map(lesson),
            course: saved.course.map(CourseRow::of),
        }
    }

    fn read(self) -> Option<SavedPace> {
        let lesson = match self.lesson {
            Some(row) => Some(Lesson { at: Time::from_nanos(row.at_nanos), from: at(&TEACHERS, row.from)? }),
            None => None,
        };
        let course = match self.course {
            Some(course) => Some(course.read()?),
            None => None,
        };
        let Self { amount, ceiling, double_nanos, .. } = self;
        Some(SavedPace { amount, ceiling, double_nanos, lesson, course })
    }
}

impl CourseRow {
    fn of(saved: SavedCourse) -> Self {
        let SavedCourse { phase, good, from, used_nanos, calls, hold, double_nanos } = saved;
        let phase = place(&PHASES, phase);
        Self { phase, good, from, used_nanos, calls, hold_nanos: hold.0, hold_calls: hold.1, double_nanos }
    }

    fn read(self) -> Option<SavedCourse> {
        let Self { phase, good, from, used_nanos, calls, hold_nanos, hold_calls, double_nanos } = self;
        let (phase, hold) = (at(&PHASES, phase)?, (hold_nanos, hold_calls));
        Some(SavedCourse { phase, good, from, used_nanos, calls, hold, double_nanos })
    }
}

impl GradientRow {
    fn of(saved: SavedGradient) -> Self {
        let SavedGradient { limit, settled, long_nanos, windows, spread_nanos, doubles, moved } = saved;
        let moved_nanos = moved.as_nanos();
        Self { limit, settled, long_nanos, windows, spread_nanos, doubles, moved_nanos }
    }

    fn read(self) -> SavedGradient {
        let Self { limit, settled, long_nanos, windows, spread_nanos, doubles, moved_nanos } = self;
        let moved = Time::from_nanos(moved_nanos);
        SavedGradient { limit, settled, long_nanos, windows, spread_nanos, doubles, moved }
    }
}

fn place<T: PartialEq>(all: &[T], one: T) -> u32 {
    let place = all.iter().position(|other| *other == one).expect("the table has all of them");
    u32::try_from(place).expect("a short table")
}

fn at<T: Copy>(all: &[T], place: u32) -> Option<T> {
    all.get(usize::try_from(place).ok()?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: everything that was learned is read back as it was written, and what nobody knows is refused.
    #[test]
    fn lessons_are_read_back() {
        let time = Time::from_nanos;
        for (number, phase) in PHASES.into_iter().enumerate() {
            let course = SavedCourse {
                phase,
                good: 1,
                from: 2,
                used_nanos: 3,
                calls: 4,
                hold: (5, 6),
                double_nanos: 7,
            };
            let lesson = TEACHERS.get(number).map(|from| Lesson { at: time(8), from: *from });
            let pace =
                SavedPace { amount: 9, ceiling: Some(10), double_nanos: 11, lesson, course: Some(course) };
            let gate =
                SavedGate { frozen_until: time(12), in_a_row: 13, heard: Some(time(14)), probing: Some(0) };
            let saved = SavedLearned {
                source: SOURCES[number % SOURCES.len()],
                told: Some(15),
                gate,
                pace: (number > 0).then_some(pace),
                cushion: (16, time(17)),
                burst: Some((18, time(19))),
                refused_at: time(20),
                gradient: (number > 1).then_some(SavedGradient {
                    limit: 21,
                    settled: 22,
                    long_nanos: 23,
                    windows: 24,
                    spread_nanos: 25,
                    doubles: number == 2,
                    moved: time(26),
                }),
            };
            let bytes = LearnedRow::of(&saved).encode_to_vec();
            assert_eq!(LearnedRow::decode(&*bytes).expect("a row").read(), Some(saved));
        }
        assert_eq!(LearnedRow { source: 3, ..LearnedRow::default() }.read(), None);
        let pace =
            PaceRow { course: Some(CourseRow { phase: 4, ..CourseRow::default() }), ..PaceRow::default() };
        assert_eq!(LearnedRow { pace: Some(pace), ..LearnedRow::default() }.read(), None);
    }
}

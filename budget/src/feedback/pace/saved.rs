//! The effective amount, written down and read back: on the same way, as far along.

use super::{
    Ceiling, Lesson, Pace, Phase,
    course::{Course, Hold},
    tries::Tries,
};
use crate::{
    feedback::Traffic,
    saved::{Resumed, SavedCourse, SavedPace},
    time::Time,
};

impl Pace {
    /// To be written down; `None` if nothing was learned.
    pub(crate) fn saved(&self) -> Option<SavedPace> {
        let Self { amount, cap, ceiling, double_nanos, lesson, .. } = *self;
        let course = self.course.as_ref().map(Course::saved);
        // Refusals that are paid for or not are known to this process only.
        let is_news = *self != Self { tries: self.tries, ..Self::capped(cap) };
        let ceiling = ceiling.map(|last| last.amount);
        is_news.then_some(SavedPace { amount, ceiling, double_nanos, lesson, course })
    }

    /// As it was written down, under this cap, for a limit that nothing has gone through yet.
    pub(crate) fn restored(saved: &SavedPace, cap: u64, back: &Resumed) -> Self {
        let SavedPace { amount, ceiling, double_nanos, lesson, course } = *saved;
        Self {
            amount: amount.clamp(1, cap),
            cap,
            course: course.map(|course| Course::restored(&course, back.now)),
            ceiling: ceiling.map(|amount| Ceiling { amount, calls: 0 }),
            double_nanos: double_nanos.max(1),
            lesson: lesson.map(|lesson| Lesson { at: back.moved(lesson.at), ..lesson }),
            tries: Tries::default(),
        }
    }
}

impl Course {
    fn saved(&self) -> SavedCourse {
        let Self { phase, good, from, used_nanos, calls, hold, double_nanos, .. } = *self;
        SavedCourse { phase, good, from, used_nanos, calls, hold: (hold.nanos, hold.calls), double_nanos }
    }

    fn restored(saved: &SavedCourse, now: Time) -> Self {
        let SavedCourse { phase, good, from, used_nanos, calls, hold: (nanos, hold_calls), double_nanos } =
            *saved;
        let hold = Hold { nanos, calls: hold_calls };
        // What is being proven begins anew: nothing is known of the provider's level any more.
        let phase = if phase == Phase::Probe { Phase::Hold } else { phase };
        // A recovery ends at what works. What else was refused together with the event was heard of by the process that is gone.
        let from = if phase == Phase::Recover { from.min(good) } else { from };
        let course = Self::new(phase, from, good, hold, double_nanos.max(1), &Traffic::default(), now);
        Self { used_nanos, calls, ..course }
    }
}

//! A run as a picture: above the true limit, what the budget believed and what was let through; below the 429s. SVG, readable on light
//! and on dark ground.

use plotters::{
    coord::Shift,
    prelude::{
        ChartBuilder, Color as _, DrawingArea, IntoDrawingArea as _, LineSeries, PathElement, RGBColor,
        Rectangle, SVGBackend, SeriesLabelPosition,
    },
    style::RGBAColor,
};

use super::{
    expect::{Expectation, unit},
    figures::{Figures, seconds},
    file::Scenario,
    record::{Fate, Record},
};
use crate::{
    chart::{BLUE, Error, GREEN, INK, ORANGE, RED, readable, text},
    provider::buckets::Nanos,
};

/// The picture's size.
const SIZE: (u32, u32) = (960, 480);
/// Of it, the height of what is above.
const ABOVE: u32 = 340;
/// What is let through and what is refused is counted over stretches of this length.
const BIN: Nanos = 10_000_000_000;
/// More points than this in a line cannot be told apart.
const POINTS_MAX: u64 = 1_200;

const TRUE: RGBColor = GREEN;
const BELIEVED: RGBColor = ORANGE;
const THROUGH: RGBColor = BLUE;
const REFUSED: RGBColor = RED;

/// Draws a run of managed clients: the dimension and models of the scenario's first promise.
///
/// # Errors
/// If the drawing library fails; it writes into memory only.
pub fn plot(scenario: &Scenario, record: &Record) -> Result<String, Error> {
    let mut picture = String::new();
    {
        let root = SVGBackend::with_string(&mut picture, SIZE).into_drawing_area();
        let (above, below) = root.split_vertically(ABOVE);
        let meant = &scenario.expect[0];
        let figures = Figures::new(scenario, meant, record);
        limits(&above, scenario, meant, &figures)?;
        refusals(&below, scenario, &figures)?;
        root.present()?;
    }
    Ok(readable(picture))
}

/// Points of a line: minutes and amounts.
type Points = Vec<(f64, f64)>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Error>;

fn limits(area: &Area<'_>, scenario: &Scenario, meant: &Expectation, figures: &Figures<'_>) -> Drawn {
    let lines = [
        ("true limit", TRUE, 3, steps(figures.truths())),
        ("let through", THROUGH, 1, let_through(scenario, figures)),
        ("effective limit", BELIEVED, 2, steps(thin(scenario, figures.believed()))),
    ];
    let top = lines[0].3.iter().chain(&lines[2].3).map(|(_, amount)| *amount).fold(1.0, f64::max) * 1.15;
    let per = if unit(meant.of) == permitd_budget::IN_FLIGHT { "at once" } else { "per minute" };
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{}: {} {per}", scenario.name, unit(meant.of)), text(16))
        .margin(8)
        .margin_right(24)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..minutes(scenario.lasts), 0.0..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(RGBAColor(0, 0, 0, 0.0))
        .bold_line_style(INK.mix(0.25))
        .axis_style(INK)
        .label_style(text(12))
        .x_label_formatter(&whole)
        .y_label_formatter(&whole)
        .draw()?;
    for (name, colour, width, points) in lines {
        let style = colour.stroke_width(width);
        chart
            .draw_series(LineSeries::new(
                points.into_iter().map(|(at, amount)| (at, amount.min(top))),
                style,
            ))?
            .label(name)
            .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], style));
    }
    chart.configure_series_labels().position(SeriesLabelPosition::LowerRight).label_font(text(12)).draw()
}

fn refusals(area: &Area<'_>, scenario: &Scenario, figures: &Figures<'_>) -> Drawn {
    let mut counts = vec![0.0; bins(scenario)];
    for attempt in figures.all_attempts().filter(|attempt| attempt.is_limited()) {
        counts[bin(attempt.arrived)] += 1.0;
    }
    let top = counts.iter().copied().fold(5.0, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(24)
        .x_label_area_size(36)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..minutes(scenario.lasts), 0.0..top)?;
    chart
        .configure_mesh()
        .disable_mesh()
        .axis_style(INK)
        .label_style(text(12))
        .x_label_formatter(&whole)
        .y_label_formatter(&whole)
        .x_desc("minutes")
        .y_desc("429s in 10 s")
        .y_labels(4)
        .draw()?;
    let bars = counts.iter().enumerate().filter(|(_, count)| **count > 0.0).map(|(at, count)| {
        let from = at as f64 * minutes(BIN);
        Rectangle::new([(from, 0.0), (from + minutes(BIN), *count)], REFUSED.filled())
    });
    chart.draw_series(bars)?;
    Ok(())
}

fn let_through(scenario: &Scenario, figures: &Figures<'_>) -> Points {
    let mut amounts = vec![0.0; bins(scenario)];
    for attempt in figures.all_attempts().filter(|attempt| attempt.fate == Fate::Started) {
        amounts[bin(attempt.arrived)] += figures.amount(attempt);
    }
    let per_minute = |(at, amount): (usize, &f64)| ((at as f64 + 0.5) * minutes(BIN), amount / minutes(BIN));
    amounts.iter().enumerate().map(per_minute).collect()
}

/// Of points that cannot be told apart the last.
fn thin(scenario: &Scenario, points: Vec<(Nanos, f64)>) -> Vec<(Nanos, f64)> {
    let width = (scenario.lasts / POINTS_MAX).max(1);
    points.chunk_by(|a, b| a.0 / width == b.0 / width).filter_map(<[_]>::last).copied().collect()
}

/// A line that stays as it is until it changes.
fn steps(changes: Vec<(Nanos, f64)>) -> Points {
    let mut points: Points = Vec::new();
    for (at, amount) in changes {
        if let Some((_, before)) = points.last().copied() {
            points.push((minutes(at), before));
        }
        points.push((minutes(at), amount));
    }
    points
}

fn bins(scenario: &Scenario) -> usize {
    bin(scenario.lasts - 1) + 1
}

fn bin(at: Nanos) -> usize {
    usize::try_from(at / BIN).unwrap_or(usize::MAX)
}

fn minutes(at: Nanos) -> f64 {
    seconds(at) / 60.0
}

fn whole(figure: &f64) -> String {
    format!("{figure:.0}")
}

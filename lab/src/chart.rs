//! Pictures: SVG that can be read on light and on dark ground.

use permitd_server::words::grouped;
use plotters::{
    drawing::DrawingAreaErrorKind,
    prelude::{
        ChartBuilder, Circle, Color as _, IntoDrawingArea as _, IntoLogRange as _, LineSeries, PathElement,
        RGBColor, Rectangle, SVGBackend, SeriesLabelPosition, Text,
    },
    style::{IntoFont as _, RGBAColor, TextStyle},
};

/// Why nothing was drawn. It is drawn into memory only.
pub(crate) type Error = DrawingAreaErrorKind<std::io::Error>;

// Colours that stand out from white and from black alike.
pub(crate) const GREEN: RGBColor = RGBColor(47, 158, 68);
pub(crate) const ORANGE: RGBColor = RGBColor(232, 89, 12);
pub(crate) const BLUE: RGBColor = RGBColor(59, 130, 246);
pub(crate) const RED: RGBColor = RGBColor(224, 49, 49);
pub(crate) const INK: RGBColor = RGBColor(110, 118, 129);

/// The text alone needs more contrast than one colour has on both grounds.
const STYLE: &str = "<style>text{fill:#424a53}@media(prefers-color-scheme:dark){text{fill:#c9d1d9}}</style>";

/// Gives a picture the colours of its text.
pub(crate) fn readable(mut picture: String) -> String {
    let body = picture.find('>').map_or(0, |end| end + 1);
    picture.insert_str(body, STYLE);
    picture
}

pub(crate) fn text(size: i32) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(&INK)
}

/// How something grows: both axes in powers of ten.
#[derive(Clone, Debug)]
pub(crate) struct Growth {
    pub(crate) title: &'static str,
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
    /// Each with its name; at most four.
    pub(crate) lines: Vec<(&'static str, Vec<(f64, f64)>)>,
}

impl Growth {
    /// As a picture.
    ///
    /// # Errors
    /// If the drawing library fails.
    pub(crate) fn draw(&self) -> Result<String, Error> {
        let points = || self.lines.iter().flat_map(|(_, points)| points);
        let most = |of: fn(&(f64, f64)) -> f64| points().map(of).fold(1.0, f64::max);
        let least = points().map(|point| point.1).fold(f64::INFINITY, f64::min).min(most(|point| point.1));
        let decade = |figure: f64, round: fn(f64) -> f64| 10_f64.powf(round(figure.log10()));
        let x = 1.0..most(|point| point.0) * 1.2;
        let y = decade(least, f64::floor)..decade(most(|point| point.1), f64::ceil);
        let mut picture = String::new();
        {
            let root = SVGBackend::with_string(&mut picture, (840, 420)).into_drawing_area();
            let mut chart = ChartBuilder::on(&root)
                .caption(self.title, text(16))
                .margin(8)
                .margin_right(24)
                .x_label_area_size(40)
                .y_label_area_size(72)
                .build_cartesian_2d(x.log_scale(), y.log_scale())?;
            chart
                .configure_mesh()
                .light_line_style(RGBAColor(0, 0, 0, 0.0))
                .bold_line_style(INK.mix(0.25))
                .axis_style(INK)
                .label_style(text(12))
                .x_desc(self.x)
                .y_desc(self.y)
                .x_label_formatter(&amount)
                .y_label_formatter(&amount)
                .draw()?;
            for ((name, points), colour) in self.lines.iter().zip([BLUE, ORANGE, GREEN, RED]) {
                let style = colour.stroke_width(2);
                chart
                    .draw_series(LineSeries::new(points.iter().copied(), style))?
                    .label(*name)
                    .legend(move |(x, y)| PathElement::new(vec![(x, y), (x + 20, y)], style));
                chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
            }
            if self.lines.len() > 1 {
                let mut labels = chart.configure_series_labels();
                labels.position(SeriesLabelPosition::UpperLeft).label_font(text(12)).draw()?;
            }
            root.present()?;
        }
        Ok(readable(picture))
    }
}

/// Who does how much: a bar for each, with its number.
#[derive(Clone, Debug)]
pub(crate) struct Bars {
    pub(crate) title: String,
    pub(crate) rows: Vec<(String, f64, RGBColor)>,
}

impl Bars {
    const WIDTH: u32 = 840;
    const ROW: i32 = 28;
    /// Where bars begin, and where the longest ends.
    const FROM: i32 = 250;
    const TO: i32 = 720;

    /// As a picture.
    ///
    /// # Errors
    /// If the drawing library fails.
    pub(crate) fn draw(&self) -> Result<String, Error> {
        let most = self.rows.iter().map(|row| row.1).fold(f64::MIN_POSITIVE, f64::max);
        let height = Self::ROW * (self.rows.len() as i32 + 2);
        let mut picture = String::new();
        {
            let root =
                SVGBackend::with_string(&mut picture, (Self::WIDTH, height as u32)).into_drawing_area();
            root.draw(&Text::new(self.title.as_str(), (16, 12), text(16)))?;
            for ((name, figure, colour), y) in self.rows.iter().zip((1..).map(|row| row * Self::ROW + 14)) {
                let to = Self::FROM + (f64::from(Self::TO - Self::FROM) * figure / most).round() as i32;
                root.draw(&Text::new(name.as_str(), (16, y + 4), text(13)))?;
                root.draw(&Rectangle::new([(Self::FROM, y), (to, y + Self::ROW - 8)], colour.filled()))?;
                root.draw(&Text::new(grouped(figure.round() as i64), (to + 8, y + 4), text(13)))?;
            }
            root.present()?;
        }
        Ok(readable(picture))
    }
}

/// A power of ten as people say it.
fn amount(figure: &f64) -> String {
    match *figure {
        figure if figure >= 1e6 => format!("{} M", figure / 1e6),
        figure if figure >= 1e3 => format!("{} k", figure / 1e3),
        figure => format!("{figure}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a picture is drawn, and its text has colours for light and dark ground.
    #[test]
    fn draws() {
        let line = vec![(1.0, 120.0), (1_000.0, 200.0), (1_000_000.0, 350.0)];
        let growth = Growth {
            title: "cost",
            x: "requests",
            y: "ns",
            lines: vec![("one", line.clone()), ("two", line)],
        };
        let picture = growth.draw().expect("it is drawn into memory");
        assert!(picture.starts_with("<svg") && picture.contains("prefers-color-scheme:dark"), "{picture}");
        assert!(picture.contains("1 M") && picture.contains("two"), "{picture}");
    }

    /// Goal: every bar has its name and its number.
    #[test]
    fn bars() {
        let rows = vec![("some".to_owned(), 1_234_567.4, BLUE), ("none".to_owned(), 0.0, RED)];
        let picture = Bars { title: "a second".to_owned(), rows }.draw().expect("it is drawn into memory");
        for text in ["a second", "some", "1,234,567", "none"] {
            assert!(picture.contains(text), "{text}: {picture}");
        }
    }
}

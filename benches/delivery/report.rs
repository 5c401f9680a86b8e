//! What was measured: as a table on the terminal, as JSON, and as one chart a section.

use std::path::Path;

use plotters::prelude::*;
use serde_json::{Map, Value, json};

const WIDTH_PX: u32 = 760;
const BAR_PX: u32 = 34;
const MARGIN_PX: u32 = 110;
const BARS: RGBColor = RGBColor(37, 99, 235);

/// One figure.
pub struct Figure {
    pub name: String,
    pub value: f64,
    pub unit: &'static str,
    /// Whether the section's chart shows it.
    pub charted: bool,
}

/// Figures that belong together. Those in its chart have one unit.
pub struct Section {
    pub name: &'static str,
    pub about: String,
    figures: Vec<Figure>,
}

impl Section {
    pub fn new(name: &'static str, about: impl Into<String>) -> Self {
        Self { name, about: about.into(), figures: Vec::new() }
    }

    pub fn say(&mut self, name: impl Into<String>, value: f64, unit: &'static str) -> &mut Self {
        self.figures.push(Figure { name: name.into(), value, unit, charted: false });
        self
    }

    pub fn chart(&mut self, name: impl Into<String>, value: f64, unit: &'static str) -> &mut Self {
        self.figures.push(Figure { name: name.into(), value, unit, charted: true });
        self
    }

    pub fn print(&self) {
        println!("\n{}: {}", self.name, self.about);
        for figure in &self.figures {
            println!("  {:<48} {:>12} {}", figure.name, readable(figure.value), figure.unit);
        }
    }

    pub fn json(&self) -> Value {
        let figures = self
            .figures
            .iter()
            .map(|figure| (figure.name.clone(), json!({"value": figure.value, "unit": figure.unit})));
        json!({"about": self.about, "figures": figures.collect::<Map<_, _>>()})
    }

    /// Bars from left to right, one a figure.
    pub fn draw(&self, directory: &Path) {
        let bars: Vec<&Figure> = self.figures.iter().filter(|figure| figure.charted).collect();
        let Some(first) = bars.first() else { return };
        let count = u32::try_from(bars.len()).unwrap();
        let path = directory.join(format!("{}.svg", self.name));
        let area = SVGBackend::new(&path, (WIDTH_PX, MARGIN_PX + BAR_PX * count)).into_drawing_area();
        area.fill(&WHITE).unwrap();
        let longest = bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
        let mut chart = ChartBuilder::on(&area)
            .caption(format!("{}, {}", self.name, first.unit), ("sans-serif", 18))
            .margin(10)
            .x_label_area_size(36)
            .y_label_area_size(250)
            .build_cartesian_2d(0.0..longest * 1.15, (0..bars.len()).into_segmented())
            .unwrap();
        let label = |place: &SegmentValue<usize>| match place {
            SegmentValue::CenterOf(at) => {
                bars.get(bars.len() - 1 - at).map_or(String::new(), |bar| bar.name.clone())
            }
            SegmentValue::Exact(_) | SegmentValue::Last => String::new(),
        };
        chart
            .configure_mesh()
            .disable_y_mesh()
            .y_labels(bars.len())
            .y_label_formatter(&label)
            .x_label_formatter(&|value| readable(*value))
            .draw()
            .unwrap();
        let shapes = bars.iter().rev().enumerate().map(|(at, bar)| {
            let mut shape = Rectangle::new(
                [(0.0, SegmentValue::Exact(at)), (bar.value, SegmentValue::Exact(at + 1))],
                BARS.filled(),
            );
            shape.set_margin(6, 6, 0, 0);
            shape
        });
        chart.draw_series(shapes).unwrap();
        let values = bars.iter().rev().enumerate().map(|(at, bar)| {
            let style = ("sans-serif", 13).into_font().color(&BLACK);
            Text::new(format!(" {}", readable(bar.value)), (bar.value, SegmentValue::CenterOf(at)), style)
        });
        chart.draw_series(values).unwrap();
        area.present().unwrap();
    }
}

/// Three figures that count.
fn readable(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 || size == 0.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

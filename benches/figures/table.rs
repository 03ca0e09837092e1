//! Figures: samples, their percentiles, and how they are shown.

use std::time::Duration;

use serde_json::{Value, json};

/// What a figure counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds.
    Millis,
    /// Kibibytes.
    KiB,
    /// Mebibytes.
    MiB,
    /// Events in a second. The only one of which more is better.
    PerSecond,
    /// Anything that is counted, and ratios.
    Number,
}

impl Unit {
    const fn name(self) -> &'static str {
        match self {
            Self::Millis => "ms",
            Self::KiB => "KiB",
            Self::MiB => "MiB",
            Self::PerSecond => "/s",
            Self::Number => "",
        }
    }

    fn show(self, value: f64) -> String {
        let digits = match self {
            Self::PerSecond => 0,
            Self::Number if value.fract() == 0.0 => 0,
            _ if value.abs() >= 100.0 => 0,
            _ if value.abs() >= 10.0 => 1,
            _ => 2,
        };
        format!("{value:.digits$}")
    }
}

/// Which percentile a bound is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// The median.
    P50,
    /// The 99th.
    P99,
}

/// One line of the table.
#[derive(Debug)]
pub struct Figure {
    /// What was measured.
    pub name: String,
    /// What it counts in.
    pub unit: Unit,
    /// Percentiles 50, 95 and 99.
    pub percentiles: [f64; 3],
    /// How many samples they are of.
    pub samples: usize,
    /// What the design allows.
    pub bounds: Vec<(Of, f64)>,
}

impl Figure {
    /// A figure of these samples.
    pub fn new(name: impl Into<String>, unit: Unit, samples: &[f64]) -> Self {
        Self { name: name.into(), unit, percentiles: percentiles(samples), samples: samples.len(), bounds: Vec::new() }
    }

    /// A figure in milliseconds.
    pub fn times(name: impl Into<String>, samples: &[Duration]) -> Self {
        let samples: Vec<_> = samples.iter().map(|time| time.as_secs_f64() * 1000.0).collect();
        Self::new(name, Unit::Millis, &samples)
    }

    /// What this has over another one, percentile by percentile.
    pub fn over(name: impl Into<String>, this: &Self, other: &Self) -> Self {
        let [a, b, c] = this.percentiles;
        let [x, y, z] = other.percentiles;
        let samples = this.samples.min(other.samples);
        Self { name: name.into(), unit: this.unit, percentiles: [a - x, b - y, c - z], samples, bounds: Vec::new() }
    }

    /// How many times another one this is, percentile by percentile.
    pub fn ratio(name: impl Into<String>, this: &Self, other: &Self) -> Self {
        let [a, b, c] = this.percentiles;
        let [x, y, z] = other.percentiles;
        let samples = this.samples.min(other.samples);
        Self { name: name.into(), unit: Unit::Number, percentiles: [a / x, b / y, c / z], samples, bounds: Vec::new() }
    }

    /// Adds what the design allows.
    pub fn bound(mut self, of: Of, value: f64) -> Self {
        self.bounds.push((of, value));
        self
    }

    /// Whether all bounds hold; `None` if there is none.
    pub fn holds(&self) -> Option<bool> {
        let holds = |&(of, bound): &(Of, f64)| {
            let value = self.percentiles[if of == Of::P50 { 0 } else { 2 }];
            if self.unit == Unit::PerSecond { value >= bound } else { value <= bound }
        };
        (!self.bounds.is_empty()).then(|| self.bounds.iter().all(holds))
    }

    fn cells(&self) -> [String; 7] {
        let name = match self.unit.name() {
            "" => self.name.clone(),
            unit => format!("{}, {unit}", self.name),
        };
        let bound = |(of, value): &(Of, f64)| {
            let of = if *of == Of::P99 { "p99 " } else { "" };
            format!("{of}{}", self.unit.show(*value))
        };
        let bounds: Vec<_> = self.bounds.iter().map(bound).collect();
        let verdict = match self.holds() {
            Some(true) => "ok",
            Some(false) => "over",
            None => "",
        };
        let [p50, p95, p99] = self.percentiles.map(|value| self.unit.show(value));
        [name, self.samples.to_string(), p50, p95, p99, bounds.join(", "), verdict.to_owned()]
    }

    fn json(&self) -> Value {
        let [p50, p95, p99] = self.percentiles;
        let bounds: serde_json::Map<_, _> =
            self.bounds.iter().map(|(of, value)| (if *of == Of::P50 { "p50" } else { "p99" }.to_owned(), json!(value))).collect();
        json!({
            "figure": self.name, "unit": self.unit.name(), "samples": self.samples,
            "p50": p50, "p95": p95, "p99": p99, "bounds": bounds, "ok": self.holds(),
        })
    }
}

/// Percentiles 50, 95 and 99 by the nearest rank: each is a value that was measured.
fn percentiles(samples: &[f64]) -> [f64; 3] {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    [50, 95, 99].map(|percent| {
        let rank = (sorted.len() * percent).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
    })
}

/// The facts and the figures as text.
pub fn text(facts: &[(&'static str, String)], figures: &[Figure]) -> String {
    const HEAD: [&str; 7] = ["figure", "n", "p50", "p95", "p99", "bound", ""];
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(figures.iter().map(Figure::cells));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    let mut text = String::new();
    for (name, value) in facts {
        text += &format!("{name:10} {value}\n");
    }
    text.push('\n');
    for row in &rows {
        let [name, rest @ ..] = row;
        let mut line = format!("{name:0$}", widths[0]);
        for (cell, width) in rest.iter().zip(&widths[1..]) {
            line += &format!("  {cell:>width$}");
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

/// The facts and the figures as one JSON object.
pub fn json(facts: &[(&'static str, String)], figures: &[Figure]) -> Value {
    let facts: serde_json::Map<_, _> = facts.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    json!({"machine": facts, "figures": figures.iter().map(Figure::json).collect::<Vec<_>>()})
}

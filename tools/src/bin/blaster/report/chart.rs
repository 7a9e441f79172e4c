//! A line chart as inline SVG: two axes, linear or logarithmic, and series that the page's style gives their colours.

use std::fmt::Write;

/// Size of a chart in its own units: a page scales it.
const WIDTH: f64 = 440.0;
const HEIGHT: f64 = 260.0;
/// Room for the labels.
const LEFT: f64 = 52.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 38.0;

/// How values are laid out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Scale {
    Linear,
    /// Values are above 0.
    Logarithmic,
}

/// One axis.
#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub(crate) label: &'static str,
    pub(crate) scale: Scale,
    pub(crate) from: f64,
    pub(crate) to: f64,
    /// Where lines and labels are.
    pub(crate) ticks: Vec<(f64, String)>,
}

/// One line.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

impl Axis {
    /// From 0 to a round number that is not below `most`.
    pub(crate) fn linear(label: &'static str, most: f64) -> Self {
        let step = round_step(most.max(1e-9) / 5.0);
        let count = (most / step).ceil().max(1.0);
        let mut ticks = Vec::new();
        let mut tick = 0.0;
        while tick <= count {
            ticks.push((tick * step, number(tick * step)));
            tick += 1.0;
        }
        Self { label, scale: Scale::Linear, from: 0.0, to: count * step, ticks }
    }

    /// From 0 to exactly `most`.
    pub(crate) fn time(label: &'static str, most: f64) -> Self {
        let mut axis = Self::linear(label, most);
        axis.to = most.max(1e-9);
        axis.ticks.retain(|(at, _)| *at <= axis.to);
        axis
    }

    /// Whole powers of ten around `least` and `most`.
    pub(crate) fn decades(label: &'static str, least: f64, most: f64) -> Self {
        let least = least.max(1e-6);
        let (from, mut to) = (least.log10().floor(), most.max(least).log10().ceil());
        if to <= from {
            to = from + 1.0;
        }
        let steps: &[f64] = if to - from <= 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let mut ticks = Vec::new();
        let mut power = from;
        while power <= to {
            let base = 10_f64.powf(power);
            let fits = |step: &&f64| **step * base <= 10_f64.powf(to) * 1.0001;
            ticks.extend(steps.iter().filter(fits).map(|step| (step * base, number(step * base))));
            power += 1.0;
        }
        Self { label, scale: Scale::Logarithmic, from: 10_f64.powf(from), to: 10_f64.powf(to), ticks }
    }

    /// 0 at the start of the axis, 1 at its end.
    fn place(&self, value: f64) -> f64 {
        let place = match self.scale {
            Scale::Linear => (value - self.from) / (self.to - self.from),
            Scale::Logarithmic => (value.max(self.from) / self.from).ln() / (self.to / self.from).ln(),
        };
        place.clamp(0.0, 1.0)
    }
}

/// The chart; the n-th series has the class `sn`.
pub(crate) fn svg(title: &str, x: &Axis, y: &Axis, series: &[Series]) -> String {
    let across = |value| LEFT + x.place(value) * (WIDTH - LEFT - RIGHT);
    let down = |value| HEIGHT - BOTTOM - y.place(value) * (HEIGHT - TOP - BOTTOM);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">");
    // A String takes everything that is written.
    for (at, label) in &y.ticks {
        let at = down(*at);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{:.1}\"/><text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{label}</text>",
            WIDTH - RIGHT,
            LEFT - 5.0,
            at + 4.0
        );
    }
    for (at, label) in &x.ticks {
        let at = across(*at);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{at:.1} {TOP}V{:.1}\"/><text class=\"x\" x=\"{at:.1}\" y=\"{:.1}\">{label}</text>",
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 16.0
        );
    }
    let _ = write!(
        svg,
        "<text class=\"x\" x=\"{:.1}\" y=\"{:.1}\">{}</text><text class=\"x\" transform=\"translate(11 {:.1}) rotate(-90)\">{}</text>",
        f64::midpoint(LEFT, WIDTH - RIGHT),
        HEIGHT - 6.0,
        x.label,
        f64::midpoint(TOP, HEIGHT - BOTTOM),
        y.label
    );
    for (number, one) in series.iter().enumerate().filter(|(_, one)| !one.points.is_empty()) {
        let _ = write!(svg, "<polyline class=\"s{number}\" points=\"");
        for (at, value) in &one.points {
            let _ = write!(svg, "{:.1},{:.1} ", across(*at), down(*value));
        }
        svg.push_str("\"/>");
        // A line of one point cannot be seen.
        if let [(at, value)] = one.points[..] {
            let _ = write!(
                svg,
                "<circle class=\"s{number}\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"2.5\"/>",
                across(at),
                down(value)
            );
        }
    }
    svg + "</svg>"
}

/// 1, 2 or 5 times a power of ten, not below `least`.
fn round_step(least: f64) -> f64 {
    let power = 10_f64.powf(least.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|step| step * power >= least * 0.9999);
    step.unwrap_or(10.0) * power
}

/// As short as it goes: 0.05, 20, 3k.
fn number(value: f64) -> String {
    match value {
        _ if value == 0.0 => "0".to_owned(),
        _ if value >= 999_500.0 => format!("{}M", short(value / 1e6)),
        _ if value >= 9_995.0 => format!("{}k", short(value / 1e3)),
        _ => short(value),
    }
}

fn short(value: f64) -> String {
    let digits = if value >= 100.0 {
        0
    } else if value >= 1.0 {
        1
    } else {
        4
    };
    let text = format!("{value:.digits$}");
    if digits == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_round_numbers() {
        let labels = |axis: &Axis| {
            axis.ticks.iter().map(|(_, label)| label.clone()).collect::<Vec<String>>().join(" ")
        };
        assert_eq!(labels(&Axis::linear("a", 47.0)), "0 10 20 30 40 50");
        assert_eq!(labels(&Axis::linear("a", 23_000.0)), "0 5000 10k 15k 20k 25k");
        assert_eq!(labels(&Axis::decades("a", 0.3, 800.0)), "0.1 1 10 100 1000");
        assert_eq!(labels(&Axis::decades("a", 1.5, 30.0)), "1 2 5 10 20 50 100");
        assert_eq!(labels(&Axis::time("a", 9.0)), "0 2 4 6 8");
    }

    #[test]
    fn everything_is_inside_of_the_chart() {
        let series = [Series { name: "a", points: vec![(0.0, 0.0), (50.0, 1e9), (1e9, 5.0)] }];
        let svg = svg("t", &Axis::linear("x", 100.0), &Axis::decades("y", 1.0, 1000.0), &series);
        let points = svg.split("points=\"").nth(1).unwrap().split('"').next().unwrap();
        for pair in points.split_whitespace() {
            let (at, value) = pair.split_once(',').unwrap();
            let (at, value): (f64, f64) = (at.parse().unwrap(), value.parse().unwrap());
            assert!(
                (LEFT..=WIDTH - RIGHT).contains(&at) && (TOP..=HEIGHT - BOTTOM).contains(&value),
                "{pair}"
            );
        }
    }
}

//! Line charts as SVG, with a logarithmic axis below: enough for the figures of the documentation, and nothing to install.

use std::fmt::Write;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 50.0;
const COLOURS: [&str; 6] = ["#1b6ca8", "#c8553d", "#2e8b57", "#8a5fbf", "#b8860b", "#444444"];

/// A named line of points.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its name, which stands beside it.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// How the values stand on the left axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From 0, evenly.
    Linear,
    /// By powers of ten.
    Logarithmic,
}

/// The chart of some lines.
pub fn chart(title: &str, below: &str, left: &str, scale: Scale, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| &line.points);
    let bounds = |value: fn(&(f64, f64)) -> f64| {
        points()
            .map(value)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    };
    let (x_low, x_high) = bounds(|point| point.0);
    let (low, high) = bounds(|point| point.1);
    let (y_low, y_high) = match scale {
        Scale::Linear => (0.0, high * 1.05),
        Scale::Logarithmic => (10_f64.powf(low.log10().floor()), 10_f64.powf(high.log10().ceil())),
    };
    let x = |value: f64| LEFT + (value / x_low).log10() / (x_high / x_low).log10() * (WIDTH - LEFT - RIGHT);
    let y = |value: f64| {
        let share = match scale {
            Scale::Linear => (value - y_low) / (y_high - y_low),
            Scale::Logarithmic => (value / y_low).log10() / (y_high / y_low).log10(),
        };
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n<text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{title}</text>\n"
    );
    let ticks: Vec<f64> = match scale {
        Scale::Linear => (0..=5).map(|step| y_high * f64::from(step) / 5.0).collect(),
        Scale::Logarithmic => decades(y_low, y_high),
    };
    let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
    for tick in ticks {
        let at = y(tick);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/><text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            at + 4.0,
            short(tick)
        );
    }
    for tick in decades(x_low, x_high) {
        let at = x(tick);
        let _ = writeln!(
            svg,
            "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"#eee\"/><text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
            bottom + 18.0,
            short(tick)
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{below}</text>",
        (LEFT + right) / 2.0,
        HEIGHT - 12.0
    );
    let middle = (TOP + bottom) / 2.0;
    let _ =
        writeln!(svg, "<text transform=\"translate(16 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{left}</text>");
    for (number, line) in lines.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let path: Vec<String> =
            line.points.iter().map(|point| format!("{:.1},{:.1}", x(point.0), y(point.1))).collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>",
            path.join(" ")
        );
        for point in &line.points {
            let _ =
                writeln!(svg, "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>", x(point.0), y(point.1));
        }
        let at = TOP + 18.0 * number as f64;
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{at:.1}\" fill=\"{colour}\">{}</text>", right + 10.0, line.name);
    }
    svg.push_str("</svg>\n");
    svg
}

fn decades(low: f64, high: f64) -> Vec<f64> {
    let (first, last) = (low.log10().ceil() as i32, high.log10().floor() as i32);
    (first..=last).map(|power| 10_f64.powi(power)).collect()
}

fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{}M", value / 1e6),
        value if value >= 1e3 => format!("{}k", value / 1e3),
        value => format!("{}", (value * 100.0).round() / 100.0),
    }
}

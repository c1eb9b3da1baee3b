//! Line charts as inline SVG, in the colours of the page around them. Written out here because all
//! that a report needs is a few lines over two axes: a plot library would bring its own fonts and
//! layout, knows no axis of percentiles, and its charts would not follow a page's dark mode.

use std::fmt::Write;

/// Colours of the lines, told apart by the colour-blind too (Okabe and Ito); the page's style has
/// them as `--c0` and so on.
pub const COLOURS: [&str; 7] =
    ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d31"];

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 50.0;
/// Legend entries that fit beside a chart; the lines beyond are drawn all the same.
const NAMED_MAX: usize = 18;

/// A chart of lines.
pub struct Chart {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub lines: Vec<Line>,
}

/// What an axis shows.
pub struct Axis {
    pub name: String,
    pub scale: Scale,
}

/// Where values lie on an axis.
pub enum Scale {
    /// Evenly, from zero.
    Linear,
    /// By their logarithm. Values at or below zero are left out.
    Log,
    /// Evenly, from the first to the last of these places, each with its label.
    Labelled(Vec<(f64, String)>),
}

/// One line. Lines of one name have one entry in the legend and should have one colour.
pub struct Line {
    pub name: String,
    /// Counted from 0; goes round.
    pub colour: usize,
    pub points: Vec<(f64, f64)>,
    /// Every point has a dot, with its values as a tooltip.
    pub dots: bool,
}

/// An axis laid out: from its values to the share of its length.
struct Range {
    low: f64,
    high: f64,
    log: bool,
    ticks: Vec<(f64, String)>,
}

impl Chart {
    /// The chart as an SVG element.
    pub fn svg(&self) -> String {
        let values = |of: fn(&(f64, f64)) -> f64| {
            self.lines.iter().flat_map(move |line| line.points.iter().map(of))
        };
        let x = Range::new(&self.x.scale, values(|point| point.0));
        let y = Range::new(&self.y.scale, values(|point| point.1));
        let mut svg = format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n\
             <text class=\"title\" x=\"{LEFT}\" y=\"18\">{}</text>\n",
            escaped(&self.title),
            escaped(&self.title)
        );
        self.write_axes(&mut svg, &x, &y);
        for line in &self.lines {
            write_line(&mut svg, line, &x, &y);
        }
        self.write_legend(&mut svg);
        svg.push_str("</svg>\n");
        svg
    }

    fn write_axes(&self, svg: &mut String, x: &Range, y: &Range) {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (value, label) in &x.ticks {
            let at = across(x, *value);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
                 <text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                bottom + 18.0,
                escaped(label)
            );
        }
        for (value, label) in &y.ticks {
            let at = down(y, *value);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 8.0,
                at + 4.0,
                escaped(label)
            );
        }
        let (middle_x, middle_y) = (f64::midpoint(LEFT, right), f64::midpoint(TOP, bottom));
        let _ = writeln!(
            svg,
            "<text class=\"axis\" x=\"{middle_x}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
             <text class=\"axis\" transform=\"translate(16 {middle_y}) rotate(-90)\" \
             text-anchor=\"middle\">{}</text>",
            HEIGHT - 10.0,
            escaped(&self.x.name),
            escaped(&self.y.name)
        );
    }

    fn write_legend(&self, svg: &mut String) {
        let mut named: Vec<&str> = Vec::new();
        for line in &self.lines {
            if named.contains(&line.name.as_str()) || named.len() == NAMED_MAX {
                continue;
            }
            let (at, top) = (WIDTH - RIGHT + 14.0, TOP + 8.0 + 18.0 * named.len() as f64);
            named.push(&line.name);
            let _ = writeln!(
                svg,
                "<line class=\"key\" style=\"stroke:var(--c{})\" x1=\"{at}\" x2=\"{}\" y1=\"{top}\" \
                 y2=\"{top}\"/><text class=\"tick\" x=\"{}\" y=\"{}\">{}</text>",
                line.colour % COLOURS.len(),
                at + 18.0,
                at + 24.0,
                top + 4.0,
                escaped(&line.name)
            );
        }
    }
}

fn write_line(svg: &mut String, line: &Line, x: &Range, y: &Range) {
    let colour = line.colour % COLOURS.len();
    let visible = line.points.iter().filter(|(at, value)| x.shows(*at) && y.shows(*value));
    let places: Vec<String> = visible
        .clone()
        .map(|(at, value)| format!("{:.1},{:.1}", across(x, *at), down(y, *value)))
        .collect();
    if places.is_empty() {
        return;
    }
    let _ = writeln!(
        svg,
        "<polyline style=\"stroke:var(--c{colour})\" points=\"{}\"/>",
        places.join(" ")
    );
    for (at, value) in visible.filter(|_| line.dots) {
        let _ = writeln!(
            svg,
            "<circle style=\"fill:var(--c{colour})\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\">\
             <title>{}: {}</title></circle>",
            across(x, *at),
            down(y, *value),
            escaped(&line.name),
            short(*value)
        );
    }
}

fn across(x: &Range, value: f64) -> f64 {
    LEFT + x.share(value) * (WIDTH - RIGHT - LEFT)
}

fn down(y: &Range, value: f64) -> f64 {
    HEIGHT - BOTTOM - y.share(value) * (HEIGHT - BOTTOM - TOP)
}

impl Range {
    /// Holds all of the values that it can show.
    fn new(scale: &Scale, values: impl Iterator<Item = f64>) -> Range {
        let most = |values: &mut dyn Iterator<Item = f64>| values.fold(0.0, f64::max);
        match scale {
            Scale::Labelled(ticks) => {
                let low = ticks.first().map_or(0.0, |(at, _)| *at);
                let high = ticks.last().map_or(1.0, |(at, _)| *at);
                Range { low, high, log: false, ticks: ticks.clone() }
            }
            Scale::Linear => {
                let high = most(&mut values.filter(|value| value.is_finite()));
                let step = nice_step(if high > 0.0 { high } else { 1.0 });
                let count = (high / step).ceil().max(1.0) as u32;
                let ticks = (0..=count).map(|tick| f64::from(tick) * step);
                let ticks = ticks.map(|value| (value, short(value))).collect();
                Range { low: 0.0, high: f64::from(count) * step, log: false, ticks }
            }
            Scale::Log => {
                let shown: Vec<f64> =
                    values.filter(|value| value.is_finite() && *value > 0.0).collect();
                let least = shown.iter().copied().fold(f64::INFINITY, f64::min);
                let (least, most) = if shown.is_empty() {
                    (1.0, 10.0)
                } else {
                    (least, most(&mut shown.into_iter()))
                };
                let low = least.log10().floor() as i32;
                let high = (most.log10().ceil() as i32).max(low + 1);
                // Within few decades the powers of ten alone would leave too much unsaid.
                let steps: &[f64] = if high - low < 3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
                let power = |exponent: i32| 10f64.powi(exponent);
                let mut ticks: Vec<f64> = (low..high)
                    .flat_map(|exponent| steps.iter().map(move |step| step * power(exponent)))
                    .collect();
                ticks.push(power(high));
                let ticks = ticks.into_iter().map(|value| (value, short(value))).collect();
                Range { low: power(low), high: power(high), log: true, ticks }
            }
        }
    }

    fn shows(&self, value: f64) -> bool {
        value.is_finite() && (!self.log || value > 0.0)
    }

    /// 0 at the low end, 1 at the high one; in the middle if they are one.
    fn share(&self, value: f64) -> f64 {
        let (low, high, value) = if self.log {
            (self.low.log10(), self.high.log10(), value.log10())
        } else {
            (self.low, self.high, value)
        };
        if high > low { (value - low) / (high - low) } else { 0.5 }
    }
}

/// 1, 2 or 5 times a power of ten, such that four to ten of them make `high`.
fn nice_step(high: f64) -> f64 {
    let power = 10f64.powf((high / 4.0).log10().floor());
    let steps = [5.0, 2.0, 1.0].map(|step| step * power);
    steps.into_iter().find(|step| high / step >= 4.0).unwrap_or(power)
}

/// A number as short as a tick's label must be: 12k, 3.5M, 0.2.
pub fn short(value: f64) -> String {
    let (scaled, unit) = match value.abs() {
        magnitude if magnitude >= 1e9 => (value / 1e9, "G"),
        magnitude if magnitude >= 1e6 => (value / 1e6, "M"),
        magnitude if magnitude >= 1e4 => (value / 1e3, "k"),
        _ => (value, ""),
    };
    let rounded = if scaled.abs() >= 100.0 {
        format!("{scaled:.0}")
    } else {
        let text = format!("{scaled:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    rounded + unit
}

/// Text that may stand in SVG and HTML, in attributes too.
pub fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            _ => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: &Scale, values: &[f64]) -> Vec<String> {
        Range::new(scale, values.iter().copied()).ticks.into_iter().map(|tick| tick.1).collect()
    }

    #[test]
    fn ticks_are_round_numbers_that_hold_all_values() {
        let linear = |high| labels(&Scale::Linear, &[high]);
        assert_eq!(linear(41_000.0), ["0", "10k", "20k", "30k", "40k", "50k"]);
        assert_eq!(linear(1.0), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        assert_eq!(linear(0.0).first().unwrap(), "0");
        assert_eq!(labels(&Scale::Log, &[0.0, 30.0, 4_000.0]), ["10", "100", "1000", "10k"]);
        assert_eq!(labels(&Scale::Log, &[30.0]), ["10", "20", "50", "100"]);
        assert_eq!(labels(&Scale::Log, &[]), ["1", "2", "5", "10"]);
    }

    #[test]
    fn values_lie_where_their_scale_says() {
        let linear = Range::new(&Scale::Linear, [0.0, 10.0].into_iter());
        assert_eq!([0.0, 5.0, 10.0].map(|value| linear.share(value)), [0.0, 0.5, 1.0]);
        let log = Range::new(&Scale::Log, [1.0, 10_000.0].into_iter());
        assert!((log.share(100.0) - 0.5).abs() < 1e-12);
        let one = Range::new(&Scale::Labelled(vec![(3.0, "3".to_owned())]), std::iter::empty());
        assert_eq!(one.share(3.0), 0.5);
    }

    #[test]
    fn a_chart_draws_each_line_and_names_it_once() {
        let line = |points: &[(f64, f64)]| Line {
            name: "<A>".to_owned(),
            colour: 9,
            points: points.to_vec(),
            dots: true,
        };
        let axis = |scale| Axis { name: "x".to_owned(), scale };
        let chart = Chart {
            title: "speed & size".to_owned(),
            x: axis(Scale::Linear),
            y: axis(Scale::Log),
            lines: vec![
                line(&[(0.0, 1.0), (1.0, 10.0), (2.0, 0.0), (3.0, f64::NAN)]),
                line(&[]),
                line(&[(1.0, 5.0)]),
            ],
        };
        let svg = chart.svg();
        assert!(svg.contains("speed &amp; size") && svg.ends_with("</svg>\n"), "{svg}");
        assert_eq!(svg.matches("<polyline").count(), 2, "an empty line is not drawn: {svg}");
        assert_eq!(svg.matches("<circle").count(), 3, "0 has no place on a log scale: {svg}");
        assert_eq!(svg.matches("&lt;A&gt;</text>").count(), 1, "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }
}

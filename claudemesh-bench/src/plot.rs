//! Small SVG line charts with logarithmic axes.

use std::fmt::Write as _;

/// One line: its name and its points.
pub(crate) struct Line {
    /// What it shows.
    pub(crate) name: String,
    /// Points by x.
    pub(crate) points: Vec<(f64, f64)>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 150.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 46.0;
const COLORS: [&str; 5] = ["#2563eb", "#dc2626", "#059669", "#9333ea", "#d97706"];

/// A range of decades that holds all values.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (mut low, mut high) = (f64::MAX, f64::MIN);
        for value in values.filter(|value| *value > 0.0) {
            low = low.min(value.log10().floor());
            high = high.max(value.log10().ceil());
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        if low == high {
            high += 1.0;
        }
        Self { low, high, from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value.max(1e-12).log10() - self.low) / (self.high - self.low);
        self.from + (self.to - self.from) * share
    }

    fn decades(&self) -> impl Iterator<Item = f64> + use<> {
        #[allow(clippy::cast_possible_truncation)]
        let (low, high) = (self.low as i32, self.high as i32);
        (low..=high).map(|decade| 10_f64.powi(decade))
    }
}

/// A number with few digits.
fn short(value: f64) -> String {
    match value {
        value if value >= 1e6 => format!("{}M", value / 1e6),
        value if value >= 1e3 => format!("{}k", value / 1e3),
        value => format!("{value}"),
    }
}

/// The chart.
pub(crate) fn svg(title: &str, x_name: &str, y_name: &str, lines: &[Line]) -> String {
    let points = || lines.iter().flat_map(|line| line.points.iter().copied());
    let x = Axis::new(points().map(|(x, _)| x), LEFT, WIDTH - RIGHT);
    let y = Axis::new(points().map(|(_, y)| y), HEIGHT - BOTTOM, TOP);
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="11">
<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>
<text x="{LEFT}" y="18" font-size="13" font-weight="bold">{title}</text>
"##
    );
    for value in x.decades() {
        let at = x.place(value);
        let _ = writeln!(
            svg,
            r##"<line x1="{at:.1}" y1="{TOP}" x2="{at:.1}" y2="{}" stroke="#ddd"/><text x="{at:.1}" y="{}" text-anchor="middle">{}</text>"##,
            HEIGHT - BOTTOM,
            HEIGHT - BOTTOM + 15.0,
            short(value),
        );
    }
    for value in y.decades() {
        let at = y.place(value);
        let _ = writeln!(
            svg,
            r##"<line x1="{LEFT}" y1="{at:.1}" x2="{}" y2="{at:.1}" stroke="#ddd"/><text x="{}" y="{:.1}" text-anchor="end">{}</text>"##,
            WIDTH - RIGHT,
            LEFT - 6.0,
            at + 4.0,
            short(value),
        );
    }
    let _ = writeln!(
        svg,
        r##"<text x="{:.1}" y="{}" text-anchor="middle">{x_name}</text><text transform="translate(16 {:.1}) rotate(-90)" text-anchor="middle">{y_name}</text>"##,
        (LEFT + WIDTH - RIGHT) / 2.0,
        HEIGHT - 10.0,
        (TOP + HEIGHT - BOTTOM) / 2.0,
    );
    for (index, line) in lines.iter().enumerate() {
        let color = COLORS[index % COLORS.len()];
        let path: Vec<_> = line
            .points
            .iter()
            .map(|(px, py)| format!("{:.1},{:.1}", x.place(*px), y.place(*py)))
            .collect();
        let _ = writeln!(
            svg,
            r##"<polyline points="{}" fill="none" stroke="{color}" stroke-width="2"/>"##,
            path.join(" ")
        );
        for (px, py) in &line.points {
            let _ = writeln!(
                svg,
                r##"<circle cx="{:.1}" cy="{:.1}" r="3" fill="{color}"/>"##,
                x.place(*px),
                y.place(*py)
            );
        }
        let _ = writeln!(
            svg,
            r##"<text x="{}" y="{:.1}" fill="{color}">{}</text>"##,
            WIDTH - RIGHT + 8.0,
            TOP + 12.0 + 16.0 * index as f64,
            line.name,
        );
    }
    svg.push_str("</svg>\n");
    svg
}

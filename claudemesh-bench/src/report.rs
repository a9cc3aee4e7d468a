//! What the scenarios found, as text.

use hdrhistogram::Histogram;
use std::fmt::Write as _;
use std::path::Path;

use crate::load::Measured;
use crate::plot::{self, Line};
use crate::reference::References;

/// A figure with a target.
pub(crate) struct Target {
    /// What is measured.
    pub(crate) name: String,
    /// What the issue asks for.
    pub(crate) wanted: String,
    /// What was measured.
    pub(crate) got: String,
    /// Whether it is met.
    pub(crate) met: bool,
}

/// A chart, or a table where nobody draws.
pub(crate) struct Chart {
    /// Name of its file.
    pub(crate) file: &'static str,
    /// What it shows.
    pub(crate) title: String,
    /// What grows.
    pub(crate) x: &'static str,
    /// What is measured.
    pub(crate) y: &'static str,
    /// The lines.
    pub(crate) lines: Vec<Line>,
}

/// Everything that a run found.
#[derive(Default)]
pub(crate) struct Report {
    machine: Vec<(&'static str, String)>,
    references: Vec<(String, String)>,
    loads: Vec<String>,
    facts: Vec<(String, String)>,
    targets: Vec<Target>,
    charts: Vec<Chart>,
    failures: Vec<String>,
}

/// Nanoseconds, for people.
pub(crate) fn time(nanos: u64) -> String {
    match nanos {
        0..1_000_000 => format!("{:.0} µs", nanos as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2} ms", nanos as f64 / 1e6),
        _ => format!("{:.2} s", nanos as f64 / 1e9),
    }
}

/// Median and 99th percentile.
pub(crate) fn quantiles(took: &Histogram<u64>) -> String {
    format!(
        "p50 {}, p99 {}",
        time(took.value_at_quantile(0.5)),
        time(took.value_at_quantile(0.99))
    )
}

/// One figure as a multiple of another.
pub(crate) fn ratio(figure: f64, of: f64) -> String {
    format!("{:.2}", figure / of.max(f64::MIN_POSITIVE))
}

/// A whole number with thin groups.
pub(crate) fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Report {
    /// A report on this machine.
    pub(crate) fn new(machine: Vec<(&'static str, String)>) -> Self {
        Self {
            machine,
            ..Self::default()
        }
    }

    /// Records the references.
    pub(crate) fn references(&mut self, references: &References) {
        let quantile = |histogram: &hdrhistogram::Histogram<u64>, at| time(histogram.value_at_quantile(at));
        let sync = &references.sync;
        self.reference(
            "fdatasync of 4 KiB",
            format!(
                "{}/s, p50 {}, p99 {}",
                grouped(references.syncs_per_second()),
                quantile(sync, 0.5),
                quantile(sync, 0.99)
            ),
        );
        let echo = &references.echo;
        self.reference(
            "WebSocket echo round trip",
            format!("p50 {}, p99 {}", quantile(echo, 0.5), quantile(echo, 0.99)),
        );
        self.reference(
            "SQLite, 1 row per commit",
            format!("{} rows/s", grouped(references.single_rows)),
        );
        self.reference(
            "SQLite, 64 rows per commit",
            format!("{} rows/s", grouped(references.batch_rows)),
        );
    }

    /// Records one reference.
    pub(crate) fn reference(&mut self, name: &str, value: String) {
        eprintln!("  {name}: {value}");
        self.references.push((name.to_owned(), value));
    }

    /// Records a load.
    pub(crate) fn load(&mut self, name: &str, measured: &Measured, references: &References) {
        let quantile = |at| time(measured.latency.value_at_quantile(at));
        let line = format!(
            "| {name} | {} | {} | {} | {} | {} | {} | {:.1} | {:.1} | {:.2} | {}/{}/{}/{} |",
            grouped(measured.accepted_per_second),
            grouped(measured.delivered_per_second),
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
            time(measured.stored.value_at_quantile(0.5)),
            measured.broker_cpu.as_secs_f64() * 1e6,
            measured.driver_cpu.as_secs_f64() * 1e6,
            measured.delivered_per_second / references.syncs_per_second(),
            measured.lost,
            measured.twice,
            measured.disordered,
            measured.refused,
        );
        eprintln!("{line}");
        self.loads.push(line);
    }

    /// Records a figure.
    pub(crate) fn fact(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        eprintln!("  {name}: {value}");
        self.facts.push((name, value));
    }

    /// Records a figure with a target.
    pub(crate) fn target(
        &mut self,
        name: impl Into<String>,
        wanted: impl Into<String>,
        got: impl Into<String>,
        met: bool,
    ) {
        let target = Target {
            name: name.into(),
            wanted: wanted.into(),
            got: got.into(),
            met,
        };
        eprintln!(
            "  target {}: {} ({}): {}",
            target.name,
            target.got,
            target.wanted,
            if met { "met" } else { "MISSED" }
        );
        self.targets.push(target);
    }

    /// Records a chart.
    pub(crate) fn chart(&mut self, chart: Chart) {
        for line in &chart.lines {
            eprintln!("  {} | {}: {:?}", chart.title, line.name, line.points);
        }
        self.charts.push(chart);
    }

    /// Records a scenario that did not run.
    pub(crate) fn failure(&mut self, scenario: &str, error: &anyhow::Error) {
        eprintln!("  {scenario} FAILED: {error:#}");
        self.failures.push(format!("{scenario}: {error:#}"));
    }

    /// Whether a scenario did not run.
    pub(crate) fn has_failures(&self) -> bool {
        !self.failures.is_empty()
    }

    /// The report as Markdown.
    pub(crate) fn markdown(&self, command: &str) -> String {
        let mut text = format!(
            "# Benchmarks\n\nWritten by `{command}`. Everything was measured in one run on one machine, broker and driver on the \
             same cores; read the ratios rather than the figures.\n\n"
        );
        let mut table = |title: &str, head: &str, rows: Vec<String>| {
            if !rows.is_empty() {
                let columns = head.matches('|').count() - 1;
                let _ = write!(
                    text,
                    "## {title}\n\n{head}\n|{}\n{}\n\n",
                    "---|".repeat(columns),
                    rows.join("\n")
                );
            }
        };
        let pairs = |pairs: &[(String, String)]| {
            pairs
                .iter()
                .map(|(name, value)| format!("| {name} | {value} |"))
                .collect()
        };
        table(
            "Machine",
            "| | |",
            self.machine
                .iter()
                .map(|(name, value)| format!("| {name} | {value} |"))
                .collect(),
        );
        table(
            "References",
            "| what this machine can do at best | |",
            pairs(&self.references),
        );
        table(
            "Targets",
            "| target | wanted | measured | |",
            self.targets
                .iter()
                .map(|target| {
                    let met = if target.met { "met" } else { "**missed**" };
                    format!("| {} | {} | {} | {met} |", target.name, target.wanted, target.got)
                })
                .collect(),
        );
        table(
            "Loads",
            "| load | accepted/s | delivered/s | p50 | p99 | p99.9 | on disk p50 | broker CPU µs | driver CPU µs | deliveries per fdatasync | lost/twice/disordered/refused |",
            self.loads.clone(),
        );
        table("Other figures", "| | |", pairs(&self.facts));
        if !self.charts.is_empty() {
            text.push_str("## Growth\n\n");
            for chart in &self.charts {
                let _ = write!(text, "![{}](benchmarks/{})\n\n", chart.title, chart.file);
            }
        }
        if !self.failures.is_empty() {
            let _ = write!(text, "## Did not run\n\n{}\n\n", self.failures.join("\n\n"));
        }
        text.push_str(NOTES);
        text
    }

    /// Writes the charts into a directory.
    pub(crate) fn write_charts(&self, directory: &Path) -> anyhow::Result<()> {
        std::fs::create_dir_all(directory)?;
        for chart in &self.charts {
            std::fs::write(
                directory.join(chart.file),
                plot::svg(&chart.title, chart.x, chart.y, &chart.lines),
            )?;
        }
        Ok(())
    }
}

const NOTES: &str = "\
## How to read this

- *accepted* is durable: the sender was told after the commit. *delivered* is the recipient's acknowledgement, durable as well.
- Latency is one way, from the moment of sending (in an open loop: from the moment at which the message was due) to its arrival at
  the recipient.
- CPU is that of the broker's process (on Postgres with the database server's) for each delivery; the driver's is apart.
- The driver connects with protocol 2 and acknowledges in batches of what has arrived, as the client does. It seals nothing, so that
  its own work stays small; the broker never opens a ciphertext.
- Rate limits are raised out of the way.
";

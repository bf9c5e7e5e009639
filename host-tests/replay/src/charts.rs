//! Charts as SVG.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::combinators::LogCoord;
use plotters::coord::ranged1d::SegmentedCoord;
use plotters::coord::types::RangedCoordi32;
use plotters::prelude::*;

use crate::table::{Row, cases, mean, policies, reference, relative};

const WIDTH: u32 = 900;
const BAR_HEIGHT: u32 = 24;
const LINES_HEIGHT: u32 = 560;
const LEGEND_WIDTH: u32 = 220;

/// Mean TTFT of every policy over all cases, as a multiple of the reference, best first.
///
/// # Errors
/// When the file cannot be written.
pub fn summary(rows: &[Row], path: &Path) -> Result<()> {
    let Some(reference) = reference(rows) else {
        return Ok(());
    };
    let bars = policies(rows).into_iter().filter_map(|policy| {
        let share = relative(rows, policy, reference, |f| f.ttft_mean_s)?;
        Some((policy, share))
    });
    let mut bars: Vec<(&str, f64)> = bars.collect();
    bars.sort_by(|one, other| one.1.total_cmp(&other.1));
    let title = format!("Mean time to first token, as a multiple of {reference} (log scale)");
    draw_bars(&bars, &title, path).map_err(|error| anyhow!("{}: {error}", path.display()))
}

/// Policies with their values, best first.
type Bars<'a> = [(&'a str, f64)];
type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;
type BarChart<'a, 'b> =
    ChartContext<'a, SVGBackend<'b>, Cartesian2d<LogCoord<f64>, SegmentedCoord<RangedCoordi32>>>;

fn draw_bars(bars: &Bars<'_>, title: &str, path: &Path) -> Drawn {
    let height = 90 + BAR_HEIGHT * bars.len() as u32;
    let root = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    root.fill(&WHITE)?;
    let lowest = bars.iter().map(|bar| bar.1).fold(1.0, f64::min) / 1.5;
    let highest = bars.iter().map(|bar| bar.1).fold(1.0, f64::max) * 1.6;
    let mut chart = ChartBuilder::on(&root)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(210)
        .build_cartesian_2d(
            (lowest..highest).log_scale(),
            (0..bars.len() as i32).into_segmented(),
        )?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .y_labels(bars.len() + 1)
        .y_label_formatter(&|place| name(bars, place))
        .draw()?;
    for (from_top, bar) in bars.iter().enumerate() {
        draw_bar(&mut chart, lowest, (bars.len() - 1 - from_top) as i32, bar)?;
    }
    root.present()?;
    Ok(())
}

/// The policy at a place, counted from below.
fn name(bars: &Bars<'_>, place: &SegmentValue<i32>) -> String {
    let SegmentValue::CenterOf(place) = place else {
        return String::new();
    };
    let mut from_below = bars.iter().rev();
    let bar = usize::try_from(*place)
        .ok()
        .and_then(|place| from_below.nth(place));
    bar.map_or("", |bar| bar.0).to_string()
}

fn draw_bar(
    chart: &mut BarChart<'_, '_>,
    from: f64,
    place: i32,
    (policy, value): &(&str, f64),
) -> Drawn {
    let corners = [
        (from, SegmentValue::Exact(place)),
        (*value, SegmentValue::Exact(place + 1)),
    ];
    let mut bar = Rectangle::new(corners, bar_color(policy).filled());
    bar.set_margin(4, 4, 0, 0);
    chart.draw_series([bar])?;
    let label_at = (*value, SegmentValue::CenterOf(place));
    let label = Text::new(format!(" {value:.3}"), label_at, ("sans-serif", 13));
    chart.draw_series([label])?;
    Ok(())
}

/// Mean TTFT of every policy against the load, for one trace and engine.
///
/// # Errors
/// When the file cannot be written.
pub fn loads(rows: &[Row], trace: &str, engine: &str, path: &Path) -> Result<()> {
    let lines = policies(rows).into_iter().map(|policy| {
        let cases = cases(rows).into_iter();
        let here = cases.filter(|case| case.trace == trace && case.engine == engine);
        let point = |case: crate::table::Case<'_>| {
            let seconds = mean(rows, &case, policy, |f| f.ttft_mean_s)?;
            Some((case.load, seconds.max(1e-3)))
        };
        (policy, here.filter_map(point).collect())
    });
    let lines: Vec<(&str, Vec<(f64, f64)>)> = lines.collect();
    let title = format!("{trace}, {engine}: mean time to first token (s) against load");
    draw_lines(&lines, &title, path).map_err(|error| anyhow!("{}: {error}", path.display()))
}

type Lines<'a> = [(&'a str, Vec<(f64, f64)>)];
type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

fn draw_lines(lines: &Lines<'_>, title: &str, path: &Path) -> Drawn {
    let root = SVGBackend::new(path, (WIDTH, LINES_HEIGHT)).into_drawing_area();
    root.fill(&WHITE)?;
    let (plot, legend) = root.split_horizontally(WIDTH - LEGEND_WIDTH);
    draw_plot(&plot, lines, title)?;
    draw_legend(&legend, lines)?;
    root.present()?;
    Ok(())
}

fn draw_plot(area: &Area<'_>, lines: &Lines<'_>, title: &str) -> Drawn {
    let points = || lines.iter().flat_map(|(_, points)| points);
    let range = |value: fn(&(f64, f64)) -> f64| {
        let low = points().map(value).fold(f64::INFINITY, f64::min);
        let high = points().map(value).fold(0.0, f64::max);
        (low, high)
    };
    let ((first, last), (low, high)) = (range(|point| point.0), range(|point| point.1));
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 18))
        .margin(10)
        .x_label_area_size(30)
        .y_label_area_size(60)
        .build_cartesian_2d(
            first - 0.02..last + 0.02,
            (low / 1.2..high * 1.2).log_scale(),
        )?;
    chart.configure_mesh().draw()?;
    for (place, (policy, points)) in lines.iter().enumerate() {
        let style = color(policy, place).stroke_width(stroke(policy));
        chart.draw_series(LineSeries::new(points.iter().copied(), style))?;
    }
    Ok(())
}

/// The policies in the order of their lines at the highest load.
fn draw_legend(area: &Area<'_>, lines: &Lines<'_>) -> Drawn {
    let entries = lines.iter().enumerate().map(|(place, (policy, points))| {
        let last = points.last().map_or(0.0, |point| point.1);
        (last, *policy, color(policy, place))
    });
    let mut entries: Vec<(f64, &str, RGBColor)> = entries.collect();
    entries.sort_by(|one, other| other.0.total_cmp(&one.0));
    for (row, (_, policy, color)) in (0..).zip(entries) {
        let y = 50 + 18 * row;
        let style = color.stroke_width(stroke(policy));
        area.draw(&PathElement::new([(0, y), (20, y)], style))?;
        let label = Text::new(policy.to_string(), (26, y - 7), ("sans-serif", 13));
        area.draw(&label)?;
    }
    Ok(())
}

fn stroke(policy: &str) -> u32 {
    if policy == "ours" { 3 } else { 1 }
}

fn bar_color(policy: &str) -> RGBColor {
    match policy {
        "ours" | "oracle" => color(policy, 0),
        _ => RGBColor(120, 150, 180),
    }
}

/// Ours stands out, the oracle is black, the others differ.
fn color(policy: &str, place: usize) -> RGBColor {
    match policy {
        "ours" => RGBColor(214, 39, 40),
        "oracle" => BLACK,
        _ => {
            let (r, g, b) = Palette99::COLORS[place % Palette99::COLORS.len()];
            RGBColor(r, g, b)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::Figures;

    fn row(policy: &str, load: f64, seconds: f64) -> Row {
        Row {
            trace: "t".to_string(),
            load,
            engine: "dense".to_string(),
            policy: policy.to_string(),
            seed: 1,
            ranks: 2,
            gateways: 1,
            gateways_share: true,
            requests: 10,
            requests_per_second: 1.0,
            figures: Figures {
                ttft_mean_s: seconds,
                ..Figures::default()
            },
        }
    }

    #[test]
    fn charts_name_every_policy() {
        let rows = [
            row("round-robin", 0.5, 2.0),
            row("ours", 0.5, 1.0),
            row("round-robin", 0.9, 4.0),
            row("ours", 0.9, 1.0),
        ];
        let folder = tempfile::tempdir().unwrap();
        let (bars, lines) = (folder.path().join("a.svg"), folder.path().join("b.svg"));
        summary(&rows, &bars).unwrap();
        loads(&rows, "t", "dense", &lines).unwrap();
        for path in [bars, lines] {
            let text = std::fs::read_to_string(path).unwrap();
            assert!(text.contains("<svg") && text.contains("</svg>"));
            assert!(text.contains("round-robin") && text.contains("ours"));
        }
    }
}

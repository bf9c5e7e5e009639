//! The table where prefill and decode are apart, and the deployed decision against the EPP's guide.

use std::fmt::Write as _;

use crate::table::{self, Case, Row, cases, mean};
use crate::verdict::Figure;

/// The guide's configuration, as its image runs it.
pub const GUIDE: &str = "epp-guide";
const OURS: &str = "ours";

/// What is compared, with names for the table.
const FIGURES: [(&str, Figure); 6] = [
    ("TTFT mean", |f| f.ttft_mean_s),
    ("p50", |f| f.ttft_p50_s),
    ("p90", |f| f.ttft_p90_s),
    ("p99", |f| f.ttft_p99_s),
    ("TPOT p50", |f| f.tpot_p50_ms),
    ("p99", |f| f.tpot_p99_ms),
];

/// The whole table in Markdown.
#[must_use]
pub fn markdown(rows: &[Row]) -> String {
    let (against, table) = (against_guide(rows), table::markdown(rows));
    format!("{table}\n{against}{}", without_prefill(rows))
}

/// The deployed decision in each case as a multiple of the guide; empty where one of them was not run.
#[must_use]
pub fn against_guide(rows: &[Row]) -> String {
    let lines = cases(rows).into_iter().filter_map(|case| line(rows, &case));
    let lines: String = lines.collect();
    if lines.is_empty() {
        return lines;
    }
    let names: String = FIGURES
        .iter()
        .map(|(name, _)| format!(" {name} |"))
        .collect();
    format!(
        "{OURS} as a multiple of {GUIDE}, and the goodput of both.\n\n\
         | trace | ranks | load |{names} goodput | {GUIDE} |\n\
         | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |\n{lines}"
    )
}

fn line(rows: &[Row], case: &Case<'_>) -> Option<String> {
    let mut text = format!("| {} | {} | {} |", case.trace, case.engine, case.load);
    for (_, figure) in FIGURES {
        let (ours, guide) = (
            mean(rows, case, OURS, figure)?,
            mean(rows, case, GUIDE, figure)?,
        );
        let _ = match guide > 0.0 {
            true => write!(text, " {:.3} |", ours / guide),
            false => write!(text, " - |"),
        };
    }
    let goodput = |policy| mean(rows, case, policy, |f| f.goodput);
    let (ours, guide) = (goodput(OURS)?, goodput(GUIDE)?);
    let _ = writeln!(text, " {ours:.3} | {guide:.3} |");
    Some(text)
}

/// How many requests each policy sent to a decode rank alone, over all runs; empty where none did.
fn without_prefill(rows: &[Row]) -> String {
    let shares = table::policies(rows).into_iter().filter_map(|policy| {
        let own = rows.iter().filter(|row| row.policy == policy);
        let shares = own.filter_map(|row| row.figures.apart);
        let shares: Vec<f64> = shares.map(|apart| apart.decode_only).collect();
        let share = shares.iter().sum::<f64>() / shares.len().max(1) as f64;
        (share > 0.0).then(|| format!("{policy} {:.1} %", share * 100.0))
    });
    let shares: Vec<String> = shares.collect();
    match shares.is_empty() {
        true => String::new(),
        false => format!("\nSent to a decode rank alone: {}.\n", shares.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::{Apart, Figures};

    fn row(policy: &str, seconds: f64, decode_only: f64) -> Row {
        Row {
            trace: "t".to_string(),
            load: 0.5,
            engine: "dense 2:1".to_string(),
            policy: policy.to_string(),
            seed: 1,
            ranks: 3,
            gateways: 1,
            gateways_share: false,
            requests: 10,
            requests_per_second: 1.0,
            figures: Figures {
                ttft_mean_s: seconds,
                ttft_p50_s: seconds,
                ttft_p90_s: seconds,
                ttft_p99_s: 2.0 * seconds,
                tpot_p50_ms: 8.0 / seconds,
                max_mean_load: 1.25,
                goodput: 0.5,
                apart: Some(Apart {
                    decode_max_mean_load: 1.5,
                    decode_only,
                }),
                ..Figures::default()
            },
        }
    }

    #[test]
    fn ours_is_held_against_the_guide_figure_by_figure() {
        let rows = [
            row("round-robin", 8.0, 0.0),
            row(GUIDE, 4.0, 0.0),
            row(OURS, 1.0, 0.25),
        ];
        let text = markdown(&rows);
        let line =
            "| t | dense 2:1 | 0.5 | 0.250 | 0.250 | 0.250 | 0.250 | 4.000 | - | 0.500 | 0.500 |";
        assert!(text.contains(line), "{text}");
        assert!(
            text.contains("Sent to a decode rank alone: ours 25.0 %."),
            "{text}"
        );
        assert!(text.contains("as a multiple of epp-guide"), "{text}");
        assert!(
            text.contains("| 1.25, 1.50 |"),
            "load of both kinds: {text}"
        );
        assert!(against_guide(&rows[..2]).is_empty());
    }
}

//! The deployed decision against the best of the others in each case: where it is ahead, level or behind.

use std::fmt::Write as _;

use crate::figures::Figures;
use crate::table::{Case, Row, cases, mean, policies, relative};

/// The deployed decision.
const OURS: &str = "ours";
/// It knows what no router can.
const ORACLE: &str = "oracle";
/// A difference that nobody would notice, in any case.
const LEVEL: f64 = 0.02;

/// Reads one of the figures of a run.
pub type Figure = fn(&Figures) -> f64;

/// A figure of the deployed decision beside the lowest of another policy.
#[derive(Clone, Debug, PartialEq)]
pub struct Duel<'a> {
    /// Its mean over the seeds.
    pub ours: f64,
    /// The policy that has the lowest mean over the seeds, oracle and variants of the deployed one left out.
    pub other: &'a str,
    /// That mean.
    pub lowest: f64,
    /// Twice the standard error of the mean over the seeds of the logarithm of the ratio of both: about what chance can do.
    pub noise: f64,
}

/// How a duel ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Result {
    /// Lower than every other by more than chance and 2 %.
    Ahead,
    /// The same but for chance, or within 2 %.
    Level,
    /// Higher than another by more than that.
    Behind,
}

impl Duel<'_> {
    /// Ours as a multiple of the lowest other.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.ours / self.lowest
    }

    /// How it ended.
    #[must_use]
    pub fn result(&self) -> Result {
        let difference = self.ratio().ln();
        let limit = self.noise.max(LEVEL);
        match difference {
            _ if difference > limit => Result::Behind,
            _ if difference < -limit => Result::Ahead,
            _ => Result::Level,
        }
    }
}

/// The duel of a figure in a case; `None` where ours or another was not run.
#[must_use]
pub fn duel<'a>(rows: &'a [Row], case: &Case<'_>, figure: Figure) -> Option<Duel<'a>> {
    let others = policies(rows).into_iter().filter(|policy| is_other(policy));
    let means = others.filter_map(|policy| Some((policy, mean(rows, case, policy, figure)?)));
    let (other, lowest) = means.min_by(|one, next| one.1.total_cmp(&next.1))?;
    Some(Duel {
        ours: mean(rows, case, OURS, figure)?,
        other,
        lowest,
        noise: noise(rows, case, other, figure),
    })
}

fn is_other(policy: &str) -> bool {
    let is_ours = policy.starts_with(OURS) || policy.starts_with("trial");
    !is_ours && policy != ORACLE
}

fn noise(rows: &[Row], case: &Case<'_>, other: &str, figure: Figure) -> f64 {
    let value = |policy: &str, seed: u64| {
        let mut runs = rows.iter().filter(|row| row.case() == *case);
        runs.find(|row| row.policy == policy && row.seed == seed)
            .map(|row| figure(&row.figures))
    };
    let own = rows
        .iter()
        .filter(|row| row.case() == *case && row.policy == OURS);
    let ratios = own.filter_map(|row| Some((figure(&row.figures) / value(other, row.seed)?).ln()));
    let ratios: Vec<f64> = ratios.collect();
    let count = ratios.len() as f64;
    if count < 2.0 {
        return 0.0;
    }
    let mean = ratios.iter().sum::<f64>() / count;
    let squares = ratios
        .iter()
        .map(|ratio| (ratio - mean).powi(2))
        .sum::<f64>();
    2.0 * (squares / (count - 1.0) / count).sqrt()
}

/// All duels as a table, with what they come to; empty where ours was not run with others.
#[must_use]
pub fn markdown(rows: &[Row]) -> String {
    let lines = cases(rows).into_iter().filter_map(|case| line(rows, &case));
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "| trace | engine | load | TTFT mean s | best other | ratio | oracle | TTFT p99 s | best other | ratio |\n\
         | --- | --- | ---: | ---: | --- | ---: | ---: | ---: | --- | ---: |\n",
    );
    lines.iter().for_each(|line| text.push_str(line));
    text.push_str(&summary(rows));
    text
}

fn line(rows: &[Row], case: &Case<'_>) -> Option<String> {
    let means = duel(rows, case, |f| f.ttft_mean_s)?;
    let tails = duel(rows, case, |f| f.ttft_p99_s)?;
    let oracle = mean(rows, case, ORACLE, |f| f.ttft_mean_s);
    let oracle = oracle.map_or("-".to_string(), |seconds| format!("{seconds:.3}"));
    let show = |duel: &Duel<'_>| {
        let (ours, other, lowest) = (duel.ours, duel.other, duel.lowest);
        let mark = if duel.result() == Result::Behind {
            " !"
        } else {
            ""
        };
        format!(
            "{ours:.3} | {lowest:.3} {other} | {:.2}{mark}",
            duel.ratio()
        )
    };
    Some(format!(
        "| {} | {} | {} | {} | {oracle} | {} |\n",
        case.trace,
        case.engine,
        case.load,
        show(&means),
        show(&tails),
    ))
}

fn summary(rows: &[Row]) -> String {
    let mut text = String::new();
    for (name, figure) in figures() {
        let duels = cases(rows)
            .into_iter()
            .filter_map(|case| duel(rows, &case, figure));
        let results: Vec<Result> = duels.map(|duel| duel.result()).collect();
        let count = |result| results.iter().filter(|one| **one == result).count();
        let _ = writeln!(
            text,
            "\n{name}, against the best other of each case: ahead in {}, level (within 2 % or what seeds differ by) in {}, \
             behind in {} (marked !).",
            count(Result::Ahead),
            count(Result::Level),
            count(Result::Behind),
        );
        if let Some((other, share)) = best_other(rows, figure) {
            let _ = writeln!(
                text,
                "{name} over all cases: {:.0} % below the best single other, {other}.",
                (1.0 - share) * 100.0
            );
        }
    }
    if let Some(share) = share_of_the_oracles_gain(rows) {
        let _ = writeln!(
            text,
            "Of what the oracle gains over round robin in TTFT mean: {:.0} %.",
            share * 100.0
        );
    }
    text
}

fn figures() -> [(&'static str, Figure); 2] {
    [
        ("TTFT mean", |f| f.ttft_mean_s),
        ("TTFT p99", |f| f.ttft_p99_s),
    ]
}

/// The other with the lowest figure over all cases, and ours as a share of it.
fn best_other(rows: &[Row], figure: Figure) -> Option<(&str, f64)> {
    let others = policies(rows).into_iter().filter(|policy| is_other(policy));
    let shares = others.filter_map(|other| Some((other, relative(rows, OURS, other, figure)?)));
    shares.max_by(|one, next| one.1.total_cmp(&next.1))
}

fn share_of_the_oracles_gain(rows: &[Row]) -> Option<f64> {
    let of = |policy| relative(rows, policy, "round-robin", |f| f.ttft_mean_s);
    Some((1.0 - of(OURS)?) / (1.0 - of(ORACLE)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(policy: &str, seed: u64, seconds: f64) -> Row {
        Row {
            trace: "a".to_string(),
            load: 0.5,
            engine: "dense".to_string(),
            policy: policy.to_string(),
            seed,
            ranks: 16,
            gateways: 1,
            gateways_share: false,
            requests: 10,
            requests_per_second: 3.5,
            figures: Figures {
                ttft_mean_s: seconds,
                ttft_p99_s: seconds,
                ..Figures::default()
            },
        }
    }

    fn only_duel(rows: &[Row]) -> Duel<'_> {
        duel(rows, &rows[0].case(), |f| f.ttft_mean_s).unwrap()
    }

    #[test]
    fn ours_meets_the_lowest_of_the_others() {
        let rows = [
            with("ours", 1, 0.8),
            with("epp", 1, 1.0),
            with("slow", 1, 2.0),
            with("oracle", 1, 0.1),
            with("ours:missWeight=3", 1, 0.2),
        ];
        let duel = only_duel(&rows);
        assert_eq!((duel.other, duel.lowest, duel.ours), ("epp", 1.0, 0.8));
        assert_eq!(duel.result(), Result::Ahead);
    }

    #[test]
    fn a_difference_within_two_percent_or_the_seeds_noise_is_none() {
        for (ours, result) in [
            ([1.01, 1.01], Result::Level),
            ([0.97, 0.97], Result::Ahead),
            ([1.05, 1.05], Result::Behind),
            // ln 0.9 and ln 1.2: mean 0.038, twice the standard error 0.29.
            ([0.9, 1.2], Result::Level),
        ] {
            let mut rows = vec![with("epp", 1, 1.0), with("epp", 2, 1.0)];
            rows.push(with("ours", 1, ours[0]));
            rows.push(with("ours", 2, ours[1]));
            assert_eq!(only_duel(&rows).result(), result, "{ours:?}");
        }
    }

    #[test]
    fn the_table_says_what_it_comes_to() {
        let rows = [
            with("round-robin", 1, 10.0),
            with("epp", 1, 2.0),
            with("ours", 1, 1.0),
            with("oracle", 1, 0.5),
        ];
        let text = markdown(&rows);
        assert!(
            text.contains("| 1.000 | 2.000 epp | 0.50 | 0.500 |"),
            "{text}"
        );
        assert!(
            text.contains("TTFT mean over all cases: 50 % below the best single other, epp."),
            "{text}"
        );
        // 9 of 9.5 s.
        assert!(
            text.contains("gains over round robin in TTFT mean: 95 %."),
            "{text}"
        );
        assert!(markdown(&rows[..2]).is_empty());
    }
}

//! Ideas for the decision, each against the deployed one: what `TRIED.md` shows.

use std::fmt::Write as _;

use crate::table::{Row, relative};

/// The deployed decision as a trial.
const BASE: &str = "trial";

/// Ideas with the knobs that make them.
pub const IDEAS: &[(&str, &str)] = &[
    (
        "a miss weighs as its work: drain time",
        "miss=1+waiting=0+old_uses=0+in_use=0",
    ),
    (
        "a miss weighs 2 times, always",
        "miss=2+waiting=0+old_uses=0+in_use=0",
    ),
    ("3 times", "miss=3+waiting=0+old_uses=0+in_use=0"),
    ("5 times", "miss=5+waiting=0+old_uses=0+in_use=0"),
    ("8 times", "miss=8+waiting=0+old_uses=0+in_use=0"),
    ("without regard to busy ranks", "waiting=0"),
    ("to busy ranks of this moment", "busy_ms=0"),
    ("to those of the last minute", "busy_ms=60000"),
    ("to the mean of waiting requests instead", "waiting_of=1"),
    ("to the median", "waiting_of=2"),
    ("to those of the rank itself", "waiting_of=3"),
    ("without regard to old uses", "old_uses=0"),
    ("twice that", "old_uses=16"),
    ("without regard to the cache in use", "in_use=0"),
    ("twice that", "in_use=4"),
    ("product form: work x requests in flight", "product=1"),
    ("running prompts weigh nothing", "full=0"),
    ("twice as much", "full=0.2"),
    ("in proportion to their length alone", "full=0+held=0.1"),
    ("by the use that ranks report", "by_reports=1"),
    ("KV barrier k/(1-k), weak", "barrier=300"),
    ("KV barrier, strong", "barrier=3000"),
    ("a token without room in the cache weighs 1", "no_room=1"),
    ("the same by reports", "no_room=1+by_reports=1"),
    (
        "answers add to it as long as they are on average",
        "output=-1",
    ),
    ("a request in flight weighs nothing", "flight=0"),
    ("five times as much: a decode term", "flight=1000"),
    ("twenty times", "flight=4000"),
    (
        "tokens weigh more behind long prompts: attention",
        "attention=0.00005",
    ),
    (
        "half of the queue's progress is believed in",
        "progress=0.5",
    ),
    ("all of it", "progress=1"),
    ("each rank has its own rate", "rank_rate=1"),
    (
        "burst siblings: blocks that are being computed count half",
        "pending=0.5",
    ),
    ("not at all", "pending=0"),
    ("no near-equals", "near=0"),
    ("near is five times as far", "near=500"),
    ("near is 5 % of the cost", "near_share=0.05"),
    ("ties by the first 2,560 tokens, not 1,024", "anchor=2560"),
    ("an index of 0.85 of the cache", "index=0.85"),
    ("of half of it", "index=0.5"),
    ("of twice of it", "index=2"),
];

/// The policies that have to be run.
#[must_use]
pub fn policies() -> Vec<String> {
    let variants = IDEAS.iter().map(|(_, knobs)| variant(knobs));
    std::iter::once(BASE.to_string()).chain(variants).collect()
}

fn variant(knobs: &str) -> String {
    format!("{BASE}:{knobs}")
}

/// A line for each idea: mean and p99 TTFT as a multiple of the deployed decision's, over public and over made traces.
#[must_use]
pub fn markdown(public: &[Row], made: &[Row]) -> String {
    let mut text = String::from(
        "| idea | knobs | public traces: TTFT mean | p99 | made traces: TTFT mean | p99 |\n\
         | --- | --- | ---: | ---: | ---: | ---: |\n",
    );
    for (idea, knobs) in IDEAS {
        let _ = write!(text, "| {idea} | `{knobs}` |");
        for rows in [public, made] {
            let mean = relative(rows, &variant(knobs), BASE, |f| f.ttft_mean_s);
            let tail = relative(rows, &variant(knobs), BASE, |f| f.ttft_p99_s);
            for share in [mean, tail] {
                let share = share.map_or("-".to_string(), |share| format!("{share:.3}"));
                let _ = write!(text, " {share} |");
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peers::scene::setup;

    #[test]
    fn every_idea_has_knobs_that_there_are_and_that_differ() {
        for policy in policies() {
            assert!(
                crate::policies::named(&policy, &setup(2)).is_ok(),
                "{policy}"
            );
        }
        let mut knobs: Vec<&str> = IDEAS.iter().map(|(_, knobs)| *knobs).collect();
        knobs.sort_unstable();
        knobs.dedup();
        assert_eq!(knobs.len(), IDEAS.len());
    }

    #[test]
    fn what_was_not_run_is_shown_as_such() {
        let text = markdown(&[], &[]);
        assert_eq!(text.lines().count(), 2 + IDEAS.len());
        assert!(text.contains("| - | - | - | - |"));
    }
}

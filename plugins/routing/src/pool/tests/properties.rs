use proptest::collection::vec;
use proptest::prelude::*;

use super::{config, prompt};
use crate::{Charge, Pick, Pool};

#[derive(Clone, Debug)]
enum Step {
    Pick {
        name: usize,
        blocks: usize,
    },
    FirstByte(prop::sample::Index),
    End(prop::sample::Index),
    /// The ranks that are listed, one bit each.
    Reconfigure(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0usize..4, 1usize..20).prop_map(|(name, blocks)| Step::Pick { name, blocks }),
        2 => any::<prop::sample::Index>().prop_map(Step::FirstByte),
        3 => any::<prop::sample::Index>().prop_map(Step::End),
        1 => (1u8..16).prop_map(Step::Reconfigure),
    ];
    vec(step, 0..60)
}

const RANKS: [&str; 4] = [
    "10.0.0.1:8000",
    "10.0.0.1:8001",
    "10.0.0.2:8000",
    "10.0.0.2:8001",
];

fn listed(bits: u8) -> Vec<&'static str> {
    (0u8..)
        .zip(RANKS)
        .filter(|(bit, _)| bits >> bit & 1 == 1)
        .map(|(_, rank)| rank)
        .collect()
}

/// Checks the pool's load of every rank against the charges that are open.
fn check(pool: &Pool, open: &[(String, Charge)]) -> Result<(), TestCaseError> {
    for rank in RANKS {
        let mine = || open.iter().filter(|(name, _)| name == rank);
        let queued_tokens: u64 = mine().map(|(_, charge)| charge.queued_tokens()).sum();
        let in_flight = u32::try_from(mine().count()).unwrap();
        let load = pool.load(rank.parse().unwrap()).unwrap_or_default();
        prop_assert_eq!(load, (queued_tokens, in_flight), "{}", rank);
    }
    Ok(())
}

fn picked(pick: Pick) -> (String, Charge) {
    (pick.ranks[0].to_string(), pick.charge)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_load_is_that_of_the_open_charges_and_ends_at_zero(steps in steps()) {
        let mut pool = Pool::new(config(&RANKS));
        let mut names = RANKS.to_vec();
        let mut open: Vec<(String, Charge)> = Vec::new();
        for step in steps {
            match step {
                Step::Pick { name, blocks } => {
                    let prompt = prompt(["alice", "bob", "carol", "dave"][name], blocks);
                    let pick = pool.pick(Some(&prompt), 0, 0).unwrap();
                    prop_assert!(pick.ranks.iter().all(|rank| names.contains(&rank.to_string().as_str())));
                    prop_assert_eq!(pick.charge.queued_tokens() + pick.matched_tokens, pick.prompt_tokens);
                    open.push(picked(pick));
                }
                Step::FirstByte(at) if !open.is_empty() => {
                    let at = at.index(open.len());
                    pool.first_byte(&mut open[at].1);
                }
                Step::End(at) if !open.is_empty() => {
                    let (_, charge) = open.swap_remove(at.index(open.len()));
                    pool.end(charge);
                }
                Step::Reconfigure(bits) => {
                    names = listed(bits);
                    pool.reconfigure(config(&names));
                }
                _ => {}
            }
            check(&pool, &open)?;
        }
        for (_, charge) in open.drain(..) {
            pool.end(charge);
        }
        check(&pool, &open)?;
    }
}

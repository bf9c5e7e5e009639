use proptest::collection::vec;
use proptest::prelude::*;

use super::prompt;
use crate::{
    Attempt, Charge, Condition, Config, Failure, LegPlan, Member, Membership, Pick, Pool,
    RawConfig, Role,
};

/// What can happen to a pool in which prefill and decode are apart.
#[derive(Clone, Debug)]
enum Step {
    Pick {
        name: usize,
        blocks: usize,
    },
    NoPrompt(u64),
    /// The headers of an answer.
    Headers(prop::sample::Index),
    End(prop::sample::Index),
    Fail {
        rank: usize,
        kind: bool,
    },
    /// The roles of the ranks from now on; 3 is none of the pool.
    List([u8; 6]),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let index = any::<prop::sample::Index>;
    let step = prop_oneof![
        8 => (0usize..4, 1usize..400).prop_map(|(name, blocks)| Step::Pick { name, blocks }),
        1 => any::<u64>().prop_map(Step::NoPrompt),
        3 => index().prop_map(Step::Headers),
        3 => index().prop_map(Step::End),
        2 => (0usize..6, any::<bool>()).prop_map(|(rank, kind)| Step::Fail { rank, kind }),
        1 => prop::array::uniform6(0u8..4).prop_map(Step::List),
    ];
    vec(step, 0..60)
}

fn address(rank: usize) -> std::net::SocketAddr {
    format!("10.0.0.{}:8000", rank / 2 * 10 + rank % 2 + 1)
        .parse()
        .unwrap()
}

fn members(roles: [u8; 6]) -> Membership {
    let role = |role: u8| match role {
        0 => Some(Role::Prefill),
        1 => Some(Role::Decode),
        2 => Some(Role::Both),
        _ => None,
    };
    let member = |(rank, given): (usize, u8)| {
        Some(Member {
            address: address(rank),
            role: role(given)?,
            condition: Condition::Serving,
            revision_hash: u64::try_from(rank % 3).unwrap(),
        })
    };
    Membership::from_members(roles.into_iter().enumerate().filter_map(member).collect())
}

fn pool() -> Pool {
    let config = RawConfig {
        clusters: Some(vec!["ranks".to_string()]),
        block_bytes: Some(64),
        ..RawConfig::default()
    };
    Pool::new(Config::try_from(config).unwrap())
}

/// A request under way: what it has on the rank that answers, and on the one that prefills.
struct Open {
    answers: (String, Charge),
    prefills: Option<(String, Charge)>,
}

fn opened(pick: Pick) -> Open {
    let prefills = match pick.plan {
        LegPlan::Leg(leg) => Some((leg.ranks[0].to_string(), leg.charge)),
        _ => None,
    };
    Open {
        answers: (pick.ranks[0].to_string(), pick.charge),
        prefills,
    }
}

/// Checks what a pick says against the roles that are in force.
fn check_pick(pick: &Pick, roles: [u8; 6]) -> Result<(), TestCaseError> {
    let role = |given: &std::net::SocketAddr| {
        let place = (0..6).find(|rank| address(*rank) == *given);
        place.map(|rank| roles[rank])
    };
    for rank in &pick.ranks {
        prop_assert!(
            matches!(role(rank), Some(1 | 2)),
            "{rank} is no destination"
        );
    }
    if let Some(leg) = pick.plan.leg() {
        prop_assert_eq!(role(&pick.ranks[0]), Some(1));
        prop_assert!((1..=2).contains(&leg.ranks.len()));
        for rank in &leg.ranks {
            prop_assert!(matches!(role(rank), Some(0 | 2)), "{rank} does not prefill");
        }
        prop_assert_eq!(pick.charge.queued_tokens(), 0);
    }
    Ok(())
}

/// Checks the load of every rank against the charges that are open.
fn check_load(pool: &Pool, open: &[Open]) -> Result<(), TestCaseError> {
    for rank in (0..6).map(address) {
        let name = rank.to_string();
        let charges = open
            .iter()
            .flat_map(|open| open.prefills.iter().chain([&open.answers]));
        let mine: Vec<&Charge> = charges
            .filter(|(at, _)| *at == name)
            .map(|(_, charge)| charge)
            .collect();
        let queued_tokens: u64 = mine.iter().map(|charge| charge.queued_tokens()).sum();
        let load = pool.load(rank).unwrap_or_default();
        prop_assert_eq!(
            load,
            (queued_tokens, u32::try_from(mine.len()).unwrap()),
            "{}",
            name
        );
    }
    Ok(())
}

proptest! {
    #[test]
    fn roles_hold_and_both_ranks_count_what_is_on_them_whatever_happens(steps in steps()) {
        let (mut pool, mut roles) = (pool(), [0, 0, 1, 1, 1, 2]);
        pool.list(&members(roles));
        let mut open: Vec<Open> = Vec::new();
        for (now_ms, step) in (0u64..).step_by(100).zip(steps) {
            match step {
                Step::Pick { name, blocks } => {
                    let prompt = prompt(["alice", "bob", "carol", "dave"][name], blocks);
                    if let Some(pick) = pool.pick(Some(&prompt), 0, now_ms) {
                        check_pick(&pick, roles)?;
                        open.push(opened(pick));
                    }
                }
                Step::NoPrompt(seed) => {
                    if let Some(pick) = pool.pick(None, seed, now_ms) {
                        check_pick(&pick, roles)?;
                        prop_assert!(pick.plan.leg().is_none());
                        open.push(opened(pick));
                    }
                }
                Step::Headers(at) if !open.is_empty() => {
                    if let Some((_, charge)) = at.get_mut(&mut open).prefills.take() {
                        pool.end(charge);
                    }
                }
                Step::End(at) if !open.is_empty() => {
                    let ended = open.swap_remove(at.index(open.len()));
                    pool.end(ended.answers.1);
                    ended.prefills.map(|(_, charge)| pool.end(charge));
                }
                Step::Fail { rank, kind } => {
                    let failure = if kind { Failure::Connect } else { Failure::ServerError };
                    let attempt = Attempt { picked_ms: now_ms, ended_ms: now_ms };
                    pool.failed(address(rank), failure, attempt, now_ms);
                }
                Step::List(given) => {
                    roles = given;
                    pool.list(&members(roles));
                }
                Step::Headers(_) | Step::End(_) => {}
            }
            check_load(&pool, &open)?;
        }
    }
}

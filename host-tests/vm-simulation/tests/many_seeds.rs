//! Runs of the real module. `scripts/test` runs many more.

use libtest_mimic::{Arguments, Trial};
use vm_simulation::{Figures, Options, run};

const SEEDS: u64 = 600;

fn figures_of(seeds: std::ops::RangeInclusive<u64>, options: Options) -> Figures {
    let mut figures = Figures::default();
    for seed in seeds {
        let outcome = run(seed, options);
        assert_eq!(outcome.violations, Vec::<String>::new(), "seed {seed}");
        figures.merge(&outcome.figures);
    }
    figures
}

fn the_module_keeps_every_invariant_and_meets_every_trouble() {
    let figures = figures_of(1..=SEEDS, Options::default());
    for trouble in [
        "changes of a rank's mood",
        "clients gone while held",
        "clock jumps",
        "compare-and-sets lost to another plugin",
        "configuration updates",
        "enqueues refused",
        "gateways asked afterwards",
        "junk written",
        "late bodies judged",
        "local replies",
        "old prompts known",
        "queue callbacks lost",
        "ranks seen coming back",
        "refused prompts asked again",
        "reloads",
        "requests held",
        "requests lost to traps",
        "requests of hostile clients",
        "requests refused without a VM",
        "retries",
        "roots drained",
        "stalls",
        "streams timed out",
        "ticks left out",
        "traps at the end of a callback",
        "traps inside a callback",
    ] {
        assert!(figures.count(trouble) > 0, "{trouble}: {figures}");
    }
}

fn a_seed_is_always_the_same_run() {
    for seed in 1..=100 {
        let first = run(seed, Options::default());
        assert_eq!(run(seed, Options::default()), first, "seed {seed}");
    }
}

fn seeds_are_different_runs() {
    let digest = |seed| run(seed, Options::default()).digest;
    assert_ne!(digest(1), digest(2));
}

fn runs_at_once_do_not_meet() {
    let alone: Vec<u64> = (1..=20)
        .map(|seed| run(seed, Options::default()).digest)
        .collect();
    let at_once: Vec<u64> = std::thread::scope(|scope| {
        let runs: Vec<_> = (1..=20)
            .map(|seed| scope.spawn(move || run(seed, Options::default()).digest))
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    });
    assert_eq!(at_once, alone);
}

/// Shared data and metrics are never removed, so they must not come with requests: a ring has 256 keys, and what is beside
/// the rings is a few for each slot.
fn memory_does_not_grow_with_the_requests() {
    let few = figures_of(1..=20, Options::default());
    let many = Options {
        most_requests: 900,
        ..Options::default()
    };
    let many = figures_of(1..=20, many);
    assert!(many.count("requests") > 10 * few.count("requests"));
    let beside_rings = |figures: &Figures| figures.peak("metrics") + figures.peak("queues");
    assert!(
        beside_rings(&many) <= beside_rings(&few) + 32,
        "{few} and {many}"
    );
    assert!(many.peak("keys of shared data") <= 16 * 257, "{many}");
    assert!(
        many.peak("bytes of shared data") <= 16 * 256 * 16 * 1024,
        "{many}"
    );
}

/// A test of its function's name.
macro_rules! tests {
    ($($name:ident),* $(,)?) => {
        vec![$(Trial::test(stringify!($name), || {
            $name();
            Ok(())
        })),*]
    };
}

fn main() {
    let tests = tests![
        the_module_keeps_every_invariant_and_meets_every_trouble,
        a_seed_is_always_the_same_run,
        seeds_are_different_runs,
        runs_at_once_do_not_meet,
        memory_does_not_grow_with_the_requests,
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit();
}

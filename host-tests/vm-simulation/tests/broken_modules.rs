//! Each invariant can break: modules that do one thing wrong are found out, and the same module without it is not.

#[path = "broken_modules/tiny_module.rs"]
mod tiny_module;

use std::sync::atomic::{AtomicU64, Ordering};

use libtest_mimic::{Arguments, Trial};
use proxy_wasm::types::NewRootContext;
use tiny_module::Fault;
use vm_simulation::{Figures, Options, run};

/// So many seeds show every fault.
const SEEDS: u64 = 60;

fn options(module: NewRootContext) -> Options {
    Options {
        module,
        // The tiny module takes nothing back, and reads no body.
        may_trap: false,
        forbidden_share: 0.0,
        ..Options::default()
    }
}

/// The first invariant that breaks.
fn broken_by<const FAULT: u8>() -> String {
    let module: NewRootContext = |id| tiny_module::root::<FAULT>(id);
    (1..=SEEDS)
        .find_map(|seed| run(seed, options(module)).violations.into_iter().next())
        .unwrap_or_default()
}

#[track_caller]
fn assert_broken(violation: &str, invariant: &str) {
    assert!(violation.starts_with(invariant), "{violation:?}");
}

fn a_sound_module_breaks_none_and_its_calls_are_answered() {
    const SOUND: u8 = Fault::None as u8;
    let module: NewRootContext = |id| tiny_module::root::<SOUND>(id);
    let mut figures = Figures::default();
    for seed in 1..=SEEDS {
        let outcome = run(seed, options(module));
        assert_eq!(outcome.violations, Vec::<String>::new(), "seed {seed}");
        figures.merge(&outcome.figures);
    }
    for what in [
        "HTTP calls answered",
        "HTTP calls refused",
        "requests held",
        "requests of hostile clients",
        "refused prompts asked again",
        "old prompts known",
        "late bodies judged",
    ] {
        assert!(figures.count(what) > 0, "{what}: {figures}");
    }
}

fn a_panic_in_a_callback_is_found() {
    let violation = broken_by::<{ Fault::Panics as u8 }>();
    assert_broken(&violation, "no VM panics");
    assert!(violation.contains("a module's own panic"), "{violation}");
}

fn a_panic_of_the_sdk_in_a_wrong_phase_is_found() {
    let violation = broken_by::<{ Fault::ChangesHeadersLate as u8 }>();
    assert_broken(&violation, "no VM panics");
    assert!(violation.contains("unexpected status: 2"), "{violation}");
}

fn headers_of_a_call_that_broke_are_not_there() {
    let violation = broken_by::<{ Fault::ReadsBrokenCall as u8 }>();
    assert_broken(&violation, "no VM panics");
    assert!(violation.contains("unexpected status: 2"), "{violation}");
}

fn a_second_word_under_one_property_is_refused() {
    let violation = broken_by::<{ Fault::MarksTwice as u8 }>();
    assert_broken(&violation, "no VM panics");
}

fn a_second_resume_is_found() {
    let violation = broken_by::<{ Fault::ResumesTwice as u8 }>();
    assert_broken(&violation, "each held request is resumed once");
}

fn a_request_that_is_never_resumed_is_found() {
    let violation = broken_by::<{ Fault::NeverResumes as u8 }>();
    assert_broken(&violation, "no request is held for long");
}

fn a_resume_in_the_callback_of_the_last_chunk_is_found() {
    let violation = broken_by::<{ Fault::ResumesInLastChunk as u8 }>();
    assert_broken(
        &violation,
        "no request is resumed in the callback of its last chunk",
    );
}

fn a_gauge_that_is_not_given_back_is_found() {
    let violation = broken_by::<{ Fault::LeaksGauge as u8 }>();
    assert_broken(&violation, "gauges are 0");
}

fn a_gauge_that_is_given_back_twice_is_found() {
    let violation = broken_by::<{ Fault::GivesGaugeBackTwice as u8 }>();
    assert_broken(&violation, "gauges are never negative");
}

fn a_pick_that_is_counted_twice_is_found() {
    let violation = broken_by::<{ Fault::CountsTwice as u8 }>();
    assert_broken(&violation, "each request is counted once");
}

fn a_pick_that_is_not_counted_is_found() {
    let violation = broken_by::<{ Fault::CountsNot as u8 }>();
    assert_broken(&violation, "each request is counted once");
}

fn a_queue_that_nobody_empties_is_found() {
    let violation = broken_by::<{ Fault::FillsQueue as u8 }>();
    assert_broken(&violation, "queues stay short");
}

fn keys_for_each_request_are_found() {
    let violation = broken_by::<{ Fault::FillsSharedData as u8 }>();
    assert_broken(&violation, "memory is bounded");
}

fn a_destination_that_is_no_rank_is_found() {
    let violation = broken_by::<{ Fault::NamesNoRank as u8 }>();
    assert_broken(&violation, "requests go where the module says");
}

fn a_clients_steering_header_is_found() {
    let violation = broken_by::<{ Fault::KeepsSteering as u8 }>();
    assert_broken(&violation, "requests go where the module says");
    assert!(violation.contains("the client's"), "{violation}");
}

fn a_paused_body_is_found() {
    let violation = broken_by::<{ Fault::PausesBody as u8 }>();
    assert_broken(&violation, "only the picker holds");
}

fn a_body_that_should_be_refused_is_found() {
    const SOUND: u8 = Fault::None as u8;
    let module: NewRootContext = |id| tiny_module::root::<SOUND>(id);
    let options = Options {
        forbidden_share: 0.05,
        ..options(module)
    };
    let violation = (1..=SEEDS).find_map(|seed| run(seed, options).violations.into_iter().next());
    assert_broken(&violation.unwrap_or_default(), "no rank gets all of a body");
}

fn a_weight_that_is_only_announced_is_found() {
    let violation = broken_by::<{ Fault::WeighsAnnounced as u8 }>();
    assert_broken(&violation, "no request weighs more than a rank");
}

fn a_rank_that_is_out_for_no_reason_is_found() {
    let violation = broken_by::<{ Fault::TakesRankOut as u8 }>();
    assert_broken(&violation, "no rank out that answers");
}

fn a_rank_that_is_blamed_for_its_clients_is_found() {
    let violation = broken_by::<{ Fault::BlamesRank as u8 }>();
    assert_broken(&violation, "no rank that answers is charged with a failure");
}

fn a_refused_prompt_that_is_remembered_is_found() {
    let violation = broken_by::<{ Fault::RemembersRefused as u8 }>();
    assert_broken(&violation, "what was refused leaves no trace");
    assert!(violation.contains("believed to be cached"), "{violation}");
}

fn an_old_prompt_that_refused_ones_push_out_is_found() {
    let violation = broken_by::<{ Fault::ForgetsByRefusal as u8 }>();
    assert_broken(&violation, "what was refused leaves no trace");
    assert!(
        violation.contains("after others were refused"),
        "{violation}"
    );
}

fn a_cache_that_is_lost_by_requests_that_pass_it_by_is_found() {
    let violation = broken_by::<{ Fault::LosesCaches as u8 }>();
    assert_broken(
        &violation,
        "requests that bypass the prefix cache teach nothing",
    );
}

fn picks_that_always_name_one_rank_are_found() {
    let violation = broken_by::<{ Fault::SticksToOneRank as u8 }>();
    assert_broken(&violation, "picks that know nothing are spread");
}

fn a_wrong_configuration_that_is_accepted_is_found() {
    let violation = broken_by::<{ Fault::AcceptsAnything as u8 }>();
    assert_broken(&violation, "right configurations alone are accepted");
}

fn a_run_is_of_the_module_that_is_asked_for() {
    static ROOTS: AtomicU64 = AtomicU64::new(0);
    let module: NewRootContext = |id| {
        ROOTS.fetch_add(1, Ordering::Relaxed);
        tiny_module::root::<{ Fault::None as u8 }>(id)
    };
    let outcome = run(1, options(module));
    assert_eq!(
        ROOTS.load(Ordering::Relaxed),
        outcome.figures.count("roots")
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
        a_sound_module_breaks_none_and_its_calls_are_answered,
        a_panic_in_a_callback_is_found,
        a_panic_of_the_sdk_in_a_wrong_phase_is_found,
        headers_of_a_call_that_broke_are_not_there,
        a_second_word_under_one_property_is_refused,
        a_second_resume_is_found,
        a_request_that_is_never_resumed_is_found,
        a_resume_in_the_callback_of_the_last_chunk_is_found,
        a_gauge_that_is_not_given_back_is_found,
        a_gauge_that_is_given_back_twice_is_found,
        a_pick_that_is_counted_twice_is_found,
        a_pick_that_is_not_counted_is_found,
        a_queue_that_nobody_empties_is_found,
        keys_for_each_request_are_found,
        a_destination_that_is_no_rank_is_found,
        a_clients_steering_header_is_found,
        a_paused_body_is_found,
        a_body_that_should_be_refused_is_found,
        a_weight_that_is_only_announced_is_found,
        a_rank_that_is_out_for_no_reason_is_found,
        a_rank_that_is_blamed_for_its_clients_is_found,
        a_refused_prompt_that_is_remembered_is_found,
        an_old_prompt_that_refused_ones_push_out_is_found,
        a_cache_that_is_lost_by_requests_that_pass_it_by_is_found,
        picks_that_always_name_one_rank_are_found,
        a_wrong_configuration_that_is_accepted_is_found,
        a_run_is_of_the_module_that_is_asked_for,
    ];
    libtest_mimic::run(&Arguments::from_args(), tests).exit();
}

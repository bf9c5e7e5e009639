use super::*;
use crate::profile::dense;

fn trace(times: &[f64]) -> Trace {
    let request = |(id, at_ms): (u64, &f64)| TraceRequest::new(*at_ms, 600, 5, &[id]);
    Trace {
        name: "t".to_string(),
        requests: (0..).zip(times).map(request).collect(),
    }
}

fn times(requests: &[TraceRequest]) -> Vec<f64> {
    requests.iter().map(|request| request.at_ms).collect()
}

#[test]
fn bursts_of_rounded_times_are_spread_inside_their_step_by_the_seed() {
    let rounded: Vec<f64> = (0..300)
        .map(|place| f64::from(place / 10) * 3000.0)
        .collect();
    let spread = trace(&rounded).window(300, &dense(), 1);
    assert_eq!(spread, trace(&rounded).window(300, &dense(), 1));
    assert_ne!(
        times(&spread),
        times(&trace(&rounded).window(300, &dense(), 2))
    );
    assert!(times(&spread).is_sorted());
    for (place, request) in spread.iter().enumerate() {
        // Times begin with the first request, which was spread too.
        let begin_ms = f64::from(u32::try_from(place / 10).unwrap()) * 3000.0;
        assert!(request.at_ms >= begin_ms - 3000.0 && request.at_ms < begin_ms + 3000.0);
    }
    let together = times(&spread).windows(2).filter(|t| t[0] == t[1]).count();
    assert_eq!(together, 0);
}

#[test]
fn times_that_are_not_rounded_stay() {
    let fine: Vec<f64> = (0..50).map(|place| f64::from(place) * 7.0).collect();
    assert_eq!(times(&trace(&fine).window(50, &dense(), 1)), fine);
}

#[test]
fn a_window_is_a_part_of_the_trace_in_its_order_and_seeds_take_others() {
    let fine: Vec<f64> = (0..1000).map(|place| f64::from(place) * 7.0).collect();
    let window = |seed| trace(&fine).window(100, &dense(), seed);
    assert_eq!(times(&window(1)), fine[..100]);
    assert_ne!(window(1)[0].blocks, window(2)[0].blocks);
    assert_eq!(trace(&fine).window(5000, &dense(), 1).len(), 1000);
}

#[test]
fn what_an_engine_cannot_hold_is_left_out() {
    let mut trace = trace(&[0.0, 1.0, 2.0]);
    trace.requests[1].prompt_tokens = dense().capacity_tokens;
    assert_eq!(trace.window(9, &dense(), 1).len(), 2);
}

#[test]
fn a_load_changes_the_rate_and_keeps_proportions() {
    let window = trace(&[0.0, 1000.0, 4000.0]).requests;
    assert!((rate_per_second(&window) - 0.75).abs() < 1e-12);
    let faster = scaled(&window, 3.0);
    let at: Vec<f64> = faster.iter().map(|request| request.at_ms).collect();
    assert_eq!(at, [0.0, 250.0, 1000.0]);
    assert_eq!(faster[2].arrival.number, 2);
    assert_eq!(&*faster[2].arrival.blocks, window[2].blocks.as_slice());
}

#[test]
fn requests_that_all_come_at_once_have_no_rate_and_still_come() {
    let window = trace(&[0.0, 0.0]).requests;
    assert!(rate_per_second(&window) == 0.0);
    assert!(
        scaled(&window, 3.0)
            .iter()
            .all(|request| request.at_ms == 0.0)
    );
}

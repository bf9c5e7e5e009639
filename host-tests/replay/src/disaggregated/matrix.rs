//! All runs of a table, on several threads, where prefill and decode are apart.

use anyhow::Result;
use routing::{chain, hash_bytes};

use super::policies;
use super::policy::{PairPolicy, PairSetup};
use super::ratio::Ratio;
use super::saturation::Saturation;
use super::simulation::{self, Outcome};
use super::transfer::Transfer;
use crate::engine::BLOCK_TOKENS;
use crate::figures::{Apart, Figures, max_to_mean};
use crate::matrix::{Matrix, on_threads};
use crate::profile::Profile;
use crate::reports::ReportTiming;
use crate::table::Row;
use crate::workload::scaled;

/// What is run: everything with everything.
#[derive(Clone, Debug)]
pub struct PairMatrix {
    /// Traces, engines, loads, policies, seeds, requests and routers; its number of ranks is not used.
    pub all: Matrix,
    /// The ranks.
    pub ratios: Vec<Ratio>,
    /// What is between them.
    pub transfer: Transfer,
}

/// A window of a trace on ranks.
#[derive(Clone, Copy, Debug)]
struct Place {
    trace: usize,
    profile: Profile,
    ratio: Ratio,
    seed: u64,
}

/// One run.
#[derive(Clone, Copy, Debug)]
struct Job {
    place: Place,
    saturation: f64,
    load: f64,
    policy: usize,
}

impl PairMatrix {
    /// Runs all on `threads` threads and gives the rows in the order of the matrix; `progress` is told how many of how
    /// many runs are over.
    ///
    /// # Errors
    /// The first that a run gave.
    pub fn run(&self, threads: usize, progress: impl Fn(&str, usize, usize)) -> Result<Vec<Row>> {
        let places = self.places();
        if let Some(place) = places.first() {
            // A name that is wrong is said at once.
            let names = 0..self.all.policies.len();
            names
                .map(|policy| self.routers(policy, place))
                .collect::<Result<Vec<_>>>()?;
        }
        let saturations = on_threads(
            threads,
            &places,
            |place| self.saturation(place),
            |done| progress("saturation", done, places.len()),
        )?;
        let jobs = self.jobs(&places, &saturations);
        on_threads(
            threads,
            &jobs,
            |job| self.row(job),
            |done| progress("runs", done, jobs.len()),
        )
    }

    fn places(&self) -> Vec<Place> {
        let mut places = Vec::new();
        for trace in 0..self.all.traces.len() {
            for profile in &self.all.engines {
                for ratio in &self.ratios {
                    places.extend(self.all.seeds.iter().map(|seed| Place {
                        trace,
                        profile: *profile,
                        ratio: *ratio,
                        seed: *seed,
                    }));
                }
            }
        }
        places
    }

    fn jobs(&self, places: &[Place], saturations: &[f64]) -> Vec<Job> {
        let mut jobs = Vec::new();
        for (place, saturation) in places.iter().zip(saturations) {
            for load in &self.all.loads {
                let policies = 0..self.all.policies.len();
                jobs.extend(policies.map(|policy| Job {
                    place: *place,
                    saturation: *saturation,
                    load: *load,
                    policy,
                }));
            }
        }
        jobs
    }

    fn saturation(&self, place: &Place) -> Result<f64> {
        let trace = &self.all.traces[place.trace];
        let window = trace.window(self.all.requests, &place.profile, place.seed);
        Ok(Saturation::of(&window, place.profile, place.ratio)?.joint())
    }

    fn row(&self, job: &Job) -> Result<Row> {
        let Place {
            trace,
            profile,
            ratio,
            seed,
        } = job.place;
        let (trace, policy) = (&self.all.traces[trace], &self.all.policies[job.policy]);
        let window = trace.window(self.all.requests, &profile, seed);
        let per_second = job.saturation * job.load;
        let requests = scaled(&window, per_second);
        let site = simulation::Site {
            profile,
            ratio,
            transfer: self.transfer,
        };
        let interval_ms = self.all.site.report_interval_ms;
        let timing = ReportTiming {
            interval_ms: interval_ms.unwrap_or(policies::report_interval_ms(policy)),
            delay_ms: self.all.site.report_delay_ms,
        };
        let routers = self.routers(job.policy, &job.place)?;
        let outcome = simulation::run(&requests, &site, routers, timing, seed)?;
        Ok(Row {
            trace: trace.name.clone(),
            load: job.load,
            engine: format!("{} {ratio}", profile.name),
            policy: policy.clone(),
            seed,
            ranks: ratio.prefill + ratio.decode,
            gateways: self.all.site.gateways,
            gateways_share: self.all.site.gateways_share,
            requests: requests.len(),
            requests_per_second: per_second,
            figures: figures(outcome, &profile),
        })
    }

    /// Routers that are of one mind are one router.
    fn routers(&self, policy: usize, place: &Place) -> Result<Vec<Box<dyn PairPolicy>>> {
        let site = &self.all.site;
        let name = &self.all.policies[policy];
        let minds = if site.gateways_share {
            1
        } else {
            site.gateways
        };
        let seed = chain(hash_bytes(name.as_bytes()), place.seed);
        let setup = |mind: usize| PairSetup {
            ratio: place.ratio,
            ranks_per_pod: site.ranks_per_pod,
            capacity_tokens: place.profile.capacity_tokens,
            block_tokens: BLOCK_TOKENS,
            seed: chain(seed, mind as u64),
        };
        let routers = (0..minds).map(|mind| policies::named(name, &setup(mind)));
        routers.collect()
    }
}

fn figures(outcome: Outcome, profile: &Profile) -> Figures {
    let alone = outcome.pairs.iter().filter(|pair| pair.prefill.is_none());
    let apart = Apart {
        decode_max_mean_load: max_to_mean(&outcome.decode_tokens),
        decode_only: alone.count() as f64 / outcome.pairs.len().max(1) as f64,
    };
    let joined = crate::simulation::Outcome {
        records: outcome.records,
        computed_tokens: outcome.prefill_tokens,
        preemptions: outcome.preemptions,
    };
    Figures {
        apart: Some(apart),
        ..Figures::of(&joined, profile)
    }
}

#[cfg(test)]
mod tests;

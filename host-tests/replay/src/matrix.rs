//! All runs of a table, on several threads.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use anyhow::Result;
use routing::{chain, hash_bytes};

use crate::engine::BLOCK_TOKENS;
use crate::figures::Figures;
use crate::gateways::Gateways;
use crate::peers::Setup;
use crate::policies;
use crate::profile::Profile;
use crate::reports::ReportTiming;
use crate::saturation;
use crate::simulation::{Feed, run_with};
use crate::table::Row;
use crate::unknowns::{Resets, Unknowns};
use crate::workload::{Trace, scaled};

/// What is run: everything with everything.
#[derive(Clone, Debug)]
pub struct Matrix {
    /// Traces.
    pub traces: Vec<Trace>,
    /// Engines.
    pub engines: Vec<Profile>,
    /// Loads, as shares of saturation.
    pub loads: Vec<f64>,
    /// Policies by name.
    pub policies: Vec<String>,
    /// Seeds; each is another window of the trace, too.
    pub seeds: Vec<u64>,
    /// Requests of a run.
    pub requests: usize,
    /// The ranks and routers.
    pub site: Site,
}

/// The ranks and the routers before them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Site {
    /// Ranks.
    pub ranks: usize,
    /// Ranks that share a pod.
    pub ranks_per_pod: usize,
    /// Routers.
    pub gateways: usize,
    /// Whether the routers are of one mind: all know at once what each knows.
    pub gateways_share: bool,
    /// Time from a report being taken to its arrival.
    pub report_delay_ms: f64,
    /// Time between reports, if not what each policy ships with.
    pub report_interval_ms: Option<f64>,
    /// What routers are not told.
    pub unknowns: Unknowns,
}

/// A window of a trace on an engine.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Place {
    trace: usize,
    engine: usize,
    seed: u64,
}

/// One run.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Job {
    place: Place,
    saturation: f64,
    load: f64,
    policy: usize,
}

impl Matrix {
    /// Runs all on `threads` threads and gives the rows in the order of the matrix; `progress` is told how many of how
    /// many runs are over.
    ///
    /// # Errors
    /// The first that a run gave.
    pub fn run(&self, threads: usize, progress: impl Fn(&str, usize, usize)) -> Result<Vec<Row>> {
        for (policy, profile) in self.policies.iter().zip(self.engines.iter().cycle()) {
            // A name that is wrong is said at once.
            self.gateways(policy, profile, 0)?;
        }
        let saturations = self.saturations(threads, &progress)?;
        self.run_at(&saturations, threads, progress)
    }

    /// The rates that loads are shares of, for each trace, engine and seed.
    ///
    /// # Errors
    /// The first that a run gave.
    pub fn saturations(
        &self,
        threads: usize,
        progress: impl Fn(&str, usize, usize),
    ) -> Result<Vec<f64>> {
        let places = self.places();
        on_threads(
            threads,
            &places,
            |place| self.saturation(*place),
            |done| progress("saturation", done, places.len()),
        )
    }

    /// As [`run`](Self::run), where the saturations are known.
    ///
    /// # Errors
    /// The first that a run gave.
    pub fn run_at(
        &self,
        saturations: &[f64],
        threads: usize,
        progress: impl Fn(&str, usize, usize),
    ) -> Result<Vec<Row>> {
        let jobs = self.jobs(&self.places(), saturations);
        on_threads(
            threads,
            &jobs,
            |job| self.row(job),
            |done| progress("runs", done, jobs.len()),
        )
    }

    fn places(&self) -> Vec<Place> {
        let mut places = Vec::new();
        for trace in 0..self.traces.len() {
            for engine in 0..self.engines.len() {
                let seeds = self.seeds.iter();
                places.extend(seeds.map(|seed| Place {
                    trace,
                    engine,
                    seed: *seed,
                }));
            }
        }
        places
    }

    fn jobs(&self, places: &[Place], saturations: &[f64]) -> Vec<Job> {
        let mut jobs = Vec::new();
        for (place, saturation) in places.iter().zip(saturations) {
            for load in &self.loads {
                let policies = 0..self.policies.len();
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

    fn saturation(&self, place: Place) -> Result<f64> {
        let profile = self.engines[place.engine];
        let window = self.traces[place.trace].window(self.requests, &profile, place.seed);
        saturation::per_second(&window, profile, self.site.ranks)
    }

    fn row(&self, job: &Job) -> Result<Row> {
        let (trace, profile) = (
            &self.traces[job.place.trace],
            self.engines[job.place.engine],
        );
        let policy = &self.policies[job.policy];
        let window = trace.window(self.requests, &profile, job.place.seed);
        let per_second = job.saturation * job.load;
        let requests = scaled(&window, per_second);
        let timing = ReportTiming {
            interval_ms: self
                .site
                .report_interval_ms
                .unwrap_or(policies::report_interval_ms(policy)),
            delay_ms: self.site.report_delay_ms,
        };
        let gateways = self.gateways(policy, &profile, job.place.seed)?;
        let ranks = self.site.ranks;
        let resets = Resets::new(self.site.unknowns.cache_resets_per_hour, job.place.seed);
        let feed = Feed::Open;
        let outcome = run_with(&requests, profile, ranks, gateways, timing, feed, resets)?;
        Ok(Row {
            trace: trace.name.clone(),
            load: job.load,
            engine: profile.name.to_string(),
            policy: policy.clone(),
            seed: job.place.seed,
            ranks,
            gateways: self.site.gateways,
            gateways_share: self.site.gateways_share,
            requests: requests.len(),
            requests_per_second: per_second,
            figures: Figures::of(&outcome, &profile),
        })
    }

    /// Routers that are of one mind are one router. A foreign one never is.
    fn gateways(&self, policy: &str, profile: &Profile, seed: u64) -> Result<Gateways> {
        let minds = if self.site.gateways_share {
            1
        } else {
            self.site.gateways
        };
        let unknowns = &self.site.unknowns;
        let minds = minds + usize::from(unknowns.foreign_share > 0.0);
        let seed = chain(hash_bytes(policy.as_bytes()), seed);
        let believed = unknowns.believed_capacity.unwrap_or(1.0);
        let setup = |mind: usize| Setup {
            ranks: self.site.ranks,
            ranks_per_pod: self.site.ranks_per_pod,
            capacity_tokens: (profile.capacity_tokens as f64 * believed) as u64,
            reports_capacity: unknowns.believed_capacity.is_none(),
            block_tokens: BLOCK_TOKENS,
            seed: chain(seed, mind as u64),
        };
        let made = (0..minds).map(|mind| policies::named(policy, &setup(mind)));
        let made = made.collect::<Result<Vec<_>>>()?;
        let gateways = Gateways::new(made, self.site.ranks, seed);
        Ok(match unknowns.foreign_share > 0.0 {
            true => gateways.with_foreign(unknowns.foreign_share),
            false => gateways,
        })
    }
}

/// Works through a list on several threads; the results have its order.
pub(crate) fn on_threads<T: Sync, R: Send>(
    threads: usize,
    list: &[T],
    work: impl Fn(&T) -> Result<R> + Sync,
    done: impl Fn(usize),
) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let (sender, receiver) = mpsc::channel();
    let mut results: Vec<Option<R>> = list.iter().map(|_| None).collect();
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            let (sender, next, work) = (sender.clone(), &next, &work);
            scope.spawn(move || {
                while let Some((place, item)) = claim(next, list) {
                    if sender.send((place, work(item))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (count, (place, result)) in receiver.into_iter().enumerate() {
            results[place] = Some(result?);
            done(count + 1);
        }
        Ok(())
    })
    .map(|()| results.into_iter().flatten().collect())
}

fn claim<'a, T>(next: &AtomicUsize, list: &'a [T]) -> Option<(usize, &'a T)> {
    let place = next.fetch_add(1, Ordering::Relaxed);
    Some((place, list.get(place)?))
}

#[cfg(test)]
mod tests;

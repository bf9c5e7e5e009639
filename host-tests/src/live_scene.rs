//! A gateway whose filters change while it runs, before simulated ranks.

use anyhow::{Context, Result};

use crate::bootstrap::Bootstrap;
use crate::config_files::ConfigFiles;
use crate::scene::Scene;

/// A scene whose listener is read from a file.
#[derive(Debug)]
pub struct LiveScene {
    /// The gateway and the ranks behind it.
    pub scene: Scene,
    files: ConfigFiles,
    bootstrap: Bootstrap,
    has_picker_apart: bool,
}

impl LiveScene {
    /// As [`Scene::start`], with the listener in a file, and with the picker in another if it is to change alone.
    ///
    /// # Errors
    /// As there, and when a file cannot be written.
    pub async fn start(
        version: &str,
        workers: u32,
        has_picker_apart: bool,
        adapt: impl FnOnce(Bootstrap) -> Bootstrap,
    ) -> Result<Self> {
        let files = ConfigFiles::new()?;
        let (mut whole, mut problem) = (None, None);
        let scene = Scene::start(version, workers, 8, |bootstrap| {
            let bootstrap = whole.insert(adapt(bootstrap)).clone();
            let split = split(&bootstrap, &files, has_picker_apart)
                .and_then(|bootstrap| bootstrap.live_listener(&files));
            split.unwrap_or_else(|error| {
                problem = Some(error);
                bootstrap
            })
        })
        .await;
        if let Some(problem) = problem {
            return Err(problem);
        }
        Ok(Self {
            scene: scene?,
            files,
            bootstrap: whole.context("a bootstrap")?,
            has_picker_apart,
        })
    }

    /// Replaces the listener, with what `change` makes of the one that it began with, and waits until Envoy has it.
    ///
    /// # Errors
    /// When Envoy refuses it.
    pub async fn change_listener(&self, change: impl FnOnce(Bootstrap) -> Bootstrap) -> Result<()> {
        let bootstrap = change(split(&self.bootstrap, &self.files, self.has_picker_apart)?);
        self.update("listener_manager.lds.update_success", || {
            self.files.write_listener(&bootstrap)
        })
        .await
    }

    /// Replaces the picker alone in the same way.
    ///
    /// # Errors
    /// When Envoy refuses it.
    pub async fn change_picker(&self, change: impl FnOnce(Bootstrap) -> Bootstrap) -> Result<()> {
        let bootstrap = change(self.bootstrap.clone());
        let reloads = "extension_config_discovery.http_filter.picker.config_reload";
        self.update(reloads, || self.files.write_picker(&bootstrap))
            .await
    }

    /// Replaces the picker alone by one that Envoy is to refuse, and waits until it has.
    ///
    /// # Errors
    /// When Envoy does not refuse it.
    pub async fn refuse_picker(&self, change: impl FnOnce(Bootstrap) -> Bootstrap) -> Result<()> {
        let bootstrap = change(self.bootstrap.clone());
        let refusals = "extension_config_discovery.http_filter.picker.update_rejected";
        self.update(refusals, || self.files.write_picker(&bootstrap))
            .await
    }

    async fn update(&self, counter: &str, write: impl FnOnce() -> Result<()>) -> Result<()> {
        let envoy = &self.scene.envoy;
        let before = envoy.stat(counter).await?;
        write()?;
        envoy.wait_for_stat_at_least(counter, before + 1).await
    }
}

/// The bootstrap with the picker in a file of its own, if it is to be.
fn split(bootstrap: &Bootstrap, files: &ConfigFiles, has_picker_apart: bool) -> Result<Bootstrap> {
    let bootstrap = bootstrap.clone();
    if has_picker_apart {
        bootstrap.live_picker(files)
    } else {
        Ok(bootstrap)
    }
}

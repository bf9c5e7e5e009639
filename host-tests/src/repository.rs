//! Where things are in this repository.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// The Envoy versions that everything is tested with: the one that Istio 1.29 is built from, and the newest.
/// `scripts/setup-envoy` fetches the same two.
pub const ENVOY_VERSIONS: [&str; 2] = ["1.37.0", "1.40.0"];

/// The top of the repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
        .to_path_buf()
}

/// The module that `scripts/build` makes.
///
/// # Errors
/// When it was not built.
pub fn module() -> Result<PathBuf> {
    present(
        root().join("target/wasm32-unknown-unknown/release/rank_router.wasm"),
        "scripts/build",
    )
}

/// The module with the feature `trap`, which a request can make trap.
///
/// # Errors
/// When it was not built.
pub fn trap_module() -> Result<PathBuf> {
    present(
        root().join("target/trap/wasm32-unknown-unknown/release/rank_router.wasm"),
        "scripts/build --trap",
    )
}

/// The binary of an Envoy version.
///
/// # Errors
/// When it was not fetched.
pub fn envoy(version: &str) -> Result<PathBuf> {
    present(
        root().join("target/envoy").join(version).join("envoy"),
        "scripts/setup-envoy",
    )
}

/// The program `name` of this build: beside the one that runs, or a folder above when that is a test.
///
/// # Errors
/// When it was not built.
pub fn program(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("this program has no path")?;
    let folders = own.ancestors().skip(1).take(2);
    let mut programs = folders.map(|folder| folder.join(name));
    programs
        .find(|program| program.is_file())
        .with_context(|| format!("{name} is missing: run cargo build -p host-tests --bin {name}"))
}

/// Reads a file, named from the top of the repository.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: &str) -> Result<String> {
    let full = root().join(path);
    std::fs::read_to_string(&full).with_context(|| format!("cannot read {}", full.display()))
}

fn present(path: PathBuf, made_by: &str) -> Result<PathBuf> {
    ensure!(
        path.exists(),
        "{} is missing: run {made_by}",
        path.display()
    );
    Ok(path)
}

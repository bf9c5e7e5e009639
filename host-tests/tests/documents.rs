//! What the READMEs, SECURITY.md and manifests say is true: paths exist, configurations parse with the real code.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use host_tests::bootstrap::{Bootstrap, module_configurations};
use host_tests::istio_manifest::IstioManifest;
use host_tests::repository;
use routing::{
    Config, FilterConfig, MODEL_HEADER, NEXT_PREFILLER_HEADER, RawConfig, STRIPPED_HEADERS,
};
use serde_json::{Value, json};

const FOLDERS: [&str; 4] = [".", "plugins", "host-tests", "manifests"];

fn documents() -> Vec<PathBuf> {
    let readme = |folder: &&str| repository::root().join(folder).join("README.md");
    let mut paths: Vec<PathBuf> = FOLDERS.iter().map(readme).collect();
    paths.push(repository::root().join("host-tests/data/README.md"));
    paths.push(repository::root().join("SECURITY.md"));
    paths
}

fn text(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Fenced blocks of a language.
fn blocks<'a>(document: &'a str, language: &str) -> Vec<&'a str> {
    let fence = format!("```{language}\n");
    document
        .split(fence.as_str())
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .collect()
}

/// Words in backticks that look like a path of the repository: with a slash, of plain characters.
fn paths(document: &str) -> Vec<&str> {
    let is_path = |word: &&str| {
        let plain = word
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"/._-".contains(&b));
        plain && word.contains('/') && !word.starts_with('/') && !word.starts_with("target/")
    };
    let odd_pieces = document.split('`').skip(1).step_by(2);
    odd_pieces.filter(is_path).collect()
}

#[test]
fn every_path_in_a_readme_exists() -> Result<()> {
    for document in documents() {
        let folder = document.parent().context("a README is in a folder")?;
        let text = text(&document)?;
        for path in paths(&text) {
            let exists = folder.join(path).exists() || repository::root().join(path).exists();
            ensure!(
                exists,
                "{} speaks of {path}, which is not there",
                document.display()
            );
        }
    }
    Ok(())
}

#[test]
fn every_link_in_a_readme_leads_somewhere() -> Result<()> {
    for document in documents() {
        let folder = document.parent().context("a README is in a folder")?;
        let text = text(&document)?;
        let targets = text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://") && !target.starts_with('#')) {
            let path = target.split('#').next().unwrap_or(target);
            ensure!(
                folder.join(path).exists(),
                "{} links to {target}",
                document.display()
            );
        }
    }
    Ok(())
}

#[test]
fn every_configuration_in_a_readme_is_accepted() -> Result<()> {
    let mut seen = 0;
    for document in documents() {
        let text = text(&document)?;
        for block in blocks(&text, "json")
            .iter()
            .filter(|block| block.contains("\"filter\""))
        {
            let parsed = FilterConfig::parse(block.as_bytes());
            ensure!(
                parsed.is_ok(),
                "{}: {parsed:?} in\n{block}",
                document.display()
            );
            seen += 1;
        }
    }
    ensure!(seen > 0, "no README shows a configuration");
    Ok(())
}

/// The fields that the configuration of a pool can have, from the error that an unknown one gives.
fn fields() -> Result<Vec<String>> {
    let unknown = serde_json::from_str::<RawConfig>(r#"{"no such field": 1}"#);
    let error = unknown.err().context("refuses unknown fields")?.to_string();
    let (_, known) = error.split_once("expected one of").context(error.clone())?;
    let odd_pieces = known.split('`').skip(1).step_by(2);
    Ok(odd_pieces.map(ToString::to_string).collect())
}

/// A static list and one field, as it is written.
fn with_field(field: &str, value: Value) -> Result<Config> {
    let raw = json!({ "ranks": ["10.0.0.1:8000"], field: value });
    let raw: RawConfig =
        serde_json::from_value(raw).with_context(|| format!("there is no field {field}"))?;
    Ok(Config::try_from(raw)?)
}

/// A default as it stands in the table: a number, a name, or words that say it.
fn default(cell: &str) -> Option<Value> {
    let is_name = !cell.is_empty() && !cell.contains(' ');
    let name = is_name.then(|| json!(cell));
    serde_json::from_str(cell).ok().or(name)
}

#[test]
fn the_configuration_table_has_exactly_the_fields_there_are_with_their_defaults() -> Result<()> {
    let readme = repository::read("README.md")?;
    let by_default = with_field("pool", Value::Null)?;
    let mut named = Vec::new();
    for row in readme.lines().filter_map(|line| line.strip_prefix("| `")) {
        let (field, rest) = row.split_once("` |").context("a row has a field")?;
        let cell = rest.split('|').nth(1).unwrap_or("").trim();
        if let Some(value) = default(cell) {
            ensure!(
                with_field(field, value)? == by_default,
                "{cell} is not the default of {field}"
            );
        }
        named.push(field.to_string());
    }
    let mut fields = fields()?;
    named.sort();
    fields.sort();
    ensure!(named == fields, "the table has {named:?}, not {fields:?}");
    Ok(())
}

#[test]
fn every_envoy_manifest_configures_the_module_rightly() -> Result<()> {
    let folder = repository::root().join("manifests/envoy");
    let mut modules = 0;
    for file in std::fs::read_dir(folder)? {
        let name = file?.file_name().to_string_lossy().into_owned();
        let bootstrap = Bootstrap::read(&name)?;
        for configuration in module_configurations(&bootstrap) {
            let parsed = FilterConfig::parse(configuration.as_bytes());
            ensure!(parsed.is_ok(), "{name}: {parsed:?}");
            modules += 1;
        }
    }
    ensure!(modules >= 2, "no manifest has the module");
    Ok(())
}

/// Nothing depends on a module that only counts.
fn fail_strategy(path: &Path) -> &'static str {
    match path.starts_with(repository::root().join("manifests/istio/shadow")) {
        true => "FAIL_OPEN",
        false => "FAIL_RELOAD",
    }
}

#[test]
fn every_istio_manifest_configures_the_module_rightly() -> Result<()> {
    let mut modules = 0;
    for manifest in IstioManifest::all()? {
        let (Some(module), Some(config)) = (manifest.module(), manifest.plugin_config()) else {
            continue;
        };
        let path = &manifest.path;
        let parsed = FilterConfig::parse(config.to_string().as_bytes());
        ensure!(parsed.is_ok(), "{}: {parsed:?}", path.display());
        ensure!(
            manifest.is_patch() || module["failStrategy"] == fail_strategy(path),
            "{}",
            path.display()
        );
        modules += 1;
    }
    ensure!(modules >= 8, "only {modules} plugins have a configuration");
    Ok(())
}

#[test]
fn reader_and_picker_of_a_folder_differ_in_configuration_and_priority_alone() -> Result<()> {
    let mut folders = std::collections::BTreeMap::<PathBuf, Vec<Value>>::new();
    let manifests = IstioManifest::all()?.into_iter();
    for manifest in manifests.filter(|manifest| !manifest.is_patch()) {
        if let (Some(_), Some(folder)) = (manifest.module(), manifest.path.parent()) {
            let folder = folders.entry(folder.to_path_buf()).or_default();
            folder.push(manifest.object);
        }
    }
    for (folder, pair) in folders {
        let priorities: Vec<i64> = pair
            .iter()
            .filter_map(|one| one["spec"]["priority"].as_i64())
            .collect();
        let [reader, picker] = priorities[..] else {
            anyhow::bail!("{}: {priorities:?}", folder.display());
        };
        ensure!(
            reader > picker,
            "{}: the picker comes first",
            folder.display()
        );
        let alike: Vec<Value> = pair.iter().map(without_differences).collect();
        ensure!(alike[0] == alike[1], "{}: {alike:?}", folder.display());
    }
    Ok(())
}

/// A plugin without what a reader and a picker do not share.
fn without_differences(plugin: &Value) -> Value {
    let mut spec = plugin["spec"].clone();
    for part in ["", "/wasm"] {
        if let Some(part) = spec.pointer_mut(part).and_then(Value::as_object_mut) {
            part.remove("priority");
            part.remove("pluginConfig");
        }
    }
    spec
}

/// Every text in a manifest that has this in it.
fn texts_with(word: &str, value: &Value) -> Vec<String> {
    match value {
        Value::String(text) if text.contains(word) => vec![text.trim().to_string()],
        Value::Array(values) => values
            .iter()
            .flat_map(|one| texts_with(word, one))
            .collect(),
        Value::Object(fields) => {
            let values = fields.values();
            values.flat_map(|one| texts_with(word, one)).collect()
        }
        _ => Vec::new(),
    }
}

/// By this the filter for second legs knows that an attempt is not the first; no other filter reads it.
const ATTEMPT_HEADER: &str = "x-envoy-attempt-count";

#[test]
fn all_manifests_with_the_filter_for_second_legs_have_the_same() -> Result<()> {
    let envoy = repository::read("manifests/envoy/disaggregated.yaml")?;
    let mut objects = vec![serde_saphyr::from_str(&envoy)?];
    objects.extend(
        IstioManifest::all()?
            .into_iter()
            .map(|manifest| manifest.object),
    );
    let filters = objects
        .iter()
        .flat_map(|object| texts_with(ATTEMPT_HEADER, object));
    let filters = filters.filter(|text| text.contains(NEXT_PREFILLER_HEADER));
    let filters: Vec<String> = filters.collect();
    ensure!(filters.len() >= 3, "{} manifests have it", filters.len());
    for filter in &filters {
        assert_eq!(*filter, filters[0]);
    }
    Ok(())
}

/// Headers that steer, sorted.
fn steering_headers() -> Vec<String> {
    let names = STRIPPED_HEADERS.into_iter().chain([MODEL_HEADER]);
    let mut names: Vec<String> = names.map(ToString::to_string).collect();
    names.sort();
    names
}

/// The headers that each early header mutation of a manifest removes, each list sorted.
fn early_removals(object: &Value) -> Vec<Vec<String>> {
    let inner: Vec<Vec<String>> = match object {
        Value::Object(fields) => fields.values().flat_map(early_removals).collect(),
        Value::Array(values) => values.iter().flat_map(early_removals).collect(),
        _ => Vec::new(),
    };
    let mutations = object.pointer("/early_header_mutation_extensions/0/typed_config/mutations");
    let removed = mutations.and_then(Value::as_array).map(|mutations| {
        let names = mutations.iter().filter_map(|one| one["remove"].as_str());
        let mut names: Vec<String> = names.map(ToString::to_string).collect();
        names.sort();
        names
    });
    inner.into_iter().chain(removed).collect()
}

#[test]
fn every_envoy_manifest_takes_headers_that_steer_from_clients() -> Result<()> {
    for file in std::fs::read_dir(repository::root().join("manifests/envoy"))? {
        let path = file?.path();
        let object: Value = serde_saphyr::from_str(&text(&path)?)?;
        let removed = early_removals(&object);
        ensure!(
            removed == [steering_headers()],
            "{}: {removed:?}",
            path.display()
        );
    }
    Ok(())
}

/// How a folder of `manifests/istio` takes headers that steer from clients: by its own EnvoyFilter, by that of the folder on
/// which it builds, or by Lua. A shadow changes nothing, and no header chooses a rank there: the cluster reads metadata that
/// only the endpoint picker writes.
#[test]
fn every_istio_folder_takes_headers_that_steer_from_clients() -> Result<()> {
    let built_on = ["inferencepool-1.30", "models"];
    let mut folders = std::collections::BTreeMap::<String, Vec<Vec<String>>>::new();
    for manifest in IstioManifest::all()? {
        let folder = manifest.path.parent().and_then(Path::file_name);
        let folder = folder.context("a folder")?.to_string_lossy().into_owned();
        let removed = folders.entry(folder).or_default();
        removed.extend(early_removals(&manifest.object));
        let strips = manifest.object["metadata"]["name"] == "rank-router-strip";
        let code = manifest.object.pointer("/spec/lua/inlineCode");
        if let Some(code) = code.and_then(Value::as_str).filter(|_| strips) {
            let odd_pieces = code.split('"').skip(1).step_by(2);
            let mut names: Vec<String> = odd_pieces.map(ToString::to_string).collect();
            names.sort();
            removed.push(names);
        }
    }
    for (folder, removed) in folders {
        if built_on.contains(&folder.as_str()) {
            let kustomization = format!("manifests/istio/{folder}/kustomization.yaml");
            ensure!(
                repository::read(&kustomization)?.contains("- ../inferencepool\n"),
                "{folder}"
            );
        } else if folder != "shadow" {
            ensure!(removed == [steering_headers()], "{folder}: {removed:?}");
        }
    }
    Ok(())
}

#[test]
fn the_repository_names_one_pair_of_envoys() -> Result<()> {
    let script = repository::read("scripts/setup-envoy")?;
    let versions = format!("versions=({})", repository::ENVOY_VERSIONS.join(" "));
    ensure!(
        script.contains(&versions),
        "scripts/setup-envoy does not have {versions}"
    );
    Ok(())
}

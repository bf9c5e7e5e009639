//! Prints the JSON schema of the module's configuration, as it stands in `manifests/plugin-config.schema.json`.

fn main() {
    println!("{:#}", routing::config_schema());
}

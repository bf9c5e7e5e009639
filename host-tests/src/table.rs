//! Rows of JSON as tables for people.

use serde_json::Value;

/// One line for each row, with a heading; `fields` are JSON pointers without the first slash. What a row lacks is left
/// blank. Empty without rows.
#[must_use]
pub fn table(rows: &[Value], fields: &[&str]) -> String {
    let cells = |row: &Value| -> Vec<String> {
        let cell = |field: &&str| {
            row.pointer(&format!("/{field}"))
                .map_or(String::new(), text)
        };
        fields.iter().map(cell).collect()
    };
    let mut lines: Vec<Vec<String>> = rows.iter().map(cells).collect();
    if lines.is_empty() {
        return String::new();
    }
    lines.insert(0, fields.iter().map(ToString::to_string).collect());
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: Vec<usize> = (0..fields.len()).filter_map(width).collect();
    lines.iter().map(|line| aligned(line, &widths)).collect()
}

fn text(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), ToString::to_string)
}

fn aligned(cells: &[String], widths: &[usize]) -> String {
    let padded = cells
        .iter()
        .zip(widths)
        .map(|(cell, width)| format!("{cell:>width$}"));
    padded.collect::<Vec<_>>().join("  ") + "\n"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_are_aligned_and_what_is_not_there_is_blank() {
        let rows = [
            json!({"name": "one", "delay": {"p50": 1.5}}),
            json!({"name": "a longer name", "delay": {"p50": 20}}),
            json!({"name": "no delay"}),
        ];
        let expected = "         name  delay/p50\n          one        1.5\na longer name         20\n     no delay           \n";
        assert_eq!(table(&rows, &["name", "delay/p50"]), expected);
        assert_eq!(table(&[], &["name"]), "");
    }
}

//! Every SQL statement gets the values that it names: SQLite reads a missing one as NULL and says nothing.
//! Reads the sources; statements that a builder puts together number themselves.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs,
    path::{Path, PathBuf},
};

fn sources() -> Vec<PathBuf> {
    let mut folders = vec![
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .unwrap()
            .join("services"),
    ];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources.push(path);
            }
        }
    }
    sources
}

/// The text of a statement that is named by a constant of the same file; any other is its own.
fn spelled_out<'a>(source: &'a str, statement: &'a str) -> &'a str {
    let is_of_a_name = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let name = statement.split(|c| !is_of_a_name(c)).next().unwrap();
    if name.is_empty() {
        return statement;
    }
    let (_, text) = source
        .split_once(&format!("const {name}: &str = "))
        .unwrap();
    text.split_once("\";").unwrap().0
}

/// The highest `$N` of a statement.
fn highest(statement: &str) -> usize {
    let numbers = statement.split('$').skip(1).map(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().unwrap_or(0)
    });
    numbers.max().unwrap_or(0)
}

/// Each statement of a source, from its call to where it is sent.
fn statements(source: &str) -> impl Iterator<Item = &str> {
    ["sqlx::query(", "sqlx::query_scalar("]
        .into_iter()
        .flat_map(move |call| {
            let written = source.split(call).skip(1);
            // What a builder has put together is numbered by it.
            let written = written.filter(|rest| !rest.starts_with("AssertSqlSafe("));
            written.map(|rest| {
                let ends = [".fetch", ".execute"]
                    .into_iter()
                    .filter_map(|send| rest.find(send));
                &rest[..ends.min().unwrap_or(rest.len())]
            })
        })
}

#[test]
fn each_statement_binds_as_many_values_as_it_names() {
    let mut found = 0;
    for path in sources() {
        let source = fs::read_to_string(&path).unwrap();
        for statement in statements(&source) {
            found += 1;
            let binds = statement.matches(".bind(").count();
            let line = statement.lines().next().unwrap_or_default();
            let named = highest(spelled_out(&source, statement));
            assert_eq!(named, binds, "{}: {line}", path.display());
        }
    }
    assert!(
        found > 10,
        "only {found} statements were found: do they look different now?"
    );
}

#[test]
fn a_statement_without_one_of_its_values_is_found() {
    let source = r#"
        sqlx::query("UPDATE t SET a = $1 WHERE b = $2").bind(a).execute(c).await?;
        sqlx::query(KNOWN).bind(a).fetch_all(c).await?;
        sqlx::query_scalar("SELECT $1, $10").bind(a).fetch_one(c)
        const KNOWN: &str = "SELECT b FROM t WHERE a = $3";
    "#;
    let found: Vec<_> = statements(source)
        .map(|statement| {
            let binds = statement.matches(".bind(").count();
            (highest(spelled_out(source, statement)), binds)
        })
        .collect();
    assert_eq!(found, [(2, 1), (3, 1), (10, 1)]);
}

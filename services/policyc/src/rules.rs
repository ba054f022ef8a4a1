//! The rules as they stand in their folder: read, checked for form, validated against the schema.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
};

use cedar_policy::{Effect, Policy, PolicyId, PolicySet, Schema, ValidationMode, Validator};

use crate::schema::{self, SCHEMA};

/// One rule: a paragraph of a policy file.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its `@id`.
    pub id: String,
    pub file: String,
    /// Of the paragraph's first line, from 1.
    pub line: usize,
    /// What stands above it, without the slashes; one of its lines begins with `Authority:`.
    pub comment: String,
    pub effect: Effect,
}

impl Rule {
    /// What rules are ordered by: file, then line.
    pub(crate) fn place(&self) -> (&str, usize) {
        (&self.file, self.line)
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, line {})", self.id, self.file, self.line)
    }
}

/// The rules of a folder. They have the right form and speak of the domain only; whether one fails when it
/// is applied, compiling tells.
#[derive(Debug)]
pub struct Rules {
    /// In the order of files and lines.
    pub(crate) rules: Vec<Rule>,
    pub(crate) set: PolicySet,
    pub(crate) schema: Schema,
}

#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    #[error("cannot read {path}: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("{0} holds no .cedar file")]
    NoRules(PathBuf),
    #[error(transparent)]
    Refused(#[from] Refused),
}

/// Rules that are not used at all, with everything that is wrong with them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Refused(pub Vec<Problem>);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the rules are refused")?;
        self.0
            .iter()
            .try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}, line {line}: {fault}")]
pub struct Problem {
    pub file: String,
    /// Of the paragraph's first line, from 1.
    pub line: usize,
    pub fault: String,
}

impl Rules {
    /// Reads every `.cedar` file of a folder, and its `schema.cedarschema`; what else is there is not looked at.
    ///
    /// # Errors
    /// [`RulesError`]; of rules with a problem, all of the first kind found: form, then names and types.
    pub fn read(folder: &Path) -> Result<Self, RulesError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| RulesError::File { path, source }
        };
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(folder).map_err(failed(folder))? {
            let path = entry.map_err(failed(folder))?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "cedar")
            {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                let text = fs::read_to_string(&path).map_err(failed(&path))?;
                files.insert(name.into_owned(), text);
            }
        }
        if files.is_empty() {
            return Err(RulesError::NoRules(folder.to_owned()));
        }
        let schema = folder.join(SCHEMA);
        let schema = fs::read_to_string(&schema).map_err(failed(&schema))?;
        Ok(Self::parse(&files, &schema)?)
    }

    /// As [`Rules::read`], from texts by file name.
    ///
    /// # Errors
    /// [`Refused`] with every problem of the first kind found.
    pub fn parse(files: &BTreeMap<String, String>, schema: &str) -> Result<Self, Refused> {
        let schema = schema::parse(schema).map_err(|fault| {
            let file = SCHEMA.to_owned();
            Refused(vec![Problem {
                file,
                line: 1,
                fault,
            }])
        })?;
        let rules = Self::unvalidated(files, schema)?;
        rules.validate()?;
        Ok(rules)
    }

    /// Checks the form only.
    pub(crate) fn unvalidated(
        files: &BTreeMap<String, String>,
        schema: Schema,
    ) -> Result<Self, Refused> {
        let mut rules = Self {
            rules: Vec::new(),
            set: PolicySet::new(),
            schema,
        };
        let mut problems = Vec::new();
        for (file, text) in files {
            for (line, paragraph) in paragraphs(text) {
                if let Err(fault) = rules.add(file, line, &paragraph) {
                    let file = file.clone();
                    problems.push(Problem { file, line, fault });
                }
            }
        }
        if problems.is_empty() {
            Ok(rules)
        } else {
            Err(Refused(problems))
        }
    }

    /// Adds a paragraph, unless it is nothing but a comment.
    fn add(&mut self, file: &str, line: usize, paragraph: &[&str]) -> Result<(), String> {
        let above = paragraph
            .iter()
            .take_while(|line| line.starts_with("//"))
            .count();
        let (comment, rule) = paragraph.split_at(above);
        if rule.is_empty() {
            return Ok(());
        }
        let policy = Policy::parse(None, rule.join("\n"))
            .map_err(|error| format!("this paragraph is not one rule: {error}"))?;
        let id = policy.annotation("id").unwrap_or_default().to_owned();
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if id.is_empty() || !id.bytes().all(is_plain) {
            return Err("a rule needs an @id of small letters, digits and hyphens".to_owned());
        }
        let comment: Vec<_> = comment
            .iter()
            .map(|line| line.trim_start_matches('/').trim())
            .collect();
        if !comment.iter().any(|line| line.starts_with("Authority:")) {
            return Err(format!(
                "{id} needs a comment above it, with a line that begins `// Authority:`"
            ));
        }
        if let Some(first) = self.rules.iter().find(|rule| rule.id == id) {
            return Err(format!("{first} has this @id already"));
        }
        self.rules.push(Rule {
            id: id.clone(),
            file: file.to_owned(),
            line,
            comment: comment.join("\n"),
            effect: policy.effect(),
        });
        let policy = policy.new_id(PolicyId::new(id));
        self.set.add(policy).map_err(|error| error.to_string())
    }

    fn validate(&self) -> Result<(), Refused> {
        let result =
            Validator::new(self.schema.clone()).validate(&self.set, ValidationMode::Strict);
        let errors = result
            .validation_errors()
            .map(|error| (error.policy_id(), error.to_string()));
        // A rule that is warned of, such as one that can never apply, misleads who reads it.
        let warnings = result
            .validation_warnings()
            .map(|warning| (warning.policy_id(), warning.to_string()));
        let mut problems: Vec<_> = errors
            .chain(warnings)
            .map(|(id, fault)| self.problem(id, fault))
            .collect();
        problems.sort_by(|a, b| (&a.file, a.line, &a.fault).cmp(&(&b.file, b.line, &b.fault)));
        if problems.is_empty() {
            Ok(())
        } else {
            Err(Refused(problems))
        }
    }

    fn problem(&self, id: &PolicyId, fault: String) -> Problem {
        let id: &str = id.as_ref();
        let rule = self.rules.iter().find(|rule| rule.id == id);
        Problem {
            file: rule.map(|rule| rule.file.clone()).unwrap_or_default(),
            line: rule.map_or(0, |rule| rule.line),
            fault,
        }
    }
}

/// The paragraphs of a text, parted by blank lines, each with the number of its first line.
fn paragraphs(text: &str) -> Vec<(usize, Vec<&str>)> {
    let mut paragraphs: Vec<(usize, Vec<&str>)> = Vec::new();
    let mut in_one = false;
    for (number, line) in (1..).zip(text.lines().map(str::trim_end)) {
        match paragraphs.last_mut() {
            _ if line.is_empty() => {}
            Some((_, lines)) if in_one => lines.push(line),
            _ => paragraphs.push((number, vec![line])),
        }
        in_one = !line.is_empty();
    }
    paragraphs
}

#[cfg(test)]
mod tests;

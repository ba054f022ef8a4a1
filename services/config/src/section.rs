//! A section of a file, taken apart setting by setting.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    ops::Range,
    path::{Path, PathBuf},
};

use serde::{
    Deserialize as _,
    de::{DeserializeOwned, IntoDeserializer as _},
};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{FileSetting, ServerAddress, ServerAddresses, Settings, Violation};

/// The file that is read, which settings are known, and what was found wrong.
pub(crate) struct File<'a> {
    folder: &'a Path,
    text: &'a str,
    settings: RefCell<BTreeMap<String, Option<usize>>>,
    violations: RefCell<Vec<Violation>>,
}

impl<'a> File<'a> {
    pub(crate) fn new(path: &'a Path, text: &'a str) -> Self {
        Self {
            folder: path.parent().unwrap_or(Path::new("")),
            text,
            settings: RefCell::default(),
            violations: RefCell::default(),
        }
    }

    pub(crate) fn refuse(&self, at: usize, setting: String, expected: String) {
        self.violations.borrow_mut().push(Violation {
            line: self.line(at),
            setting,
            expected,
        });
    }

    fn line(&self, at: usize) -> usize {
        let before = self.text.as_bytes().iter().take(at);
        1 + before.filter(|byte| **byte == b'\n').count()
    }

    /// Notes that there is such a setting, and where it stands in the file.
    fn knows(&self, setting: String, at: Option<usize>) {
        let line = at.map(|at| self.line(at));
        self.settings.borrow_mut().insert(setting, line);
    }

    pub(crate) fn settings(&self) -> Settings {
        Settings(self.settings.borrow().clone())
    }

    pub(crate) fn is_valid(&self) -> bool {
        self.violations.borrow().is_empty()
    }

    pub(crate) fn into_violations(self) -> Vec<Violation> {
        self.violations.into_inner()
    }
}

/// A table of the file. Each setting is taken once; one that nobody takes is refused at the end.
///
/// What takes a setting returns `None` when it is refused, and the mistake is noted: take all of a section
/// before giving up, so that all mistakes are told at once.
pub struct Section<'a> {
    file: &'a File<'a>,
    /// As in `server.`; empty at the top.
    prefix: String,
    /// Where it begins.
    at: usize,
    left: BTreeMap<String, (Range<usize>, Spanned<DeValue<'a>>)>,
    /// Where each setting that was taken stands.
    taken: BTreeMap<&'static str, usize>,
}

impl<'a> Section<'a> {
    pub(crate) fn whole<T>(
        file: &'a File<'a>,
        table: DeTable<'a>,
        of: impl FnOnce(&mut Section<'_>) -> Option<T>,
    ) -> Option<T> {
        Self::read(file, String::new(), 0, table, of)
    }

    fn read<T>(
        file: &'a File<'a>,
        prefix: String,
        at: usize,
        table: DeTable<'a>,
        of: impl FnOnce(&mut Section<'_>) -> Option<T>,
    ) -> Option<T> {
        let left = table.into_iter().map(|(key, value)| {
            let span = key.span();
            (key.into_inner().into_owned(), (span, value))
        });
        let mut section = Section {
            file,
            prefix,
            at,
            left: left.collect(),
            taken: BTreeMap::new(),
        };
        let found = of(&mut section);
        section.refuse_unknown();
        found
    }

    fn refuse_unknown(self) {
        let known: Vec<_> = self.taken.keys().copied().collect();
        for (key, (span, _)) in self.left {
            // What does not look like a setting may be anything, even a secret.
            let key = if is_plain(&key) { &key } else { "(not shown)" };
            self.file.refuse(
                span.start,
                format!("{}{key}", self.prefix),
                format!("there is no such setting; known here: {}", known.join(", ")),
            );
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Spanned<DeValue<'a>>> {
        let found = self.left.remove(key);
        let at = found.as_ref().map(|(span, _)| span.start);
        self.taken.insert(key, at.unwrap_or(self.at));
        self.file.knows(self.name(key), at);
        found.map(|(_, value)| value)
    }

    fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    /// Refuses a setting that was taken, for what it says. Returns `None`, to be passed on.
    pub fn refuse<T>(&self, key: &'static str, expected: &str) -> Option<T> {
        let at = self.taken.get(key).copied().unwrap_or(self.at);
        self.file.refuse(at, self.name(key), expected.to_owned());
        None
    }

    /// A setting that must be there. `expected` says what it is, as in `an address with its port`.
    pub fn required<T: DeserializeOwned>(
        &mut self,
        key: &'static str,
        expected: &str,
    ) -> Option<T> {
        match self.take(key) {
            Some(value) => self.value(key, value, expected),
            None => self.refuse(key, &format!("it is missing; {expected}")),
        }
    }

    /// A setting that may be absent; the outer `None` says that it is refused.
    pub fn optional<T: DeserializeOwned>(
        &mut self,
        key: &'static str,
        expected: &str,
    ) -> Option<Option<T>> {
        match self.take(key) {
            Some(value) => self.value(key, value, expected).map(Some),
            None => Some(None),
        }
    }

    /// A setting that is `default` where it is absent.
    pub fn or<T: DeserializeOwned>(
        &mut self,
        key: &'static str,
        default: T,
        expected: &str,
    ) -> Option<T> {
        self.optional(key, expected)
            .map(|value| value.unwrap_or(default))
    }

    fn value<T: DeserializeOwned>(
        &self,
        key: &'static str,
        value: Spanned<DeValue<'a>>,
        expected: &str,
    ) -> Option<T> {
        match T::deserialize(value.into_deserializer()) {
            Ok(value) => Some(value),
            Err(_) => self.refuse(key, expected),
        }
    }

    /// The path of a file or folder.
    pub fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        let path: PathBuf = self.required(key, "the path of a file or folder")?;
        Some(self.beside(path))
    }

    /// A path that a setting names, as it counts from the file's own folder.
    pub fn beside(&self, path: impl AsRef<Path>) -> PathBuf {
        self.file.folder.join(path)
    }

    /// Where a server answers, as in `https://gateway.example:8443`; a list with each of its replicas' addresses.
    pub fn server_addresses(
        &mut self,
        key: &'static str,
        expected: &str,
    ) -> Option<ServerAddresses> {
        let Some(value) = self.take(key) else {
            return self.refuse(key, &format!("it is missing; {expected}"));
        };
        if !matches!(value.get_ref(), DeValue::Array(_)) {
            let only: ServerAddress = self.value(key, value, expected)?;
            return Some(only.into());
        }
        let DeValue::Array(items) = value.into_inner() else {
            return self.refuse(key, expected);
        };
        let read: Vec<_> = (0..)
            .zip(items)
            .map(|(number, item)| self.server_address(key, number, item, expected))
            .collect();
        let addresses = ServerAddresses::new(read.into_iter().collect::<Option<_>>()?);
        addresses
            .or_else(|| self.refuse(key, "a list with at least one address, and with each once"))
    }

    fn server_address(
        &self,
        key: &'static str,
        number: usize,
        item: Spanned<DeValue<'a>>,
        expected: &str,
    ) -> Option<ServerAddress> {
        let at = item.span().start;
        let read = ServerAddress::deserialize(item.into_deserializer()).ok();
        if read.is_none() {
            let name = format!("{}[{number}]", self.name(key));
            self.file.refuse(at, name, expected.to_owned());
        }
        read
    }

    /// A list of paths, at least one.
    pub fn paths(&mut self, key: &'static str) -> Option<Vec<PathBuf>> {
        let expected = "a list with the path of at least one file";
        let paths: Vec<PathBuf> = self.required(key, expected)?;
        if paths.is_empty() {
            return self.refuse(key, expected);
        }
        Some(
            paths
                .into_iter()
                .map(|p| self.file.folder.join(p))
                .collect(),
        )
    }

    /// A section that must be there.
    pub fn section<T>(
        &mut self,
        key: &'static str,
        of: impl FnOnce(&mut Section<'_>) -> Option<T>,
    ) -> Option<T> {
        match self.take(key) {
            Some(value) => self.table(key, self.name(key), value, of),
            None => self.refuse(key, "this section is missing"),
        }
    }

    /// A section that may be absent; `of` reads an empty one then, so that each setting has its default.
    pub fn section_or_default<T>(
        &mut self,
        key: &'static str,
        of: impl FnOnce(&mut Section<'_>) -> Option<T>,
    ) -> Option<T> {
        match self.take(key) {
            Some(value) => self.table(key, self.name(key), value, of),
            None => Self::read(
                self.file,
                format!("{}.", self.name(key)),
                self.at,
                DeTable::default(),
                of,
            ),
        }
    }

    /// A section that may be absent.
    pub fn optional_section<T>(
        &mut self,
        key: &'static str,
        of: impl FnOnce(&mut Section<'_>) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.take(key) {
            Some(value) => self.table(key, self.name(key), value, of).map(Some),
            None => Some(None),
        }
    }

    /// Sections that stand in a list, as in `[[oprf.keys]]`.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        mut of: impl FnMut(&mut Section<'_>) -> Option<T>,
    ) -> Option<Vec<T>> {
        let Some(value) = self.take(key) else {
            return self.refuse(key, "this list is missing");
        };
        let DeValue::Array(items) = value.into_inner() else {
            return self.refuse(key, "a list of sections");
        };
        let items: Vec<_> = (0..)
            .zip(items)
            .map(|(number, item)| {
                let name = format!("{}[{number}]", self.name(key));
                self.table(key, name, item, &mut of)
            })
            .collect();
        items.into_iter().collect()
    }

    /// Sections by names of the file's own, as in `[officers.default]`; absent ones are none.
    pub fn named<T>(
        &mut self,
        key: &'static str,
        mut of: impl FnMut(&mut Section<'_>) -> Option<T>,
    ) -> Option<BTreeMap<String, T>> {
        let name = self.anyone(key);
        self.entries(key, |section, value| {
            section.table(key, name.clone(), value, &mut of)
        })
    }

    /// Values by names of the file's own, as in `police-lahore = "…"`; absent ones are none.
    pub fn values<T: DeserializeOwned>(
        &mut self,
        key: &'static str,
        expected: &str,
    ) -> Option<BTreeMap<String, T>> {
        self.entries(key, |section, value| {
            let at = value.span().start;
            let read = T::deserialize(value.into_deserializer()).ok();
            if read.is_none() {
                let name = section.anyone(key);
                section.file.refuse(at, name, expected.to_owned());
            }
            read
        })
    }

    /// The file's own names may be those of people, and are not told.
    fn anyone(&self, key: &str) -> String {
        format!("{}.*", self.name(key))
    }

    fn entries<T>(
        &mut self,
        key: &'static str,
        mut of: impl FnMut(&Self, Spanned<DeValue<'a>>) -> Option<T>,
    ) -> Option<BTreeMap<String, T>> {
        let Some(value) = self.take(key) else {
            return Some(BTreeMap::new());
        };
        let DeValue::Table(entries) = value.into_inner() else {
            return self.refuse(key, "a section with names of your own");
        };
        let read: Vec<_> = entries
            .into_iter()
            .map(|(name, value)| Some((name.into_inner().into_owned(), of(self, value)?)))
            .collect();
        read.into_iter().collect()
    }

    /// Refuses files that lie in the folder of another one, or below it. All are of this section or of those
    /// in it. Returns `None` if one does.
    pub fn keep_out(
        &self,
        of: &FileSetting<'_>,
        files: &[FileSetting<'_>],
        why: &str,
    ) -> Option<()> {
        let inside: Vec<_> = files.iter().filter(|file| file.lies_beside(of)).collect();
        for file in &inside {
            let line = self.file.settings().line(&file.setting);
            self.file.violations.borrow_mut().push(Violation {
                line: line.unwrap_or(1),
                setting: file.setting.clone(),
                expected: format!("a file outside the folder of {}: {why}", of.setting),
            });
        }
        inside.is_empty().then_some(())
    }

    fn table<T>(
        &self,
        key: &'static str,
        name: String,
        value: Spanned<DeValue<'a>>,
        of: impl FnOnce(&mut Section<'_>) -> Option<T>,
    ) -> Option<T> {
        let at = self
            .taken
            .get(key)
            .copied()
            .unwrap_or(self.at)
            .max(value.span().start);
        match value.into_inner() {
            DeValue::Table(table) => Self::read(self.file, format!("{name}."), at, table, of),
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_) => {
                self.file
                    .refuse(at, name, "a section is expected".to_owned());
                None
            }
        }
    }
}

fn is_plain(key: &str) -> bool {
    const LONGEST: usize = 32;
    key.len() <= LONGEST
        && key
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

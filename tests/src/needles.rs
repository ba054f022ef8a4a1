//! Looking for what must not be there: values and keys, in every form in which they could be written down,
//! in files and logs.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

use base64::{
    Engine as _,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};

/// By which a needle is looked up; shorter ones would be found in any file.
const PREFIX: usize = 6;
/// Of longer things any such part counts.
const PART: usize = 16;

/// What is looked for, each with a name to report it by.
#[derive(Default)]
pub struct Needles {
    names: Vec<String>,
    /// By the first bytes: the rest, and whose it is.
    forms: HashMap<[u8; PREFIX], Vec<(Vec<u8>, usize)>>,
    /// Which pairs of bytes a needle begins with; most places are passed over by this alone.
    begin: BTreeSet<[u8; 2]>,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    pub name: String,
    pub file: PathBuf,
}

impl Needles {
    /// A text or a key: itself, hexadecimal, base64 of either alphabet at any place of a longer text, and as
    /// Rust prints bytes. Of a long one every whole part is enough.
    ///
    /// # Panics
    /// If it is so short that finding it would mean nothing.
    pub fn add(&mut self, name: &str, bytes: &[u8]) {
        assert!(
            bytes.len() >= PREFIX,
            "{name} is too short to be looked for"
        );
        let name = self.name(name);
        let parts: Vec<&[u8]> = if bytes.len() < 2 * PART {
            vec![bytes]
        } else {
            bytes.chunks_exact(PART).collect()
        };
        for part in parts {
            for form in forms(part) {
                self.form(name, form);
            }
        }
    }

    /// Random bytes, of which any 32 in a row hold one whole part; only as they are.
    pub fn add_raw(&mut self, name: &str, bytes: &[u8]) {
        let name = self.name(name);
        for part in bytes.chunks_exact(PART) {
            self.form(name, part.to_vec());
        }
    }

    fn name(&mut self, name: &str) -> usize {
        self.names.push(name.to_owned());
        self.names.len() - 1
    }

    fn form(&mut self, name: usize, form: Vec<u8>) {
        let (prefix, rest) = form
            .split_first_chunk()
            .expect("no form is shorter than its prefix");
        self.begin.insert([form[0], form[1]]);
        self.forms
            .entry(*prefix)
            .or_default()
            .push((rest.to_vec(), name));
    }

    /// The names of what is in the bytes.
    pub fn find(&self, haystack: &[u8]) -> BTreeSet<&str> {
        let mut begins = vec![false; 1 << 16];
        for pair in &self.begin {
            begins[usize::from(u16::from_be_bytes(*pair))] = true;
        }
        let mut found = BTreeSet::new();
        let mut pair = 0_usize;
        for (at, byte) in haystack.iter().enumerate() {
            pair = (pair << 8 | usize::from(*byte)) & 0xffff;
            if at == 0 || !begins[pair] {
                continue;
            }
            let here = haystack[at - 1..].split_first_chunk();
            let Some((prefix, after)) = here else { break };
            for (rest, name) in self.forms.get(prefix).into_iter().flatten() {
                if after.starts_with(rest) {
                    found.insert(self.names[*name].as_str());
                }
            }
        }
        found
    }

    /// Everything that stands in any of the files.
    pub fn find_in<'a>(
        &self,
        files: impl IntoIterator<Item = &'a (PathBuf, Vec<u8>)>,
    ) -> Vec<Found> {
        let in_file = |(file, bytes): &'a (PathBuf, Vec<u8>)| {
            let found = self
                .find(bytes)
                .into_iter()
                .map(str::to_owned)
                .collect::<Vec<_>>();
            found.into_iter().map(|name| Found {
                name,
                file: file.clone(),
            })
        };
        files.into_iter().flat_map(in_file).collect()
    }

    /// As many as were added.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// How bytes can be written down.
pub fn forms(bytes: &[u8]) -> Vec<Vec<u8>> {
    let decimal: Vec<_> = bytes.iter().map(u8::to_string).collect();
    let hexadecimal = hex::encode(bytes);
    let mut forms = vec![
        bytes.to_vec(),
        hexadecimal.to_uppercase().into_bytes(),
        hexadecimal.into_bytes(),
        decimal.join(", ").into_bytes(),
    ];
    for before in 0..3_usize {
        let padded = [vec![0; before], bytes.to_vec()].concat();
        // The letters that hold bits of nothing but these bytes.
        let (first, last) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
        for engine in [BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD] {
            forms.push(engine.encode(&padded).as_bytes()[first..last].to_vec());
        }
    }
    forms
}

/// Every file under a folder, whole.
pub fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.push((path, bytes));
        }
    }
    found.sort();
    found
}

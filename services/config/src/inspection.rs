//! What a look at the files that a configuration names comes to.

use std::{fmt, path::Path};

/// Everything that was found, told at once.
#[derive(Debug, Default)]
pub struct Inspection {
    /// In the order of the look.
    pub faults: Vec<Remark>,
    /// What is in order and worth a word, as how long a certificate lasts.
    pub in_order: Vec<Remark>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remark {
    /// As in `server.certificate`.
    pub setting: String,
    pub text: String,
}

impl fmt::Display for Remark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.text)
    }
}

impl Inspection {
    /// Something that must be mended.
    pub fn fault(&mut self, setting: impl Into<String>, why: impl fmt::Display) {
        self.faults.push(remark(setting, why));
    }

    /// Something that is in order.
    pub fn in_order(&mut self, setting: impl Into<String>, what: impl fmt::Display) {
        self.in_order.push(remark(setting, what));
    }

    /// A file that may not be there yet, and could not be made for want of its folder, is a fault.
    pub fn folder_of(&mut self, setting: impl Into<String>, file: &Path) {
        let folder = file.parent().filter(|folder| *folder != Path::new(""));
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            let folder = folder.display();
            self.fault(setting, format!("there is no folder {folder}; make it"));
        }
    }

    /// What was loaded, unless it is a fault.
    pub fn take<T>(
        &mut self,
        setting: impl Into<String>,
        loaded: Result<T, impl fmt::Display>,
    ) -> Option<T> {
        loaded.map_err(|why| self.fault(setting, why)).ok()
    }
}

fn remark(setting: impl Into<String>, text: impl fmt::Display) -> Remark {
    Remark {
        setting: setting.into(),
        text: text.to_string(),
    }
}

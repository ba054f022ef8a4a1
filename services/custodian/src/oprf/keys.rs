//! The custodian's OPRF keys: from their seed files, each the one that the directory lists.

use std::{collections::BTreeMap, sync::Arc};

use amanat_config::secret_hex;
use amanat_identity::Directory;
use amanat_schema::subject::{EvaluatedBatch, IdentifierDomain};
use amanat_seal::oprf::{OprfError, OprfKey};

use crate::{
    CustodianError,
    config::{Oprf, OprfKeyFile},
};

const DOMAINS: [IdentifierDomain; 3] = [
    IdentifierDomain::Victim,
    IdentifierDomain::Suspect,
    IdentifierDomain::Composite,
];

/// A key's place in the directory: its domain and epoch.
pub(crate) type Name = (IdentifierDomain, u32);

/// Each is as long-lived as the process; a directory in force decides which may be used.
#[derive(Default)]
pub(crate) struct OprfKeys(BTreeMap<Name, Arc<OprfKey>>);

/// Points that were checked, and the key that they are for.
pub(crate) struct Points {
    pub(crate) key: Arc<OprfKey>,
    pub(crate) blinded: Vec<Vec<u8>>,
}

impl OprfKeys {
    /// Exactly the keys that the directory lists.
    pub(crate) fn load(config: &Oprf, directory: &Directory) -> Result<Self, CustodianError> {
        let mut keys = Self::default();
        for file in &config.keys {
            keys.add(file, directory)?;
        }
        keys.are_all(directory)?;
        Ok(keys)
    }

    /// Takes a key from its file, if the directory lists it.
    pub(crate) fn add(
        &mut self,
        file: &OprfKeyFile,
        directory: &Directory,
    ) -> Result<(), CustodianError> {
        let name = (IdentifierDomain::from(file.domain), file.epoch);
        let seed = secret_hex(&file.seed)?;
        let path = || file.seed.display().to_string();
        let key = OprfKey::from_seed(seed.as_slice())
            .map_err(|_| CustodianError::Key { path: path() })?;
        if listed(directory, name) != Some(&key.public_key()) {
            return Err(CustodianError::OtherOprfKey {
                domain: domain(name),
                epoch: file.epoch,
                path: path(),
                public_key: hex::encode(key.public_key()),
            });
        }
        self.0.insert(name, Arc::new(key));
        Ok(())
    }

    /// # Errors
    /// [`CustodianError::NoOprfKey`] for the first that the directory lists and that is not here.
    pub(crate) fn are_all(&self, directory: &Directory) -> Result<(), CustodianError> {
        match self.lacks(directory) {
            None => Ok(()),
            Some(name) => Err(CustodianError::NoOprfKey {
                domain: domain(name),
                epoch: name.1,
            }),
        }
    }

    /// The first key that a directory lists and that is not here.
    pub(crate) fn lacks(&self, directory: &Directory) -> Option<Name> {
        DOMAINS.into_iter().find_map(|of| {
            let mut keys = directory.oprf_keys(of);
            let missing =
                keys.find(|(epoch, public_key)| self.get((of, *epoch), public_key).is_none());
            missing.map(|(epoch, _)| (of, epoch))
        })
    }

    /// The key that a directory lists by this name and public half.
    pub(crate) fn get(&self, name: Name, public_key: &[u8; 32]) -> Option<&Arc<OprfKey>> {
        let key = self.0.get(&name);
        key.filter(|key| key.public_key() == *public_key)
    }
}

/// Takes 61 µs a point: not for a thread that serves requests.
pub(crate) fn evaluate(batches: &[Points]) -> Result<Vec<EvaluatedBatch>, OprfError> {
    let evaluated = batches.iter().map(|Points { key, blinded }| {
        let evaluated = key.evaluate(blinded)?;
        Ok(EvaluatedBatch {
            evaluated_elements: evaluated.elements.iter().map(|e| e.to_vec()).collect(),
            proof: evaluated.proof.to_vec(),
        })
    });
    evaluated.collect()
}

/// The public key that the directory lists.
pub(crate) fn listed(directory: &Directory, (domain, epoch): Name) -> Option<&[u8; 32]> {
    let mut keys = directory.oprf_keys(domain);
    keys.find(|(of, _)| *of == epoch).map(|(_, key)| key)
}

/// As the configuration names it.
fn domain((domain, _): Name) -> &'static str {
    domain
        .as_str_name()
        .trim_start_matches("IDENTIFIER_DOMAIN_")
}

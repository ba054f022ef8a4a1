//! A look at everything that a profile's settings name.

use amanat_config::{Inspection, private_key_pem};
use amanat_identity::{
    Agency, Directory, OwnCertificate, PeerName, RevocationFolder,
    inspect::{directory, lasts, revocation},
};
use amanat_schema::Time;
use amanat_seal::statement::SigningKey;

use super::{Profile, TokenFiles};

impl Profile {
    /// What the connector would work with at `now`, with all faults at once. Nothing is made or changed.
    pub fn inspect(&self, now: Time) -> Inspection {
        let mut found = Inspection::default();
        let directory = self.inspect_directory(now, &mut found);
        let agency = directory.as_ref().and_then(|directory| {
            let agency = directory.agency(self.agency);
            if agency.is_none() {
                found.fault("agency", "the directory lists no such agency");
            }
            agency
        });
        self.inspect_certificate(
            directory.as_ref().filter(|_| agency.is_some()),
            now,
            &mut found,
        );
        self.inspect_statements(agency, &mut found);
        if let Some(tokens) = &self.tokens {
            inspect_tokens(tokens, agency, &mut found);
        }
        found.take("evidence_key", self.local_key());
        found.folder_of("outbox", &self.outbox);
        found
    }

    fn inspect_directory(&self, now: Time, found: &mut Inspection) -> Option<Directory> {
        let files = &self.directory;
        let directory = directory(&files.file, &files.seen, &files.registrars, now, found)?;
        let lists = RevocationFolder::new(&files.crls);
        let ends = [
            lists
                .of_gateway()
                .end(&directory.gateway().authorities, now),
            lists
                .of_custodian()
                .end(&directory.custodian().authorities, now),
        ];
        let ends = ends.map(|end| found.take("directory.crls", end));
        if let [Some(one), Some(other)] = ends {
            found.in_order("directory.crls", lasts(one.min(other), now));
        }
        Some(directory)
    }

    fn inspect_certificate(
        &self,
        directory: Option<&Directory>,
        now: Time,
        found: &mut Inspection,
    ) {
        let chain = found.take("tls.certificate", self.certificates());
        let key = found.take("tls.private_key", self.private_key());
        let (Some(chain), Some(key)) = (chain, key) else {
            return;
        };
        let Some(own) = found.take("tls.certificate", OwnCertificate::new(chain, key)) else {
            return;
        };
        if let Some(directory) = directory {
            let counts = own.calls_as(PeerName::Agency(self.agency), directory, now);
            if let (Some(()), Some(end)) = (found.take("tls.certificate", counts), own.ends()) {
                found.in_order("tls.certificate", lasts(end, now));
            }
            if let Some(agency) = directory.agency(self.agency) {
                let lists = RevocationFolder::new(&self.directory.crls)
                    .of_peer(PeerName::Agency(agency.id));
                revocation("tls.certificate", &own, &agency.authorities, &lists, found);
            }
        }
    }

    fn inspect_statements(&self, agency: Option<&Agency>, found: &mut Inspection) {
        let key = found.take("statements.signing_key", self.statement_key());
        if let (Some(key), Some(agency)) = (key, agency)
            && !agency.statement_keys.contains(&key.public_key())
        {
            found.fault(
                "statements.signing_key",
                "the directory does not list it for this agency; use the one that it lists, or have your \
                 registrars list this one",
            );
        }
    }
}

fn inspect_tokens(tokens: &TokenFiles, agency: Option<&Agency>, found: &mut Inspection) {
    let der = found.take("tokens.signing_key", private_key_pem(&tokens.signing_key));
    let Some(der) = der else { return };
    let key = found.take(
        "tokens.signing_key",
        SigningKey::from_pkcs8(der.secret_der()),
    );
    if let (Some(key), Some(agency)) = (key, agency) {
        let is_listed = agency.token_issuers.iter().any(|listed| {
            listed.issuer == tokens.issuer
                && listed.key_id == tokens.key_id
                && listed.public_key == key.public_key()
        });
        if !is_listed {
            found.fault(
                "tokens.signing_key",
                "the directory lists no such issuer, key_id and key for this agency",
            );
        }
    }
}

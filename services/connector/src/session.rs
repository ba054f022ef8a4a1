//! What a connector speaks by: the directory, its certificate and its keys, as they lay in their files at one
//! moment. Certificates are renewed, keys rotated and directories published while a process lives; what begins
//! with one session ends with it, so that a token is never shown over another certificate's connection.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use amanat_identity::{Directory, OwnCertificate, PeerName};
use amanat_schema::clock::Clock;

use crate::{
    Acting, Connector, ConnectorError, Profile, ProfileError, client::Servers, signer::Signer,
};

/// Between two looks at files that were refused and have not changed since.
const AGAIN: Duration = Duration::from_secs(1);

pub(crate) struct Session {
    pub(crate) directory: Arc<Directory>,
    pub(crate) servers: Servers,
    pub(crate) signer: Signer,
}

impl Session {
    pub(crate) fn load(
        profile: &Profile,
        acting: Acting,
        clock: &Clock,
    ) -> Result<(Self, OwnCertificate), ConnectorError> {
        let directory = Arc::new(profile.load_directory(clock())?);
        let own = OwnCertificate::new(profile.certificates()?, profile.private_key()?);
        let own = own.map_err(|fault| ProfileError::Unusable {
            path: profile.tls.certificate.display().to_string(),
            message: fault.to_string(),
        })?;
        let exchange = directory.exchange_id();
        let session = Self {
            signer: Signer::new(profile, acting, &own, exchange, clock)?,
            servers: Servers::new(profile, &own, &directory, clock)?,
            directory,
        };
        Ok((session, own))
    }
}

/// The session in use, and the files that it came from.
pub(crate) struct Sessions {
    acting: Acting,
    last: Mutex<Last>,
}

struct Last {
    session: Arc<Session>,
    files: Files,
    /// What was refused last, and when.
    refused: Option<(Files, Instant)>,
}

impl Sessions {
    /// # Errors
    /// [`ConnectorError::Profile`] or [`ConnectorError::Directory`], naming the file.
    pub(crate) fn open(
        profile: &Profile,
        acting: Acting,
        clock: &Clock,
    ) -> Result<Self, ConnectorError> {
        // Before they are read: what changes meanwhile is read again.
        let files = Files::of(profile);
        let (session, _) = Session::load(profile, acting.clone(), clock)?;
        let last = Last {
            session: Arc::new(session),
            files,
            refused: None,
        };
        Ok(Self {
            acting,
            last: Mutex::new(last),
        })
    }

    /// By the files as they are now. What cannot be used, for it is half written or not listed yet, leaves the
    /// session in use as it is. Whether its directory still counts is not asked.
    fn latest(&self, profile: &Profile, clock: &Clock) -> Arc<Session> {
        // A panic elsewhere cannot leave a session half made.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let files = Files::of(profile);
        let is_refused = last
            .refused
            .as_ref()
            .is_some_and(|(refused, at)| *refused == files && at.elapsed() < AGAIN);
        if files != last.files && !is_refused {
            match renewed(profile, self.acting.clone(), clock) {
                Some(session) => {
                    *last = Last {
                        session: Arc::new(session),
                        files,
                        refused: None,
                    }
                }
                None => last.refused = Some((files, Instant::now())),
            }
        }
        Arc::clone(&last.session)
    }
}

/// A session that may take the place of another: the servers know its certificate.
fn renewed(profile: &Profile, acting: Acting, clock: &Clock) -> Option<Session> {
    let (session, own) = Session::load(profile, acting, clock).ok()?;
    let agency = PeerName::Agency(profile.agency);
    own.calls_as(agency, &session.directory, clock()).ok()?;
    Some(session)
}

/// Which files lie there; `None` for one that does not.
#[derive(PartialEq, Eq)]
struct Files(Vec<Option<Mark>>);

/// Another one, or another content, has another mark.
#[derive(PartialEq, Eq)]
struct Mark {
    inode: (u64, u64),
    length: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Files {
    fn of(profile: &Profile) -> Self {
        let tokens = profile.tokens.as_ref().map(|tokens| &tokens.signing_key);
        let files = [
            &profile.directory.file,
            &profile.tls.certificate,
            &profile.tls.private_key,
            &profile.statements.signing_key,
        ];
        Self(files.into_iter().chain(tokens).map(|f| mark(f)).collect())
    }
}

fn mark(path: &Path) -> Option<Mark> {
    let found = fs::metadata(path).ok()?;
    Some(Mark {
        inode: (found.dev(), found.ino()),
        length: found.len(),
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

impl Connector {
    /// What a call begins with.
    ///
    /// # Errors
    /// [`ConnectorError::Directory`] if the directory has expired and its file holds no newer one.
    pub(crate) fn session(&self) -> Result<Arc<Session>, ConnectorError> {
        let session = self.latest_session();
        session.directory.counts(self.now())?;
        Ok(session)
    }

    /// To sign what can only close, as a withdrawal: that is handed in even if the directory has expired, and
    /// waits with every other delivery for a newer one. No call may be made with it.
    pub(crate) fn latest_session(&self) -> Arc<Session> {
        self.sessions.latest(&self.profile, &self.clock)
    }
}

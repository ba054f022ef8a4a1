//! Asking again for what no longer counts as it was asked: a read that one directory decided is not redeemed
//! under the next, and a request over a certificate that was renewed meanwhile is not answered. Only for what
//! may be asked twice.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{Connector, ConnectorError, Reason, session::Session};

/// For all attempts together.
const PATIENCE: Duration = Duration::from_secs(10);
/// If the server does not tell.
const PAUSE: Duration = Duration::from_millis(300);

pub(crate) struct Attempts {
    begun: Instant,
    /// A certificate is renewed once; whoever is refused with the new one as well is not to be let in.
    is_renewed: bool,
}

impl Attempts {
    pub(crate) fn begin() -> Self {
        Self {
            begun: Instant::now(),
            is_renewed: false,
        }
    }

    /// Returns when it is worth asking again.
    ///
    /// # Errors
    /// The error itself, if it is not.
    pub(crate) async fn go_on(
        &mut self,
        connector: &Connector,
        session: &Arc<Session>,
        error: ConnectorError,
    ) -> Result<(), ConnectorError> {
        let superseded = error.refusal().filter(|refusal| refusal.superseded);
        if let Some(refusal) = superseded {
            let pause = refusal.retry_after.unwrap_or(PAUSE);
            if self.begun.elapsed() + pause < PATIENCE {
                tokio::time::sleep(pause).await;
                return Ok(());
            }
        }
        if !self.is_renewed && error.known_reason() == Some(Reason::CredentialInvalid) {
            self.is_renewed = true;
            if !Arc::ptr_eq(session, &connector.session()?) {
                return Ok(());
            }
        }
        Err(error)
    }
}

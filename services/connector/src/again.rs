//! Asking again, only for what may be asked twice: for what came to nothing for a reason that may have passed,
//! and for what no longer counts as it was asked. A read that one directory decided is not redeemed under the
//! next, and a request over a certificate that was renewed meanwhile is not answered.

use std::{cell::Cell, future::Future, sync::Arc, time::Duration};

use crate::{Connector, ConnectorError, Reason, session::Session};

/// How much time may be lost with calls that came to nothing, and with waiting to make them again.
const PATIENCE: Duration = Duration::from_secs(10);
/// If the server does not tell.
const PAUSE: Duration = Duration::from_millis(300);

tokio::task_local! {
    /// What is left of it.
    static LEFT: Cell<Duration>;
}

/// All that is asked in it has one patience, or that of what it is a part of.
pub(crate) fn patiently<F: Future>(doing: F) -> impl Future<Output = F::Output> {
    // A whole delivery is large, and would be a part of each future around it.
    let doing = Box::pin(doing);
    async move {
        if LEFT.try_with(|_| ()).is_ok() {
            doing.await
        } else {
            LEFT.scope(Cell::new(PATIENCE), doing).await
        }
    }
}

/// Takes so much of the patience. False if there is less left, of which nothing is taken then, and outside of
/// [`patiently`].
pub(crate) fn bears(lost: Duration) -> bool {
    let take = |left: &Cell<Duration>| {
        let rest = left.get().checked_sub(lost);
        left.set(rest.unwrap_or(left.get()));
        rest.is_some()
    };
    LEFT.try_with(take).unwrap_or(false)
}

#[derive(Default)]
pub(crate) struct Attempts {
    /// A certificate is renewed once; whoever is refused with the new one as well is not to be let in.
    is_renewed: bool,
}

impl Attempts {
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
            if bears(pause) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_done_as_one_has_one_patience() {
        let most = PATIENCE * 6 / 10;
        assert!(!bears(Duration::ZERO), "there is none by itself");
        patiently(async {
            assert!(patiently(async { bears(most) }).await);
            assert!(!patiently(async { bears(most) }).await);
            assert!(bears(PATIENCE - most), "what is left is there for others");
            assert!(!bears(Duration::from_nanos(1)), "it is at its end");
        })
        .await;
        assert!(patiently(async { bears(most) }).await, "another one");
    }
}

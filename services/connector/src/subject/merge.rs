//! Two pseudonyms that may be one person: a person decides, and can take it back.

use amanat_schema::{
    Time,
    audit::Action,
    subject::{ListMergesRequest, Merge, MergeStatus, MergeSubjectsRequest, SplitSubjectsRequest},
};
use amanat_seal::pseudonym::Pseudonym;

use super::GATEWAY;
use crate::{
    Connector, ConnectorError, Delivery, Server, case::request_id, client::with_token, jobs::Asked,
    pages::Pages,
};

/// Two of this agency's pseudonyms that may be one person's.
#[derive(Debug, Clone)]
pub struct MergeSeen {
    /// The one that stands for both once they are merged.
    pub into: Pseudonym,
    pub from: Pseudonym,
    pub status: MergeStatus,
    pub proposed: Time,
    /// `None` while it waits for a person.
    pub decided: Option<Time>,
}

impl Connector {
    /// The pairs that wait for a person to decide, and those that were decided.
    ///
    /// # Errors
    /// [`ConnectorError::Refused`]; [`ConnectorError::Untrustworthy`] if the list is malformed.
    pub async fn list_merges(
        &self,
        status: Option<MergeStatus>,
    ) -> Result<Vec<MergeSeen>, ConnectorError> {
        let mut merges = Vec::new();
        let mut pages = Pages::default();
        loop {
            let request = ListMergesRequest {
                status: status.unwrap_or_default().into(),
                page_size: 0,
                page_token: pages.token(),
            };
            let asked = Asked::of(Server::Gateway, Action::ListMerges, &request);
            let session = self.session()?;
            let request = with_token(request, &session.signer.token()?)?;
            let answer = session.servers.subjects().list_merges(request).await?;
            let answer = answer.into_inner();
            self.keep_receipt(&asked, answer.receipt.as_ref()).await?;
            for merge in &answer.merges {
                let seen = MergeSeen::parse(merge)
                    .ok_or_else(|| ConnectorError::untrustworthy(GATEWAY, "a malformed list"))?;
                self.learn(&seen).await?;
                merges.push(seen);
            }
            if !pages.next(GATEWAY, answer.next_page_token)? {
                return Ok(merges);
            }
        }
    }

    /// Says that two pseudonyms are one person: from now on `into` stands for both.
    ///
    /// # Errors
    /// [`ConnectorError::Refused`] with ACCESS_DENIED if one of them is not this agency's, with
    /// STATE_CONFLICT if one stands for, or is held by, another already.
    pub async fn merge_subjects(
        &self,
        into: Pseudonym,
        from: Pseudonym,
    ) -> Result<Delivery, ConnectorError> {
        let request = MergeSubjectsRequest {
            request_id: request_id()?,
            into: into.to_string(),
            from: from.to_string(),
        };
        let asked = Asked::of(Server::Gateway, Action::MergeSubjects, &request);
        let session = self.session()?;
        let request = with_token(request, &session.signer.token()?)?;
        let answer = session.servers.subjects().merge_subjects(request).await?;
        let receipt = answer.into_inner().receipt;
        let proven = self.keep_receipt(&asked, receipt.as_ref()).await?;
        self.keep.merged(into, from).await?;
        Ok(Delivery {
            entries: vec![(Server::Gateway, proven.index)],
        })
    }

    /// Says that two pseudonyms are two persons: undoes their merge, or declines a proposed one.
    ///
    /// # Errors
    /// [`ConnectorError::Refused`] with ACCESS_DENIED if one of them is not this agency's.
    pub async fn split_subjects(
        &self,
        one: Pseudonym,
        other: Pseudonym,
    ) -> Result<Delivery, ConnectorError> {
        let request = SplitSubjectsRequest {
            request_id: request_id()?,
            one: one.to_string(),
            other: other.to_string(),
        };
        let asked = Asked::of(Server::Gateway, Action::SplitSubjects, &request);
        let session = self.session()?;
        let request = with_token(request, &session.signer.token()?)?;
        let answer = session.servers.subjects().split_subjects(request).await?;
        let receipt = answer.into_inner().receipt;
        let proven = self.keep_receipt(&asked, receipt.as_ref()).await?;
        self.keep.split(one, other).await?;
        Ok(Delivery {
            entries: vec![(Server::Gateway, proven.index)],
        })
    }

    /// What another connector of this agency decided counts for the cases of this one too.
    async fn learn(&self, seen: &MergeSeen) -> Result<(), ConnectorError> {
        match seen.status {
            MergeStatus::Merged => self.keep.merged(seen.into, seen.from).await,
            MergeStatus::Split => self.keep.split(seen.into, seen.from).await,
            MergeStatus::Proposed | MergeStatus::Unspecified => Ok(()),
        }
    }
}

impl MergeSeen {
    fn parse(wire: &Merge) -> Option<Self> {
        let decided = match &wire.decide_time {
            None => None,
            some => Some(Time::parse(some.as_ref()).ok()?),
        };
        Some(Self {
            into: wire.into.parse().ok()?,
            from: wire.from.parse().ok()?,
            status: wire.status(),
            proposed: Time::parse(wire.propose_time.as_ref()).ok()?,
            decided,
        })
    }
}

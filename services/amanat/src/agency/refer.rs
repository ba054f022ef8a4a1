//! `amanat refer`.

use amanat_connector::{Connector, Delivery, NewReferral, ReferralSeen};
use amanat_schema::{
    CaseId, ReferralId,
    policy::Purpose,
    record::{MinorBand, Need, Urgency},
    referral::Direction,
    statement::RejectionReason,
};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    codes::{
        self, minor_band_name, need_name, purpose_name, referral_state_name, rejection_name,
        urgency_name,
    },
    entries,
};
use crate::{CommandError, output::Report};

const SUBMIT: &str = "\
Example:
  amanat --profile DIR refer submit --case CASE --to darul-aman-lahore --purpose SHELTER \\
      --services SAFEHOUSE,LEGAL_AID --urgency URGENT --fields needs.needs,subject.given_name

The recipient sees urgency, services and whether she is a minor; content opens when it accepts.";

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Refers a case to another agency
    #[command(after_help = SUBMIT)]
    Submit(SubmitArgs),
    /// Tells the sender that a referral was seen
    #[command(after_help = "Example:\n  amanat --profile DIR refer acknowledge REFERRAL")]
    Acknowledge {
        #[arg(value_name = "REFERRAL")]
        referral: ReferralId,
    },
    /// Takes the case; its content opens
    #[command(after_help = "Example:\n  amanat --profile DIR refer accept REFERRAL")]
    Accept {
        #[arg(value_name = "REFERRAL")]
        referral: ReferralId,
    },
    /// Declines, with a reason
    #[command(
        after_help = "Example:\n  amanat --profile DIR refer reject REFERRAL --reason NO_CAPACITY"
    )]
    Reject {
        #[arg(value_name = "REFERRAL")]
        referral: ReferralId,
        #[arg(long, value_parser = codes::rejection)]
        reason: RejectionReason,
    },
    /// Lists the referrals that this agency received, or sent
    #[command(
        after_help = "Examples:\n  amanat --profile DIR refer list\n  amanat --profile DIR refer list --direction SENT"
    )]
    List {
        #[arg(long, value_parser = codes::direction, default_value = "RECEIVED")]
        direction: Direction,
    },
}

#[derive(Debug, Args)]
pub(crate) struct SubmitArgs {
    #[arg(long)]
    case: CaseId,
    /// A name of the profile or an id
    #[arg(long, value_name = "AGENCY")]
    to: String,
    #[arg(long, value_parser = codes::purpose)]
    purpose: Purpose,
    /// What the recipient is asked to do, comma-separated
    #[arg(long, required = true, value_delimiter = ',', value_parser = codes::need)]
    services: Vec<Need>,
    #[arg(long, value_parser = codes::urgency, default_value = "ROUTINE")]
    urgency: Urgency,
    #[arg(long, value_parser = codes::minor_band, default_value = "ADULT")]
    minor_band: MinorBand,
    /// The leaf paths that the recipient will need, comma-separated
    #[arg(long, required = true, value_delimiter = ',')]
    fields: Vec<String>,
}

pub(super) async fn run(verb: Verb, connector: &Connector) -> Result<Report, CommandError> {
    match verb {
        Verb::Submit(args) => submit(connector, args).await,
        Verb::Acknowledge { referral } => Ok(moved(
            referral,
            "acknowledged",
            &connector.acknowledge_referral(referral).await?,
        )),
        Verb::Accept { referral } => Ok(moved(
            referral,
            "accepted",
            &connector.accept_referral(referral).await?,
        )),
        Verb::Reject { referral, reason } => Ok(moved(
            referral,
            "rejected",
            &connector.reject_referral(referral, reason).await?,
        )),
        Verb::List { direction } => {
            let referrals = connector.list_referrals(direction).await?;
            let reports = referrals
                .iter()
                .map(|referral| render(connector, referral))
                .collect();
            Ok(Report::list(reports, "no referrals"))
        }
    }
}

async fn submit(connector: &Connector, args: SubmitArgs) -> Result<Report, CommandError> {
    let new = NewReferral {
        case: args.case,
        recipient: connector.agency_named(&args.to)?,
        purpose: args.purpose,
        services: args.services,
        urgency: args.urgency,
        minor_band: args.minor_band,
        paths: args.fields,
    };
    let referred = connector.submit_referral(&new).await?;
    Ok(moved(referred.referral, "submitted", &referred.delivery))
}

fn moved(referral: ReferralId, what: &str, delivery: &Delivery) -> Report {
    let (text, entries) = entries(delivery);
    Report::new(
        format!("referral {referral} {what}\n{text}"),
        json!({ "referral": referral, "state": what.to_uppercase(), "entries": entries }),
    )
}

fn render(connector: &Connector, referral: &ReferralSeen) -> Report {
    let (sender, recipient) = (
        connector.name_of(referral.sender),
        connector.name_of(referral.recipient),
    );
    let services: Vec<_> = referral
        .services
        .iter()
        .map(|need| need_name(*need))
        .collect();
    let (state, urgency) = (
        referral_state_name(referral.state),
        urgency_name(referral.urgency),
    );
    let rejection = referral.rejection.map(rejection_name);
    let shown = rejection.map_or_else(|| state.to_owned(), |why| format!("{state} ({why})"));
    Report::new(
        format!(
            "{}  {shown}  {sender} → {recipient}  {urgency}  {}  {}  case {}  respond by {}",
            referral.referral,
            services.join(","),
            minor_band_name(referral.minor_band),
            referral.case,
            referral.respond_by,
        ),
        json!({
            "referral": referral.referral, "case": referral.case, "sender": sender,
            "recipient": recipient, "state": state, "rejection_reason": rejection, "urgency": urgency, "services": services,
            "minor_band": minor_band_name(referral.minor_band),
            "purpose": purpose_name(referral.purpose), "paths": referral.paths,
            "submit_time": referral.submitted.to_string(),
            "respond_by_time": referral.respond_by.to_string(),
        }),
    )
}

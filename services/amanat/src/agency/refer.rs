//! `amanat refer`.

use amanat_connector::{Changes, Connector, Delivery, NewReferral, ReferralQuery, ReferralSeen};
use amanat_schema::{
    CaseId, ReferralId,
    policy::{Purpose, ReferralState},
    record::{MinorBand, Need, Urgency},
    referral::Direction,
    statement::{ReferralOutcome, RejectionReason},
};
use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    codes::{
        self, minor_band_name, need_name, outcome_name, purpose_name, referral_state_name,
        rejection_name, urgency_name,
    },
    entries,
};
use crate::{CommandError, output::Report};

const SUBMIT: &str = "\
Example:
  amanat --profile DIR refer submit --case CASE --to darul-aman-lahore \\
    --purpose SHELTER --services SAFEHOUSE,LEGAL_AID --urgency URGENT \\
    --fields needs.needs,subject.given_name

The recipient sees urgency, services and whether she is a minor; content opens
when it accepts.";

const RESUBMIT: &str = "\
Examples:
  amanat --profile DIR refer resubmit REFERRAL
  amanat --profile DIR refer resubmit REFERRAL --to ngo-shelter

The closed one stays as it is; the new one names it. What is not given is as
it was.";

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
    /// Begins the service
    #[command(after_help = "Example:\n  amanat --profile DIR refer start REFERRAL")]
    Start {
        #[arg(value_name = "REFERRAL")]
        referral: ReferralId,
    },
    /// Ends the service, with its outcome; content closes
    #[command(
        after_help = "Example:\n  amanat --profile DIR refer complete REFERRAL --outcome SERVICES_PROVIDED"
    )]
    Complete {
        #[arg(value_name = "REFERRAL")]
        referral: ReferralId,
        #[arg(long, value_parser = codes::outcome)]
        outcome: ReferralOutcome,
    },
    /// Takes back a referral that this agency sent; content closes
    #[command(after_help = "Example:\n  amanat --profile DIR refer revoke REFERRAL")]
    Revoke {
        #[arg(value_name = "REFERRAL")]
        referral: ReferralId,
    },
    /// Takes up a closed referral by a new one
    #[command(after_help = RESUBMIT)]
    Resubmit(ResubmitArgs),
    /// Lists the referrals that this agency received, or sent
    #[command(
        after_help = "Examples:\n  amanat --profile DIR refer list\n  amanat --profile DIR refer list --sent --overdue"
    )]
    List(ListArgs),
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// What other agencies sent; so it is if nothing else is asked for
    #[arg(long, conflicts_with = "sent")]
    received: bool,
    /// What this agency sent
    #[arg(long)]
    sent: bool,
    #[arg(long, value_parser = codes::referral_state)]
    state: Option<ReferralState>,
    #[arg(long)]
    case: Option<CaseId>,
    /// Only what should have been answered by now and was not
    #[arg(long)]
    overdue: bool,
    /// At most this many, oldest first; otherwise all
    #[arg(long)]
    limit: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct ResubmitArgs {
    #[arg(value_name = "REFERRAL")]
    referral: ReferralId,
    /// Another recipient: a name of the profile or an id
    #[arg(long, value_name = "AGENCY")]
    to: Option<String>,
    /// Another purpose
    #[arg(long, value_parser = codes::purpose)]
    purpose: Option<Purpose>,
    /// Other services, comma-separated
    #[arg(long, value_delimiter = ',', value_parser = codes::need)]
    services: Option<Vec<Need>>,
    /// Another urgency
    #[arg(long, value_parser = codes::urgency)]
    urgency: Option<Urgency>,
    /// Other leaf paths, comma-separated
    #[arg(long, value_delimiter = ',')]
    fields: Option<Vec<String>>,
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
        Verb::Start { referral } => Ok(moved(
            referral,
            "in service",
            &connector.start_service(referral).await?,
        )),
        Verb::Complete { referral, outcome } => Ok(moved(
            referral,
            "completed",
            &connector.complete_referral(referral, outcome).await?,
        )),
        Verb::Revoke { referral } => Ok(moved(
            referral,
            "revoked",
            &connector.revoke_referral(referral).await?,
        )),
        Verb::Resubmit(args) => resubmit(connector, args).await,
        Verb::List(args) => list(connector, args).await,
    }
}

async fn resubmit(connector: &Connector, args: ResubmitArgs) -> Result<Report, CommandError> {
    let to = args.to.map(|name| connector.agency_named(&name));
    let changes = Changes {
        recipient: to.transpose()?,
        purpose: args.purpose,
        services: args.services,
        urgency: args.urgency,
        paths: args.fields,
    };
    let referred = connector.resubmit_referral(args.referral, &changes).await?;
    let report = moved(referred.referral, "submitted", &referred.delivery);
    if referred.also_open.is_empty() {
        return Ok(report);
    }
    let open: Vec<_> = referred
        .also_open
        .iter()
        .map(ReferralId::to_string)
        .collect();
    let text = format!(
        "another that takes the same one up is still open: {}",
        open.join(", ")
    );
    Ok(report.with(&text, "also_open", json!(referred.also_open)))
}

async fn list(connector: &Connector, args: ListArgs) -> Result<Report, CommandError> {
    let query = ReferralQuery {
        direction: if args.sent && !args.received {
            Direction::Sent
        } else {
            Direction::Received
        },
        state: args.state,
        case: args.case,
        overdue: args.overdue,
        limit: args.limit,
    };
    let referrals = connector.list_referrals(query).await?;
    let reports = referrals
        .iter()
        .map(|referral| render(connector, referral))
        .collect();
    Ok(Report::list(reports, "no referrals"))
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
        json!({ "referral": referral, "state": what.to_uppercase().replace(' ', "_"), "entries": entries }),
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
    let outcome = referral.outcome.map(outcome_name);
    let mut shown = state.to_owned();
    if let Some(how) = rejection.or(outcome) {
        shown.push_str(&format!(" ({how})"));
    }
    if !referral.verified || referral.steps.iter().any(|step| !step.verified) {
        shown.push_str(" (signed with a key that the directory does not list: not verified)");
    }
    let link = referral
        .previous
        .map_or_else(String::new, |previous| format!("  takes up {previous}"));
    let steps: Vec<_> = referral
        .steps
        .iter()
        .map(|step| {
            json!({
                "agency": connector.name_of(step.agency),
                "to_state": referral_state_name(step.to_state),
                "signed_time": step.signed.to_string(), "verified": step.verified,
            })
        })
        .collect();
    Report::new(
        format!(
            "{}  {shown}  {sender} → {recipient}  {urgency}  {}  {}  case {}  respond by {}{link}",
            referral.referral,
            services.join(","),
            minor_band_name(referral.minor_band),
            referral.case,
            referral.respond_by,
        ),
        json!({
            "referral": referral.referral, "case": referral.case, "sender": sender,
            "recipient": recipient, "state": state, "rejection_reason": rejection,
            "outcome": outcome, "previous_referral": referral.previous, "steps": steps,
            "verified": referral.verified, "urgency": urgency, "services": services,
            "minor_band": minor_band_name(referral.minor_band),
            "purpose": purpose_name(referral.purpose), "paths": referral.paths,
            "submit_time": referral.submitted.to_string(),
            "respond_by_time": referral.respond_by.to_string(),
        }),
    )
}

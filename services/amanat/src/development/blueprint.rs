//! Which agencies a development exchange has.

use amanat_schema::{
    policy::{AgencyKind, Right},
    record::{Need, Province},
};

/// What [`make`](super::make) makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blueprint {
    /// The exchange's name and SPIFFE trust domain, in the form of a host name.
    pub exchange_id: String,
    pub agencies: Vec<AgencyPlan>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgencyPlan {
    /// Lower-case letters, digits and hyphens: names the agency's folder and is how agencies call each
    /// other. Different for each.
    pub name: String,
    pub kind: AgencyKind,
    pub province: Province,
    /// Empty for shelters: the directory never shows where one is.
    pub display_name: String,
    /// What it can be referred to for.
    pub services: Vec<Need>,
}

impl Blueprint {
    /// Police, the FIA's circle, prosecution, two shelters and the oversight desk around Lahore; police and
    /// prosecution in Karachi.
    pub fn pilot() -> Self {
        use AgencyKind::{
            DarulAman, FiaAhtc, NgoShelter, Oversight, Prosecution, ProvincialPolice,
        };
        use Need::{
            Interpretation, LegalAid, Livelihood, Medical, Psychosocial, Repatriation, Safehouse,
        };
        let agency = |name: &str, kind, display_name: &str, services: &[Need]| AgencyPlan {
            name: name.to_owned(),
            kind,
            province: if name.ends_with("karachi") {
                Province::Sindh
            } else {
                Province::Punjab
            },
            display_name: display_name.to_owned(),
            services: services.to_vec(),
        };
        Self {
            exchange_id: "pilot.amanat.example".to_owned(),
            agencies: vec![
                agency(
                    "police-lahore",
                    ProvincialPolice,
                    "Police, Lahore",
                    &[LegalAid, Interpretation],
                ),
                agency(
                    "fia-ahtc-lahore",
                    FiaAhtc,
                    "FIA Anti-Human Trafficking Circle, Lahore",
                    &[LegalAid, Interpretation, Repatriation],
                ),
                agency(
                    "prosecution-lahore",
                    Prosecution,
                    "Prosecution, Lahore",
                    &[LegalAid],
                ),
                agency(
                    "darul-aman-lahore",
                    DarulAman,
                    "",
                    &[Safehouse, Medical, Psychosocial, LegalAid],
                ),
                agency(
                    "ngo-shelter",
                    NgoShelter,
                    "",
                    &[
                        Safehouse,
                        Medical,
                        Psychosocial,
                        LegalAid,
                        Livelihood,
                        Interpretation,
                    ],
                ),
                agency(
                    "police-karachi",
                    ProvincialPolice,
                    "Police, Karachi",
                    &[LegalAid, Interpretation],
                ),
                agency(
                    "prosecution-karachi",
                    Prosecution,
                    "Prosecution, Karachi",
                    &[LegalAid],
                ),
                agency("oversight", Oversight, "Commission oversight desk", &[]),
            ],
        }
    }
}

impl AgencyPlan {
    /// What its second development officer may do: work on cases, and decide nothing.
    pub(super) fn junior_rights(&self) -> &'static [Right] {
        if self.kind == AgencyKind::Oversight {
            &[Right::Auditor]
        } else {
            &[Right::CaseWorker]
        }
    }

    /// What its first development officer may do.
    pub(super) fn rights(&self) -> &'static [Right] {
        if self.kind == AgencyKind::Oversight {
            &[Right::Auditor]
        } else {
            &[
                Right::CaseWorker,
                Right::Accepter,
                Right::Supervisor,
                Right::EvidenceOfficer,
            ]
        }
    }
}

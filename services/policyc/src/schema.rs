//! The Cedar schema beside the rules: it must list the domain and nothing else.

use amanat_schema::{
    catalogue::FieldGroup,
    policy::{AgencyKind, Purpose},
};
use cedar_policy::{Schema, SchemaFragment};

use crate::domain::{FACTS, Named};

pub const SCHEMA: &str = "schema.cedarschema";

/// # Errors
/// A text that is no schema, or another one: a rule could speak of what no request ever holds, and would be
/// read as if it had an effect.
pub(crate) fn parse(text: &str) -> Result<Schema, String> {
    let parse = |text: &str| {
        let (fragment, _) =
            SchemaFragment::from_cedarschema_str(text).map_err(|error| error.to_string())?;
        let json = fragment.clone().to_json_value();
        json.map(|json| (fragment, json))
            .map_err(|error| error.to_string())
    };
    let expected = domain();
    let (fragment, stated) = parse(text)?;
    if stated != parse(&expected)?.1 {
        return Err(format!(
            "this is not the domain that tables are compiled over, which is:\n{expected}"
        ));
    }
    Schema::from_schema_fragments([fragment]).map_err(|error| error.to_string())
}

/// What the schema must say, comments and layout aside.
fn domain() -> String {
    let facts: Vec<_> = FACTS
        .iter()
        .map(|(name, _)| format!("  {name}: Bool"))
        .collect();
    format!(
        "entity AgencyKind enum [{}];\nentity FieldGroup enum [{}];\ntype Circumstances = {{\n{}\n}};\n\
         action {} appliesTo {{ principal: AgencyKind, resource: FieldGroup, context: Circumstances }};\n",
        quoted::<AgencyKind>(),
        quoted::<FieldGroup>(),
        facts.join(",\n"),
        quoted::<Purpose>(),
    )
}

fn quoted<T: Named>() -> String {
    let names: Vec<_> = T::every()
        .map(|code| format!("\"{}\"", code.name()))
        .collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_that_lists_another_domain_is_refused() {
        let domain = domain();
        assert!(parse(&domain).is_ok());
        for (from, to) in [
            ("\"LABOUR\"", "\"LABOUR\", \"ARMY\""),
            ("\"LABOUR\", ", ""),
            ("\"REPATRIATION\"", "\"DEPORTATION\""),
            (
                "break_glass_open: Bool",
                "break_glass_open: Bool, it_is_raining: Bool",
            ),
            ("break_glass_open: Bool", "break_glass_open: Long"),
            ("break_glass_open: Bool", "break_glass_open?: Bool"),
        ] {
            let other = domain.replacen(from, to, 1);
            assert_ne!(other, domain, "{from} is not there");
            let fault = parse(&other).unwrap_err();
            assert!(fault.contains("not the domain"), "{to}: {fault}");
        }
        assert!(parse("entity").is_err());
    }
}

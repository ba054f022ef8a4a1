//! The wire form of every message, code and call, compared with the listing that is checked in: a number
//! is never given a second meaning, and a field never changes its type, its class or its size unnoticed.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, its helpers too"
)]

use std::{collections::BTreeMap, env, fs};

use amanat_schema::catalogue::FIELDS;
use prost_reflect::{
    DescriptorPool, EnumDescriptor, FieldDescriptor, MessageDescriptor, MethodDescriptor,
    ServiceDescriptor, Value,
};

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/wire.txt");

fn pool() -> DescriptorPool {
    let descriptors = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
    DescriptorPool::decode(&descriptors[..]).unwrap()
}

/// Not one that google.protobuf defines.
fn is_ours(name: &str) -> bool {
    name.starts_with("amanat.")
}

/// One line a field, a code and a call.
fn listing(pool: &DescriptorPool) -> String {
    let messages = pool.all_messages().map(|found| message(&found));
    let enums = pool.all_enums().map(|found| codes(&found));
    let services = pool.services().map(|found| calls(&found));
    let mut blocks: Vec<String> = messages.chain(enums).chain(services).collect();
    blocks.retain(|block| is_ours(block));
    blocks.sort();
    blocks.concat()
}

fn message(message: &MessageDescriptor) -> String {
    let mut fields: Vec<_> = message.fields().collect();
    fields.sort_by_key(FieldDescriptor::number);
    fields.iter().map(field).collect()
}

fn field(field: &FieldDescriptor) -> String {
    let label = if field.is_list() {
        "repeated"
    } else if field.supports_presence() {
        "optional"
    } else {
        "plain"
    };
    // Prints as `string` or as the name of a message or an enum.
    let kind = format!("{:?}", field.kind());
    let annotations = annotations(field).concat();
    format!(
        "{} {} {kind} {label}{annotations}\n",
        field.full_name(),
        field.number()
    )
}

/// Class, group, size, whether derived, and format, each after a space; nothing outside the record.
fn annotations(field: &FieldDescriptor) -> Vec<String> {
    let options = field.options();
    let pool = field.parent_pool();
    let extension = |name| pool.get_extension_by_name(name).unwrap();
    let (privacy, format) = (
        extension("amanat.record.v1.privacy"),
        extension("amanat.record.v1.format"),
    );
    let mut words = Vec::new();
    if options.has_extension(&privacy) {
        let privacy = options.get_extension(&privacy);
        for (option, value) in privacy.as_message().unwrap().fields() {
            words.push(match option.kind().as_enum() {
                Some(codes) => code_name(codes, value),
                None => format!(" {}", option.name()),
            });
        }
    }
    if options.has_extension(&format) {
        let value = options.get_extension(&format);
        words.push(code_name(format.kind().as_enum().unwrap(), &value));
    }
    words
}

fn code_name(codes: &EnumDescriptor, value: &Value) -> String {
    let code = codes.get_value(value.as_enum_number().unwrap()).unwrap();
    format!(" {}", code.name())
}

fn codes(codes: &EnumDescriptor) -> String {
    let mut values: Vec<_> = codes.values().collect();
    values.sort_by_key(|value| value.number());
    values
        .iter()
        .map(|value| {
            format!(
                "{}.{} {}\n",
                codes.full_name(),
                value.name(),
                value.number()
            )
        })
        .collect()
}

fn calls(service: &ServiceDescriptor) -> String {
    let stream = |streams| if streams { "stream " } else { "" };
    service
        .methods()
        .map(|call| {
            format!(
                "{} {}{} -> {}{}\n",
                call.full_name(),
                stream(call.is_client_streaming()),
                call.input().full_name(),
                stream(call.is_server_streaming()),
                call.output().full_name(),
            )
        })
        .collect()
}

#[test]
fn the_wire_form_is_the_one_checked_in() {
    let now = listing(&pool());
    if env::var_os("AMANAT_BLESS").is_some() {
        fs::write(GOLDEN, &now).unwrap();
    }
    let golden = fs::read_to_string(GOLDEN).unwrap();
    let gone = golden
        .lines()
        .filter(|line| !now.lines().any(|other| other == *line));
    let new = now
        .lines()
        .filter(|line| !golden.lines().any(|other| other == *line));
    let changes: Vec<_> = gone
        .map(|line| format!("- {line}"))
        .chain(new.map(|line| format!("+ {line}")))
        .collect();
    assert!(
        golden == now,
        "a line that goes breaks what is sealed and signed already; if a change is meant, run this test with \
         AMANAT_BLESS=1\n{}",
        changes.join("\n"),
    );
}

#[test]
fn the_catalogue_stands_in_the_order_of_its_ids() {
    assert!(FIELDS.is_sorted_by_key(|field| field.id));
    for field in FIELDS {
        assert_eq!(
            amanat_schema::catalogue::FieldId::parse(field.id.number()),
            Some(field.id)
        );
        assert_eq!(field.id.field().path, field.path);
    }
}

/// Which calls leave an entry on the log, and how they fail, is part of the contract.
#[test]
fn every_call_says_whether_it_is_audited_and_with_what_reasons_it_fails() {
    let comments = comments(&pool());
    assert!(!comments.is_empty());
    for (call, comment) in comments {
        let comment = comment.to_lowercase();
        assert!(
            comment.contains("audited: ") || comment.contains("not audited"),
            "{call}: {comment}"
        );
        assert!(
            comment.contains("reasons: ") || comment.contains("reasons as above"),
            "{call}: {comment}"
        );
    }
}

/// The comment of each call, as one line.
fn comments(pool: &DescriptorPool) -> BTreeMap<String, String> {
    let services = pool
        .services()
        .filter(|service| is_ours(service.full_name()));
    let calls: Vec<_> = services
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .collect();
    let comment = |call: &MethodDescriptor| {
        let file = call.parent_service().parent_file_descriptor_proto();
        let mut locations = file.source_code_info.iter().flat_map(|info| &info.location);
        let location = locations.find(|location| location.path == call.path())?;
        Some(
            location
                .leading_comments()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" "),
        )
    };
    calls
        .iter()
        .map(|call| {
            (
                call.full_name().to_owned(),
                comment(call).unwrap_or_default(),
            )
        })
        .collect()
}

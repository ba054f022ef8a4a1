//! Compiles proto/ without protoc and writes the field catalogue as constants.
//!
//! Fails, naming the field, when a leaf of the shared record has no class, group or size: the schema is
//! the privacy catalogue, and an unclassified field must never reach a running service.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use prost_reflect::{
    Cardinality, DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind,
    MessageDescriptor, ReflectMessage as _, Value,
};

const PROTO_ROOT: &str = "../../proto";
const RECORD: &str = "amanat.record.v1.CaseRecord";
/// Compiled for its descriptors only: a Rust struct full of personal values, with `Debug`, is what
/// nothing here needs.
const RECORD_FILE: &str = "amanat/record/v1/record.proto";
/// Messages that carry a key, a token, a pseudonym or an opening; `sensitive.rs` gives them a `Debug` that says so.
const NO_DEBUG: [&str; 11] = [
    "amanat.audit.v1.Opening",
    "amanat.key.v1.DepositKeyRequest",
    "amanat.key.v1.FieldKey",
    "amanat.statement.v1.Statement",
    "amanat.subject.v1.EpochToken",
    "amanat.subject.v1.FindSubjectRequest",
    "amanat.subject.v1.FindSubjectResponse",
    "amanat.subject.v1.Merge",
    "amanat.subject.v1.MergeSubjectsRequest",
    "amanat.subject.v1.PlantCanaryRequest",
    "amanat.subject.v1.SplitSubjectsRequest",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={PROTO_ROOT}");
    let mut files = Vec::new();
    proto_files(Path::new(PROTO_ROOT), &mut files)?;
    files.sort();

    let mut compiler = protox::Compiler::new([PROTO_ROOT])?;
    compiler.include_imports(true).include_source_info(true);
    compiler.open_files(&files)?;

    let out = PathBuf::from(env::var("OUT_DIR")?);
    let encoded = compiler.encode_file_descriptor_set();
    // With comments; the tests read them.
    fs::write(out.join("descriptors.bin"), &encoded)?;
    // Without them; what two builds compare, for a comment changes nothing that is exchanged.
    let mut bare = protox::Compiler::new([PROTO_ROOT])?;
    bare.include_imports(true).include_source_info(false);
    bare.open_files(&files)?;
    fs::write(out.join("schema.bin"), bare.encode_file_descriptor_set())?;
    let pool = DescriptorPool::decode(encoded.as_slice())?;
    fs::write(out.join("catalogue.rs"), catalogue(&pool)?)?;
    fs::write(out.join("methods.rs"), methods(&pool)?)?;

    let mut set = compiler.file_descriptor_set();
    set.file.retain(|file| file.name() != RECORD_FILE);
    let mut config = tonic_prost_build::Config::new();
    config
        .skip_debug(NO_DEBUG)
        .enable_type_names()
        // Handed on as it lies in memory, from the store to the wire.
        .bytes([".amanat.record.v1.SealedSlot.ciphertext"]);
    tonic_prost_build::configure()
        .include_file("services.rs")
        .compile_fds_with_config(set, config)?;
    Ok(())
}

fn proto_files(dir: &Path, files: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            proto_files(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    Ok(())
}

/// The paths of all methods, in their order.
fn methods(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let mut paths: Vec<_> = pool
        .services()
        .flat_map(|service| service.methods().collect::<Vec<_>>())
        .map(|method| format!("/{}/{}", method.parent_service().full_name(), method.name()))
        .collect();
    paths.sort();
    let mut table = format!("pub const METHODS: [&str; {}] = [\n", paths.len());
    for path in &paths {
        writeln!(table, "    {path:?},")?;
    }
    table.push_str("];\n");
    Ok(table)
}

/// The catalogue as a Rust table, one entry a leaf, in the order of section and field numbers.
fn catalogue(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let record = pool
        .get_message_by_name(RECORD)
        .ok_or_else(|| format!("{RECORD} is not in proto/"))?;
    let mut entries = String::new();
    let mut problems = Vec::new();
    for section in record.fields() {
        let Kind::Message(message) = section.kind() else {
            problems.push(format!("{} is not a section", section.full_name()));
            continue;
        };
        for field in message.fields() {
            match entry(&section, &field) {
                Ok(text) => entries.push_str(&text),
                Err(why) => problems.push(format!("{}: {why}", field.full_name())),
            }
        }
    }
    if !problems.is_empty() {
        return Err(format!(
            "the field catalogue is incomplete:\n  {}",
            problems.join("\n  ")
        )
        .into());
    }
    Ok(format!("&[\n{entries}]"))
}

fn entry(section: &FieldDescriptor, field: &FieldDescriptor) -> Result<String, String> {
    if section.number() > 99 || field.number() > 99 {
        return Err("section and field numbers above 99 do not fit a field id".into());
    }
    let options = field.options();
    let privacy = option(&options, "amanat.record.v1.privacy")
        .and_then(|value| value.as_message().cloned())
        .ok_or("carries no (privacy) option")?;
    let class = enum_option(&privacy, "class")?;
    let group = enum_option(&privacy, "group")?;
    let size = enum_option(&privacy, "size")?;
    let derived = privacy
        .get_field_by_name("derived")
        .and_then(|value| value.as_bool())
        .unwrap_or(false);
    let format = option(&options, "amanat.record.v1.format")
        .and_then(|value| value.as_enum_number())
        .unwrap_or(0);
    let mut text = String::new();
    writeln!(
        text,
        "Field {{ id: FieldId({id}), path: {path:?}, section: {section:?}, name: {name:?}, \
         class: {class}, group: {group}, size: {size}, format: {format}, derived: {derived}, \
         repeated: {repeated}, column: {column}, value: {value} }},",
        id = section.number() * 100 + field.number(),
        path = format!("{}.{}", section.name(), field.name()),
        section = section.name(),
        name = field.name(),
        class = variant("FieldClass", "FIELD_CLASS_", &privacy, "class", class),
        group = variant("FieldGroup", "FIELD_GROUP_", &privacy, "group", group),
        size = variant("SizeClass", "SIZE_CLASS_", &privacy, "size", size),
        format = format_variant(field, format),
        repeated = field.cardinality() == Cardinality::Repeated,
        column = section.cardinality() == Cardinality::Repeated,
        value = value(field)?,
    )
    .map_err(|e| e.to_string())?;
    Ok(text)
}

fn option(options: &DynamicMessage, name: &str) -> Option<Value> {
    let extension = options
        .descriptor()
        .parent_pool()
        .get_extension_by_name(name)?;
    options
        .has_extension(&extension)
        .then(|| options.get_extension(&extension).into_owned())
}

fn enum_option(privacy: &DynamicMessage, name: &str) -> Result<i32, String> {
    match privacy
        .get_field_by_name(name)
        .and_then(|v| v.as_enum_number())
    {
        Some(number) if number != 0 => Ok(number),
        _ => Err(format!("(privacy).{name} is not set")),
    }
}

fn variant(rust: &str, prefix: &str, message: &DynamicMessage, field: &str, number: i32) -> String {
    let Some(Kind::Enum(kind)) = message
        .descriptor()
        .get_field_by_name(field)
        .map(|f| f.kind())
    else {
        return String::new();
    };
    format!("{rust}::{}", camel(&code_name(&kind, number, prefix)))
}

fn format_variant(field: &FieldDescriptor, number: i32) -> String {
    let name = field
        .parent_pool()
        .get_enum_by_name("amanat.record.v1.FieldFormat")
        .map(|kind| code_name(&kind, number, "FIELD_FORMAT_"))
        .unwrap_or_default();
    format!("FieldFormat::{}", camel(&name))
}

fn code_name(kind: &EnumDescriptor, number: i32, prefix: &str) -> String {
    kind.get_value(number)
        .map(|value| value.name().trim_start_matches(prefix).to_owned())
        .unwrap_or_default()
}

fn camel(upper: &str) -> String {
    upper
        .split('_')
        .map(|word| {
            let mut letters = word.chars();
            let first = letters.next().map(|c| c.to_ascii_uppercase());
            first
                .into_iter()
                .chain(letters.map(|c| c.to_ascii_lowercase()))
                .collect::<String>()
        })
        .collect()
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "every kind but these is refused, at build time and by name"
)]
fn value(field: &FieldDescriptor) -> Result<String, String> {
    Ok(match field.kind() {
        Kind::String => "Value::Text".into(),
        Kind::Bool => "Value::Bool".into(),
        Kind::Uint32 => "Value::Uint".into(),
        Kind::Enum(kind) => format!("Value::Code(&[{}])", codes(&kind)),
        Kind::Message(message) => format!("Value::Group(&[{}])", members(&message)?),
        other => {
            return Err(format!(
                "values of kind {other:?} have no place in a case file"
            ));
        }
    })
}

fn members(message: &MessageDescriptor) -> Result<String, String> {
    let mut text = String::new();
    for field in message.fields() {
        if field.cardinality() == Cardinality::Repeated {
            return Err(format!("{} is repeated inside a leaf", field.full_name()));
        }
        let value = value(&field)?;
        write!(
            text,
            "Member {{ number: {}, name: {:?}, value: {value} }}, ",
            field.number(),
            field.name()
        )
        .map_err(|e| e.to_string())?;
    }
    Ok(text)
}

/// (number, name without the enum's prefix), UNSPECIFIED left out.
fn codes(kind: &EnumDescriptor) -> String {
    let zero = kind
        .get_value(0)
        .map(|v| v.name().to_owned())
        .unwrap_or_default();
    let prefix = zero.trim_end_matches("UNSPECIFIED").to_owned();
    kind.values()
        .filter(|value| value.number() != 0)
        .map(|value| {
            format!(
                "({}, {:?}), ",
                value.number(),
                value.name().trim_start_matches(&prefix)
            )
        })
        .collect()
}

//! What a user would pick instead of an exchange: one PostgreSQL that all agencies reach by TLS with client
//! certificates, with row-level security, pgaudit's log, and fields that pgcrypto encrypts. The same record as the
//! exchange's: as many protected fields of the same lengths, and as many bytes in a submission and in a read.

mod pgbench;
mod server;

use std::time::Duration;

use amanat_schema::{
    catalogue::FieldId,
    record::{PutRecordRequest, ReadRecordResponse, SealedFields},
};
use prost::Message as _;

use crate::{
    alternative::{
        pgbench::Script,
        server::{READER, SOURCE, Server},
    },
    disk,
    report::Row,
};

/// They stay in memory, as the exchange's do.
const RECORDS: usize = 1_000;
/// What nonce and tag add to a field's padded value.
const SEAL: usize = 28;

/// How a field is encrypted.
struct Variant {
    name: &'static str,
    functions: &'static str,
}

const VARIANTS: [Variant; 3] = [
    Variant {
        name: "pgcrypto raw encrypt",
        functions: include_str!("alternative/raw.sql"),
    },
    Variant {
        name: "pgp_sym_encrypt s2k-mode=1",
        functions: include_str!("alternative/pgp_s2k_1.sql"),
    },
    Variant {
        name: "pgp_sym_encrypt by default",
        functions: include_str!("alternative/pgp.sql"),
    },
];

/// The exchange's own record.
pub(crate) struct Record {
    /// Those that it seals, with the lengths of their padded values.
    fields: Vec<(String, usize)>,
    /// What a read opens.
    released: Vec<(String, usize)>,
    submitted: usize,
    read: usize,
}

impl Record {
    /// Of which these are a submission and a read.
    pub(crate) fn of(put: &PutRecordRequest, read: &ReadRecordResponse) -> Self {
        Self {
            fields: columns(put.sealed.as_ref().unwrap()),
            released: columns(read.sealed.as_ref().unwrap()),
            submitted: put.encoded_len(),
            read: read.encoded_len(),
        }
    }

    fn description(&self) -> String {
        let Self {
            fields,
            released,
            submitted,
            read,
        } = self;
        let (sealed, opened) = (fields.len(), released.len());
        format!(
            "{sealed} protected fields, {submitted} B a submission; {opened} released, {read} B a read"
        )
    }

    /// The parameters of a submission: every field, and what else the exchange's messages carry.
    fn variables(&self) -> Vec<(String, String)> {
        let header = self.read - length(&self.released);
        let proofs = self.submitted - header - length(&self.fields);
        let others = [("header".to_owned(), header), ("proofs".to_owned(), proofs)];
        let all = self.fields.iter().cloned().chain(others);
        all.map(|(name, length)| (name, "x".repeat(length)))
            .collect()
    }

    /// With the columns that the record has.
    fn fill(&self, template: &str) -> String {
        let list = |columns: &[(String, usize)], one: fn(&str) -> String| {
            let each: Vec<String> = columns.iter().map(|(name, _)| one(name)).collect();
            each.join(", ")
        };
        let columns = list(&self.fields, |name| format!("{name} bytea NOT NULL"));
        let opened = list(&self.released, |name| format!("open({name}) AS {name}"));
        template
            .replace("{columns}", &columns)
            .replace("{fields}", &list(&self.fields, str::to_owned))
            .replace(
                "{sealed}",
                &list(&self.fields, |name| format!("seal(:{name})")),
            )
            .replace("{released}", &list(&self.released, str::to_owned))
            .replace("{opened}", &opened)
            .replace("{records}", &RECORDS.to_string())
    }
}

fn columns(sealed: &SealedFields) -> Vec<(String, usize)> {
    let slots = sealed.slots.iter().map(|slot| {
        let field = FieldId::parse(slot.field).unwrap().field();
        (field.path.replace('.', "_"), slot.ciphertext.len() - SEAL)
    });
    slots.collect()
}

fn length(columns: &[(String, usize)]) -> usize {
    columns.iter().map(|(_, length)| length).sum()
}

/// What was measured, and on what.
pub(crate) struct Alternative {
    pub(crate) rows: Vec<Row>,
    pub(crate) description: String,
}

/// # Errors
/// What is not installed.
pub(crate) fn measure(
    record: &Record,
    in_flight: &[usize],
    longest: Duration,
) -> Result<Alternative, String> {
    let server = Server::start()?;
    let mut bench = Bench {
        server: &server,
        record,
        in_flight,
        longest,
        rows: Vec::new(),
    };
    for variant in &VARIANTS {
        bench.variant(variant);
    }
    bench.commits(1);
    bench.commits(disk::MANY);
    Ok(Alternative {
        rows: bench.rows,
        description: format!("PostgreSQL {}, {}", server.version(), record.description()),
    })
}

struct Bench<'a> {
    server: &'a Server,
    record: &'a Record,
    in_flight: &'a [usize],
    longest: Duration,
    rows: Vec<Row>,
}

impl Bench<'_> {
    /// The reads first: they do not wait then for what becomes of the inserts behind them.
    fn variant(&mut self, variant: &Variant) {
        let (server, record) = (self.server, self.record);
        let (insert, read) = (
            record.fill(include_str!("alternative/insert.sql")),
            record.fill(include_str!("alternative/read.sql")),
        );
        let insert = Script {
            agency: SOURCE,
            sql: &insert,
            variables: &record.variables(),
        };
        let read = Script {
            agency: READER,
            sql: &read,
            variables: &[],
        };
        self.preload(variant, &insert);
        let log = server.log_length();
        let reads = self.cells(&format!("{}, read", variant.name), &read);
        let inserts = self.cells(&format!("{}, insert", variant.name), &insert);
        assert_eq!(server.audited(log, READER, "READ,SELECT"), reads);
        assert_eq!(server.audited(log, SOURCE, "WRITE,INSERT"), inserts);
        let count = "SELECT count(id) FROM record";
        assert_eq!(server.run(count), (RECORDS + inserts).to_string());
        // Nobody consented to the others.
        assert_eq!(server.run_as(READER, count), RECORDS.to_string());
    }

    fn preload(&self, variant: &Variant, insert: &Script<'_>) {
        let (server, record) = (self.server, self.record);
        server.run(&record.fill(include_str!("alternative/record.sql")));
        server.run(variant.functions);
        insert.once(server);
        server.run(&record.fill(include_str!("alternative/preload.sql")));
        for alone in [
            "VACUUM ANALYZE record",
            "VACUUM ANALYZE consent",
            "CHECKPOINT",
        ] {
            server.run(alone);
        }
        let tls = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid() AND client_dn = '/CN=shelter'";
        assert_eq!(server.run_as(READER, tls), "TLSv1.3");
        let carried = "SELECT sum(length(value)) FROM \
            (SELECT header, {opened} FROM record WHERE id = 1) AS answer, jsonb_each_text(to_jsonb(answer))";
        let carried = server.run_as(READER, &record.fill(carried));
        assert_eq!(carried, record.read.to_string());
    }

    /// As the exchange's log alone would have it: rows in one statement, which is a transaction.
    fn commits(&mut self, rows: usize) {
        self.server.run(include_str!("alternative/bare.sql"));
        let row = format!(r"\\x{}", hex::encode(disk::ROW));
        let bodies = format!(r#"{{"{}"}}"#, vec![row; rows].join(r#"",""#));
        let script = Script {
            agency: SOURCE,
            sql: include_str!("alternative/commit.sql"),
            variables: &[("bodies".to_owned(), bodies)],
        };
        let commits = self.cells(&format!("PostgreSQL alone, commits of {rows}"), &script);
        let stored = self.server.run("SELECT count(*) FROM bare");
        assert_eq!(stored, (commits * rows).to_string());
    }

    /// One for each number in flight; how many calls there were in all.
    fn cells(&mut self, name: &str, script: &Script<'_>) -> usize {
        let mut calls = 0;
        for &in_flight in self.in_flight {
            eprint!("{name}, {in_flight} in flight: ");
            let run = script.run(self.server, in_flight, self.longest);
            eprintln!("{:.0}/s", run.measured.rate());
            self.rows.push(Row::new(name, in_flight, &run.measured));
            calls += run.calls;
        }
        calls
    }
}

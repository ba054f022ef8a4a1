//! How the engines look things up: by an index, however large a table is.

use amanat_database::Column::Bytes;
use amanat_desk::Page;
use amanat_schema::referral::Direction;

use super::*;
use record::ListVersions;

/// Rows of each table that grows, of twenty agencies; what is signed has its usual size.
const FILL: &str = "
    CREATE FUNCTION id(kind text, n bigint) RETURNS bytea LANGUAGE sql IMMUTABLE
        AS $$ SELECT decode(md5(kind || n), 'hex') $$;
    CREATE FUNCTION signed(n bigint) RETURNS bytea LANGUAGE sql IMMUTABLE
        AS $$ SELECT decode(repeat(md5('signed' || n), 64), 'hex') $$;
    CREATE VIEW numbers AS SELECT n FROM generate_series(0, 9999) AS n;
    INSERT INTO records (case_id, record_id, version, source, header, header_sha256, sealed, routing, put_time)
        SELECT id('case', n / 4), id('record', n / 3), n % 3 + 1, id('agency', n % 20), signed(n), '', '', '', 0
        FROM numbers;
    INSERT INTO referrals (referral_id, case_id, sender, recipient, submission, payload_sha256, state,
            last_sha256, submit_time, respond_by_time)
        SELECT id('referral', n), id('case', n / 4), id('agency', n % 20), id('agency', n % 19), signed(n), '',
            n % 8 + 1, '', 0, 0
        FROM numbers;
    INSERT INTO referral_steps (referral_id, sender, envelope)
        SELECT id('referral', n), id('agency', n % 20), signed(n) FROM numbers;
    INSERT INTO subjects (subject_id, agency, key_version, pseudonym, make_time)
        SELECT id('subject', n), id('agency', n % 20), 1, id('pseudonym', n), 0 FROM numbers;
    INSERT INTO identifiers (agency, stored, type, epoch, subject_id)
        SELECT id('agency', n % 20), sha256(id('stored', n)), 1, 1, id('subject', n / 2) FROM numbers;
    INSERT INTO aliases (agency, from_subject, into_subject, merge_time, split_time)
        SELECT id('agency', n % 20), id('subject', n), id('subject', n + 1), 0, nullif(n % 3, 0) FROM numbers;
    INSERT INTO merges (agency, into_subject, from_subject, status, propose_time)
        SELECT id('agency', n % 20), id('subject', n), id('subject', n + 1), 1, 0 FROM numbers;
    INSERT INTO canaries (stored, domain, epoch, label, planter, plant_time)
        SELECT sha256(id('canary', n)), 1, 1, 'plant', '', 0 FROM numbers;
    INSERT INTO canary_hits (label, agency, officer_handle, hit_time, alarm_time)
        SELECT 'plant', id('agency', n % 20), '', 0, nullif(n, 7) FROM numbers";
/// What others' versions they open.
const REFERRED: &str = "
    INSERT INTO referred_versions (recipient, seq, source)
        SELECT DISTINCT f.recipient, r.seq, r.source FROM referrals AS f
        JOIN records AS r ON r.case_id = f.case_id AND r.source = f.sender WHERE f.state IN (3, 6)";
const VACUUM: &str = "VACUUM ANALYZE records, referrals, referral_steps, referred_versions, subjects, \
                      identifiers, aliases, merges, canaries, canary_hits";
/// How often a statement is run until PostgreSQL has settled on a plan for it.
const RUNS: usize = 12;

/// The steps in which SQLite would run a statement.
pub(in crate::store) async fn sqlite(connection: &mut Connection, sql: Sql<'_>) -> Vec<String> {
    let text = sql.text(Engine::Sqlite).unwrap();
    let plan = Sql::new(format!("EXPLAIN QUERY PLAN {text}"));
    let rows = plan.fetch_all(connection).await.unwrap();
    rows.iter().map(|row| row.get(3).unwrap()).collect()
}

/// The plan of PostgreSQL for a statement, whatever is asked for.
async fn postgres(connection: &mut Connection, sql: Sql<'_>) -> Vec<String> {
    let text = sql.text(Engine::Postgres).unwrap();
    let places = text.split('$').skip(1);
    let number = |rest: &str| {
        let digits = rest.split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|digits| digits.parse::<usize>().ok())
    };
    let count = places.filter_map(number).max().unwrap_or(0);
    let values = match count {
        0 => String::new(),
        count => format!("({})", vec!["NULL"; count].join(", ")),
    };
    let plan = format!("EXPLAIN EXECUTE asked{values}");
    let prepare = format!("PREPARE asked AS {text}");
    Sql::new(prepare).execute(connection).await.unwrap();
    let rows = Sql::new(plan).fetch_all(connection).await.unwrap();
    connection.run("DEALLOCATE asked").await.unwrap();
    rows.iter().map(|row| row.get(0).unwrap()).collect()
}

/// On PostgreSQL, with large tables.
async fn large() -> Option<Gateway> {
    let gateway = Gateway::new().await;
    if gateway.connection.engine() == Engine::Sqlite {
        eprintln!("skipped on SQLite: the plans of PostgreSQL");
        return None;
    }
    let mut owner = gateway.owner.connect().await.unwrap();
    owner.run(FILL).await.unwrap();
    owner.run(REFERRED).await.unwrap();
    Some(gateway)
}

/// As the server keeps it by itself.
async fn vacuum(gateway: &Gateway) {
    let mut owner = gateway.owner.connect().await.unwrap();
    owner.run(VACUUM).await.unwrap();
}

/// Holds PostgreSQL to it that no large table is walked for these statements.
pub(in crate::store) async fn hold_postgres_to(statements: Vec<Sql<'_>>) {
    let Some(mut gateway) = large().await else {
        return;
    };
    vacuum(&gateway).await;
    let generic = "SET plan_cache_mode = force_generic_plan";
    gateway.connection.run(generic).await.unwrap();
    for sql in statements {
        let plan = postgres(&mut gateway.connection, sql).await;
        let walked = plan.iter().find(|step| step.contains("Seq Scan"));
        assert_eq!(walked, None, "{plan:#?}");
        let by_index = |step: &String| step.contains("Index ");
        assert!(plan.iter().any(by_index), "{plan:#?}");
    }
}

/// How many rows and index entries PostgreSQL has looked at in this transaction.
async fn looked_at(connection: &mut Connection) -> i64 {
    let counted = Sql::new(
        "SELECT CAST(sum(pg_stat_get_xact_tuples_returned(oid)) AS bigint) FROM pg_class \
         WHERE relnamespace = current_schema::regnamespace",
    );
    let row = counted.fetch_one(connection).await.unwrap();
    row.get(0).unwrap()
}

/// A first page.
fn first() -> Page {
    Page::new(0, 0).unwrap()
}

fn referral_lists(gateway: &Gateway, reader: Party) -> Vec<ListReferrals> {
    let filters = [
        (None, None, None),
        (Some(ReferralState::Accepted), None, None),
        (None, Some(CASE), None),
        (None, None, Some(now())),
        (Some(ReferralState::Submitted), Some(CASE), Some(now())),
    ];
    let directions = [Direction::Sent, Direction::Received].into_iter();
    let lists = directions.flat_map(|direction| {
        filters.map(|(state, case, overdue_at)| ListReferrals {
            state,
            case,
            overdue_at,
            ..gateway.listing(reader, direction, first())
        })
    });
    lists.collect()
}

/// What keeps the lists of versions.
fn keepers(engine: Engine) -> [Sql<'static>; 3] {
    let put = match engine {
        Engine::Sqlite => referred::known_on_sqlite(1),
        Engine::Postgres => {
            referred::put_on_postgres([Bytes("case_id"), Bytes("source")], Vec::new())
        }
    };
    [put, referred::opening(&[]), referred::closing(&[])]
}

fn version_lists(gateway: &Gateway, reader: Party) -> Vec<ListVersions> {
    let (record, source) = (Some(RecordId::new([1; 16])), Some(gateway.id(SHELTER)));
    let filters = [
        (None, None, None),
        (Some(CASE), None, None),
        (None, record, None),
        (None, None, source),
        (Some(CASE), record, source),
    ];
    let lists = filters.map(|(case, record, source)| ListVersions {
        case,
        record,
        source,
        ..gateway.versions(reader, first())
    });
    lists.into()
}

#[tokio::test]
async fn no_list_walks_a_whole_table() {
    let mut gateway = Gateway::new().await;
    if gateway.connection.engine() == Engine::Postgres {
        eprintln!("skipped on PostgreSQL: the plans of SQLite");
        return;
    }
    let agencies = [gateway.id(POLICE), gateway.id(SHELTER)];
    let (referrals, versions) = (
        referral_lists(&gateway, POLICE),
        version_lists(&gateway, POLICE),
    );
    let (cases, ids) = ([(agencies[1], CASE)], [REFERRAL]);
    let records = [reads::RECORD];
    let mut statements: Vec<_> = referrals.iter().map(referral::tables::listing).collect();
    statements.extend(versions.iter().map(record::versions::listing));
    statements.push(counts::overdue(&agencies, now()));
    statements.push(referral::tables::sent_or_named(cases.iter(), &ids));
    statements.push(referral::tables::counting(cases.iter()));
    statements.push(referral::tables::moving(&[]));
    statements.extend(keepers(Engine::Sqlite));
    statements.push(record::newest(record::CONTENT, &records));
    for sql in statements {
        let plan = sqlite(&mut gateway.connection, sql).await;
        let whole = |step: &&String| {
            let table = step.strip_prefix("SCAN ").unwrap_or_default();
            let tables = [
                "referrals",
                "records",
                "referred_versions",
                "r",
                "f",
                "n",
                "s",
            ];
            tables.contains(&table.split(' ').next().unwrap_or(""))
        };
        assert_eq!(plan.iter().find(whole), None, "{plan:#?}");
    }
    for list in &versions {
        let plan = sqlite(&mut gateway.connection, record::versions::listing(list)).await;
        hold_to_a_page(list, &plan);
    }
    for list in &referrals {
        let plan = sqlite(&mut gateway.connection, referral::tables::listing(list)).await;
        let (by_state, sorted) = (plan[0].contains("_and_state ("), plan.len() > 1);
        assert!(by_state || list.overdue_at.is_none(), "{plan:#?}");
        assert!(!sorted || list.overdue_at.is_some(), "{plan:#?}");
    }
}

/// Holds SQLite to it that a list ends with its page: what it walks is in the list's order, or the few versions of a
/// record or a case.
fn hold_to_a_page(list: &ListVersions, plan: &[String]) {
    let is_few = list.record.is_some() || list.case.is_some();
    let [own, referred] = match (list.record, list.case, list.source) {
        (Some(_), _, _) => ["records_by_record (record_id=?"; 2],
        (None, Some(_), _) => ["records_by_case (case_id=?"; 2],
        (None, None, Some(_)) => [
            "records_by_source (source=? AND seq>?)",
            "referred_versions_by_source (recipient=? AND source=? AND seq>?)",
        ],
        (None, None, None) => [
            "records_by_source (source=? AND seq>?)",
            "s USING PRIMARY KEY (recipient=? AND seq>?)",
        ],
    };
    for (begin, way) in [("CO-ROUTINE own", own), ("CO-ROUTINE referred", referred)] {
        let begin = plan.iter().position(|step| step == begin).unwrap();
        assert!(plan[begin + 1].contains(way), "{way} in {plan:#?}");
    }
    // The two pages into one, and that page.
    let sorted = plan.iter().filter(|step| step.contains("TEMP B-TREE"));
    assert!(is_few || sorted.count() == 2, "{plan:#?}");
    let shown = "r USING COVERING INDEX records_by_source (source=? AND seq=?)";
    assert!(plan.iter().any(|step| step.contains(shown)), "{plan:#?}");
}

#[tokio::test]
async fn no_large_table_is_walked_for_a_read_a_list_or_a_step() {
    let gateway = Gateway::new().await;
    let agencies = [gateway.id(POLICE), gateway.id(SHELTER)];
    let (referrals, versions) = (
        referral_lists(&gateway, POLICE),
        version_lists(&gateway, POLICE),
    );
    let (cases, ids) = ([(agencies[1], CASE)], [REFERRAL]);
    let records = [reads::RECORD];
    let mut statements: Vec<_> = referrals.iter().map(referral::tables::listing).collect();
    statements.extend(versions.iter().map(record::versions::listing));
    statements.push(counts::overdue(&agencies, now()));
    statements.push(referral::tables::sent_or_named(cases.iter(), &ids));
    statements.push(referral::tables::counting(cases.iter()));
    statements.push(referral::tables::moving(&[]));
    statements.extend(keepers(Engine::Postgres));
    statements.push(record::newest(record::CONTENT, &records));
    statements.push(record::newest(record::versions::VERSION, &records));
    hold_postgres_to(statements).await;
}

/// Whom most is referred to would wait longest for a look into each case.
#[tokio::test]
async fn a_page_is_as_short_for_whom_most_is_referred_to() {
    let Some(mut gateway) = large().await else {
        return;
    };
    let [police, shelter] = [POLICE, SHELTER].map(|party| gateway.id(party).to_vec());
    let mut owner = gateway.owner.connect().await.unwrap();
    let records = Sql::new(
        "INSERT INTO records (case_id, record_id, version, source, header, header_sha256, sealed, routing, put_time) \
         SELECT id('theirs', n), id('theirs', n), 1, ",
    );
    let records = records.bind(shelter.clone());
    let records = records.push(", signed(n), '', '', '', 0 FROM numbers");
    let referrals = Sql::new(
        "INSERT INTO referrals (referral_id, case_id, sender, recipient, submission, payload_sha256, state, \
         last_sha256, submit_time, respond_by_time) SELECT id('theirs', n), id('theirs', n), ",
    );
    let referrals = referrals.bind(shelter).push(", ").bind(police);
    let referrals = referrals.push(", signed(n), '', 3, '', 0, 0 FROM numbers");
    for filled in [records, referrals] {
        assert_eq!(filled.execute(&mut owner).await.unwrap(), 10_000);
    }
    owner.run("DELETE FROM referred_versions").await.unwrap();
    owner.run(REFERRED).await.unwrap();
    vacuum(&gateway).await;
    let parties = [POLICE, SHELTER];
    let referrals: Vec<_> = parties
        .map(|party| referral_lists(&gateway, party))
        .into_iter()
        .flatten()
        .collect();
    let versions: Vec<_> = parties
        .map(|party| version_lists(&gateway, party))
        .into_iter()
        .flatten()
        .collect();
    let far = ListVersions {
        page: Page::new(0, 15_000).unwrap(),
        ..gateway.versions(POLICE, first())
    };
    let connection = &mut gateway.connection;
    connection.begin("BEGIN").await.unwrap();
    for run in 0..RUNS {
        let lists = referrals.iter().map(referral::tables::listing);
        let versions = versions.iter().chain([&far]);
        for (nth, list) in lists
            .chain(versions.map(record::versions::listing))
            .enumerate()
        {
            let before = looked_at(connection).await;
            let rows = list.fetch_all(connection).await.unwrap();
            let looked_at = looked_at(connection).await - before;
            assert!(rows.len() <= 50);
            assert!(
                looked_at < 300,
                "run {run}: list {nth} looked at {looked_at}"
            );
        }
    }
    let rows = record::versions::listing(&far).fetch_all(connection).await;
    assert_eq!(rows.unwrap().len(), 50);
    connection.commit().await.unwrap();
}

/// Whoever has three referrals in ten thousand would wait longest for a walk in their order.
#[tokio::test]
async fn the_lists_of_who_has_little_are_short_however_much_others_have() {
    let Some(mut gateway) = large().await else {
        return;
    };
    let purpose = Purpose::Investigation;
    for id in 1..=3 {
        let referral = ReferralId::new([id; 16]);
        let submitted = gateway.submit(SHELTER, referral, purpose, STATUS).await;
        let steps = [Step::Acknowledge, Step::Accept];
        gateway.walk(referral, submitted.unwrap(), &steps).await;
        gateway.put(SHELTER, id, 1).await;
    }
    vacuum(&gateway).await;
    let (referrals, versions) = (
        referral_lists(&gateway, POLICE),
        version_lists(&gateway, POLICE),
    );
    let connection = &mut gateway.connection;
    connection.begin("BEGIN").await.unwrap();
    for run in 0..RUNS {
        let lists = referrals.iter().map(referral::tables::listing);
        for list in lists.chain(versions.iter().map(record::versions::listing)) {
            let before = looked_at(connection).await;
            let rows = list.fetch_all(connection).await.unwrap();
            let looked_at = looked_at(connection).await - before;
            assert!(rows.len() <= 3);
            assert!(looked_at < 100, "run {run} looked at {looked_at}");
        }
    }
    connection.commit().await.unwrap();
}

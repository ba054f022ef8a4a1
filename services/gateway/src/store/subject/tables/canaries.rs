//! Canaries and who asked for them.

use amanat_journal::id_set;
use amanat_schema::Time;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{
    super::{
        Peppered, SubjectCall,
        canary::{CanaryFacts, ListCanaryHits, SeenHit},
    },
    agency, bytes, rows_of,
};
use crate::store::record::damaged;

pub(super) const LABELS: &str =
    "SELECT stored, label FROM canaries WHERE stored IN (SELECT unhex(value) FROM json_each($1))";
pub(super) const WAITING: &str = "SELECT seq FROM canary_hits WHERE alarm_time IS NULL";

impl CanaryFacts {
    pub(super) async fn load(
        connection: &mut SqliteConnection,
        calls: &[&SubjectCall],
    ) -> Result<Self, sqlx::Error> {
        let mut facts = Self::default();
        let (mut asked, mut alarming) = (Vec::new(), false);
        for call in calls {
            match call {
                SubjectCall::Find(call) => {
                    let tokens = call.identifiers.iter().flat_map(|i| &i.tokens);
                    asked.extend(tokens.map(|(_, Peppered(stored))| stored.as_slice()));
                }
                SubjectCall::Hits(call) => {
                    let rows = page(connection, call).await?;
                    facts
                        .lists
                        .insert((call.act.agency, call.act.request_sha256), rows);
                }
                SubjectCall::CheckCanaries(_) => alarming = true,
                SubjectCall::List(_)
                | SubjectCall::Judge(_)
                | SubjectCall::Plant(_)
                | SubjectCall::AdvancePeppers => {}
            }
        }
        if !asked.is_empty() {
            let rows = sqlx::query(LABELS)
                .bind(id_set(asked))
                .fetch_all(&mut *connection)
                .await?;
            for row in rows {
                let stored = Peppered(bytes(&row, 0)?);
                facts.labels.insert(stored, row.try_get(1)?);
            }
        }
        if alarming {
            let rows = sqlx::query(WAITING).fetch_all(connection).await?;
            let waiting = rows.iter().map(|row| row.try_get(0));
            facts.waiting = waiting.collect::<Result<_, _>>()?;
        }
        Ok(facts)
    }

    pub(super) async fn write(self, connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
        if !self.planted.is_empty() {
            QueryBuilder::<Sqlite>::new("INSERT INTO canaries (stored, label, plant_time) ")
                .push_values(self.planted, |mut row, (Peppered(stored), (label, at))| {
                    row.push_bind(stored.to_vec())
                        .push_bind(label)
                        .push_bind(at.millis());
                })
                .push(" ON CONFLICT (stored) DO UPDATE SET label = excluded.label")
                .build()
                .execute(&mut *connection)
                .await?;
        }
        if !self.hits.is_empty() {
            QueryBuilder::<Sqlite>::new(
                "INSERT INTO canary_hits (label, agency, officer_handle, hit_time) ",
            )
            .push_values(self.hits, |mut row, hit| {
                row.push_bind(hit.label)
                    .push_bind(hit.agency.to_vec())
                    .push_bind(hit.officer_handle)
                    .push_bind(hit.at.millis());
            })
            .build()
            .execute(&mut *connection)
            .await?;
        }
        if !self.alarmed.is_empty() {
            let alarmed = self.alarmed.iter().map(|(seq, at)| (*seq, at.millis()));
            sqlx::query(
                "UPDATE canary_hits SET alarm_time = done.value ->> 1 FROM json_each($1) AS done \
                 WHERE seq = done.value ->> 0",
            )
            .bind(rows_of(alarmed)?)
            .execute(connection)
            .await?;
        }
        Ok(())
    }
}

async fn page(
    connection: &mut SqliteConnection,
    call: &ListCanaryHits,
) -> Result<Vec<(i64, SeenHit)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT seq, label, agency, officer_handle, hit_time FROM canary_hits WHERE seq > $1 \
         ORDER BY seq LIMIT $2",
    )
    .bind(call.page.after)
    .bind(call.page.size)
    .fetch_all(connection)
    .await?;
    rows.iter().map(parse_hit).collect()
}

fn parse_hit(row: &SqliteRow) -> Result<(i64, SeenHit), sqlx::Error> {
    let hit = SeenHit {
        label: row.try_get(1)?,
        agency: agency(row, 2)?,
        officer_handle: row.try_get(3)?,
        at: Time::from_millis(row.try_get(4)?).map_err(damaged)?,
    };
    Ok((row.try_get(0)?, hit))
}

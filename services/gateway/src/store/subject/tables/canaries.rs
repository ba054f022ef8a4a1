//! Canaries and who asked for them.

use amanat_journal::{damaged, id_set};
use amanat_schema::{Time, subject::IdentifierDomain};
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};

use super::{
    super::{
        Peppered, SubjectCall,
        canary::{CanaryFacts, ListCanaryHits, Place, Planted, SeenHit},
    },
    agency, bytes, rows_of,
};

pub(super) const PLANTED: &str = "SELECT domain, epoch, stored, label, planter, plant_time, second, \
     live_time FROM canaries WHERE stored IN (SELECT unhex(value) FROM json_each($1))";
const PLACES: &str = "SELECT domain, epoch FROM canaries";
const LIVE: &str = "SELECT domain, epoch, label FROM canaries WHERE second IS NOT NULL";
pub(super) const WAITING: &str = "SELECT seq FROM canary_hits WHERE alarm_time IS NULL";

impl CanaryFacts {
    pub(super) async fn load(
        connection: &mut SqliteConnection,
        calls: &[&SubjectCall],
    ) -> Result<Self, sqlx::Error> {
        let mut facts = Self::default();
        let (mut asked, mut alarming) = (Vec::new(), false);
        let (mut planting, mut counting) = (false, false);
        for call in calls {
            match call {
                SubjectCall::Find(call) => {
                    let tokens = call.identifiers.iter().flat_map(|i| &i.as_canary);
                    asked.extend(tokens.map(|Peppered(stored)| stored.as_slice()));
                }
                SubjectCall::Plant(call) => {
                    let tokens = call.identifier.as_canary.iter();
                    asked.extend(tokens.map(|Peppered(stored)| stored.as_slice()));
                    planting = true;
                }
                SubjectCall::Hits(call) => {
                    let rows = page(connection, call).await?;
                    facts
                        .lists
                        .insert((call.act.agency, call.act.request_sha256), rows);
                }
                SubjectCall::CheckCanaries(_) => alarming = true,
                SubjectCall::CountLapsed => counting = true,
                SubjectCall::List(_) | SubjectCall::Judge(_) | SubjectCall::AdvancePeppers => {}
            }
        }
        if !asked.is_empty() {
            let rows = sqlx::query(PLANTED)
                .bind(id_set(asked))
                .fetch_all(&mut *connection)
                .await?;
            for row in rows {
                let stored = Peppered(bytes(&row, 2)?);
                facts.known.insert(stored, parse_planted(&row)?);
            }
        }
        if planting {
            let rows = sqlx::query(PLACES).fetch_all(&mut *connection).await?;
            facts.places = rows.iter().map(parse_place).collect::<Result<_, _>>()?;
        }
        if counting {
            let rows = sqlx::query(LIVE).fetch_all(&mut *connection).await?;
            for row in rows {
                facts.live.push((row.try_get(2)?, parse_place(&row)?));
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
        let changed = self.changed.iter();
        let changed: Vec<_> = changed
            .filter_map(|stored| self.known.get_key_value(stored))
            .collect();
        if !changed.is_empty() {
            QueryBuilder::<Sqlite>::new(
                "INSERT INTO canaries (stored, domain, epoch, label, planter, plant_time, second, \
                 live_time) ",
            )
            .push_values(changed, |mut row, (Peppered(stored), planted)| {
                let live = planted.live.as_ref();
                row.push_bind(stored.to_vec())
                    .push_bind(i32::from(planted.place.domain))
                    .push_bind(planted.place.epoch)
                    .push_bind(&planted.label)
                    .push_bind(&planted.planter)
                    .push_bind(planted.planted.millis())
                    .push_bind(live.map(|(second, _)| second))
                    .push_bind(live.map(|(_, at)| at.millis()));
            })
            .push(
                " ON CONFLICT (stored) DO UPDATE SET second = excluded.second, \
                 live_time = excluded.live_time",
            )
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

fn parse_place(row: &SqliteRow) -> Result<Place, sqlx::Error> {
    let domain = IdentifierDomain::try_from(row.try_get::<i32, _>(0)?);
    Ok(Place {
        domain: domain.map_err(damaged)?,
        epoch: row.try_get(1)?,
    })
}

fn parse_planted(row: &SqliteRow) -> Result<Planted, sqlx::Error> {
    let time = |millis| Time::from_millis(millis).map_err(damaged);
    let second: Option<Vec<u8>> = row.try_get(6)?;
    let since: Option<i64> = row.try_get(7)?;
    Ok(Planted {
        place: parse_place(row)?,
        label: row.try_get(3)?,
        planter: row.try_get(4)?,
        planted: time(row.try_get(5)?)?,
        live: second.zip(since.map(time).transpose()?),
    })
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

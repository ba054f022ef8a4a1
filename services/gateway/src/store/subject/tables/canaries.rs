//! Canaries and who asked for them.

use amanat_database::{
    Column::{Bytes, Number, Text},
    Connection, Error, Insert, Row, Sql, damaged,
};
use amanat_schema::{AgencyId, Time, subject::IdentifierDomain};

use super::super::{
    Peppered, SubjectCall,
    canary::{CanaryFacts, ListCanaryHits, Place, Planted, SeenHit},
};

const PLACES: &str = "SELECT domain, epoch FROM canaries";
const LIVE: &str = "SELECT domain, epoch, label FROM canaries WHERE second IS NOT NULL";
pub(super) const WAITING: &str = "SELECT seq, hit_time FROM canary_hits WHERE alarm_time IS NULL";

pub(super) fn planted(asked: &[&Peppered]) -> Sql<'static> {
    let stored = asked.iter().map(|Peppered(stored)| *stored);
    Sql::new(
        "SELECT domain, epoch, stored, label, planter, plant_time, second, live_time \
         FROM canaries WHERE ",
    )
    .is_one_of(Bytes("stored"), stored)
}

impl CanaryFacts {
    pub(super) async fn load(
        connection: &mut Connection,
        calls: &[&SubjectCall],
    ) -> Result<Self, Error> {
        let mut facts = Self::default();
        let (mut asked, mut alarming) = (Vec::new(), false);
        let (mut planting, mut counting) = (false, false);
        for call in calls {
            match call {
                SubjectCall::Find(call) => {
                    let tokens = call.identifiers.iter().flat_map(|i| &i.as_canary);
                    asked.extend(tokens);
                }
                SubjectCall::Plant(call) => {
                    asked.extend(&call.identifier.as_canary);
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
            for row in planted(&asked).fetch_all(connection).await? {
                let stored = Peppered(row.get(2)?);
                facts.known.insert(stored, parse_planted(&row)?);
            }
        }
        if planting {
            let rows = Sql::new(PLACES).fetch_all(connection).await?;
            facts.places = rows.iter().map(parse_place).collect::<Result<_, _>>()?;
        }
        if counting {
            for row in Sql::new(LIVE).fetch_all(connection).await? {
                facts.live.push((row.get(2)?, parse_place(&row)?));
            }
        }
        if alarming {
            for row in Sql::new(WAITING).fetch_all(connection).await? {
                let hit_time = Time::from_millis(row.get(1)?).map_err(damaged)?;
                facts.waiting.push((row.get(0)?, hit_time));
            }
        }
        Ok(facts)
    }

    pub(super) async fn write(self, connection: &mut Connection) -> Result<(), Error> {
        let changed = self.changed.iter();
        let changed = changed.filter_map(|stored| self.known.get_key_value(stored));
        let rows = changed.map(|(Peppered(stored), planted)| {
            let live = planted.live.as_ref();
            [
                stored.into(),
                i32::from(planted.place.domain).into(),
                planted.place.epoch.into(),
                (&planted.label).into(),
                (&planted.planter).into(),
                planted.planted.millis().into(),
                live.map(|(second, _)| second).into(),
                live.map(|(_, at)| at.millis()).into(),
            ]
        });
        let columns = [
            Bytes("stored"),
            Number("domain"),
            Number("epoch"),
            Text("label"),
            Bytes("planter"),
            Number("plant_time"),
            Bytes("second"),
            Number("live_time"),
        ];
        Insert::into("canaries", columns, rows)
            .or(
                "ON CONFLICT (stored) DO UPDATE SET second = excluded.second, \
                 live_time = excluded.live_time",
            )
            .execute(connection)
            .await?;
        let hits = self.hits.iter().map(|hit| {
            [
                (&hit.label).into(),
                hit.agency.as_bytes().into(),
                (&hit.officer_handle).into(),
                hit.at.millis().into(),
            ]
        });
        let columns = [
            Text("label"),
            Bytes("agency"),
            Bytes("officer_handle"),
            Number("hit_time"),
        ];
        Insert::into("canary_hits", columns, hits)
            .execute(connection)
            .await?;
        if !self.alarmed.is_empty() {
            alarming(&self.alarmed).execute(connection).await?;
        }
        Ok(())
    }
}

pub(super) fn alarming(alarmed: &[(i64, Time)]) -> Sql<'static> {
    let rows = alarmed
        .iter()
        .map(|(seq, at)| [(*seq).into(), at.millis().into()]);
    Sql::new("UPDATE canary_hits SET alarm_time = counted.at FROM ")
        .rows("counted", [Number("hit"), Number("at")], rows)
        .push(" WHERE canary_hits.seq = counted.hit")
}

fn parse_place(row: &Row) -> Result<Place, Error> {
    let domain = IdentifierDomain::try_from(row.get::<i32>(0)?);
    Ok(Place {
        domain: domain.map_err(damaged)?,
        epoch: row.get(1)?,
    })
}

fn parse_planted(row: &Row) -> Result<Planted, Error> {
    let time = |millis| Time::from_millis(millis).map_err(damaged);
    let second: Option<Vec<u8>> = row.get(6)?;
    let since: Option<i64> = row.get(7)?;
    Ok(Planted {
        place: parse_place(row)?,
        label: row.get(3)?,
        planter: row.get(4)?,
        planted: time(row.get(5)?)?,
        live: second.zip(since.map(time).transpose()?),
    })
}

async fn page(
    connection: &mut Connection,
    call: &ListCanaryHits,
) -> Result<Vec<(i64, SeenHit)>, Error> {
    let rows = Sql::new(
        "SELECT seq, label, agency, officer_handle, hit_time FROM canary_hits WHERE seq > ",
    )
    .bind(call.page.after)
    .push(" ORDER BY seq LIMIT ")
    .bind(call.page.size)
    .fetch_all(connection)
    .await?;
    rows.iter().map(parse_hit).collect()
}

fn parse_hit(row: &Row) -> Result<(i64, SeenHit), Error> {
    let hit = SeenHit {
        label: row.get(1)?,
        agency: AgencyId::new(row.get(2)?),
        officer_handle: row.get(3)?,
        at: Time::from_millis(row.get(4)?).map_err(damaged)?,
    };
    Ok((row.get(0)?, hit))
}

//! Whether this server has the key that its database was begun with. Replicas with different keys would seal openings
//! that only one of them can open, and know the same officer as two: what needs two officers, one could do alone.

use amanat_database::{
    Column::{Bytes, Text},
    Connection, Error, Insert, Sql,
};
use amanat_seal::WrapKey;

use crate::JournalError;

const NAME: &str = "openings_key";
const LABEL: &str = "amanat/own-key/v1";

/// Goes on if it is the key of the first start, which this one may be if the database may be written.
pub(crate) async fn check(
    connection: &mut Connection,
    key: &WrapKey,
    is_frozen: bool,
) -> Result<(), JournalError> {
    let mut proof = stored(connection).await?;
    if proof.is_none() && !is_frozen {
        begin(connection, key).await?;
        // Another replica's, if that was first.
        proof = stored(connection).await?;
    }
    match proof {
        Some(proof) if key.unwrap(LABEL, &[NAME.as_bytes()], &proof).is_err() => {
            Err(JournalError::OtherOpeningsKey)
        }
        _ => Ok(()),
    }
}

async fn begin(connection: &mut Connection, key: &WrapKey) -> Result<(), JournalError> {
    let proof = key
        .wrap(LABEL, &[NAME.as_bytes()], &[])
        .map_err(|_| JournalError::Unwritable("nothing can be sealed".to_owned()))?;
    let row = [NAME.into(), proof.into()];
    Ok(
        Insert::into("own_keys", [Text("name"), Bytes("proof")], [row])
            .or("ON CONFLICT (name) DO NOTHING")
            .execute(connection)
            .await?,
    )
}

async fn stored(connection: &mut Connection) -> Result<Option<Vec<u8>>, Error> {
    let row = Sql::new("SELECT proof FROM own_keys WHERE name = ")
        .bind(NAME)
        .fetch_optional(connection)
        .await?;
    row.map(|row| row.get(0)).transpose()
}

//! Contents read beside the batches, before their call's turn. They are most of what a read is about, and on the disk
//! where nobody has read them for long: the one writer would wait for each.

use std::{collections::HashMap, sync::Arc, time::Duration};

use amanat_database::{Connection, Error, Row};
use amanat_journal::{JournalError, Reader};
use amanat_schema::{AgencyId, RecordId};
use tokio::time::timeout;

use super::{CONTENT, Content, Memory, ReadRecord, RecordKey, newest, parse_content};

/// A turn that reads the content itself is sooner there than a call that waits longer.
const PATIENCE: Duration = Duration::from_secs(1);
/// An index alone tells it.
pub(in crate::store) const VERSIONS: &str = "SELECT source, record_id, version FROM records AS r";

impl ReadRecord {
    /// Reads the content if it is not in memory. What a version contains never changes; whether it still is the newest,
    /// the call's turn looks up.
    pub(crate) async fn read_ahead(&mut self, memory: &Memory, reader: &Reader) {
        if memory.contents.get(&self.key()).is_some() {
            return;
        }
        let (key, reader) = (self.key(), reader.clone());
        // It ends by itself, also when its caller is gone: the connection goes back whole.
        let reading = tokio::spawn(async move { content(&mut reader.ahead().await?, key).await });
        // What fails here is read in the turn, or fails there and is told.
        if let Ok(Ok(Ok(content))) = timeout(PATIENCE, reading).await {
            self.content = content;
        }
    }
}

/// The newest of a source's record.
pub(in crate::store) async fn content(
    connection: &mut Connection,
    key: RecordKey,
) -> Result<Option<Arc<Content>>, JournalError> {
    let ids = [key.1];
    for row in newest(CONTENT, &ids).fetch_all(connection).await? {
        let (of, content) = parse_content(&row)?;
        if of == key {
            return Ok(Some(Arc::new(content)));
        }
    }
    Ok(None)
}

/// Of each record, whichever sources use the id.
pub(super) async fn newest_versions(
    connection: &mut Connection,
    records: &[RecordId],
) -> Result<HashMap<RecordKey, u32>, Error> {
    let rows = newest(VERSIONS, records).fetch_all(connection).await?;
    let parse = |row: &Row| {
        let key = (AgencyId::new(row.get(0)?), RecordId::new(row.get(1)?));
        Ok((key, row.get(2)?))
    };
    rows.iter().map(parse).collect()
}

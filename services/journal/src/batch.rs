//! Which of the waiting calls go into the next transaction.

use std::collections::{HashSet, VecDeque};

use crate::{Access, ConflictKey, RequestKey, Touch};

/// The most calls that one transaction serves.
pub(crate) const LARGEST: usize = 256;

/// Takes the next batch from the front of `waiting`, in arrival order. What shares a key with an earlier
/// mutation stays, and so does everything that shares a key with what stays.
pub(crate) fn take<T>(waiting: &mut VecDeque<T>, access: impl Fn(&T) -> &Access) -> Vec<T> {
    let mut batch = Vec::new();
    let mut stays = VecDeque::new();
    let mut changed: HashSet<ConflictKey> = HashSet::new();
    let mut read: HashSet<ConflictKey> = HashSet::new();
    // Under one request id two requests never share a batch, the same or not.
    let mut requests = HashSet::new();
    while let Some(call) = waiting.pop_front() {
        let touched = access(&call);
        let clash = touched.keys.iter().any(|key| {
            changed.contains(key) || (touched.touch == Touch::Changes && read.contains(key))
        }) || touched
            .request
            .as_ref()
            .is_some_and(|r| requests.contains(&r.name()));
        if batch.len() == LARGEST || clash {
            // Later calls on these keys must not overtake it.
            changed.extend(&touched.keys);
            requests.extend(touched.request.as_ref().map(RequestKey::name));
            stays.push_back(call);
            continue;
        }
        match touched.touch {
            Touch::Changes => changed.extend(&touched.keys),
            Touch::Reads => read.extend(&touched.keys),
        }
        requests.extend(touched.request.as_ref().map(RequestKey::name));
        batch.push(call);
    }
    *waiting = stays;
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &'static str, key: u8, touch: Touch) -> (&'static str, Access) {
        let keys = vec![ConflictKey {
            kind: "case",
            id: [key; 16],
        }];
        (
            name,
            Access {
                keys,
                touch,
                request: None,
            },
        )
    }

    fn names(calls: &[(&'static str, Access)]) -> Vec<&'static str> {
        calls.iter().map(|call| call.0).collect()
    }

    #[test]
    fn reads_share_a_batch_and_a_change_waits_for_them() {
        let mut waiting = VecDeque::from([
            call("read 1", 1, Touch::Reads),
            call("read 1 too", 1, Touch::Reads),
            call("change 1", 1, Touch::Changes),
            call("read 2", 2, Touch::Reads),
        ]);
        assert_eq!(
            names(&take(&mut waiting, |c| &c.1)),
            ["read 1", "read 1 too", "read 2"]
        );
        assert_eq!(names(&take(&mut waiting, |c| &c.1)), ["change 1"]);
    }

    #[test]
    fn what_follows_a_change_of_its_key_waits_and_is_not_overtaken() {
        let mut waiting = VecDeque::from([
            call("change 1", 1, Touch::Changes),
            call("change 1 again", 1, Touch::Changes),
            call("read 1", 1, Touch::Reads),
            call("change 2", 2, Touch::Changes),
        ]);
        assert_eq!(
            names(&take(&mut waiting, |c| &c.1)),
            ["change 1", "change 2"]
        );
        assert_eq!(names(&take(&mut waiting, |c| &c.1)), ["change 1 again"]);
        assert_eq!(names(&take(&mut waiting, |c| &c.1)), ["read 1"]);
        assert!(waiting.is_empty());
    }

    #[test]
    fn a_batch_has_a_largest_size() {
        let mut waiting: VecDeque<_> = (0..LARGEST + 1)
            .map(|_| call("read", 1, Touch::Reads))
            .collect();
        assert_eq!(take(&mut waiting, |c| &c.1).len(), LARGEST);
        assert_eq!(waiting.len(), 1);
    }
}

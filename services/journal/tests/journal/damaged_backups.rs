//! A backup that was tampered with, in every place.

use std::fs;

use amanat_journal::backup::BackupError;

use crate::{
    backups::{is_empty, note, restore, take},
    toy::Lab,
};

/// Whether an error says what was damaged.
type IsNamed = fn(&BackupError) -> bool;

#[tokio::test]
async fn nothing_damaged_is_restored_and_each_damage_has_its_name() {
    let lab = Lab::new().await;
    for n in 0..3 {
        lab.grow(n + 60).await;
    }
    let (file, backup) = take(&lab, "backup").await.unwrap();
    let whole = fs::read(&file).unwrap();
    let cuts = cuts(&whole);
    let (header, parts, trailer) = (cuts[1], &cuts[3..cuts.len() - 1], cuts[cuts.len() - 1]);
    assert!(parts.len() > 3, "{} parts", parts.len());
    let put = |bytes: &[&[u8]]| bytes.concat();
    let part = |n: usize| &whole[parts[n].0..parts[n].1];
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let before = &whole[..parts[0].0];
    let after = |n: usize| &whole[parts[n].1..];
    let checkpoint = note(&backup).into_bytes();
    let stands = whole
        .windows(checkpoint.len())
        .position(|w| w == checkpoint);
    let damaged: [(&str, Vec<u8>, IsNamed); 16] = [
        ("no backup", b"SQLite format 3\0".to_vec(), |e| {
            matches!(e, BackupError::NoBackup)
        }),
        ("nothing", Vec::new(), |e| {
            matches!(e, BackupError::NoBackup)
        }),
        (
            "an older format",
            flipped(15),
            |e| matches!(e, BackupError::Format { found, .. } if found == "amanat-backup/v0"),
        ),
        ("the header's id", flipped(header.0 + 4 + 2), |e| {
            matches!(e, BackupError::Key)
        }),
        ("the checkpoint", flipped(stands.unwrap() + 30), |e| {
            matches!(e, BackupError::Key)
        }),
        ("a part", flipped(parts[1].0 + 40), |e| {
            matches!(e, BackupError::Part(1))
        }),
        ("a mark", flipped(parts[1].0), |e| {
            matches!(e, BackupError::Part(1))
        }),
        ("a part left out", put(&[before, after(0)]), |e| {
            matches!(e, BackupError::Part(0))
        }),
        (
            "parts swapped",
            put(&[before, part(1), part(0), after(1)]),
            |e| matches!(e, BackupError::Part(0)),
        ),
        (
            "a part repeated",
            put(&[before, part(0), part(0), after(0)]),
            |e| matches!(e, BackupError::Part(1)),
        ),
        (
            "the last part left out",
            put(&[&whole[..parts[parts.len() - 1].0], &whole[trailer.0..]]),
            |e| matches!(e, BackupError::Part(_) | BackupError::CutOff),
        ),
        ("the signature", flipped(trailer.1 - 20), |e| {
            matches!(e, BackupError::Signature(_))
        }),
        ("the signature cut off", whole[..trailer.0].to_vec(), |e| {
            matches!(e, BackupError::CutOff)
        }),
        ("the last byte", whole[..whole.len() - 1].to_vec(), |e| {
            matches!(e, BackupError::CutOff)
        }),
        ("a half", whole[..whole.len() / 2].to_vec(), |e| {
            matches!(e, BackupError::CutOff)
        }),
        ("more", put(&[&whole, b"x"]), |e| {
            matches!(e, BackupError::Longer)
        }),
    ];
    let elsewhere = lab.elsewhere().await;
    for (what, bytes, is_named) in damaged {
        fs::write(&file, bytes).unwrap();
        let refused = restore(&elsewhere, file.clone(), Some(&note(&backup))).await;
        let refused = refused.expect_err(what);
        assert!(is_named(&refused), "{what}: {refused}");
        assert!(is_empty(elsewhere.place()).await, "{what}");
    }
    fs::write(&file, whole).unwrap();
    restore(&elsewhere, file, Some(&note(&backup)))
        .await
        .unwrap();
}

/// From where to where each piece of a file goes: first line, header, key, each part, trailer.
fn cuts(file: &[u8]) -> Vec<(usize, usize)> {
    let long = |at: usize| {
        let length = u32::from_be_bytes(file[at..at + 4].try_into().unwrap());
        at + 4 + usize::try_from(length).unwrap()
    };
    let line = file.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let mut cuts = vec![(0, line)];
    for _ in ["header", "key"] {
        let at = cuts.last().unwrap().1;
        cuts.push((at, long(at)));
    }
    loop {
        let at = cuts.last().unwrap().1;
        cuts.push((at, long(at + 1)));
        if file[at] == 1 {
            break;
        }
    }
    let at = cuts.last().unwrap().1;
    cuts.push((at, long(at)));
    assert_eq!(long(at), file.len());
    cuts
}

//! Key files are read only if nobody else can.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt as _, symlink},
};

use amanat_config::{FileError, private_key_pem, secret_hex, write_private};
use tempfile::TempDir;

#[test]
fn what_is_written_for_oneself_is_read_back() {
    let folder = TempDir::new().unwrap();
    let leaf = rcgen::KeyPair::generate().unwrap();
    let (key, secret) = (folder.path().join("key.pem"), folder.path().join("secret"));
    write_private(&key, leaf.serialize_pem().as_bytes()).unwrap();
    assert_eq!(
        private_key_pem(&key).unwrap().secret_der(),
        leaf.serialize_der()
    );
    write_private(&secret, format!("{}\n", "0a".repeat(32)).as_bytes()).unwrap();
    assert_eq!(*secret_hex(&secret).unwrap(), [0x0a; 32]);
    assert!(
        matches!(write_private(&key, b"other"), Err(FileError::Io { .. })),
        "never replaced"
    );
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("secret");
    write_private(&path, "0a".repeat(32).as_bytes()).unwrap();
    for mode in [0o640, 0o604, 0o610, 0o620] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        assert!(
            matches!(secret_hex(&path), Err(FileError::Open { .. })),
            "{mode:o}"
        );
        assert!(
            matches!(private_key_pem(&path), Err(FileError::Open { .. })),
            "{mode:o}"
        );
    }
}

#[test]
fn a_key_in_a_folder_that_others_can_write_to_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("secret");
    write_private(&path, "0a".repeat(32).as_bytes()).unwrap();
    let elsewhere = TempDir::new().unwrap();
    let link = elsewhere.path().join("link");
    symlink(&path, &link).unwrap();
    for (mode, is_refused) in [
        (0o755, false),
        (0o770, true),
        (0o702, true),
        // As /tmp: what is there stays its owner's.
        (0o1777, false),
    ] {
        fs::set_permissions(folder.path(), Permissions::from_mode(mode)).unwrap();
        for path in [&path, &link] {
            let refused = matches!(secret_hex(path), Err(FileError::OpenFolder { .. }));
            assert_eq!(refused, is_refused, "{mode:o}");
        }
    }
}

#[test]
fn a_file_with_something_else_is_refused_and_not_quoted() {
    let folder = TempDir::new().unwrap();
    for (name, text) in [
        ("short", "0a0a"),
        ("long", &"0a".repeat(33)),
        ("noise", &"zz".repeat(32)),
    ] {
        let path = folder.path().join(name);
        write_private(&path, text.as_bytes()).unwrap();
        let refused = secret_hex(&path).unwrap_err();
        assert!(!refused.to_string().contains(text));
        assert!(matches!(refused, FileError::NoKey { .. }), "{name}");
        assert!(
            matches!(private_key_pem(&path), Err(FileError::NoKey { .. })),
            "{name}"
        );
    }
    let absent = secret_hex(&folder.path().join("absent"));
    assert!(matches!(absent, Err(FileError::Io { .. })));
}

//! Starts that are refused, and leftovers that a start repairs silently.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use postrider::store::RealDisk;
use postrider::store::admin::{Role, TermAndRole, set_term_and_role};

use crate::cli_failures::{files, made, name, partition};
use crate::support::process::{refused, said_by, start, start_with};

const FAILED: i32 = 1;

#[test]
fn a_file_that_was_cut_short_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a directory");
    let data = made(folder.path());
    for path in [data.join("state.redb"), partition(&data)] {
        let whole = fs::read(&path).expect("bytes");
        for bytes in [whole.len() / 2, 5000, 4096, 100, 0] {
            fs::write(&path, &whole[..bytes]).expect("written");
            let (code, words) = refused(&data, &folder.path().join("log"), &[]);
            assert_eq!(code, FAILED, "{words}");
            assert!(words.contains(name(&path)), "{bytes} bytes of {path:?}: {words}");
            assert!(!words.contains("panicked"), "{words}");
            if [0, 4096].contains(&bytes) {
                assert!(words.contains("cut short") && words.contains("restore a backup"), "{words}");
                assert_eq!(fs::read(&path).expect("bytes").len(), bytes, "nothing is made in its place");
            }
        }
        fs::write(&path, &whole).expect("written");
    }
    start(&data, &folder.path().join("log"), &[]).stop();
}

#[test]
fn a_file_that_is_missing_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a directory");
    let data = made(folder.path());
    for path in [data.join("state.redb"), partition(&data)] {
        let aside = folder.path().join("aside");
        fs::rename(&path, &aside).expect("moved");
        let (code, words) = refused(&data, &folder.path().join("log"), &[]);
        assert_eq!(code, FAILED, "{words}");
        assert!(words.contains(name(&path)), "{path:?}: {words}");
        assert!(!path.exists(), "nothing is made in its place");
        for verb in [&["doctor", "--offline"][..], &["verify"]] {
            let (code, words) = said_by(&data, verb, &[]);
            assert!(code != 0 && words.contains(name(&path)), "{verb:?}: {words}");
        }
        fs::rename(&aside, &path).expect("moved");
    }
    start(&data, &folder.path().join("log"), &[]).stop();
}

#[test]
fn a_cut_during_the_very_first_start_leaves_nothing_that_the_next_one_minds() {
    let half = vec![0x5a; 70_000];
    // The files at a power cut, in the order in which a first start makes them.
    let stages: [&[&str]; 5] = [
        &["lock", "master.key.new"],
        &["master.key", "state.redb.new"],
        &["master.key", "state.redb.new", "journal.new"],
        &["master.key", "first-key.new", "partitions/0195-half.redb.new"],
        &["master.key", "first-key", "journal.new", "state.redb.new"],
    ];
    for stage in stages {
        let folder = tempfile::tempdir().expect("a directory");
        let data = folder.path().join("data");
        fs::create_dir_all(data.join("partitions")).expect("made");
        for file in stage {
            let bytes = match *file {
                "master.key" | "first-key" => b"a key that was kept before the power failed".to_vec(),
                "lock" => Vec::new(),
                _ => half.clone(),
            };
            fs::write(data.join(file), bytes).expect("written");
            fs::set_permissions(data.join(file), fs::Permissions::from_mode(0o600)).expect("set");
        }
        start(&data, &folder.path().join("log"), &[]).stop();
        let left: Vec<String> = files(&data).into_iter().map(|(name, _)| name).collect();
        let stray = left.iter().filter(|name| name.contains("0195-half") || name.ends_with(".redb.new"));
        assert_eq!(stray.count(), 0, "{left:?}");
        start(&data, &folder.path().join("log"), &[]).stop();
    }
}

#[test]
fn a_store_of_a_newer_version_is_refused_and_left_as_it_is() {
    use postrider::kv::{checksums::ChecksummedFile, codec};
    use postrider::store::{Disk as _, RealDisk};
    let folder = tempfile::tempdir().expect("a directory");
    let data = made(folder.path());
    let set = |schema: u32| {
        let disk = RealDisk::lock(&data).expect("the directory");
        let pages = ChecksummedFile::open(disk.open("state.redb", false).expect("the file")).expect("its pages");
        let database = redb::Database::builder().create_with_backend(pages).expect("a database");
        let meta: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("meta");
        let change = database.begin_write().expect("a transaction");
        let schema = codec::encode(&schema);
        change.open_table(meta).expect("the table").insert(b"schema".as_slice(), schema.as_slice()).expect("written");
        change.commit().expect("committed");
    };
    set(3);
    let before = files(&data);
    let (code, words) = refused(&data, &folder.path().join("log"), &[]);
    assert_eq!(code, FAILED, "{words}");
    assert!(words.contains("state.redb") && words.contains("schema 3"), "{words}");
    assert!(files(&data) == before);
    set(1);
    start(&data, &folder.path().join("log"), &[]).stop();
}

#[test]
fn a_store_whose_pages_have_no_checksums_is_refused_in_words_and_left_as_it_is() {
    use postrider::kv::checksums::ChecksummedFile;
    use postrider::store::{Disk as _, RealDisk};
    let folder = tempfile::tempdir().expect("a directory");
    let data = made(folder.path());
    for path in [data.join("state.redb"), partition(&data)] {
        let whole = fs::read(&path).expect("bytes");
        // redb's view of the file, which is its form before pages had checksums.
        let bytes = {
            let disk = RealDisk::lock(&data).expect("the directory");
            let inside = path.strip_prefix(&data).expect("below it").to_str().expect("text");
            let pages = ChecksummedFile::open(disk.open(inside, false).expect("the file")).expect("its pages");
            let mut bytes = vec![0; redb::StorageBackend::len(&pages).expect("its length") as usize];
            redb::StorageBackend::read(&pages, 0, &mut bytes).expect("its bytes");
            bytes
        };
        fs::write(&path, &bytes).expect("written");
        let before = bytes;
        let (code, words) = refused(&data, &folder.path().join("log"), &[]);
        assert_eq!(code, FAILED, "{words}");
        assert!(words.contains(name(&path)) && words.contains("no checksums"), "{words}");
        // Another file may have been opened, and closed in its shortest form.
        assert!(fs::read(&path).expect("bytes") == before);
        fs::write(&path, whole).expect("written");
    }
    start(&data, &folder.path().join("log"), &[]).stop();
}

#[test]
fn files_that_do_not_open_are_named_by_the_doctor_without_a_daemon() {
    let folder = tempfile::tempdir().expect("a directory");
    let data = made(folder.path());
    let (_, words) = said_by(&data, &["doctor", "--offline"], &[]);
    assert!(words.contains("all 2 files open"), "{words}");
    for path in [data.join("state.redb"), partition(&data)] {
        let whole = fs::read(&path).expect("bytes");
        for bytes in [vec![0; whole.len()], whole[..whole.len() / 2].to_vec()] {
            fs::write(&path, bytes).expect("written");
            let (code, words) = said_by(&data, &["doctor", "--offline"], &[]);
            assert!(code == FAILED && words.contains(name(&path)) && words.contains("restore a backup"), "{words}");
        }
        fs::write(path, whole).expect("written");
    }
}

#[test]
fn a_journal_that_is_missing_after_a_kill_is_refused_until_the_loss_is_accepted() {
    let folder = tempfile::tempdir().expect("a directory");
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    // Dropped without SIGTERM, it is killed.
    drop(start(&data, &log, &[]));
    fs::remove_file(data.join("journal")).expect("removed");
    let (code, words) = refused(&data, &log, &[]);
    assert_eq!(code, FAILED, "{words}");
    assert!(words.contains("journal: ") && words.contains("--accept-loss"), "{words}");
    assert!(!data.join("journal").exists(), "nothing is made in its place");
    let (code, words) = said_by(&data, &["verify"], &[]);
    assert!(code == FAILED && words.contains("journal: the file is missing"), "{words}");
    let (code, words) = said_by(&data, &["doctor", "--offline"], &[]);
    assert!(code == FAILED && words.contains("write_ahead_log") && words.contains("--accept-loss"), "{words}");
    let accepting = start_with(&["--accept-loss"], &data, &log);
    accepting.stop();
    let words = fs::read_to_string(&log).expect("a log");
    assert!(words.contains("the file is missing") && words.contains("how much is lost is not known"), "{words}");
    start(&data, &log, &[]).stop();
}

#[test]
fn a_directory_in_which_a_restore_was_killed_is_refused() {
    let folder = tempfile::tempdir().expect("a directory");
    let data = folder.path().join("data");
    fs::create_dir_all(data.join("partitions")).expect("made");
    fs::create_dir_all(data.join("partial/partitions")).expect("made");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).expect("set");
    let (code, words) = refused(&data, &folder.path().join("log"), &[]);
    assert!(code == FAILED && words.contains("broke off") && words.contains("postrider restore again"), "{words}");
    assert!(!data.join("state.redb").exists() && !data.join("master.key").exists());
    let (code, words) = said_by(&data, &["doctor", "--offline"], &[]);
    assert!(code == FAILED && words.contains("broke off"), "{words}");
}

#[test]
fn the_doctor_finds_a_start_that_would_fail_for_its_key_or_its_partitions() {
    let folder = tempfile::tempdir().expect("a directory");
    let data = made(folder.path());
    let doctor = || said_by(&data, &["doctor", "--offline"], &[]);
    let (_, words) = doctor();
    assert!(!words.contains("master_key") && words.contains("files open"), "{words}");
    let (key, aside) = (data.join("master.key"), folder.path().join("aside"));
    fs::rename(&key, &aside).expect("moved");
    let (code, words) = doctor();
    assert!(code == FAILED && words.contains("master_key") && words.contains("is missing"), "{words}");
    fs::write(&key, "another key of thirty-two bytes or more").expect("written");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("set");
    let (code, words) = doctor();
    assert!(code == FAILED && words.contains("master_key") && words.contains("does not open"), "{words}");
    fs::rename(&aside, &key).expect("moved back");
    fs::rename(data.join("partitions"), &aside).expect("moved");
    let (code, words) = doctor();
    assert!(code == FAILED && words.contains("partitions: ") && words.contains("restore a backup"), "{words}");
}

#[test]
fn a_certificate_that_no_start_can_use_is_found_by_config_check() {
    let folder = tempfile::tempdir().expect("a directory");
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let named = |path: &std::path::Path| path.display().to_string();
    let variables = [("POSTRIDER_SERVER__TLS_CERT", named(&cert)), ("POSTRIDER_SERVER__TLS_KEY", named(&key))];
    let variables = [0, 1].map(|n| (variables[n].0, variables[n].1.as_str()));
    for _ in 0..2 {
        let (code, words) = said_by(folder.path(), &["config", "check"], &variables);
        assert!(code == 78 && words.contains("server.tls_cert") && words.contains(&named(&cert)), "{words}");
        fs::write(&cert, "no certificate").expect("written");
        fs::write(&key, "no key").expect("written");
    }
}

#[test]
fn the_doctor_names_the_higher_term_that_a_stopped_store_has_met() {
    let folder = tempfile::tempdir().expect("a directory");
    let data = made(folder.path());
    for (overtaken_by, told) in [(3, "an owner of term 3 elsewhere"), (1, "two stores are the owner's of term 1")] {
        let met = TermAndRole { term: 1, role: Role::Owner, overtaken_by };
        set_term_and_role(&RealDisk::folder(&data).expect("a directory"), met).expect("stored");
        let (code, words) = refused(&data, &folder.path().join("log"), &[]);
        assert!(code == 76 && words.contains(told), "{words}");
        let (code, words) = said_by(&data, &["doctor", "--offline", "-o", "json"], &[]);
        assert!(code == FAILED && words.contains(told), "{words}");
    }
}

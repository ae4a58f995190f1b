//! The embedded store: what it keeps, whom it refuses, and disks that fail at every step.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use parking_lot::Mutex;

use super::{
    Embedded, Store, StoreError, Table, Write, backup, check,
    disk::Medium,
    embedded::{FILE, FORMAT_KEY, create_on},
    restore,
};

/// A folder of a test's own, gone with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static FOLDERS: AtomicU32 = AtomicU32::new(0);
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        Self(std::env::temp_dir().join(format!("permitd-store-{}-{number}", std::process::id())))
    }

    fn file(&self) -> PathBuf {
        self.0.join(FILE)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing to do about a folder that is gone.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn put(key: u8, value: &[u8]) -> Write {
    Write::Put(Table::Permits, vec![key, 0], value.to_vec())
}

fn rows(store: &mut dyn Store) -> BTreeMap<(Table, Vec<u8>), Vec<u8>> {
    let mut rows = BTreeMap::new();
    store
        .read(&mut |table, key, value| {
            rows.insert((table, key.to_vec()), value.to_vec());
            Ok(())
        })
        .expect("a sound store");
    rows
}

fn open(folder: &Path) -> Result<Embedded, StoreError> {
    Embedded::open(folder)
}

/// Goal: what is written is there afterwards, for nobody else to read, and only one may have it.
#[test]
fn keeps_rows_for_one_owner() {
    let folder = Folder::new();
    let mut store = open(&folder.0).expect("a new store");
    store.write(&[put(1, b"one"), put(2, b"two"), put(3, b"three")]).expect("room");
    store.write(&[Write::Remove(Table::Permits, vec![1, 0]), put(2, b"other")]).expect("room");
    store.write(&[Write::RemoveAll(Table::Permits, vec![3])]).expect("room");
    assert!(matches!(open(&folder.0), Err(StoreError::InUse(_))));
    assert!(matches!(check(&folder.0), Err(StoreError::InUse(_))));
    drop(store);
    let kept = rows(&mut open(&folder.0).expect("the same store"));
    let of_permits: Vec<_> = kept.iter().filter(|((table, _), _)| *table == Table::Permits).collect();
    assert_eq!(of_permits, [(&(Table::Permits, vec![2, 0]), &b"other".to_vec())]);
    #[cfg(unix)]
    for (path, wanted) in [(folder.file(), 0o600), (folder.0.clone(), 0o700)] {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(path).expect("there").permissions().mode() & 0o777, wanted);
    }
}

/// Goal: a file that is damaged, cut short, newer, or no store at all is refused with what to do, and left as it was.
#[test]
fn what_is_no_store_is_refused_and_left_alone() {
    let folder = Folder::new();
    let mut store = open(&folder.0).expect("a new store");
    for round in 0..20 {
        store.write(&[put(round, &[round; 300])]).expect("room");
    }
    drop(store);
    let (file, sound) = (folder.file(), fs::read(folder.file()).expect("there"));
    let expected = rows(&mut open(&folder.0).expect("sound"));
    let mut refused = 0;
    let cut = (0..40).map(|part| sound[..sound.len() * part / 40].to_vec());
    let changed = (0..400).map(|part| {
        let mut changed = sound.clone();
        let at = changed.len() * part / 400 + part % 7;
        changed[at] ^= 1 << (part % 8);
        changed
    });
    let text = [b"limits = []".to_vec(), vec![0; 10_000]];
    for content in cut.chain(changed).chain(text) {
        fs::write(&file, &content).expect("written");
        match open(&folder.0) {
            // Where nothing is kept, nothing is damaged.
            Ok(mut store) => assert_eq!(rows(&mut store), expected),
            Err(error) => {
                refused += 1;
                assert!(matches!(error, StoreError::Damaged { .. }), "{error:?}");
                assert!(error.to_string().contains("permitd store restore"), "{error}");
                assert!(fs::read(&file).expect("there") == content, "it was left as it was");
            }
        }
    }
    println!("refused {refused}");
    assert!(refused > 45, "{refused}: all that are cut short, and what is changed where something is kept");
    fs::write(&file, &sound).expect("written");
    let newer = Write::Put(Table::Meta, FORMAT_KEY.to_vec(), 2_u32.to_be_bytes().to_vec());
    open(&folder.0).expect("sound").write(&[newer]).expect("room");
    let before = fs::read(&file).expect("there");
    assert!(matches!(open(&folder.0), Err(StoreError::Newer { found: 2, .. })));
    assert!(fs::read(&file).expect("there") == before, "it was left as it was");
}

/// Goal: a backup is what was there, and restoring it keeps what it replaces.
#[test]
fn backups_are_restored() {
    let (folder, other) = (Folder::new(), Folder::new());
    let mut store = open(&folder.0).expect("a new store");
    store.write(&[Write::Put(Table::Meta, b"later".to_vec(), b"one".to_vec())]).expect("room");
    drop(store);
    fs::create_dir_all(&other.0).expect("a folder");
    let copy = other.0.join("backup");
    backup(&folder.0, &copy).expect("copied");
    assert!(backup(&folder.0, &copy).is_err(), "a backup replaces nothing");
    open(&folder.0).expect("sound").write(&[put(1, b"rubbish")]).expect("room");
    assert!(matches!(check(&folder.0), Err(StoreError::Damaged { .. })), "a row that makes no sense");
    restore(&folder.0, &copy).expect("restored");
    let rows: usize = check(&folder.0).expect("sound").iter().map(|(_, rows)| rows).sum();
    assert_eq!(rows, 2, "the format, and what was written");
    assert!(folder.0.join(format!("{FILE}.before-restore")).exists());
    fs::write(&copy, b"no store").expect("written");
    assert!(matches!(restore(&folder.0, &copy), Err(StoreError::Damaged { .. })));
    assert!(check(&folder.0).is_ok(), "nothing was changed");
    assert!(check(&other.0.join("nowhere")).is_err());
}

/// A disk that fails from some step on, and forgets what was not synced when it loses power.
#[derive(Clone, Debug, Default)]
struct Faulty(Arc<Mutex<Platter>>);

#[derive(Debug, Default)]
struct Platter {
    written: Vec<u8>,
    synced: Vec<u8>,
    steps: u64,
    fails_from: Option<u64>,
}

impl Faulty {
    fn step(&self, change: impl FnOnce(&mut Platter)) -> io::Result<()> {
        let mut platter = self.0.lock();
        platter.steps += 1;
        if platter.fails_from.is_some_and(|from| platter.steps > from) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        change(&mut platter);
        Ok(())
    }

    /// What is found after the power, or only the process, was gone.
    fn after(&self, power: bool) -> Self {
        let platter = self.0.lock();
        let left = if power { platter.synced.clone() } else { platter.written.clone() };
        Self(Arc::new(Mutex::new(Platter { written: left.clone(), synced: left, ..Platter::default() })))
    }

    fn open(&self) -> Result<Embedded, StoreError> {
        let disk = self.clone();
        Embedded::open_medium("a disk".into(), Box::new(move || Ok(Box::new(disk.clone()))), None)
    }
}

impl Medium for Faulty {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().written.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let platter = self.0.lock();
        let there = platter.written.get(offset as usize..offset as usize + out.len());
        out.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.step(|platter| {
            let (from, end) = (offset as usize, offset as usize + data.len());
            if platter.written.len() < end {
                platter.written.resize(end, 0);
            }
            platter.written[from..end].copy_from_slice(data);
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.step(|platter| platter.written.resize(len as usize, 0))
    }

    fn sync(&self) -> io::Result<()> {
        self.step(|platter| platter.synced = platter.written.clone())
    }
}

/// Goal: wherever the disk begins to fail, whatever is lost with it: all that was acknowledged is there, in whole writes; and a disk
/// that works again is used again.
#[test]
fn faults_at_every_step() {
    let disk = Faulty::default();
    create_on(Box::new(disk.clone())).expect("room");
    let begin = disk.0.lock().steps;
    let mut good = 0;
    loop {
        let disk = disk.after(true);
        let mut store = disk.open().expect("sound");
        let from = disk.0.lock().steps + good;
        disk.0.lock().fails_from = Some(from);
        let write = |number: u8| [put(number, &[number; 5_000]), put(200, &[number])];
        let acknowledged =
            (1..=4).take_while(|number| store.write(&write(*number)).is_ok()).last().unwrap_or(0);
        for power in [false, true] {
            let rows = rows(&mut disk.after(power).open().expect("sound after any end"));
            let last = rows.get(&(Table::Permits, vec![200, 0])).map_or(0, |value| value[0]);
            assert!(last >= acknowledged, "{acknowledged} writes were acknowledged, and {last} are there");
            for number in 1..=4 {
                let is_there = rows.contains_key(&(Table::Permits, vec![number, 0]));
                assert_eq!(is_there, number <= last, "a write is there as a whole");
            }
        }
        disk.0.lock().fails_from = None;
        store.write(&write(4)).expect("the disk works again");
        assert!(rows(&mut store).contains_key(&(Table::Permits, vec![4, 0])));
        if acknowledged == 4 {
            break;
        }
        good += 1;
    }
    println!("{good} steps, after {begin}");
    assert!(good > 10, "there are steps to fail at");
}

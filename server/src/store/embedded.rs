//! The default store: one redb file in a folder of the server's own. Its layout is in docs/store.md.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io,
    ops::Bound,
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use redb::{Builder, Database, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError};

use super::{
    EachRow, Store, StoreError, Table, Write,
    caught::caught,
    disk::{Disk, Medium},
};

/// The format that is written. Older ones are read and brought forward; newer ones are refused.
pub const FORMAT: u32 = 1;

pub(super) const FORMAT_KEY: &[u8] = b"format";
pub(super) const FILE: &str = "permitd.redb";
const LOCK: &str = "lock";
/// What redb may hold in memory: all of a usual store.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Opens the file, again after every failure.
type Open = Box<dyn Fn() -> io::Result<Box<dyn Medium>> + Send>;

/// The embedded store.
pub struct Embedded {
    place: PathBuf,
    open: Open,
    /// `None` after a write that failed: the file has to be read anew to know what became of it.
    database: Option<Database>,
    /// Held for as long as this owns the folder.
    _lock: Option<File>,
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Embedded {
    /// Opens the store in this folder, or makes both. Only the user who runs this may read them.
    ///
    /// # Errors
    /// All of [`StoreError`]. A file that is refused is left as it was.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        make_private(folder).map_err(|error| StoreError::unavailable(folder, error))?;
        let lock = take_lock(folder)?;
        let place = folder.join(FILE);
        if !place.exists() {
            create(&place)?;
        }
        let file = place.clone();
        let open: Open = Box::new(move || OpenOptions::new().read(true).write(true).open(&file).map(boxed));
        Self::open_medium(place, open, Some(lock))
    }

    pub(super) fn open_medium(place: PathBuf, open: Open, lock: Option<File>) -> Result<Self, StoreError> {
        let mut store = Self { place, open, database: None, _lock: lock };
        store.database = Some(store.open_database()?);
        Ok(store)
    }

    /// Opens on trial, looks at all of it, and only then lets anything be written.
    fn open_database(&self) -> Result<Database, StoreError> {
        let place = self.place.display().to_string();
        let damaged = |why: &dyn fmt::Display| StoreError::damaged(&place, why);
        let medium = (self.open)().map_err(|error| StoreError::unavailable(&self.place, error))?;
        if medium.len().map_err(|error| StoreError::unavailable(&self.place, error))? == 0 {
            return Err(damaged(&"it is empty"));
        }
        let disk = Disk::on_trial(medium).map_err(|error| StoreError::unavailable(&self.place, error))?;
        let backend = disk.clone();
        // redb finds most damage by checksums. Where it trips over some, that is no more than damage either.
        let opened = caught(|| {
            let mut database = Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend)?;
            let sound = database.check_integrity()?;
            Ok::<_, redb::DatabaseError>((database, sound))
        });
        let (database, sound) = match opened {
            Some(Ok(opened)) => opened,
            Some(Err(error)) => return Err(damaged(&error)),
            None => return Err(damaged(&"its pages contradict each other")),
        };
        if !sound {
            return Err(damaged(&"a checksum is wrong"));
        }
        let found = format(&database).map_err(|error| damaged(&error))?;
        match found {
            None => return Err(damaged(&"it does not say which format it has")),
            Some(found) if found > FORMAT => return Err(StoreError::Newer { place, found }),
            Some(_) => {}
        }
        disk.accept().map_err(|error| StoreError::unavailable(&self.place, error))?;
        Ok(database)
    }
}

impl Store for Embedded {
    fn read(&mut self, row: &mut EachRow<'_>) -> Result<(), StoreError> {
        let place = self.place.display().to_string();
        let database =
            self.database.as_ref().ok_or_else(|| StoreError::unavailable(&self.place, "closed"))?;
        let damaged = |error: &dyn fmt::Display| StoreError::damaged(&place, error);
        let transaction = database.begin_read().map_err(|error| damaged(&error))?;
        for name in Table::ALL {
            let table = match transaction.open_table(definition(name)) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => continue,
                Err(error) => return Err(damaged(&error)),
            };
            for entry in table.iter().map_err(|error| damaged(&error))? {
                let (key, value) = entry.map_err(|error| damaged(&error))?;
                row(name, key.value(), value.value())?;
            }
        }
        Ok(())
    }

    fn write(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => self.open_database()?,
        };
        write_all(&database, writes).map_err(|error| StoreError::unavailable(&self.place, error))?;
        self.database = Some(database);
        Ok(())
    }
}

/// Looks at the whole store in this folder: the number of rows by table.
///
/// # Errors
/// What is wrong with it.
pub fn check(folder: &Path) -> Result<Vec<(Table, usize)>, StoreError> {
    must_exist(&folder.join(FILE))?;
    let mut store = Embedded::open(folder)?;
    let mut rows: Vec<_> = Table::ALL.into_iter().map(|table| (table, 0)).collect();
    store.read(&mut |table, _, _| {
        rows.iter_mut().filter(|(name, _)| *name == table).for_each(|(_, count)| *count += 1);
        Ok(())
    })?;
    super::start::read(&mut store)?;
    Ok(rows)
}

/// Copies the store in this folder, which no server may be using, to a new file, and looks at the copy.
///
/// # Errors
/// What is wrong with either.
pub fn backup(folder: &Path, to: &Path) -> Result<(), StoreError> {
    // Also mends what a crash left behind.
    check(folder)?;
    let _lock = take_lock(folder)?;
    let mut from = File::open(folder.join(FILE)).map_err(|error| StoreError::unavailable(folder, error))?;
    copy_new(&mut from, to)
}

/// Puts a backup in place of the store in this folder, which no server may be using. The store that was there stays beside it,
/// with the ending `.before-restore`.
///
/// # Errors
/// What is wrong with either; nothing is changed then.
pub fn restore(folder: &Path, from: &Path) -> Result<(), StoreError> {
    must_exist(from)?;
    make_private(folder).map_err(|error| StoreError::unavailable(folder, error))?;
    let _lock = take_lock(folder)?;
    let (place, new) = (folder.join(FILE), folder.join(format!("{FILE}.new")));
    // What an earlier try left behind.
    drop(fs::remove_file(&new));
    let mut backup = File::open(from).map_err(|error| StoreError::unavailable(from, error))?;
    copy_new(&mut backup, &new)?;
    let copy = new.clone();
    let open: Open = Box::new(move || OpenOptions::new().read(true).write(true).open(&copy).map(boxed));
    let mut store = Embedded::open_medium(from.to_owned(), open, None)?;
    super::start::read(&mut store)?;
    drop(store);
    let moved = (|| {
        if place.exists() {
            fs::rename(&place, folder.join(format!("{FILE}.before-restore")))?;
        }
        fs::rename(&new, &place)?;
        File::open(folder)?.sync_all()
    })();
    moved.map_err(|error| StoreError::unavailable(&place, error))
}

/// Makes an empty store. It is there as a whole or not at all: an empty file is never one that was only begun.
fn create(place: &Path) -> Result<(), StoreError> {
    let new = place.with_extension("redb.new");
    let created = (|| {
        let file = private().read(true).write(true).create(true).truncate(true).open(&new)?;
        create_on(boxed(file))?;
        fs::rename(&new, place)?;
        let folder = place.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok::<_, redb::Error>(())
    })();
    created.map_err(|error| StoreError::unavailable(place, error))
}

pub(super) fn create_on(medium: Box<dyn Medium>) -> Result<(), redb::Error> {
    let disk = Disk::on_trial(medium)?;
    disk.accept()?;
    let database = Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(disk)?;
    write_all(&database, &[Write::Put(Table::Meta, FORMAT_KEY.to_vec(), FORMAT.to_be_bytes().to_vec())])
}

fn must_exist(file: &Path) -> Result<(), StoreError> {
    match fs::metadata(file) {
        Ok(_) => Ok(()),
        Err(error) => Err(StoreError::Unavailable {
            place: file.display().to_string(),
            why: format!("{error}; is this the folder that `permitd serve --data` names?"),
        }),
    }
}

fn copy_new(from: &mut File, to: &Path) -> Result<(), StoreError> {
    let copied = (|| {
        let mut copy = private().write(true).create_new(true).open(to)?;
        io::copy(from, &mut copy)?;
        copy.sync_all()
    })();
    copied.map_err(|error| StoreError::unavailable(to, error))
}

fn take_lock(folder: &Path) -> Result<File, StoreError> {
    let path = folder.join(LOCK);
    let opened = private().write(true).create(true).truncate(false).open(&path);
    let lock = opened.map_err(|error| StoreError::unavailable(&path, error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(folder.to_owned())),
        Err(TryLockError::Error(error)) => Err(StoreError::unavailable(&path, error)),
    }
}

fn boxed(file: File) -> Box<dyn Medium> {
    Box::new(Mutex::new(file))
}

/// For nobody else, where the system knows how: the store holds the key that permits are sealed with.
fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

fn make_private(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder)
}

/// The first key behind all that begin so; `None` if nothing is behind them.
fn behind(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut behind = prefix[..=last].to_vec();
    behind[last] += 1;
    Some(behind)
}

fn definition(table: Table) -> TableDefinition<'static, &'static [u8], &'static [u8]> {
    TableDefinition::new(table.name())
}

fn format(database: &Database) -> Result<Option<u32>, redb::Error> {
    let transaction = database.begin_read()?;
    let table = match transaction.open_table(definition(Table::Meta)) {
        Ok(table) => table,
        Err(TableError::TableDoesNotExist(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let row = table.get(FORMAT_KEY)?;
    Ok(row.and_then(|row| Some(u32::from_be_bytes(row.value().try_into().ok()?))))
}

fn write_all(database: &Database, writes: &[Write]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    for name in Table::ALL {
        let of_table = |write: &&Write| {
            let (Write::Put(table, ..) | Write::Remove(table, _) | Write::RemoveAll(table, _)) = write;
            *table == name
        };
        let mut writes = writes.iter().filter(of_table).peekable();
        if writes.peek().is_none() {
            continue;
        }
        let mut table = transaction.open_table(definition(name))?;
        for write in writes {
            match write {
                Write::Put(_, key, value) => drop(table.insert(key.as_slice(), value.as_slice())?),
                Write::Remove(_, key) => drop(table.remove(key.as_slice())?),
                Write::RemoveAll(_, prefix) => {
                    let behind = behind(prefix);
                    let end = behind.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
                    table.retain_in::<&[u8], _>((Bound::Included(prefix.as_slice()), end), |_, _| false)?;
                }
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

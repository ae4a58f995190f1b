//! The file under the embedded store. It is opened on trial: until it has been found sound, everything that the database writes to
//! it, repairs included, stays in memory, so that a file which is refused is left as it was.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    sync::Arc,
};

use parking_lot::Mutex;
use redb::StorageBackend;

const PAGE: u64 = 4096;

/// A file that can be read and written anywhere.
pub(super) trait Medium: fmt::Debug + Send + Sync + 'static {
    fn len(&self) -> io::Result<u64>;
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    fn sync(&self) -> io::Result<()>;
}

/// The lock is for its position.
impl Medium for Mutex<File> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut file = self.lock();
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(out)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut file = self.lock();
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(data)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.lock().set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.lock().sync_data()
    }
}

/// A medium, on trial at first.
#[derive(Clone, Debug)]
pub(super) struct Disk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    medium: Box<dyn Medium>,
    trial: Mutex<Option<Trial>>,
}

/// What would have been written.
struct Trial {
    len: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE as usize]>>,
}

impl fmt::Debug for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trial").field("len", &self.len).field("pages", &self.pages.len()).finish()
    }
}

impl Disk {
    pub(super) fn on_trial(medium: Box<dyn Medium>) -> io::Result<Self> {
        let trial = Trial { len: medium.len()?, pages: BTreeMap::new() };
        Ok(Self(Arc::new(Inner { medium, trial: Mutex::new(Some(trial)) })))
    }

    /// It was found sound: what was held back is written, and everything from now on at once.
    pub(super) fn accept(&self) -> io::Result<()> {
        let Inner { medium, trial } = &*self.0;
        let mut held = trial.lock();
        let Some(Trial { len, pages }) = &*held else { return Ok(()) };
        medium.set_len(*len)?;
        for (page, data) in pages {
            let offset = page * PAGE;
            let end = len.saturating_sub(offset).min(PAGE) as usize;
            medium.write(offset, &data[..end])?;
        }
        medium.sync()?;
        *held = None;
        Ok(())
    }
}

impl Trial {
    fn page(&mut self, medium: &dyn Medium, page: u64) -> io::Result<&mut [u8; PAGE as usize]> {
        if !self.pages.contains_key(&page) {
            let mut data = Box::new([0; PAGE as usize]);
            let there = medium.len()?.min(self.len).saturating_sub(page * PAGE).min(PAGE) as usize;
            medium.read(page * PAGE, &mut data[..there])?;
            self.pages.insert(page, data);
        }
        Ok(self.pages.get_mut(&page).expect("inserted above"))
    }

    /// Calls `touch` with each page of the range, the part of it, and the part of the buffer.
    fn each(
        &mut self,
        medium: &dyn Medium,
        (offset, length): (u64, usize),
        mut touch: impl FnMut(&mut [u8], std::ops::Range<usize>),
    ) -> io::Result<()> {
        let mut done = 0;
        while done < length {
            let at = offset + done as u64;
            let from = (at % PAGE) as usize;
            let part = (PAGE as usize - from).min(length - done);
            touch(&mut self.page(medium, at / PAGE)?[from..from + part], done..done + part);
            done += part;
        }
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        match &*self.0.trial.lock() {
            Some(trial) => Ok(trial.len),
            None => self.0.medium.len(),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match &mut *self.0.trial.lock() {
            Some(trial) if offset + out.len() as u64 > trial.len => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(trial) => {
                let range = (offset, out.len());
                trial.each(&*self.0.medium, range, |page, part| out[part].copy_from_slice(page))
            }
            None => self.0.medium.read(offset, out),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        match &mut *self.0.trial.lock() {
            Some(trial) => {
                if len < trial.len {
                    trial.pages.split_off(&len.div_ceil(PAGE));
                }
                trial.len = len;
                Ok(())
            }
            None => self.0.medium.set_len(len),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        match &*self.0.trial.lock() {
            Some(_) => Ok(()),
            None => self.0.medium.sync(),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        match &mut *self.0.trial.lock() {
            Some(trial) => {
                let range = (offset, data.len());
                trial.each(&*self.0.medium, range, |page, part| page.copy_from_slice(&data[part]))
            }
            None => self.0.medium.write(offset, data),
        }
    }
}

//! A folder of a test's own, gone with it.

use std::{
    env, fs,
    path::PathBuf,
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// A folder of a test's own, gone with it.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// An empty one.
    ///
    /// # Panics
    /// If there is no place for temporary files.
    #[must_use]
    pub fn new() -> Self {
        static FOLDERS: AtomicU32 = AtomicU32::new(0);
        let number = FOLDERS.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("permitd-tests-{}-{number}", process::id()));
        fs::create_dir_all(&path).expect("a place for temporary files");
        Self(path)
    }

    /// Where a file of that name is, or would be.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Puts a file there at once, as whoever renews secrets does: whoever reads it sees all of the old one or of the new one.
    ///
    /// # Panics
    /// If there is no room.
    pub fn put(&self, name: &str, content: &str) {
        let (path, new) = (self.path(name), self.path(&format!("{name}.new")));
        fs::write(&new, content).expect("room for a file");
        fs::rename(&new, &path).expect("the same folder");
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Nothing to do about a folder that is gone.
        let _ = fs::remove_dir_all(&self.0);
    }
}

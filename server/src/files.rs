//! Notices that files were rewritten or replaced, by looking at them once a second. Asking the system for a notice instead would
//! miss those behind links and on network disks, which is where secrets are mounted.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::{task, time};

/// Between two looks.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Files, and how they were when last looked at.
#[derive(Debug)]
pub(crate) struct Watched {
    files: Vec<(PathBuf, Option<Stamp>)>,
}

/// What changes with a file's content, as a rule. `None` for a file that is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    /// A file that was moved over another one may be older.
    inode: u64,
}

impl Watched {
    /// Has to be made before the files are read, so that a change in between is noticed.
    pub(crate) fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let files = paths.into_iter().map(|path| {
            let stamp = stamp(&path);
            (path, stamp)
        });
        Self { files: files.collect() }
    }

    /// Whether any of them changed since the last look.
    fn look(&mut self) -> bool {
        let mut changed = false;
        for (path, seen) in &mut self.files {
            let now = stamp(path);
            changed |= *seen != now;
            *seen = now;
        }
        changed
    }

    /// Calls `changed` after every change, for ever. Looks and calls happen where they may block.
    pub(crate) async fn watch(mut self, changed: impl Fn() + Clone + Send + 'static) {
        let mut timer = time::interval(LOOK_INTERVAL);
        timer.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        loop {
            timer.tick().await;
            let changed = changed.clone();
            let looked = task::spawn_blocking(move || {
                if self.look() {
                    changed();
                }
                self
            });
            // It fails only where the server stops.
            let Ok(watched) = looked.await else { return };
            self = watched;
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    Some(Stamp { modified: metadata.modified().ok(), length: metadata.len(), inode: inode(&metadata) })
}

#[cfg(unix)]
fn inode(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
fn inode(_: &fs::Metadata) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a file that comes, is replaced by one of the same length, or goes is noticed, once each.
    #[test]
    fn notices_each_change_once() {
        let folder = std::env::temp_dir().join(format!("permitd-files-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let (path, other) = (folder.join("watched"), folder.join("other"));
        let mut watched = Watched::new([path.clone()]);
        assert!(!watched.look());
        fs::write(&path, "one").expect("written");
        assert!(watched.look());
        assert!(!watched.look());
        fs::write(&other, "two").expect("written");
        fs::rename(&other, &path).expect("replaced");
        assert!(watched.look());
        assert!(!watched.look());
        fs::remove_dir_all(&folder).expect("removed");
        assert!(watched.look());
        assert!(!watched.look());
    }
}

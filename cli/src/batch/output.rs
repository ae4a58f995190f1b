//! The files that a run leaves: results, to which every run adds, and errors, which each run begins anew, since what failed is
//! tried again. Opening them mends what a run that was killed left, and keeps other runs out.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufReader, Seek as _, SeekFrom, Write as _},
    path::{Path, PathBuf},
};

use super::{
    ids::{Ids, REQUESTS_MAX},
    lines::{Line, Lines},
    provider::ANSWER_BYTES_MAX,
    record::Written,
};
use crate::failure::Failure;

/// Bytes in a line of results: an answer of which every character is escaped, and what stands around it.
const RESULT_BYTES_MAX: usize = 6 * ANSWER_BYTES_MAX + 64 * 1024;

/// Both files, locked.
#[derive(Debug)]
pub(super) struct Outputs {
    pub(super) results: File,
    pub(super) errors: File,
    pub(super) errors_path: PathBuf,
    /// What was found wrong and mended, for people.
    pub(super) mended: Option<String>,
}

impl Outputs {
    /// Opens the results and the errors beside them, and reads which requests are answered.
    pub(super) fn open(out: &Path, input: Option<&Path>) -> Result<(Self, Ids), Failure> {
        let errors_path = errors_beside(out);
        for path in [out, &errors_path] {
            if input.is_some_and(|input| is_same(input, path)) {
                let failure = Failure::new(format!("--out: {} is the input", path.display()));
                return Err(failure.hint("choose another name for the results").exit_code(2));
            }
        }
        let results = open(out)?;
        let errors = open(&errors_path)?;
        let (ids, mended) = read_and_mend(&results, out)?;
        errors.set_len(0).map_err(|error| cannot("empty", &errors_path, &error))?;
        sync_folder(out).map_err(|error| cannot("keep", out, &error))?;
        Ok((Self { results, errors, errors_path, mended }, ids))
    }
}

/// `results.errors.jsonl` beside `results.jsonl`.
fn errors_beside(out: &Path) -> PathBuf {
    let mut name = out.file_stem().unwrap_or_default().to_owned();
    name.push(".errors");
    if let Some(extension) = out.extension() {
        name.push(".");
        name.push(extension);
    }
    out.with_file_name(name)
}

fn is_same(one: &Path, other: &Path) -> bool {
    matches!((fs::canonicalize(one), fs::canonicalize(other)), (Ok(one), Ok(other)) if one == other)
}

/// Opens a file to add to, made if it is not there, that nobody else adds to meanwhile.
fn open(path: &Path) -> Result<File, Failure> {
    let opened = OpenOptions::new().read(true).append(true).create(true).open(path);
    let file = opened.map_err(|error| cannot("open", path, &error))?;
    let is_file = file.metadata().map_err(|error| cannot("open", path, &error))?.is_file();
    if !is_file {
        let failure = Failure::new(format!("--out: {} is no file", path.display()));
        return Err(failure.hint("results are read again to go on, so they need a file").exit_code(2));
    }
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let failure = Failure::new(format!("another run writes {}", path.display()));
            Err(failure.hint("let it end, or choose another --out"))
        }
        Err(TryLockError::Error(error)) => Err(cannot("lock", path, &error)),
    }
}

/// Which requests are answered. The last line may be torn, by a kill or a full disk: it is completed where only its end is
/// missing, and cut off otherwise.
fn read_and_mend(file: &File, path: &Path) -> Result<(Ids, Option<String>), Failure> {
    let failed = |error: io::Error| cannot("read", path, &error);
    let mut reader = file;
    reader.seek(SeekFrom::Start(0)).map_err(failed)?;
    let mut lines = Lines::new(BufReader::new(reader), RESULT_BYTES_MAX);
    let (mut ids, mut number, mut whole) = (Ids::default(), 0_u64, 0_u64);
    while let Some(line) = lines.next().map_err(failed)? {
        number += 1;
        match custom_id(&line) {
            Some(custom_id) => {
                if !ids.answered(&custom_id) {
                    let failure =
                        Failure::new(format!("{} has more than {REQUESTS_MAX} lines", path.display()));
                    return Err(failure.hint("choose another --out for the rest of the requests"));
                }
                if !line.is_ended {
                    let mut file = file;
                    file.write_all(b"\n").and_then(|()| file.sync_data()).map_err(failed)?;
                    return Ok((
                        ids,
                        Some(format!("{}: the end of its last line was missing", path.display())),
                    ));
                }
            }
            None if line.is_ended && line.is_blank() => {}
            None if line.is_ended => {
                let failure = Failure::new(format!("{}:{number} is no result", path.display()));
                return Err(failure.hint("choose another --out, or take that line out"));
            }
            None => {
                file.set_len(whole).and_then(|()| file.sync_data()).map_err(failed)?;
                let cut = line.length;
                let told = format!("{}: its last line was torn; {cut} bytes were cut off", path.display());
                return Ok((ids, Some(told)));
            }
        }
        whole += line.length;
    }
    Ok((ids, None))
}

/// Whose result a line is.
fn custom_id(line: &Line<'_>) -> Option<String> {
    if line.is_too_long {
        return None;
    }
    serde_json::from_slice::<Written>(line.bytes).ok().map(|written| written.custom_id)
}

/// Makes sure that new files are still there after the power fails.
fn sync_folder(of: &Path) -> io::Result<()> {
    #[cfg(unix)]
    {
        let folder = of.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()?;
    }
    let _ = of;
    Ok(())
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> Failure {
    Failure::new(format!("--out: can't {what} {}", path.display())).because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: errors stand beside results, whatever these are called.
    #[test]
    fn names_the_errors() {
        for (out, errors) in [
            ("results.jsonl", "results.errors.jsonl"),
            ("a.b/c.d.jsonl", "a.b/c.d.errors.jsonl"),
            ("results", "results.errors"),
        ] {
            assert_eq!(errors_beside(Path::new(out)), Path::new(errors));
        }
    }
}

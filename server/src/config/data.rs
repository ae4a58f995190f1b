//! Where state is kept, in words: a folder, or `none`.

use std::{fmt, path::PathBuf, str::FromStr};

/// Where state is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// In memory: gone with the process.
    Memory,
    /// In a file in this folder, which is made if it is not there.
    Folder(PathBuf),
}

impl Default for Data {
    /// `permitd-data`, where the process was started.
    fn default() -> Self {
        Self::Folder("permitd-data".into())
    }
}

impl FromStr for Data {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => Err("name a folder, or \"none\" to keep everything in memory".to_owned()),
            "none" => Ok(Self::Memory),
            folder => Ok(Self::Folder(folder.into())),
        }
    }
}

impl fmt::Display for Data {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("none"),
            Self::Folder(folder) => folder.display().fmt(f),
        }
    }
}

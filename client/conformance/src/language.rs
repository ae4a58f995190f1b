//! The languages, and the two things that can be asked of each driver: to be built, and to run.

use std::{path::PathBuf, process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

use crate::root;

/// How long a driver may take to install what it needs and to be built.
const BUILD_PATIENCE: Duration = Duration::from_secs(15 * 60);

/// A language with a client library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Language(pub(crate) &'static str);

/// All of them. One of which the driver is missing fails.
pub(crate) const LANGUAGES: [Language; 5] =
    [Language("rust"), Language("python"), Language("typescript"), Language("go"), Language("java")];

impl Language {
    /// What starts its driver.
    pub(crate) fn run(self) -> PathBuf {
        root().join("client").join(self.0).join("conformance/run")
    }

    /// Installs what the driver needs, and builds it.
    ///
    /// # Errors
    /// What to do about it.
    pub(crate) async fn build(self) -> Result<(), String> {
        let run = self.run();
        if !run.exists() {
            return Err(format!(
                "there is no {}; client/conformance/README.md says what it does",
                run.display()
            ));
        }
        let mut command = Command::new(&run);
        command.arg("build").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let built = timeout(BUILD_PATIENCE, command.kill_on_drop(true).output()).await;
        let built =
            built.map_err(|_| format!("{} build took more than {BUILD_PATIENCE:?}", run.display()))?;
        let built = built.map_err(|error| format!("{} build: {error}", run.display()))?;
        if built.status.success() {
            return Ok(());
        }
        let said = [String::from_utf8_lossy(&built.stdout), String::from_utf8_lossy(&built.stderr)].concat();
        Err(format!(
            "{} build failed ({}); its toolchain has to be installed:\n{said}",
            run.display(),
            built.status
        ))
    }
}

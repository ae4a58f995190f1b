//! The Debian package.

use permitd_tests::{Folder, Permitd, Tool, binary};

use crate::{path, read};

const CARGO_DEB: Tool =
    Tool { name: "cargo-deb", variable: "CARGO_DEB", source: "cargo install --locked cargo-deb" };
const DPKG_DEB: Tool =
    Tool { name: "dpkg-deb", variable: "DPKG_DEB", source: "Debian's package dpkg has it" };

/// Goal: the configuration that the package installs is one that a server starts with.
#[tokio::test]
async fn its_configuration_serves() {
    Permitd::start(&read("deploy/debian/permitd.toml")).await.stop().await;
}

/// Goal: a package is made, with the binary, the unit, and a configuration that updates leave alone.
#[test]
#[ignore = "needs cargo-deb and dpkg-deb: make test-packaging"]
fn a_package_is_made() {
    // What is built for these tests is packed as well as a release.
    assert!(binary().exists());
    let folder = Folder::new();
    let package = folder.path("permitd.deb");
    let package = package.to_str().expect("text");
    let arguments = [
        "--package",
        "permitd",
        "--no-build",
        "--no-strip",
        "--fast",
        "--profile",
        "dev",
        "--output",
        package,
    ];
    CARGO_DEB.run(&path("."), &arguments);
    let contents = DPKG_DEB.run(&path("."), &["--contents", package]);
    for file in [
        "./usr/bin/permitd",
        "./usr/lib/systemd/system/permitd.service",
        "./etc/permitd/permitd.toml",
        "./usr/share/doc/permitd/permitd.example.toml",
    ] {
        assert!(contents.lines().any(|line| line.ends_with(file)), "{file} in\n{contents}");
    }
    let control = DPKG_DEB.run(&path("."), &["--field", package]);
    assert!(control.contains("Package: permitd\n") && control.contains("Section: net\n"), "{control}");
    let kept = DPKG_DEB.run(&path("."), &["--info", package, "conffiles"]);
    assert_eq!(kept.trim(), "/etc/permitd/permitd.toml");
}

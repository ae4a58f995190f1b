//! A real browser without a screen, one for each test, gone with it.

use std::{net::SocketAddr, process::Stdio};

use fantoccini::{Client, ClientBuilder, Locator, elements::Element, key::Key};
use hyper_util::client::legacy::connect::HttpConnector;
use permitd_tests::{Folder, soon, until};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

/// What a person has told their system to prefer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scheme {
    Light,
    Dark,
}

/// A browser, and who drives it.
#[derive(Debug)]
pub(crate) struct Browser {
    client: Client,
    driver: Child,
    _profile: Folder,
}

impl Browser {
    /// Starts one that has nothing open.
    pub(crate) async fn start(scheme: Scheme) -> Self {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // The browser is of the same group, and ends with it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .expect(
                "Chromium is needed for this test: install it with `apt-get install chromium chromium-driver`, or `make setup`",
            );
        let mut lines = BufReader::new(driver.stdout.take().expect("piped")).lines();
        let port = soon("the driver's port", async {
            loop {
                let line = lines.next_line().await.expect("text").expect("it starts");
                if let Some((_, port)) = line.split_once("started successfully on port ") {
                    return port.trim_end_matches('.').to_owned();
                }
            }
        });
        let url = format!("http://127.0.0.1:{}", port.await);
        // Nobody reads on, but it may have more to say.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let profile = Folder::new();
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities(&profile, scheme));
        let client = soon("a browser", builder.connect(&url)).await.expect("a session");
        Self { client, driver, _profile: profile }
    }

    /// Opens a place of the console.
    pub(crate) async fn open(&self, http: SocketAddr, place: &str) {
        self.client.goto(&format!("http://{http}/{place}")).await.expect("it is served");
    }

    /// What an expression comes to in the page.
    pub(crate) async fn value(&self, expression: &str) -> Value {
        let script = format!("return ({expression});");
        self.client.execute(&script, Vec::new()).await.unwrap_or_else(|error| panic!("{expression}: {error}"))
    }

    /// Waits until an expression holds in the page.
    pub(crate) async fn sees(&self, expression: &str) {
        until(expression, async || self.value(expression).await == true).await;
    }

    /// Waits until this text is on the page.
    pub(crate) async fn reads(&self, text: &str) {
        self.sees(&format!("document.body.innerText.includes({})", json!(text))).await;
    }

    /// Waits for an element that can be seen.
    pub(crate) async fn find(&self, css: &str) -> Element {
        self.sees(&format!("!!document.querySelector({})?.checkVisibility()", json!(css))).await;
        self.client.find(Locator::Css(css)).await.expect("it was seen")
    }

    /// Presses the button, or follows the link, that is called so.
    pub(crate) async fn press(&self, name: &str) {
        let named = format!(
            "[...document.querySelectorAll('dialog[open] button, button, a')].find((it) => it.innerText.trim() === {} \
             && it.checkVisibility() && !it.disabled)",
            json!(name)
        );
        self.sees(&format!("!!{named}")).await;
        self.value(&format!("{named}.click()")).await;
    }

    /// Replaces what an input holds.
    pub(crate) async fn write(&self, css: &str, text: &str) {
        let input = self.find(css).await;
        input.clear().await.expect("it can be written");
        input.send_keys(text).await.expect("it can be written");
    }

    /// Types into whatever has the focus.
    pub(crate) async fn types(&self, text: &str) {
        let focus = self.client.active_element().await.expect("something has the focus");
        focus.send_keys(text).await.expect("it takes keys");
    }

    /// Goes from one element to the next by the tab key until this holds of the one that has the focus, called `it`.
    pub(crate) async fn tab_to(&self, what: &str) {
        const STEPS: usize = 60;
        for _ in 0..STEPS {
            self.types(&Key::Tab.to_string()).await;
            if self.value(&format!("((it) => {what})(document.activeElement)")).await == true {
                return;
            }
        }
        panic!("no key leads to {what}");
    }

    /// What is seen, as a PNG.
    pub(crate) async fn picture(&self) -> Vec<u8> {
        self.client.screenshot().await.expect("a picture")
    }

    /// Runs a script that may wait; what it comes to.
    pub(crate) async fn run(&self, script: &str) -> Value {
        let script = format!("const done = arguments[0]; (async () => {{ {script} }})().then(done);");
        soon("a script", self.client.execute_async(&script, Vec::new())).await.expect("a sound script")
    }

    /// Closes it, at the end of a test.
    pub(crate) async fn close(self) {
        self.client.clone().close().await.expect("it was open");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let group = self.driver.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(group) = group {
            // Nothing to do about one that is gone.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

fn capabilities(profile: &Folder, scheme: Scheme) -> fantoccini::wd::Capabilities {
    let scheme = match scheme {
        Scheme::Dark => 0,
        Scheme::Light => 1,
    };
    let arguments = [
        "--headless=new".to_owned(),
        // Whoever runs tests in a container is root there.
        "--no-sandbox".to_owned(),
        "--disable-dev-shm-usage".to_owned(),
        "--disable-gpu".to_owned(),
        "--hide-scrollbars".to_owned(),
        "--window-size=1180,860".to_owned(),
        "--lang=en-GB".to_owned(),
        "--enable-precise-memory-info".to_owned(),
        "--js-flags=--expose-gc".to_owned(),
        format!("--blink-settings=preferredColorScheme={scheme}"),
        format!("--user-data-dir={}", profile.path("profile").display()),
    ];
    let Value::Object(capabilities) = json!({
        "goog:chromeOptions": { "args": arguments },
        "timeouts": { "script": 40_000 },
    }) else {
        unreachable!("written as an object")
    };
    capabilities
}

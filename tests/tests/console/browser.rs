//! A real browser without a screen, one for each test, gone with it.

use std::{io, net::SocketAddr, process::Stdio};

use fantoccini::{Client, ClientBuilder, Locator, elements::Element, key::Key};
use hyper_util::client::legacy::connect::HttpConnector;
use permitd_tests::{Folder, soon, until};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
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
    driver_at: SocketAddr,
    _profile: Folder,
}

/// A driver may draw a port that is another program's by the time that it listens, and ends then.
const STARTS_MAX: usize = 5;

async fn start_driver() -> (Child, SocketAddr) {
    for _ in 0..STARTS_MAX {
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
            while let Some(line) = lines.next_line().await.expect("text") {
                if let Some((_, port)) = line.split_once("started successfully on port ") {
                    return Some(port.trim_end_matches('.').to_owned());
                }
                println!("chromedriver: {line}");
            }
            None
        });
        if let Some(port) = port.await {
            // Nobody reads on, but it may have more to say.
            tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
            return (driver, ([127, 0, 0, 1], port.parse().expect("a port")).into());
        }
    }
    panic!("chromedriver ended {STARTS_MAX} times before it listened");
}

impl Browser {
    /// Starts one that has nothing open.
    pub(crate) async fn start(scheme: Scheme) -> Self {
        let (driver, driver_at) = start_driver().await;
        let profile = Folder::new();
        let mut builder = ClientBuilder::new(HttpConnector::new());
        builder.capabilities(capabilities(&profile, scheme));
        let client =
            soon("a browser", builder.connect(&format!("http://{driver_at}"))).await.expect("a session");
        Self { client, driver, driver_at, _profile: profile }
    }

    /// Opens a place of the console.
    pub(crate) async fn open(&self, http: SocketAddr, place: &str) {
        self.client.goto(&format!("http://{http}/{place}")).await.expect("it is served");
    }

    /// Goes to an empty page.
    pub(crate) async fn leave(&self) {
        self.client.goto("about:blank").await.expect("it is built in");
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

    /// Has the browser itself do something: <https://chromedevtools.github.io/devtools-protocol/>.
    pub(crate) async fn devtools(&self, method: &str, params: Value) -> Value {
        let session = self.client.session_id().await.expect("it is open").expect("it is open");
        let body = json!({ "cmd": method, "params": params }).to_string();
        let request = format!(
            "POST /session/{session}/goog/cdp/execute HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\n\r\n{body}",
            self.driver_at,
            body.len()
        );
        let told = soon(method, exchange(self.driver_at, &request)).await.expect("the driver answers");
        let told: Value = serde_json::from_slice(&told).expect("JSON");
        assert!(told["value"].get("error").is_none(), "{method}: {told}");
        told["value"].clone()
    }

    /// Makes the screen as narrow as a phone's.
    pub(crate) async fn is_narrow(&self) {
        let screen = json!({ "width": 320, "height": 640, "deviceScaleFactor": 1, "mobile": true });
        self.devtools("Emulation.setDeviceMetricsOverride", screen).await;
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

/// What the driver answers, without the head. It does not hang up, whatever it is asked.
async fn exchange(driver: SocketAddr, request: &str) -> io::Result<Vec<u8>> {
    let mut stream = BufReader::new(TcpStream::connect(driver).await?);
    stream.write_all(request.as_bytes()).await?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        match line.trim_end().split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
            None if line.trim_end().is_empty() => break,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    Ok(body)
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

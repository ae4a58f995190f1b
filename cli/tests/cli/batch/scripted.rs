//! A provider that answers as a test says, over HTTP/1.1, and keeps what it was asked.

use std::{
    io::{BufRead as _, BufReader, Read, Write},
    net::TcpListener,
    sync::{Arc, Condvar, Mutex},
    thread,
};

use serde_json::{Value, json};

/// What a provider was asked.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// Method, path and version.
    pub(super) line: String,
    /// As they came, one a line.
    pub(super) headers: String,
    pub(super) body: Value,
    /// How many calls there were before.
    pub(super) number: usize,
}

/// What it says.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: &'static str,
    pub(super) body: String,
}

impl Reply {
    pub(super) fn new(status: u16, body: impl Into<String>) -> Self {
        Self { status, headers: "", body: body.into() }
    }

    /// Success, with the call's prompt in it.
    pub(super) fn to(call: &Call) -> Self {
        let usage = json!({"prompt_tokens": 3, "completion_tokens": 2});
        Self::new(200, json!({"echo": call.prompt(), "usage": usage}).to_string())
    }
}

impl Call {
    pub(super) fn prompt(&self) -> &str {
        self.body["prompt"].as_str().unwrap_or_default()
    }

    /// The value of a header, by its name in small letters.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let values = self.headers.lines().filter_map(|line| line.split_once(": "));
        values.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

type Script = dyn Fn(&Call) -> Reply + Send + Sync;

/// A provider; its threads end with the process.
#[derive(Clone)]
pub(super) struct Scripted {
    pub(super) url: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    calls: Vec<Call>,
    is_shut: bool,
}

impl Scripted {
    pub(super) fn start(script: impl Fn(&Call) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let provider = Self { url, state: Arc::default() };
        let (serving, script) = (provider.clone(), Arc::new(script));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (serving, script) = (serving.clone(), Arc::clone(&script));
                thread::spawn(move || serving.serve(stream, &*script));
            }
        });
        provider
    }

    /// A provider that is spoken to in some other way than by this socket.
    pub(super) fn detached(url: String) -> Self {
        Self { url, state: Arc::default() }
    }

    /// Serves one connection until its end.
    pub(super) fn serve(&self, stream: impl Read + Write, script: &Script) {
        let mut stream = BufReader::new(stream);
        while let Some(call) = self.read(&mut stream) {
            let reply = script(&call);
            let mut state = self.state.inner.lock().expect("no panic");
            while state.is_shut {
                state = self.state.changed.wait(state).expect("no panic");
            }
            drop(state);
            let Reply { status, headers, body } = reply;
            let length = body.len();
            let answer =
                format!("HTTP/1.1 {status} Scripted\r\n{headers}content-length: {length}\r\n\r\n{body}");
            // The caller may be gone.
            let written = stream.get_mut().write_all(answer.as_bytes());
            if written.and_then(|()| stream.get_mut().flush()).is_err() {
                return;
            }
        }
    }

    fn read(&self, stream: &mut BufReader<impl Read>) -> Option<Call> {
        let mut next = || {
            let mut line = String::new();
            stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
            Some(line.trim_end().to_owned())
        };
        let line = next()?;
        let mut headers = Vec::new();
        while let Some(header) = next().filter(|header| !header.is_empty()) {
            headers.push(header);
        }
        let headers = headers.join("\n");
        let mut call = Call { line, headers, body: Value::Null, number: 0 };
        let length = call.header("content-length").map_or(0, |length| length.parse().expect("a length"));
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        call.body = serde_json::from_slice(&body).unwrap_or_default();
        let mut state = self.state.inner.lock().expect("no panic");
        call.number = state.calls.len();
        state.calls.push(call.clone());
        self.state.changed.notify_all();
        Some(call)
    }

    /// Everything that was asked.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.state.inner.lock().expect("no panic").calls.clone()
    }

    /// Prompts of all calls, sorted.
    pub(super) fn prompts(&self) -> Vec<String> {
        let mut prompts: Vec<_> = self.calls().iter().map(|call| call.prompt().to_owned()).collect();
        prompts.sort();
        prompts
    }

    /// Keeps all answers back from now on, or lets them go.
    pub(super) fn shut(&self, is_shut: bool) {
        self.state.inner.lock().expect("no panic").is_shut = is_shut;
        self.state.changed.notify_all();
    }

    /// Waits for so many calls in all.
    pub(super) fn wait_for_calls(&self, calls: usize) {
        let mut state = self.state.inner.lock().expect("no panic");
        while state.calls.len() < calls {
            let (woken, waited) =
                self.state.changed.wait_timeout(state, super::bench::PATIENCE).expect("no panic");
            assert!(!waited.timed_out(), "{} of {calls} calls", woken.calls.len());
            state = woken;
        }
    }
}

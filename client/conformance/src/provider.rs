//! A provider that answers as a case says, over HTTP/1.1: call by call, the last answer for ever.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

/// Bytes of a request's body, at most.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// One answer.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reply {
    status: u16,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    body: String,
}

/// A provider. Dropped, it takes no more connections.
pub(crate) struct Provider {
    pub(crate) address: SocketAddr,
    calls: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Provider {
    pub(crate) async fn start(replies: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let calls = Arc::new(AtomicUsize::new(0));
        let (counted, replies) = (Arc::clone(&calls), Arc::new(replies));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&replies), Arc::clone(&counted)));
            }
        });
        Self { address, calls, accepting }
    }

    /// How often it was called.
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// One connection, until the caller leaves it or says something that is no HTTP.
async fn serve(stream: TcpStream, replies: Arc<Vec<Reply>>, calls: Arc<AtomicUsize>) {
    let mut stream = BufReader::new(stream);
    while read_request(&mut stream).await.is_some() {
        let number = calls.fetch_add(1, Ordering::SeqCst);
        let Some(reply) = replies.get(number).or(replies.last()) else { return };
        let headers: String =
            reply.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let (status, body) = (reply.status, &reply.body);
        let answer =
            format!("HTTP/1.1 {status} Scripted\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// Reads past one request.
async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<()> {
    let (mut length, mut is_chunked) = (0, false);
    loop {
        let line = read_line(stream).await?;
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        is_chunked |= line.starts_with("transfer-encoding:") && line.contains("chunked");
    }
    if !is_chunked {
        return read_past(stream, length).await;
    }
    loop {
        let size = usize::from_str_radix(&read_line(stream).await?, 16).ok()?;
        read_past(stream, size).await?;
        read_line(stream).await?;
        if size == 0 {
            return Some(());
        }
    }
}

/// A line without its end, in small letters.
async fn read_line(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).await.ok()?;
    (read > 0).then(|| line.trim_end().to_ascii_lowercase())
}

async fn read_past(stream: &mut BufReader<TcpStream>, bytes: usize) -> Option<()> {
    if bytes > BODY_BYTES_MAX {
        return None;
    }
    stream.read_exact(&mut vec![0; bytes]).await.ok().map(|_| ())
}

//! The least of HTTP: one question on a connection of its own, and the body of a good answer.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::bench::Error;

/// A server that says nothing for so long is asked no more.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// What stands at that path.
pub(crate) fn get(server: SocketAddr, path: &str) -> Result<String, Error> {
    ask(server, &format!("GET {path}"), "")
}

/// What is answered to that body.
pub(crate) fn post(server: SocketAddr, path: &str, body: &str) -> Result<String, Error> {
    ask(server, &format!("POST {path}"), body)
}

fn ask(server: SocketAddr, what: &str, body: &str) -> Result<String, Error> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    // Of that version, so that the body is not sent in parts.
    write!(stream, "{what} HTTP/1.0\r\nhost: {server}\r\ncontent-length: {}\r\n\r\n{body}", body.len())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    let status = head.lines().next().unwrap_or_default();
    if status.split(' ').nth(1) == Some("200") { Ok(body.to_owned()) } else { Err(status.into()) }
}

//! Plain HTTP, as much as a probe speaks.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::rustls::pki_types::ServerName;

use crate::{authority::Authority, wait::soon};

/// What `GET` answers, head and all; with a token, if one is given.
///
/// # Panics
/// If there is no answer.
pub async fn http_get(address: SocketAddr, path: &str, token: Option<&str>) -> String {
    let stream = TcpStream::connect(address).await.expect("it listens");
    get(stream, path, token).await
}

/// As [`http_get`], through TLS, of a server that this authority vouches for.
///
/// # Panics
/// If it does not, or there is no answer.
pub async fn https_get(
    authority: &Authority,
    address: SocketAddr,
    path: &str,
    token: Option<&str>,
) -> String {
    let stream = TcpStream::connect(address).await.expect("it listens");
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = soon("a handshake", authority.connector().connect(name, stream)).await.expect("trusted");
    get(stream, path, token).await
}

/// What is answered, head and all, to a request that is written as given. It has to ask that the connection be closed.
///
/// # Panics
/// If there is no answer.
pub async fn http_send(address: SocketAddr, request: &str) -> String {
    send(TcpStream::connect(address).await.expect("it listens"), request).await
}

async fn get(stream: impl AsyncRead + AsyncWrite + Unpin, path: &str, token: Option<&str>) -> String {
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let request = format!("GET {path} HTTP/1.1\r\nhost: tests\r\nconnection: close\r\n{token}\r\n");
    send(stream, &request).await
}

async fn send(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    soon("an answer", stream.read_to_string(&mut answer)).await.expect("text");
    answer
}

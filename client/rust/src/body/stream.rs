//! Reads what was used out of a response while it passes by: a JSON document, or a stream of events.

use super::told::Told;
use crate::Usage;

/// Bytes of a document, or of one line of a stream, that are kept at most; a longer one says nothing.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Takes the bytes of a response's body as they come, and says at the end what was used.
///
/// ```
/// use permitd_client::body::UsageReader;
///
/// let mut reader = UsageReader::new("text/event-stream");
/// reader.push(b"data: {\"usage\":{\"prompt_tokens\":9,");
/// reader.push(b"\"completion_tokens\":4}}\n\ndata: [DONE]\n\n");
/// assert_eq!(reader.finish().input_tokens, Some(9));
/// ```
#[derive(Debug)]
pub struct UsageReader {
    is_stream: bool,
    /// The document so far, or the line.
    kept: Vec<u8>,
    /// Whether it is longer than what is kept.
    is_too_long: bool,
    told: Told,
}

impl UsageReader {
    /// For a body of that `content-type`.
    #[must_use]
    pub fn new(content_type: &str) -> Self {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        let is_stream = kind.eq_ignore_ascii_case("text/event-stream");
        Self { is_stream, kept: Vec::new(), is_too_long: false, told: Told::default() }
    }

    /// The next bytes.
    pub fn push(&mut self, mut bytes: &[u8]) {
        if !self.is_stream {
            return self.keep(bytes);
        }
        while let Some(end) = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.keep(&bytes[..end]);
            self.end_of_line();
            bytes = &bytes[end + 1..];
        }
        self.keep(bytes);
    }

    /// What was used, as far as it was said.
    #[must_use]
    pub fn finish(self) -> Usage {
        match self.is_stream {
            true => self.told.usage(),
            false if self.is_too_long => Usage::new(),
            false => super::usage(self.kept),
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.is_too_long |= self.kept.len() + bytes.len() > KEPT_BYTES_MAX;
        if self.is_too_long {
            self.kept = Vec::new();
        } else {
            self.kept.extend_from_slice(bytes);
        }
    }

    /// Providers put each event's data into one line.
    fn end_of_line(&mut self) {
        let data = self.kept.strip_prefix(b"data:").filter(|_| !self.is_too_long);
        if let Some(told) = data.and_then(Told::read) {
            self.told.learn(told);
        }
        self.kept.clear();
        self.is_too_long = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: it does not matter where the network cuts a stream.
    #[test]
    fn cut_anywhere() {
        let stream = "event: message_start\r\ndata: {\"message\":{\"usage\":{\"input_tokens\":9,\"output_tokens\":1}}}\r\n\r\n\
                      data: {\"usage\":{\"output_tokens\":40}}\n\ndata: [DONE]\n\n";
        for cut in 0..stream.len() {
            let mut reader = UsageReader::new("text/event-stream; charset=utf-8");
            reader.push(&stream.as_bytes()[..cut]);
            reader.push(&stream.as_bytes()[cut..]);
            let usage = reader.finish();
            assert_eq!((usage.input_tokens, usage.output_tokens), (Some(9), Some(40)), "cut at {cut}");
        }
    }

    /// Goal: a body without end does not fill the memory, and a line without end hides no other.
    #[test]
    fn what_is_kept_is_bounded() {
        let chunk = vec![b'x'; 1024 * 1024];
        let mut document = UsageReader::new("application/json");
        let mut stream = UsageReader::new("text/event-stream");
        for _ in 0..6 {
            document.push(&chunk);
            stream.push(&chunk);
            assert!(document.kept.len() <= KEPT_BYTES_MAX && stream.kept.len() <= KEPT_BYTES_MAX);
        }
        stream.push(b"\ndata: {\"usage\":{\"prompt_tokens\":3}}\n");
        assert!(document.finish().is_empty());
        assert_eq!(stream.finish().input_tokens, Some(3));
    }
}

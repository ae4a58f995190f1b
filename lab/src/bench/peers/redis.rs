//! A token bucket as a script in Redis, by its protocol RESP2: what people do who have a Redis. One connection, whose questions are all
//! sent before the first answer is read.

use std::{io, net::SocketAddr};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

use crate::bench::{Error, load::key_of};

/// Takes one of a bucket that holds ARGV[2] and gets ARGV[1] a second, by Redis' own clock. Answers 0, or after how many microseconds
/// there will be one. A bucket that would be full is forgotten.
const SCRIPT: &str = "\
local t = redis.call('TIME')
local now = t[1] * 1000000 + t[2]
local rate, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local bucket = redis.call('HMGET', KEYS[1], 'level', 'at')
local level, at = tonumber(bucket[1]) or burst, tonumber(bucket[2]) or now
level = math.min(burst, level + (now - at) * rate / 1000000)
local wait = 0
if level >= 1 then level = level - 1 else wait = math.ceil((1 - level) * 1000000 / rate) end
redis.call('HSET', KEYS[1], 'level', level, 'at', now)
redis.call('PEXPIRE', KEYS[1], math.ceil(burst * 1000 / rate) + 1000)
return wait";

/// So many a second, and at once, that nobody reaches it.
const AMPLE: &str = "1000000000";

/// A connection.
pub(super) struct Redis {
    stream: BufReader<TcpStream>,
    /// What Redis calls the script.
    script: String,
    /// How much a bucket gets in a second, and how much it holds.
    pub(super) bucket: [&'static str; 2],
    asked: Vec<u8>,
    answer: String,
}

impl Redis {
    pub(super) async fn connect(server: SocketAddr) -> Result<Self, Error> {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        let mut redis = Self {
            stream: BufReader::new(stream),
            script: String::new(),
            bucket: [AMPLE; 2],
            asked: Vec::new(),
            answer: String::new(),
        };
        write_command(&mut redis.asked, &["SCRIPT", "LOAD", SCRIPT]);
        redis.send().await?;
        let length: usize = redis.line('$').await?.parse()?;
        let mut script = vec![0; length + 2];
        redis.stream.read_exact(&mut script).await?;
        script.truncate(length);
        redis.script = String::from_utf8(script)?;
        Ok(redis)
    }

    /// # Errors
    /// If one is not granted.
    pub(super) async fn ask(&mut self, keys: &[usize]) -> Result<(), Error> {
        for key in keys {
            let [rate, burst] = self.bucket;
            let command = ["EVALSHA", &self.script, "1", &key_of(*key), rate, burst];
            write_command(&mut self.asked, &command);
        }
        self.send().await?;
        for _ in keys {
            let wait = self.line(':').await?;
            if wait != "0" {
                return Err(format!("redis did not grant: {wait} us to wait").into());
            }
        }
        Ok(())
    }

    async fn send(&mut self) -> io::Result<()> {
        self.stream.get_mut().write_all(&self.asked).await?;
        self.asked.clear();
        Ok(())
    }

    /// The next line of the answer, which is of that kind.
    async fn line(&mut self, kind: char) -> Result<&str, Error> {
        self.answer.clear();
        self.stream.read_line(&mut self.answer).await?;
        let line = self.answer.trim_end();
        line.strip_prefix(kind).ok_or_else(|| format!("redis said {line:?}").into())
    }
}

/// A command is an array of strings, each with its length.
fn write_command(to: &mut Vec<u8>, command: &[&str]) {
    to.extend(format!("*{}\r\n", command.len()).into_bytes());
    for part in command {
        to.extend(format!("${}\r\n{part}\r\n", part.len()).into_bytes());
    }
}

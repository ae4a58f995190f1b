//! Bodies of responses that pass by: one that settles its permit at its end, and one whose beginning was read before.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use reqwest::Body;

use crate::{Guard, Report, body::UsageReader};

/// Settles at its end, or when it is dropped before.
pub(super) struct Settling {
    body: Pin<Box<Body>>,
    reader: Option<(Guard, Report, UsageReader)>,
}

impl Settling {
    pub(super) fn new(body: Body, guard: Guard, report: Report, reader: UsageReader) -> Self {
        Self { body: Box::pin(body), reader: Some((guard, report, reader)) }
    }

    fn settle(&mut self) {
        if let Some((guard, report, reader)) = self.reader.take() {
            guard.report_detached(report.actual(reader.finish()));
        }
    }
}

impl HttpBody for Settling {
    type Data = Bytes;
    type Error = reqwest::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, reqwest::Error>>> {
        let frame = ready!(self.body.as_mut().poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(data), Some((_, _, reader))) = (frame.data_ref(), &mut self.reader) {
                    reader.push(data);
                }
            }
            // What was used is as far as it was said.
            Some(Err(_)) | None => self.settle(),
        }
        Poll::Ready(frame)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        self.settle();
    }
}

/// What was read before, then the rest.
pub(super) struct Excerpt {
    read: Option<Bytes>,
    rest: Pin<Box<Body>>,
}

impl Excerpt {
    pub(super) fn new(read: Bytes, rest: Body) -> Self {
        Self { read: Some(read).filter(|read| !read.is_empty()), rest: Box::pin(rest) }
    }
}

impl HttpBody for Excerpt {
    type Data = Bytes;
    type Error = reqwest::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, reqwest::Error>>> {
        match self.read.take() {
            Some(read) => Poll::Ready(Some(Ok(Frame::data(read)))),
            None => self.rest.as_mut().poll_frame(context),
        }
    }
}

//! A hand on one session stream: what is sent, and what came and was not looked at yet.

use std::collections::VecDeque;

use permitd_proto::v1::{
    AcquireRequest, Granted, Hello, LocalShare, Owner, Permit, Queued, Refused, ReportRequest,
    ReportResponse, SessionRequest, SessionResponse, Welcome, permit_service_client::PermitServiceClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::{
    facts::{Facts, refused_facts},
    line::Line,
    wait::soon,
    words::{acquires, success},
};

/// More than any server takes in one message.
const ENCODED_BYTES_MAX: usize = 32 * 1024 * 1024;

/// One session stream.
#[derive(Debug)]
pub struct Session {
    requests: Option<mpsc::Sender<SessionRequest>>,
    responses: Streaming<SessionResponse>,
    /// The answer to the Hello.
    pub welcome: Welcome,
    /// Grants that nobody looked at.
    pub granted: VecDeque<Granted>,
    /// Refusals that nobody looked at.
    pub refused: VecDeque<Refused>,
    /// Answers to reports that nobody looked at.
    pub reported: VecDeque<ReportResponse>,
    /// Places that nobody looked at.
    pub queued: VecDeque<Queued>,
    /// Local shares that nobody looked at.
    pub shares: VecDeque<LocalShare>,
    /// Owners that nobody looked at.
    pub owners: VecDeque<Owner>,
}

impl Session {
    /// Opens one that has to be welcomed.
    ///
    /// # Panics
    /// If it is not.
    pub async fn open(channel: Line, hello: Hello) -> Self {
        Self::open_with(channel, SessionRequest { hello: Some(hello), ..SessionRequest::default() }).await
    }

    /// Opens one with this first message.
    ///
    /// # Panics
    /// If it is not welcomed.
    pub async fn open_with(channel: Line, first: SessionRequest) -> Self {
        Self::try_open(channel, first).await.expect("a welcome")
    }

    /// Opens one, or not.
    ///
    /// # Errors
    /// How the stream ended instead.
    ///
    /// # Panics
    /// If it ended politely without a word.
    pub async fn try_open(channel: Line, first: SessionRequest) -> Result<Self, Status> {
        let (requests, outbound) = mpsc::channel(1_024);
        requests.send(first).await.expect("room");
        let mut client = PermitServiceClient::new(channel).max_encoding_message_size(ENCODED_BYTES_MAX);
        let responses = soon("a session", client.session(ReceiverStream::new(outbound))).await?.into_inner();
        let mut session = Self {
            requests: Some(requests),
            responses,
            welcome: Welcome::default(),
            granted: VecDeque::new(),
            refused: VecDeque::new(),
            reported: VecDeque::new(),
            queued: VecDeque::new(),
            shares: VecDeque::new(),
            owners: VecDeque::new(),
        };
        while session.welcome.session_id.is_empty() {
            match session.read().await {
                Ok(()) => {}
                Err(Some(status)) => return Err(status),
                Err(None) => panic!("a welcome or a refusal, not an end"),
            }
        }
        Ok(session)
    }

    /// Sends a message.
    ///
    /// # Panics
    /// If the stream is gone.
    pub async fn send(&self, request: SessionRequest) {
        self.requests.as_ref().expect("still open").send(request).await.expect("the stream lives");
    }

    /// Asks for permits under that id.
    pub async fn ask(&self, request_id: u64, request: AcquireRequest) {
        self.send(acquires(vec![AcquireRequest { request_id, ..request }])).await;
    }

    /// Takes a request back.
    pub async fn cancel(&self, request_id: u64) {
        self.send(SessionRequest { cancel: vec![request_id], ..SessionRequest::default() }).await;
    }

    /// Asks for another ttl.
    pub async fn extend(&self, permit_id: &str) {
        self.send(SessionRequest { extend: vec![permit_id.to_owned()], ..SessionRequest::default() }).await;
    }

    /// Reports, and waits for the answer.
    pub async fn report(&mut self, report: ReportRequest) -> ReportResponse {
        self.send(SessionRequest { report: vec![report], ..SessionRequest::default() }).await;
        self.next_reported().await
    }

    /// Settles a live permit as it was charged.
    ///
    /// # Panics
    /// If it was settled before.
    pub async fn settle(&mut self, permit: &Permit) {
        assert!(self.report(success(&permit.permit_id)).await.settled, "{permit:?} was live");
    }

    /// Half-closes: the polite end.
    pub fn close(&mut self) {
        self.requests = None;
    }

    /// Resets the stream, without a half-close before it; its connection lives on.
    pub async fn reset(self) {
        // The one way to a reset that the generated client has: a message that it can't encode.
        let unsendable = ReportRequest { body: vec![0; ENCODED_BYTES_MAX], ..ReportRequest::default() };
        self.send(SessionRequest { report: vec![unsendable], ..SessionRequest::default() }).await;
        // The sender has to outlive the message: its end would be a half-close.
        let Self { requests, mut responses, .. } = self;
        while let Ok(Some(_)) = soon("the end of a reset stream", responses.message()).await {}
        drop(requests);
    }

    /// One message more.
    ///
    /// # Errors
    /// How the stream ended: `None` for politely.
    pub async fn read(&mut self) -> Result<(), Option<Status>> {
        let message = soon("a message", self.responses.message()).await.map_err(Some)?.ok_or(None)?;
        if let Some(welcome) = message.welcome {
            assert_eq!(self.welcome, Welcome::default(), "one welcome is enough");
            self.welcome = welcome;
        }
        self.granted.extend(message.granted);
        self.refused.extend(message.refused);
        self.reported.extend(message.reported);
        self.queued.extend(message.queued);
        self.shares.extend(message.shares);
        self.owners.extend(message.owners);
        Ok(())
    }

    /// The next grant.
    ///
    /// # Panics
    /// If the stream ends before.
    pub async fn next_granted(&mut self) -> Granted {
        while self.granted.is_empty() {
            self.read().await.expect("a grant before the end");
        }
        self.granted.pop_front().expect("just seen")
    }

    /// The next grant, which has to be this request's.
    ///
    /// # Panics
    /// If it is another's.
    pub async fn permit(&mut self, request_id: u64) -> Permit {
        let granted = self.next_granted().await;
        assert_eq!(granted.request_id, request_id, "whose grant it is");
        granted.permit.expect("a permit")
    }

    /// The next refusal.
    ///
    /// # Panics
    /// If the stream ends before.
    pub async fn next_refused(&mut self) -> Refused {
        while self.refused.is_empty() {
            self.read().await.expect("a refusal before the end");
        }
        self.refused.pop_front().expect("just seen")
    }

    /// The next refusal, which has to be this request's.
    ///
    /// # Panics
    /// If it is another's.
    pub async fn refusal(&mut self, request_id: u64) -> Facts {
        let refused = self.next_refused().await;
        assert_eq!(refused.request_id, request_id, "whose refusal {refused:?} is");
        refused_facts(&refused)
    }

    /// The next answer to a report.
    ///
    /// # Panics
    /// If the stream ends before.
    pub async fn next_reported(&mut self) -> ReportResponse {
        while self.reported.is_empty() {
            self.read().await.expect("an answer before the end");
        }
        self.reported.pop_front().expect("just seen")
    }

    /// The next place of this request.
    ///
    /// # Panics
    /// If the stream ends before.
    pub async fn place(&mut self, request_id: u64) -> Queued {
        loop {
            if let Some(queued) = self.queued.pop_front() {
                if queued.request_id == request_id {
                    return queued;
                }
                continue;
            }
            self.read().await.expect("a place before the end");
        }
    }

    /// Whatever was sent before has been dealt with.
    ///
    /// # Panics
    /// If an id that nobody issued settles something.
    pub async fn barrier(&mut self) {
        let answer = self.report(success("nobody issued this")).await;
        assert!(!answer.settled, "a forged id settles nothing");
    }

    /// How the stream ended: `Ok` for politely.
    ///
    /// # Errors
    /// How it failed.
    pub async fn end(&mut self) -> Result<(), Status> {
        loop {
            match self.read().await {
                Ok(()) => {}
                Err(None) => return Ok(()),
                Err(Some(status)) => return Err(status),
            }
        }
    }
}

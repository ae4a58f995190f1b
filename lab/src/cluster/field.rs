//! Servers of one cluster on an etcd of their own, with budgets that they share among them.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use permitd_proto::v1::{
    Hello, ListBudgetsRequest, Owner, SessionRequest, admin_service_client::AdminServiceClient,
    permit_service_client::PermitServiceClient,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;

use super::etcd::Etcd;
use crate::{
    bench::{Error, PROVIDER, acquire_of, connect, key_of, report},
    server::Server,
};

/// Whatever has to come comes in that time.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
/// Budgets in one message, and in one page of a list.
const PART: usize = 100;

/// The servers and their etcd.
pub(crate) struct Field {
    pub(crate) servers: Vec<Server>,
    pub(crate) etcd: Etcd,
    pub(super) budgets: usize,
    binary: PathBuf,
}

impl Field {
    /// Starts everything, and has every budget made and owned.
    pub(super) async fn start(binary: PathBuf, servers: usize, budgets: usize) -> Result<Self, Error> {
        let mut field = Self::without_servers(binary, budgets)?;
        for _ in 0..servers {
            field.add_server()?;
        }
        timeout(PATIENCE, field.make_budgets()).await.map_err(|_| "the budgets were not made in time")??;
        Ok(field)
    }

    /// Starts etcd only, for servers that may have so many budgets.
    pub(crate) fn without_servers(binary: PathBuf, budgets: usize) -> Result<Self, Error> {
        Ok(Self { servers: Vec::new(), etcd: Etcd::start()?, budgets, binary })
    }

    /// Starts one more server.
    pub(crate) fn add_server(&mut self) -> Result<&Server, Error> {
        let server = self.serve()?;
        self.servers.push(server);
        self.servers.last().ok_or_else(|| "no server".into())
    }

    fn serve(&self) -> Result<Server, Error> {
        let config = format!(
            "[cluster]\netcd = \"{}\"\n[server.bounds]\nbudgets = {}\n\
             [providers.{PROVIDER}]\nlimits = [\"requests=1000M/1s\", \"tokens=1000000M/1s\", \"in_flight=1M\"]\n",
            self.etcd.url(),
            self.budgets + 1
        );
        Server::start(&self.binary, &config)
    }

    /// Starts a server in the place of one that is gone.
    pub(super) fn restart(&mut self, place: usize) -> Result<(), Error> {
        self.servers[place] = self.serve()?;
        Ok(())
    }

    /// A budget is made when it is first asked for.
    pub(crate) async fn make_budgets(&self) -> Result<(), Error> {
        self.ask_all().await.map(drop)
    }

    /// The numbers of the budgets that each server owns, as the first one tells a client that asks for them and wants to know.
    pub(super) async fn learned(&self) -> Result<Vec<Vec<usize>>, Error> {
        let owners: HashMap<String, String> =
            self.ask_all().await?.into_iter().map(|owner| (owner.key, owner.address)).collect();
        let mut learned = vec![Vec::new(); self.servers.len()];
        for number in 0..self.budgets {
            let address = owners.get(&key_of(number));
            let place =
                address.and_then(|address| (0..self.servers.len()).find(|at| self.url(*at) == *address));
            // What nobody has told is asked for where it was asked before.
            learned[place.unwrap_or(0)].push(number);
        }
        Ok(learned)
    }

    /// Asks the first server for each budget once. What it tells of their owners.
    async fn ask_all(&self) -> Result<Vec<Owner>, Error> {
        let mut client = PermitServiceClient::new(connect(self.servers[0].address).await?);
        let (send, requests) = mpsc::channel(2);
        let hello = Hello { owners: true, ..Hello::default() };
        send.send(SessionRequest { hello: Some(hello), ..SessionRequest::default() }).await?;
        let mut owners = Vec::new();
        let mut responses = client.session(ReceiverStream::new(requests)).await?.into_inner();
        let keys: Vec<usize> = (0..self.budgets).collect();
        for part in keys.chunks(PART) {
            let acquire = part.iter().map(|key| acquire_of(*key as u64 + 1, *key)).collect();
            send.send(SessionRequest { acquire, ..SessionRequest::default() }).await?;
            let mut left = 2 * part.len();
            while left > 0 {
                let response = responses.message().await?.ok_or("the session ended")?;
                if let Some(refused) = response.refused.first() {
                    return Err(format!("refused: {}", refused.message).into());
                }
                left -= response.granted.len() + response.reported.len();
                owners.extend(response.owners);
                let permits = response.granted.into_iter().filter_map(|granted| granted.permit);
                let report: Vec<_> = permits.map(|permit| report(permit.permit_id)).collect();
                if !report.is_empty() {
                    send.send(SessionRequest { report, ..SessionRequest::default() }).await?;
                }
            }
        }
        Ok(owners)
    }

    /// The numbers of the budgets that each server owns, as `asked` knows.
    pub(super) async fn owned(&self, asked: usize) -> Result<Vec<Vec<usize>>, Error> {
        let names: Vec<String> = self.servers.iter().map(|server| server.address.to_string()).collect();
        let numbers: HashMap<String, usize> =
            (0..self.budgets).map(|number| (key_of(number), number)).collect();
        let mut admin = AdminServiceClient::new(connect(self.servers[asked].address).await?);
        let mut owned = vec![Vec::new(); names.len()];
        let mut page_token = String::new();
        loop {
            let request = ListBudgetsRequest { page_size: PART as u32, page_token, ..Default::default() };
            let page = admin.list_budgets(request).await?.into_inner();
            for state in page.states {
                let number = state.budget.and_then(|budget| numbers.get(&budget.key).copied());
                let place = names.iter().position(|name| *name == state.owner);
                if let (Some(number), Some(place)) = (number, place) {
                    owned[place].push(number);
                }
            }
            page_token = page.next_page_token;
            if page_token.is_empty() {
                return Ok(owned);
            }
        }
    }

    /// Where clients find a server.
    pub(super) fn url(&self, place: usize) -> String {
        format!("http://{}", self.servers[place].address)
    }
}

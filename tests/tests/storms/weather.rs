//! What happens to the server and to the connections.

use std::time::Duration;

use permitd_tests::{Draws, Permitd, Proxy};
use tokio::time::sleep;

pub(crate) struct Weather {
    pub(crate) server: Permitd,
    pub(crate) port: u16,
    pub(crate) config: String,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) draws: Draws,
    pub(crate) kills: usize,
    pub(crate) acted: usize,
}

impl Weather {
    /// One fault, and a while of what it makes.
    pub(crate) async fn turn(&mut self) {
        self.acted += 1;
        let while_it_lasts = Duration::from_millis(20 + self.draws.below(180));
        let hit = self.draws.below(self.proxies.len() as u64) as usize;
        // Others come through meanwhile, or nobody would be at sea.
        let spared = &self.proxies[(hit + 1) % self.proxies.len()];
        spared.flow();
        spared.slow(false);
        let proxy = &self.proxies[hit];
        match self.draws.below(16) {
            0..4 => proxy.cut(),
            4..6 => proxy.stall(),
            6..8 => proxy.flow(),
            8..10 => proxy.slow(true),
            10 => proxy.slow(false),
            11..13 => proxy.orphan(),
            13 => {
                proxy.close();
                sleep(while_it_lasts).await;
                proxy.open();
            }
            14 => {
                self.server.pause_process();
                sleep(while_it_lasts).await;
                self.server.go_on();
            }
            _ => {
                self.server.kill_now();
                self.server = Permitd::start_at(self.port, &self.config).await;
                self.kills += 1;
            }
        }
        sleep(while_it_lasts).await;
    }

    /// Fine weather from now on. What was half-open is found out by cutting it.
    pub(crate) async fn clear_up(&mut self) {
        for proxy in &self.proxies {
            proxy.slow(false);
            proxy.flow();
            proxy.cut();
        }
    }
}

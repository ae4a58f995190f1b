//! The web console, as operators have it: pages in a real browser, driven by WebDriver, and what is behind them, asked as strangers would.

mod browser;
mod declared;
mod growth;
mod guarded;
mod looks;
mod lost;
mod paint;
mod pictures;
mod pools;
mod steering;
mod ways;

//! A static HTTP server for one profile repository, usable by rekal and by original Rekall clients alike.
//!
//! [`app`] holds every route, [`store`] turns files into answers, [`serve`] bounds connections and stops cleanly.

mod app;
mod serve;
mod store;

pub use app::app;
pub use serve::serve;

//! The separation of tenants and the protection of secrets, tested from outside: a whole daemon, its API, and its
//! files.

mod audit;
mod bad_requests;
mod bad_rows;
mod certificates;
mod chosen;
mod guards;
mod hostile_clients;
mod hostile_receivers;
mod hostile_urls;
mod master_key;
mod mutual_tls;
mod page_forms;
mod page_scopes;
mod pages;
mod portal;
mod quotas;
mod rates;
mod receiver_tls;
mod scopes;
mod secrets;
mod shown;
mod strangers;
mod support;
mod tenants;
mod tls;

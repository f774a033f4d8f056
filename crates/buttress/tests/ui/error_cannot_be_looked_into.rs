//! Retries have to tell a refusal of ours from a failure, and so look into the error.

use std::fmt;

use buttress::RetryLayer;
use tower::{Service, ServiceBuilder, service_fn};

#[derive(Debug)]
struct Lost;

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("lost")
    }
}

impl std::error::Error for Lost {}

async fn ask(question: String) -> Result<usize, Lost> {
    if question.is_empty() { Err(Lost) } else { Ok(question.len()) }
}

fn serve(_: impl Service<String>) {}

fn main() {
    let retry = RetryLayer::cloning(|question: &String| question.starts_with("what"));
    let service = ServiceBuilder::new().layer(retry).service(service_fn(ask));
    serve(service);
}

//! How it starts: arguments, ports, protocols.

use std::net::TcpListener;

use reqwest::{Client, Version};

use crate::support::{Gateway, gateway, soon};

#[tokio::test]
async fn a_taken_port_gives_the_next_free_one_and_says_so() {
    // Whoever holds it, it is taken from here on.
    let _held = TcpListener::bind("127.0.0.1:8080");

    let gateway = Gateway::start(gateway::<&str>([])).await;

    assert!(gateway.welcome.starts_with("127.0.0.1:8080 is taken"), "{}", gateway.welcome);
    assert_ne!(gateway.address.port(), 8080);
    assert!(reqwest::get(gateway.url("/users/1")).await.unwrap().status().is_success());
}

#[tokio::test]
async fn an_address_asked_for_and_taken_is_an_error_that_names_the_way_out() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = held.local_addr().unwrap().to_string();

    let output = soon("the end", gateway(["--listen", &address]).output()).await.unwrap();

    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains(&address) && errors.contains("--listen"), "{errors}");
}

#[tokio::test]
async fn help_and_version_go_to_standard_output_and_succeed() {
    for (flag, expected) in
        [("--help", "Usage: gateway"), ("-h", "--config"), ("--version", "gateway 0."), ("-V", "gateway 0.")]
    {
        let output = soon("the end", gateway([flag]).output()).await.unwrap();

        assert!(output.status.success(), "{flag}");
        assert!(String::from_utf8(output.stdout).unwrap().contains(expected), "{flag}");
    }
}

#[tokio::test]
async fn a_wrong_command_line_exits_2_and_points_to_help() {
    for wrong in [&["--port", "1"][..], &["--listen"], &["--listen", "here"], &["extra"], &["--config"]] {
        let output = soon("the end", gateway(wrong).output()).await.unwrap();

        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {errors}");
        assert!(errors.starts_with("error: ") && errors.contains("--help"), "{wrong:?}: {errors}");
    }
}

#[tokio::test]
async fn http_2_without_tls_is_served_on_the_same_port() {
    let gateway = Gateway::demo().await;
    let http1 = Client::new();
    let http2 = Client::builder().http2_prior_knowledge().build().unwrap();

    for (client, version) in [(http1, Version::HTTP_11), (http2, Version::HTTP_2)] {
        let answer = client.get(gateway.url("/users/1")).send().await.unwrap();

        assert_eq!(answer.version(), version);
        assert_eq!(answer.status(), 200);
        assert!(answer.text().await.unwrap().contains("Ada"));
    }
}

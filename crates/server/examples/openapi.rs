//! Prints the OpenAPI document.

fn main() {
    print!("{}", pointsman_server::openapi_json());
}

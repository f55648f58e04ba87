# reader: unwrap data keys
path "team/transit/decrypt/app" {
  capabilities = ["update"]
  allowed_parameters = {
    batch_input                   = []
    ciphertext                    = []
    context                       = []
    partial_failure_response_code = []
  }
}

# reader: look at the key
path "team/transit/keys/app" {
  capabilities = ["read"]
}

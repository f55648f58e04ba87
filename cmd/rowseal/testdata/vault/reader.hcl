# reader: unwrap data keys
path "transit/decrypt/app" {
  capabilities = ["update"]
  allowed_parameters = {
    batch_input                   = []
    ciphertext                    = []
    context                       = []
    partial_failure_response_code = []
  }
}

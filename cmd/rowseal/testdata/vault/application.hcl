# application: wrap data keys
path "transit/encrypt/app" {
  capabilities = ["update"]
  allowed_parameters = {
    batch_input                   = []
    context                       = []
    partial_failure_response_code = []
    plaintext                     = []
    type                          = []
  }
}

# application: unwrap data keys
path "transit/decrypt/app" {
  capabilities = ["update"]
  allowed_parameters = {
    batch_input                   = []
    ciphertext                    = []
    context                       = []
    partial_failure_response_code = []
  }
}

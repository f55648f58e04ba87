# writer: wrap data keys
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

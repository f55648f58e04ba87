# rotator: move data keys to the key's newest version, unseen; a new context needs encrypt and decrypt
path "transit/rewrap/app" {
  capabilities = ["update"]
  allowed_parameters = {
    batch_input                   = []
    ciphertext                    = []
    context                       = []
    partial_failure_response_code = []
  }
}
